"""Every error of the package.

SpladeletError
├── InputError                  a text, record or parameter cannot be used (also a ValueError)
│   ├── VectorError             weights or term ids break the rules of a sparse vector
│   ├── RecordError             a line of an input file is no document
│   ├── DuplicateIdError        two documents have the same id
│   ├── CollectionError         a test collection is missing a part, or a part is not well-formed
│   └── RunError                a run file is not well-formed, or of other queries
├── BundleError                 a model bundle cannot be used
│   ├── BundleNotFoundError     there is none at that place
│   ├── BundleFormatError       its description is of an unknown version, or not well-formed
│   ├── BundleFileError         a file is missing, of another size or content, or out of bounds
│   └── BundleGraphError        the graph is not one of ours, or ONNX Runtime refuses it
├── IndexStoreError             an index on disk cannot be used
│   ├── IndexNotFoundError      there is none at that place
│   ├── IndexFormatError        it is of an unknown version, truncated or damaged
│   ├── IndexReadError          the system does not let it be read
│   └── IndexWriteError         it could not be saved; what was there before is intact
│       └── IndexLockedError    another writer is at work
├── EngineError                 an external search engine refused
│   ├── EngineUnavailableError  it does not answer, or has no room at the moment
│   ├── EngineRequestError      it refuses what it was sent, as it is
│   └── EngineMismatchError     its collection holds something else than expected
├── ModelMismatchError          vectors of one model met an index, or vectors, of another
└── MissingDependencyError      an optional package is needed and not installed
"""


class SpladeletError(Exception):
    """The base of every error that spladelet raises on purpose."""


class InputError(SpladeletError, ValueError):
    """A text, record or parameter cannot be used."""


class VectorError(InputError):
    """Weights or term ids break the rules of a sparse vector."""


class RecordError(InputError):
    """A line of an input file is no document."""


class DuplicateIdError(InputError):
    """Two documents have the same id."""


class CollectionError(InputError):
    """A test collection is missing a part, or a part is not well-formed."""


class RunError(InputError):
    """A run file is not well-formed, or of other queries."""


class BundleError(SpladeletError):
    """A model bundle cannot be used."""


class BundleNotFoundError(BundleError):
    """There is no bundle at the given place."""


class BundleFormatError(BundleError):
    """The bundle's description is of an unknown version, or not well-formed."""


class BundleFileError(BundleError):
    """A file of the bundle is missing, of another size or content, or out of bounds."""


class BundleGraphError(BundleError):
    """The graph's inputs and outputs are not those of a bundle, or it does not load."""


class IndexStoreError(SpladeletError):
    """An index on disk cannot be used."""


class IndexNotFoundError(IndexStoreError):
    """There is no index at the given place."""


class IndexFormatError(IndexStoreError):
    """The index is of an unknown version, truncated or damaged."""


class IndexReadError(IndexStoreError):
    """The system does not let an index be read: rights, limits, a failing disk."""


class IndexWriteError(IndexStoreError):
    """The index could not be saved; what was there before is intact, or the message says so."""


class IndexLockedError(IndexWriteError):
    """Another writer is at work on the index."""


class EngineError(SpladeletError):
    """An external search engine refused."""


class EngineUnavailableError(EngineError):
    """An engine does not answer, or has no room at the moment."""


class EngineRequestError(EngineError):
    """An engine refuses what it was sent, as it is."""


class EngineMismatchError(EngineError):
    """An engine's collection holds something else than expected."""


class ModelMismatchError(SpladeletError):
    """Vectors of one model met an index, or vectors, of another."""


class MissingDependencyError(SpladeletError):
    """An optional package is needed and not installed."""
