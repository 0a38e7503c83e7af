"""Runs: for each query the documents that a system found, with scores; TREC files of them.

A run file has six columns a line: query id, "Q0", document id, rank, score, name of the run. As in
trec_eval only the score counts, and equal scores are ranked by falling document id.
"""

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from spladelet.errors import InputError, RunError
from spladelet.files import replacing
from spladelet.sources import read_lines
from spladelet.text import check_portable_id, valid_unicode

Run = Mapping[str, Mapping[str, float]]


def ranking(scores: Mapping[str, float]) -> list[str]:
    """Return document ids by falling score, ties by falling id, as trec_eval has it.

    >>> ranking({"a": 1.0, "b": 2.0, "c": 1.0})
    ['b', 'c', 'a']
    """
    # Not by rising id: figures must be those that everybody else's tool gives for the same run.
    return sorted(scores, key=lambda document: (scores[document], document), reverse=True)


def read_run(path: str | os.PathLike[str]) -> dict[str, dict[str, float]]:
    """Read a TREC run file; ".gz" is unpacked.

    Raises:
        RunError: A line has other columns, a score is no finite number, or a document comes twice
            for one query; the message names file and line.
        InputError: The file cannot be read.
    """
    run: dict[str, dict[str, float]] = {}
    for where, number, line in read_lines(path):
        fields = line.split()
        if len(fields) != 6:
            raise RunError(
                f"{where}, line {number} has {len(fields)} columns; expected six: query id, Q0, "
                "document id, rank, score, name."
            )
        query, _, document, _, text, _ = fields
        try:
            score = float(text)
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise RunError(f"{where}, line {number} has score {text!r}; expected a finite number.")
        found = run.setdefault(query, {})
        if document in found:
            raise RunError(
                f"{where}, line {number} has document {document!r} for query {query!r} a second "
                "time. Keep one."
            )
        found[document] = score
    if not run:
        raise RunError(f"{path} is empty; expected a TREC run file.")
    return run


def write_run(path: str | os.PathLike[str], run: Run, name: str) -> None:
    """Write a TREC run file, whole or not at all; every digit of a score is kept.

    Args:
        path: The file; its folder must exist. ".gz" is packed.
        run: Query id to document id to score.
        name: The last column; white space becomes "-".

    Raises:
        RunError: An id is empty, or has white space, a NUL or half of a surrogate pair in it; or
            a score is not finite: the format cannot hold them.
        OSError: The file cannot be written.
    """
    check_ids([*run, *(document for found in run.values() for document in found)])
    tag = valid_unicode("-".join(name.split())) or "spladelet"
    with replacing(Path(path)) as file:
        for query, found in run.items():
            for rank, document in enumerate(ranking(found), start=1):
                score = float(found[document])  # numpy's own would be written with its type
                if not math.isfinite(score):
                    raise RunError(
                        f"document {document!r} of query {query!r} has score {score}, which run "
                        "files cannot hold."
                    )
                file.write(f"{query} Q0 {document} {rank} {score!r} {tag}\n".encode())


def check_ids(ids: Iterable[str]) -> None:
    """Raise RunError unless a run file can hold the ids."""
    for identity in ids:
        try:
            check_portable_id(identity)
        except InputError as error:
            raise RunError(str(error)) from error
        if identity.split() != [identity]:
            raise RunError(
                f"id {identity!r} is empty or has white space in it, which run files cannot hold. "
                "Rename it."
            )


def without_self_matches(run: Run) -> dict[str, dict[str, float]]:
    """Drop documents whose id is the query's own, as BEIR does."""
    return {
        query: {document: score for document, score in found.items() if document != query}
        for query, found in run.items()
    }
