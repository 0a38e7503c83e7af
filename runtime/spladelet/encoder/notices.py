"""What is said of texts when all of them are encoded."""

import warnings
from collections.abc import Sequence


class TruncationWarning(UserWarning):
    """Some texts were longer than the model reads; what came after its limit was ignored."""


class LanguageWarning(UserWarning):
    """Some texts are plainly not in the language that the model was trained on."""


class Notes:
    """What is to be said of texts when all are encoded.

    Args:
        limit: How many tokens the model reads.
        texts: Where the texts themselves are kept; None keeps none.
    """

    def __init__(self, limit: int, texts: list[str] | None = None) -> None:
        self.texts = texts
        self._limit = limit
        self._count = 0
        self._cut: list[int] = []
        self._foreign: list[int] = []

    def take(self, texts: list[str], cut: Sequence[bool], foreign: Sequence[bool]) -> None:
        """Note which of the next texts were cut, and which are not in the model's language."""
        if self.texts is not None:
            self.texts += texts
        self._cut += [self._count + i for i, is_cut in enumerate(cut) if is_cut]
        self._foreign += [self._count + i for i, is_foreign in enumerate(foreign) if is_foreign]
        self._count += len(cut)

    def warn(self, depth: int) -> None:
        """Warn at the line that called the encoder, so many calls above this one."""
        if self._cut:
            message = (
                f"{len(self._cut)} of {self._count} texts were longer than {self._limit} tokens "
                f"and were cut there (the first is number {self._cut[0]}). Documents can be read "
                "wholly: see encode_documents and split, or --long-texts."
            )
            warnings.warn(message, TruncationWarning, stacklevel=depth + 1)
        if self._foreign:
            message = (
                f"{len(self._foreign)} of {self._count} texts are not in English, which is all "
                f"that this model knows (the first is number {self._foreign[0]}): expect poor "
                "hits. Use a model that was trained on their language."
            )
            warnings.warn(message, LanguageWarning, stacklevel=depth + 1)
