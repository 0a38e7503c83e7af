"""Sending a whole index to an engine: in batches, with retries, from where the last push ended.

Documents replace those of the same id, so a push that is repeated, whole or in part, ends in the
same state as one that went through. How far a push came is kept in a journal, written after the
engine has taken each batch; without it a repetition only takes longer.
"""

import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from spladelet.atomic import replacing
from spladelet.documents import Document
from spladelet.engines.base import Engine, Facts, Record, Written
from spladelet.errors import EngineError, EngineUnavailableError, InputError
from spladelet.index import Index
from spladelet.progress import Progress
from spladelet.vector import SparseVectors

Result = TypeVar("Result")

_ATTEMPTS = 8
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class PushReport:
    """What a push did.

    Attributes:
        documents: How many documents there are.
        sent: How many were sent now; the others had been, by an earlier push.
        failed: Document id to why the engine refused it.
        without_terms: How many have no terms: they are there, and nothing finds them.
    """

    documents: int
    sent: int
    failed: dict[str, str] = field(default_factory=dict)
    without_terms: int = 0


def push(
    engine: Engine,
    index: Index,
    *,
    batch_size: int = 500,
    texts: bool = True,
    journal: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> PushReport:
    """Send an index's documents and vectors to a collection, which is made if it is not there.

    Args:
        engine: Where to; see `connect`.
        index: What.
        batch_size: Documents a request.
        texts: Whether titles and texts are sent, too.
        journal: A file that says how far the push came; deleted at its end. None keeps none.
        progress: Draw a progress bar; None means on a terminal.

    Returns:
        What was sent, and which documents were refused: those do not stop the others.

    Raises:
        EngineMismatchError: The collection holds something else.
        EngineUnavailableError: The engine does not answer, after several tries. Push again later.
        EngineError: It refuses something that is not about single documents.
        InputError: `batch_size` is below 1.
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; expected at least 1.")
    facts = Facts(
        index.vocab_size, index.model, index.model_name, engine.names.keys, engine.names.dots
    )
    _patiently(lambda: engine.create(facts))
    vectors = index.vectors()
    log = _Journal(journal, _identity(engine, index, vectors, texts) if journal else "")
    if log.done and _patiently(engine.count) < log.done - len(log.failed):
        log.start_again()  # somebody deleted what an earlier push had sent
    start = log.done
    with Progress(engine.name, len(index), show=progress) as bar:
        bar.advance(start)
        for first in range(start, len(index), batch_size):
            numbers = range(first, min(first + batch_size, len(index)))
            records = [Record(_document(index, n, texts), vectors[n]) for n in numbers]
            failed = _deliver(engine, records)
            log.advance(len(records), {records[i].document.id: why for i, why in failed.items()})
            bar.advance(len(records))
    _patiently(engine.refresh)
    log.finish()
    empty = int((vectors.active_dims == 0).sum())
    return PushReport(len(index), len(index) - start, dict(log.failed), empty)


def _document(index: Index, number: int, texts: bool) -> Document:  # noqa: FBT001
    document = index.document(number)
    return document if texts else Document(document.id, "")


def _deliver(engine: Engine, records: Sequence[Record]) -> dict[int, str]:
    """Send a batch until each document was taken or refused; returns the refused ones."""
    failed: dict[int, str] = {}
    left = list(range(len(records)))
    for wait in _waits():
        written = _write(engine, [records[i] for i in left])
        failed |= {left[i]: reason for i, reason in written.failed.items()}
        left = [left[i] for i in written.again]
        if not left:
            return failed
        time.sleep(wait)
    raise EngineUnavailableError(
        f"{engine.name} had no room for {len(left)} documents (the first is "
        f"{records[left[0]].document.id!r}) in {_ATTEMPTS} tries. Push again later, or with a "
        "smaller batch size."
    )


def _write(engine: Engine, records: Sequence[Record]) -> Written:
    """Write a batch; one that is refused as a whole is halved until the document is found."""
    try:
        return _patiently(lambda: engine.write(records))
    except EngineUnavailableError:
        raise
    except EngineError as error:
        if len(records) == 1:
            return Written({0: str(error)})
    middle = len(records) // 2
    first, second = _write(engine, records[:middle]), _write(engine, records[middle:])
    return Written(
        {**first.failed, **{middle + i: reason for i, reason in second.failed.items()}},
        [*first.again, *(middle + i for i in second.again)],
    )


def _patiently(action: Callable[[], Result]) -> Result:
    """Do something, again and again while the engine is unavailable, with longer waits."""
    waits = _waits()
    while True:
        try:
            return action()
        except EngineUnavailableError:
            wait = next(waits, None)
            if wait is None:
                raise
            time.sleep(wait)


def _waits() -> Iterator[float]:
    """Yield the waits between tries: doubling, and spread so that many clients do not meet."""
    for attempt in range(_ATTEMPTS - 1):
        wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt)
        yield wait * random.uniform(0.5, 1.0)


def _identity(engine: Engine, index: Index, vectors: SparseVectors, texts: bool) -> str:  # noqa: FBT001
    """Name what is sent where: a journal of anything else is not followed."""
    names = engine.names
    head = [engine.name, engine.collection, names.keys, names.dots, texts, index.model]
    digest = hashlib.sha256(json.dumps(head).encode())
    for array in (vectors.row_offsets, vectors.term_ids, vectors.weights):
        digest.update(array.tobytes())
    for number in range(len(index)):
        document = index.document(number)
        digest.update(json.dumps([document.id, document.title, document.text]).encode())
    return digest.hexdigest()


@dataclass(slots=True)
class _Journal:
    """How far a push came."""

    path: Path | None
    identity: str
    done: int
    failed: dict[str, str]

    def __init__(self, path: str | os.PathLike[str] | None, identity: str) -> None:
        self.path = None if path is None else Path(path)
        self.identity, self.done, self.failed = identity, 0, {}
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8")) if self.path else {}
            if stored.get("identity") == identity:
                self.done, self.failed = int(stored["done"]), dict(stored["failed"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # none, or a damaged one: the push starts at the beginning

    def start_again(self) -> None:
        self.done, self.failed = 0, {}

    def advance(self, count: int, failed: dict[str, str]) -> None:
        self.done += count
        self.failed |= failed
        if self.path is None:
            return
        stored = {key: value for key, value in asdict(self).items() if key != "path"}
        with replacing(self.path) as file:
            file.write(json.dumps(stored).encode())

    def finish(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)
