"""Judgements: query id to document id to grade; a grade above 0 is relevant."""

from collections.abc import Mapping

from spladelet.errors import InputError

Qrels = Mapping[str, Mapping[str, int]]

MAX_GRADE = 1000


def check_grades(qrels: Qrels) -> Qrels:
    """Return the judgements.

    Raises:
        InputError: A grade is too large to be one.
    """
    for query, grades in qrels.items():
        for document, grade in grades.items():
            if grade > MAX_GRADE:
                raise InputError(
                    f"document {document!r} of query {query!r} has grade {grade}; expected at most "
                    f"{MAX_GRADE}."
                )
    return qrels
