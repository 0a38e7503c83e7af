"""Test collections in BEIR's layout: documents, queries, and judgements of which answer which.

    corpus.jsonl        {"_id", "title", "text"} a line
    queries.jsonl       {"_id", "text"} a line
    qrels/test.tsv      query-id, corpus-id, score; one file a split

A folder, or a .zip of one; each file may be gzipped, with Windows line ends and a byte order mark.
A folder of such folders, as CQADupStack is, is one collection in parts. "demo" is what comes with
the package; other names are `ir_datasets`' (extra `datasets`). A collection is held in memory.

Judgements of documents that are not there count, as in BEIR: nothing can find them. Judged
queries that are not there are left out. `Collection.notes` tells of both.

Source: Thakur et al. 2021, https://arxiv.org/abs/2104.08663
"""

import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from spladelet import extras
from spladelet.documents import Document, read_documents, to_document
from spladelet.errors import (
    CollectionError,
    DuplicateIdError,
    InputError,
    RecordError,
    SpladeletError,
)
from spladelet.evaluation.grades import Qrels, check_grades
from spladelet.records import json_object
from spladelet.sources import read_lines
from spladelet.text import as_id, as_text, valid_unicode

DEMO = "demo"
_HEADERS = ("query-id", "query_id", "query id", "qid")
_CQADUPSTACK = "beir/cqadupstack/"
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Collection:
    """Documents, queries, and which documents answer which query.

    Attributes:
        name: What people call it.
        documents: All documents.
        queries: Query id to text; the judged ones only.
        qrels: Query id to document id to grade; above 0 is relevant.
        part_of: The collection that this is a part of; may be empty.
        split: Which judgements these are; published figures are of "test".
        notes: What was odd about the files, for people.
    """

    name: str
    documents: Sequence[Document]
    queries: Mapping[str, str]
    qrels: Qrels
    part_of: str = ""
    split: str = "test"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        texts = {query: as_text(text, f"query {query!r}") for query, text in self.queries.items()}
        object.__setattr__(self, "queries", texts)

    @property
    def label(self) -> str:
        """The name, with the collection that this is a part of."""
        return f"{self.part_of}/{self.name}" if self.part_of else self.name


def read_collections(source: str | os.PathLike[str], split: str = "test") -> list[Collection]:
    """Read a collection, or the parts of one; see the module for the layout.

    Args:
        source: A folder or .zip; "demo" for the one that comes with the package; or a name of
            `ir_datasets` such as "beir/scifact/test".
        split: Which judgements; a name of `ir_datasets` says that itself.

    Raises:
        CollectionError: There is none, or a file is missing or not well-formed.
        DuplicateIdError: Two documents, or two queries, have one id.
        MissingDependencyError: A name, and the extra `datasets` is not installed.
    """
    path = Path(source)
    with _translated(str(source)):
        is_there = bool(str(source)) and path.exists()
        if is_there:
            return _read_all(path, split)
    return [demo_collection() if str(source) == DEMO else _from_ir_datasets(str(source))]


@contextmanager
def _translated(source: str) -> Iterator[None]:
    """Say in the package's terms why a collection cannot be read."""
    try:
        yield
    except SpladeletError:
        raise
    except Exception as error:  # zip has errors of many kinds, and ir_datasets those of its sources
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise CollectionError(f"cannot read the collection {source!r}: {reason}.") from error


def _read_all(path: Path, split: str) -> list[Collection]:
    # A link's own name, not that of what it leads to; only "." and ".." have none.
    root, name = (
        _root(path),
        path.stem if path.suffix == ".zip" else Path(os.path.abspath(path)).name,
    )
    folders = _folders(root)
    if path.suffix == ".zip" and len(folders) == 1 and not _find(root, "corpus.jsonl"):
        root, name = folders[0], folders[0].name  # a .zip of the folder itself
    if _find(root, "corpus.jsonl"):
        return [_read(root, name, split)]
    parts = sorted((f for f in _folders(root) if _find(f, "corpus.jsonl")), key=lambda f: f.name)
    if not parts:
        raise CollectionError(
            f"{path} has no corpus.jsonl. Expected BEIR's layout: corpus.jsonl, queries.jsonl "
            "and qrels/test.tsv, or folders with these."
        )
    return [_read(folder, folder.name, split, part_of=name) for folder in parts]


