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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TypeVar

from spladelet.documents import Document
from spladelet.engines.base import Engine, Record, Written
from spladelet.engines.facts import Facts
from spladelet.engines.payload import sharing_ids
from spladelet.errors import EngineRequestError, EngineUnavailableError, InputError
from spladelet.files import replacing
from spladelet.index.index import Index
from spladelet.index.word_impacts import WordImpacts
from spladelet.parameters import as_count
from spladelet.progress import Progress
from spladelet.vector import SparseVectors

Result = TypeVar("Result")

_ATTEMPTS = 8
_FIRST_ATTEMPTS = 3  # where nothing has been sent yet, nothing is lost by giving up
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
_BYTES_A_BATCH = 8 << 20  # the smallest hosted engines take 10 MiB a request
_BYTES_A_TERM = 40  # name and weight in JSON


@dataclass(frozen=True, slots=True)
class PushReport:
    """What a push did.

    Attributes:
        documents: How many documents there are.
        sent: How many were sent now; the others had been, by an earlier push.
        failed: Document id to why the engine refused it.
        without_terms: How many of those sent now have no terms: nothing finds them.
        others: How many documents are there besides, of earlier pushes.
        words: How many words were sent beside the model's terms.
        words_sharing: How many of them share a number with another, where words have numbers: they
            count for each other.
    """

    documents: int
    sent: int
    failed: dict[str, str] = field(default_factory=dict)
    without_terms: int = 0
    others: int = 0
    words: int = 0
    words_sharing: int = 0


