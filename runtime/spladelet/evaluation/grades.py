"""Judgements: query id to document id to grade; a grade above 0 is relevant."""

from collections.abc import Mapping

from spladelet.errors import InputError
from spladelet.text import shown

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
                    f"document {document!r:.80} of query {query!r:.80} has grade {shown(grade)}; "
                    f"expected at most {MAX_GRADE}."
                )
    return qrels
