"""Text to token ids, for one side (queries or documents), and ids back to terms.

Truncation is ours: the file's own settings are ignored. A huge text costs no more than a long one,
because only the beginning that can matter is tokenized.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spladelet.errors import BundleFileError, InputError

if TYPE_CHECKING:
    from tokenizers import Encoding
    from tokenizers import Tokenizer as LoadedTokenizer

# A first guess at how much text fills the model; texts with longer words are read further.
_CHARACTERS_PER_TOKEN = 8


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """The tokens of one text.

    Attributes:
        ids: Token ids, special tokens included, at most `max_length`.
        content: How many of them are neither special nor the prompt's.
        truncated: Whether the text had more.
    """

    ids: list[int]
    content: int
    truncated: bool


class Tokenizer:
    """A tokenizer with a fixed length limit.

    Args:
        path: A `tokenizer.json`.
        max_length: How many tokens to keep, special tokens counted.
        prompt: Put before every text.
        special_tokens: Whether to add those that a model expects around a text.

    Raises:
        BundleFileError: The file is no tokenizer.
    """

    def __init__(
        self, path: Path, *, max_length: int, prompt: str = "", special_tokens: bool = True
    ) -> None:
        self._tokenizer = _load(path)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length)
        self._max_length = max_length
        self._striding: LoadedTokenizer | None = None
        self._lock = threading.Lock()
        self._guess = max_length * _CHARACTERS_PER_TOKEN
        self._prompt = prompt
        self._special_tokens = special_tokens

    @property
    def size(self) -> int:
        """How many terms the vocabulary has, added ones counted."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Tokenize texts; see `TokenizedText`."""
        prompted = [self._prompt + valid_unicode(text) for text in texts]
        # The fast way leaves out where tokens stand, which tells the prompt's from the text's.
        encode = self._tokenizer.encode_batch if self._prompt else self._tokenizer.encode_batch_fast
        heads = [_head(text, self._guess) for text in prompted]
        encodings = encode(heads, add_special_tokens=self._special_tokens)
        settled = (
            self._read(text, encoding) for text, encoding in zip(prompted, encodings, strict=True)
        )
        return [
            TokenizedText(
                encoding.ids,
                self._content(encoding),
                bool(encoding.overflowing),
            )
            for encoding in settled
        ]

    def windows(self, texts: Sequence[str], overlap: int) -> list[list[TokenizedText]]:
        """Tokenize texts wholly, in windows of `max_length` tokens that share `overlap` of them.

        Each window has the special tokens and the prompt.

        Raises:
            InputError: Windows with so much overlap would not move on.
        """
        prompt = self._plain_ids(self._prompt)
        self._check_overlap(overlap, len(prompt))
        length = self._max_length - len(prompt)
        encodings = self._in_windows([valid_unicode(text) for text in texts], length, overlap)
        return [
            [self._with_prompt(part, prompt) for part in (encoding, *encoding.overflowing)]
            for encoding in encodings
        ]

    def spans(self, text: str, overlap: int, reserved: int) -> list[tuple[int, int]]:
        """Return where a text's windows begin and end, in characters.

        Args:
            text: The text, in valid Unicode.
            overlap: How many tokens neighbours share; fewer where too few are left.
            reserved: How many tokens a window must leave for others, the prompt's not counted.

        Raises:
            InputError: See `windows`.
        """
        prompt = len(self._plain_ids(self._prompt))
        self._check_overlap(overlap, prompt)
        length = self._max_length - prompt - reserved
        (encoding,) = self._in_windows([text], length, min(overlap, (length - self._added) // 2))
        spans = []
        for part in (encoding, *encoding.overflowing):
            marked = zip(part.offsets, part.special_tokens_mask, strict=True)
            inside = [span for span, special in marked if not special]
            if inside:
                spans.append((min(start for start, _ in inside), max(end for _, end in inside)))
        return spans

    def beginning(self, text: str, tokens: int) -> tuple[str, int]:
        """Return the beginning of a text that has at most so many tokens, and how many it has."""
        head = _head(valid_unicode(text), self._guess)
        encoding = self._tokenizer.encode(head, add_special_tokens=False)
        kept = min(len(encoding.ids), tokens)
        if kept == len(encoding.ids):
            return head, kept
        return head[: encoding.offsets[kept - 1][1]] if kept else "", kept

    def _plain_ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids) if text else []

    def _with_prompt(self, encoding: "Encoding", prompt: list[int]) -> TokenizedText:
        mask = encoding.special_tokens_mask
        before = next((i for i, special in enumerate(mask) if not special), 0)
        ids = [*encoding.ids[:before], *prompt, *encoding.ids[before:]]
        return TokenizedText(ids, len(mask) - sum(mask), truncated=False)

    def _in_windows(self, texts: list[str], length: int, overlap: int) -> "list[Encoding]":
        """Tokenize with a copy that goes on where it cuts, for that is a setting."""
        with self._lock:
            if self._striding is None:
                self._striding = type(self._tokenizer).from_str(self._tokenizer.to_str())
            self._striding.enable_truncation(length, stride=overlap)
            found: list[Encoding] = self._striding.encode_batch(
                texts, add_special_tokens=self._special_tokens
            )
            return found

    @property
    def _added(self) -> int:
        """How many special tokens are put around a text."""
        added = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        return int(added) if self._special_tokens else 0

    def _check_overlap(self, overlap: int, prompt: int) -> None:
        most = self._max_length - self._added - prompt - 1
        if not isinstance(overlap, int) or not 0 <= overlap <= most:
            raise InputError(
                f"overlap is {overlap!r}; expected a whole number from 0 to {most}, so that "
                f"windows of {self._max_length} tokens move on."
            )

    def _content(self, encoding: "Encoding") -> int:
        """Count the tokens that are neither special nor the prompt's."""
        if not self._prompt:
            return len(encoding.ids) - int(sum(encoding.special_tokens_mask))
        spans = zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
        return sum(end > len(self._prompt) for (_, end), special in spans if not special)

    def _read(self, text: str, encoding: "Encoding") -> "Encoding":
        """Read on, twice as far each time, until the length limit or the text's end is reached."""
        limit = self._guess
        while not _is_settled(text, _head(text, limit), encoding):
            limit *= 2
            encoding = self._encode(_head(text, limit))
        return encoding

    def _encode(self, text: str) -> "Encoding":
        return self._tokenizer.encode(text, add_special_tokens=self._special_tokens)

    def word_pieces(self, text: str) -> list[tuple[str, list[int]]]:
        """Return the words of a text in lower case, each with the ids of its pieces.

        Special tokens and the prompt are left out, and what the length limit cuts.
        """
        text = self._prompt + valid_unicode(text)
        encoding = self._read(text, self._encode(_head(text, self._guess)))
        words: dict[int, tuple[tuple[int, int], list[int]]] = {}
        for token, word, span in zip(
            encoding.ids, encoding.word_ids, encoding.offsets, strict=True
        ):
            if word is None or span[1] <= len(self._prompt):
                continue
            (start, end), ids = words.get(word, (span, []))
            words[word] = ((min(start, span[0]), max(end, span[1])), [*ids, token])
        return [(text[start:end].strip().lower(), ids) for (start, end), ids in words.values()]

    def term(self, term_id: int) -> str:
        """Return the vocabulary's entry; a number no entry has is shown as such."""
        token = self._tokenizer.id_to_token(term_id)
        return f"[{term_id}]" if token is None else str(token)

    def special_ids(self) -> tuple[frozenset[int], frozenset[int]]:
        """Return the ids of the special tokens without the unknown token, and of that one."""
        special = {
            number
            for number, token in self._tokenizer.get_added_tokens_decoder().items()
            if token.special
        }
        unknown = {
            number
            for name in ("[UNK]", "<unk>", getattr(self._tokenizer.model, "unk_token", None))
            if name is not None and (number := self._tokenizer.token_to_id(name)) is not None
        }
        return frozenset(special - unknown), frozenset(unknown)


def _load(path: Path) -> "LoadedTokenizer":
    from tokenizers import Tokenizer as LoadedTokenizer

    try:
        return LoadedTokenizer.from_file(str(path))
    except Exception as error:
        raise BundleFileError(
            f"{path} is no tokenizer ({error}). Copy or export the bundle again."
        ) from error


def _head(text: str, limit: int) -> str:
    """Cut a long text at white space, where no tokenizer joins what stands on both sides.

    Writing without spaces is cut anywhere: what the cut spoils lies past the length limit, or the
    text is read on.
    """
    if len(text) <= limit:
        return text
    for end in range(limit, limit // 2, -1):
        if text[end].isspace():
            return text[:end]
    return text[:limit]


def _is_settled(text: str, head: str, encoding: "Encoding") -> bool:
    """Say whether what is left of the text can change nothing.

    A cut may spoil the last word, also at white space, some of which tokenizers drop. So the limit
    must come before that word.
    """
    if len(head) == len(text):
        return True
    kept = [word for word in encoding.word_ids if word is not None]
    beyond = [word for part in encoding.overflowing for word in part.word_ids if word is not None]
    return bool(beyond) and (not kept or kept[-1] < max(beyond))


def valid_unicode(text: str) -> str:
    """Replace lone surrogates, which broken JSON brings and no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