def push(
    engine: Engine,
    source: Index | Iterable[Record],
    *,
    batch_size: int = 500,
    texts: bool = True,
    journal: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> PushReport:
    """Send documents and vectors to a collection, which is made if it is not there.

    Args:
        engine: Where to; see `connect`.
        source: An index; or records, one after the other, for what no index holds.
        batch_size: Documents a request, at most; long texts make it fewer.
        texts: Whether titles and texts are sent, too.
        journal: For an index, a file that says how far the push came; deleted at its end. None
            keeps none.
        progress: True draws a bar on standard error, False nothing; None draws one on a terminal,
            and writes a line every half minute elsewhere.

    Returns:
        What was sent, and which documents were refused: those do not stop the others.

    Raises:
        EngineMismatchError: The collection holds something else.
        EngineUnavailableError: The engine does not answer, after several tries. Push again later.
        EngineError: It refuses something that is not about single documents.
        InputError: `batch_size` is no whole number above 0, or records came with a journal or with
            words.
    """
    as_count(batch_size, "batch_size")
    if isinstance(source, Index):
        return _push_index(engine, source, batch_size, texts, journal, progress)
    if journal is not None:
        raise InputError("a journal needs an index; records can only be sent again from the start.")
    records = iter(source)
    first = next(records, None)
    if first is None:
        return PushReport(0, 0)
    vector = first.vector
    if first.words:
        raise InputError(
            "records came with words, and nothing says how they were counted; push an index that "
            "has them."
        )
    engine_facts = _facts(engine, vector.vocab_size, vector.model, "")
    _patiently(lambda: engine.create(engine_facts), _FIRST_ATTEMPTS)
    log = _Journal(None, "")  # keeps count, and no file
    with Progress(engine.name, None, show=progress) as bar:
        empty = _send(engine, _shaped(chain([first], records), texts), batch_size, log, bar)
    return _finish(engine, log, log.done, log.done, empty)


def _push_index(
    engine: Engine,
    index: Index,
    batch_size: int,
    texts: bool,  # noqa: FBT001
    journal: str | os.PathLike[str] | None,
    progress: bool | None,  # noqa: FBT001
) -> PushReport:
    facts = _facts(engine, index.vocab_size, index.model, index.model_name)
    impacts = index.word_impacts()
    if index.words is not None:
        facts = replace(facts, words=index.words.to_dict())
    stored = _patiently(lambda: engine.create(facts), _FIRST_ATTEMPTS)
    vectors = index.vectors()
    identity = _identity(engine, stored.made, index, (vectors, impacts), texts) if journal else ""
    log = _Journal(journal, identity)
    if log.done and _patiently(engine.count) < log.done - len(log.failed):
        log.start_again()  # somebody deleted what an earlier push had sent
    start = log.done
    records = (
        Record(index.document(n), vectors[n], {} if impacts is None else impacts.of_document(n))
        for n in range(start, len(index))
    )
    with Progress(engine.name, len(index), show=progress) as bar:
        bar.advance(start)
        empty = _send(engine, _shaped(records, texts), batch_size, log, bar)
    report = _finish(engine, log, len(index), len(index) - start, empty)
    if impacts is None:
        return report
    sharing = 0 if engine.is_term_keyed else sharing_ids(impacts.words, index.vocab_size)
    return replace(report, words=len(impacts.words), words_sharing=sharing)


def _send(
    engine: Engine, records: Iterator[Record], batch_size: int, log: "_Journal", bar: Progress
) -> int:
    """Send records in batches; returns how many have no terms."""
    empty = 0
    for batch in _batches(records, batch_size):
        failed = _deliver(engine, batch)
        log.advance(len(batch), {batch[i].document.id: why for i, why in failed.items()})
        bar.advance(len(batch))
        empty += sum(not record.weights for record in batch)
    return empty


def _finish(engine: Engine, log: "_Journal", total: int, sent: int, empty: int) -> PushReport:
    _patiently(engine.refresh)
    others = _patiently(engine.count) - (total - len(log.failed))
    log.finish()
    return PushReport(total, sent, dict(log.failed), empty, max(0, others))


def _facts(engine: Engine, vocab_size: int, model: str | None, name: str) -> Facts:
    return Facts(vocab_size, model, name, engine.names.keys, engine.names.dots)


def _batches(records: Iterator[Record], size: int) -> Iterator[list[Record]]:
    """Yield batches of so many documents, or of so many bytes: engines limit a request."""
    batch: list[Record] = []
    weight = 0
    for record in records:
        document = record.document
        bytes_ = _BYTES_A_TERM * (record.vector.active_dims + len(record.words))
        bytes_ += len(document.text.encode("utf-8", "replace")) + len(document.title)
        if batch and (len(batch) == size or weight + bytes_ > _BYTES_A_BATCH):
            yield batch
            batch, weight = [], 0
        batch.append(record)
        weight += bytes_
    if batch:
        yield batch


def _shaped(records: Iterable[Record], texts: bool) -> Iterator[Record]:  # noqa: FBT001
    """Leave texts out, unless they are wanted."""
    for record in records:
        document = record.document
        bare = Document(document.id, "", metadata=document.metadata)
        yield record if texts else replace(record, document=bare)


def _deliver(engine: Engine, records: Sequence[Record]) -> dict[int, str]:
    """Send a batch until each document was taken or refused; returns the refused ones."""
    failed: dict[int, str] = {}
    left = list(range(len(records)))
    waits = _waits(_ATTEMPTS)
    while True:
        written = _write(engine, [records[i] for i in left])
        failed |= {left[i]: reason for i, reason in written.failed.items()}
        left = [left[i] for i in written.again]
        if not left:
            return failed
        wait = next(waits, None)
        if wait is None:
            raise EngineUnavailableError(
                f"{engine.name} had no room for {len(left)} documents (the first is "
                f"{records[left[0]].document.id!r}) in {_ATTEMPTS} tries. Push again later, or "
                "with a smaller batch size."
            )
        time.sleep(wait)


def _write(engine: Engine, records: Sequence[Record]) -> Written:
    """Write a batch; one that is refused as a whole is halved until the document is found."""
    try:
        return _patiently(lambda: engine.write(records))
    except EngineRequestError as error:
        if len(records) == 1:
            return Written({0: str(error)})
    # Few documents are ever refused, so halving asks less often than one by one would.
    middle = len(records) // 2
    first, second = _write(engine, records[:middle]), _write(engine, records[middle:])
    return Written(
        {**first.failed, **{middle + i: reason for i, reason in second.failed.items()}},
        [*first.again, *(middle + i for i in second.again)],
    )


def _patiently(action: Callable[[], Result], attempts: int = _ATTEMPTS) -> Result:
    """Do something, again and again while the engine is unavailable, with longer waits.

    A library for retries would not make this shorter: a batch is sent again in part, too.
    """
    waits = _waits(attempts)
    while True:
        try:
            return action()
        except EngineUnavailableError:
            wait = next(waits, None)
            if wait is None:
                raise
            time.sleep(wait)


def _waits(attempts: int) -> Iterator[float]:
    """Yield the waits between tries: doubling, and spread so that many clients do not meet."""
    for attempt in range(attempts - 1):
        wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt)
        yield wait * random.uniform(0.5, 1.0)


def _identity(
    engine: Engine,
    made: str,
    index: Index,
    sent: tuple[SparseVectors, WordImpacts | None],
    texts: bool,  # noqa: FBT001
) -> str:
    """Name what is sent where: a journal of anything else is not followed."""
    names = engine.names
    head = [engine.name, engine.collection, made, names.keys, names.dots, texts, index.model]
    digest = hashlib.sha256(json.dumps(head).encode())
    vectors, impacts = sent
    for part in (vectors,) if impacts is None else (vectors, impacts.vectors):
        for array in (part.row_offsets, part.term_ids, part.weights):
            digest.update(array.tobytes())
    digest.update(json.dumps([] if impacts is None else impacts.words).encode())
    for number in range(len(index)):
        document = index.document(number)
        told = [document.id, document.title, document.text, dict(document.metadata)]
        digest.update(json.dumps(told).encode())
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