def demo_collection() -> Collection:
    """Return the demo's 200 documents with 40 questions in other words, one right answer each."""
    folder = files("spladelet") / "data"
    lines = (folder / "demo-questions.jsonl").read_text(encoding="utf-8").splitlines()
    questions = {f"question-{i}": json.loads(line) for i, line in enumerate(lines, start=1)}
    return Collection(
        DEMO,
        list(read_documents(folder / "demo.jsonl")),
        {query: question["question"] for query, question in questions.items()},
        {query: {question["id"]: 1} for query, question in questions.items()},
    )


def _read(folder: Traversable, name: str, split: str, part_of: str = "") -> Collection:
    documents = list(_records(_need(folder, "corpus.jsonl")))
    texts = {}
    for query in _records(_need(folder, "queries.jsonl")):
        if query.id in texts:
            raise _duplicate("queries", query.id, str(folder))
        texts[query.id] = query.text
    made = _collection(name, documents, texts, _read_qrels(_qrels_file(folder, split)))
    return replace(made, part_of=part_of, split=split)


def _records(file: Traversable) -> Iterator[Document]:
    """Read BEIR's lines: JSON objects with an `_id` each."""
    for where, number, line in read_lines(file):
        record = json_object(line, number, where)
        if "_id" not in record:
            raise CollectionError(
                f'{where}, line {number} has no "_id"; expected BEIR\'s layout, such as '
                '{"_id": "1", "title": "…", "text": "…"}.'
            )
        yield to_document(record, number, where, identity=_beir_id(record, number, where))


def _beir_id(record: Mapping[str, Any], number: int, where: str) -> str:
    try:
        return as_id(record["_id"], "_id")
    except InputError as error:
        raise RecordError(f"{where}, line {number}: {error}") from error


def _collection(
    name: str, documents: list[Document], texts: Mapping[str, str], qrels: Qrels
) -> Collection:
    """Check what was read, and keep the judged queries."""
    known: set[str] = set()
    for document in documents:
        if document.id in known:
            raise _duplicate("documents", document.id, name)
        known.add(document.id)
    for identity in (*known, *texts):
        if valid_unicode(identity) != identity:
            raise CollectionError(f"{name} has the id {identity!r}, which is no text. Rename it.")
    kept = {query: grades for query, grades in qrels.items() if query in texts}
    if not kept:
        raise CollectionError(
            f"{name}: none of the {len(qrels)} judged queries is in queries.jsonl "
            f"({_some(qrels)} are judged, {_some(texts)} are there). Their ids must be the same."
        )
    judged = {document for grades in kept.values() for document in grades}
    if not judged & known:
        raise CollectionError(
            f"{name}: none of the {len(judged)} judged documents is among the {len(known)} "
            f"documents ({_some(judged)} are judged, {_some(known)} are there). Their ids must be "
            "the same."
        )
    check_grades(kept)
    queries = {query: texts[query] for query in kept}
    notes = _notes(documents, known, queries, qrels)
    return Collection(name, documents, queries, kept, notes=tuple(notes))


def _notes(
    documents: Sequence[Document], known: set[str], queries: Mapping[str, str], qrels: Qrels
) -> Iterator[str]:
    judged = {document for query in queries for document in qrels[query]}
    odd: list[tuple[str, Sequence[str]]] = [
        ("judged queries that are not there, left out", [q for q in qrels if q not in queries]),
        ("judged documents that are not there, so nothing finds them", sorted(judged - known)),
        (
            "documents without text, so nothing finds them",
            [d.id for d in documents if not d.content],
        ),
        ("queries without text", [q for q, text in queries.items() if not text.strip()]),
        (
            "queries without a relevant document, counted as 0",
            [q for q in queries if max(qrels[q].values(), default=0) <= 0],
        ),
    ]
    for text, ids in odd:
        if ids:
            yield f"{text}: {len(ids)} ({_some(ids)})"


