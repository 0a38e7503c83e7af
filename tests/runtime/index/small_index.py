"""Small indexes of known documents, and what lies in their folders."""

import hashlib
import json

from spladelet import Document, Index, IndexWriter, SparseVector, SparseVectors, Words
from spladelet.index.segment_files import verify_index

VOCAB = 8
MODEL = "m" * 64
QUERY = SparseVector([1, 4], [1.0, 2.0], VOCAB)
PLACES = [{"place": number} for number in range(5)]


def index_of(*texts, metadata=PLACES, model=MODEL, words=None):
    """Build an index in which QUERY finds every document, the first one first."""
    count = len(texts)
    rows = [SparseVector([1, 4], [1.0, count - n], VOCAB, model) for n in range(count)]
    documents = [Document(f"d{n}", text, "", metadata[n]) for n, text in enumerate(texts)]
    vectors = SparseVectors.from_rows(rows, VOCAB, model)
    return Index.build(vectors, documents, model_name="toy", words=words)


def vectors_of(rows, model=MODEL):
    """Return the vectors of dictionaries, or so many that are all the same."""
    rows = [{1: 1.0}] * rows if isinstance(rows, int) else rows
    return SparseVectors.from_rows([SparseVector.from_dict(r, VOCAB) for r in rows], VOCAB, model)


def documents_of(ids):
    return [Document(i, f"text of {i}") for i in ids]


def fill(folder, ids, rows=None, **options):
    """Add documents to the index in a folder, and commit; words are counted, too."""
    with IndexWriter(folder, **{"words": Words("none"), **options}) as opened:
        opened.add(vectors_of(rows or len(ids)), documents_of(ids))


def ids_in(where):
    """Return the ids in an index or in a folder, in their order."""
    index = where if isinstance(where, Index) else Index.open(where)
    return [index.document(number).id for number in range(len(index))]


def texts_of(index):
    return [index.document(number).text for number in range(len(index))]


def the_manifest(folder):
    (manifest,) = folder.glob("generation-*.json")
    return manifest


def the_segment(folder):
    (segment,) = folder.glob("segment-*")
    return segment


def sign(raw):
    """Make a manifest's own sum agree."""
    rest = {name: value for name, value in raw.items() if name != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return rest | {"sha256": hashlib.sha256(text.encode()).hexdigest()}


def check_that_all_is_well(folder):
    """See that an index is whole, that nothing else lies there, and that the next commit works."""
    before = ids_in(folder)
    with IndexWriter(folder) as opened:
        opened.upsert(vectors_of(1), documents_of(["last"]))
    assert ids_in(folder) == [*(i for i in before if i != "last"), "last"]
    manifest = verify_index(folder)
    names = {f"generation-{manifest.generation}.json", *(s.name for s in manifest.segments)}
    assert {path.name for path in folder.iterdir()} == names