def _read_qrels(file: Traversable) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    first = True
    for where, number, line in read_lines(file):
        fields = line.split("\t") if "\t" in line else line.split()
        is_header, first = first and fields[0].casefold() in _HEADERS, False
        if is_header:
            continue
        if len(fields) == 4:  # TREC's own: query, iteration, document, grade
            fields = [fields[0], *fields[2:]]
        try:
            query, document, grade = (field.strip() for field in fields)
            value = int(grade)
        except ValueError as error:
            raise CollectionError(
                f"{where}, line {number} is {line!r:.60}; expected query id, document id and a "
                "whole number, with tabs between."
            ) from error
        # The same line twice does no harm; of two grades, nobody knows which one is meant.
        if qrels.setdefault(query, {}).setdefault(document, value) != value:
            raise CollectionError(
                f"{where}, line {number} gives document {document!r} of query {query!r} grade "
                f"{value}, an earlier line {qrels[query][document]}. Keep one."
            )
    if not qrels:
        raise CollectionError(f"{file} has no judgements.")
    return qrels


def _qrels_file(folder: Traversable, split: str) -> Traversable:
    if split != Path(split).name:  # "../test" would leave the folder
        raise CollectionError(f"split is {split!r}; expected a name such as test.")
    qrels = folder / "qrels"
    names = sorted(f.name for f in qrels.iterdir()) if qrels.is_dir() else []
    file = _find(qrels, f"{split}.tsv") if names else None
    if file is None:
        there = ", ".join(name.partition(".tsv")[0] for name in names if ".tsv" in name)
        have = f"its splits are {there}: choose with --split" if there else "it has no qrels"
        raise CollectionError(f"{folder} has no qrels/{split}.tsv; {have}.")
    return file


def _from_ir_datasets(name: str) -> Collection:
    looks_like_path = name.startswith((".", os.sep)) or name.endswith(".zip")
    if looks_like_path:
        raise CollectionError(f"there is no collection at {name!r}.")
    purpose = f"there is no folder {name!r} here, and to read a collection by name"
    ir_datasets = extras.load("ir_datasets", "datasets", f"{purpose} spladelet")
    try:
        dataset = ir_datasets.load(name)
    except KeyError as error:
        raise CollectionError(
            f"{name!r} is neither a folder or .zip here nor a name of ir_datasets."
        ) from error
    with _translated(name):
        return _of_dataset(dataset, name)


def _of_dataset(dataset: Any, name: str) -> Collection:  # noqa: ANN401
    for part in ("docs", "queries", "qrels"):
        if not getattr(dataset, f"has_{part}")():
            raise CollectionError(
                f"{name} of ir_datasets has no {part}. Choose one with all three."
            )
    made = _collection(
        name.replace("/", "-"),
        [_document(doc) for doc in dataset.docs_iter()],
        {
            query.query_id: as_text(query.default_text(), f"query {query.query_id!r}")
            for query in dataset.queries_iter()
        },
        _group((q.query_id, q.doc_id, q.relevance) for q in dataset.qrels_iter()),
    )
    if name.startswith(_CQADUPSTACK):
        return replace(made, name=name.removeprefix(_CQADUPSTACK), part_of="cqadupstack")
    return made


def _document(doc: Any) -> Document:  # noqa: ANN401
    """Take title and text where there are both, else what the data set calls its text."""
    if hasattr(doc, "title") and hasattr(doc, "text"):
        return Document(doc.doc_id, doc.text, doc.title)
    return Document(doc.doc_id, doc.default_text())


def _group(rows: Iterable[tuple[str, str, int]]) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    for query, document, grade in rows:
        qrels.setdefault(query, {})[document] = grade
    return qrels


def _root(path: Path) -> Traversable:
    if path.is_dir():
        return path
    if not (path.is_file() and zipfile.is_zipfile(path)):  # a device might have no end
        raise CollectionError(f"{path} is neither a folder nor a .zip.")
    return zipfile.Path(path)


def _folders(root: Traversable) -> list[Traversable]:
    return [item for item in root.iterdir() if item.is_dir() and item.name != "__MACOSX"]


def _find(folder: Traversable, name: str) -> Traversable | None:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    return None


def _need(folder: Traversable, name: str) -> Traversable:
    file = _find(folder, name)
    if file is None:
        raise CollectionError(f"{folder} has no {name}, nor {name}.gz.")
    return file


def _duplicate(what: str, identity: str, where: str) -> DuplicateIdError:
    return DuplicateIdError(f"{where} has two {what} with id {identity!r}. Keep one.")


def _some(ids: Iterable[str]) -> str:
    ids = list(ids)
    return ", ".join(ids[:_SHOWN]) + (", …" if len(ids) > _SHOWN else "")
