"""Text to token ids, for one side (queries or documents), and ids back to terms.

Truncation is ours: the file's own settings are ignored. A huge text costs no more than a long one,
because only the beginning that can matter is tokenized; its tokens are those of the whole text.
Where half a million characters do not fill the model, such as in one endless word, no more is
read, and the text counts as truncated.

Texts that are read wholly are read in sections (see `sections`). Windows of two sections share no
tokens.

No lock is held here, so a process may fork at any time.
"""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spladelet.bundle.bundle_files import read_file
from spladelet.encoder.sections import (
    MOST_CHARACTERS,
    SECTION,
    head_of,
    sections_of,
    sections_together,
    tail_of,
)
from spladelet.errors import BundleFileError, InputError, SpladeletError
from spladelet.forks import unforked
from spladelet.parameters import as_whole
from spladelet.text import valid_unicode

if TYPE_CHECKING:
    from tokenizers import Encoding
    from tokenizers import Tokenizer as LoadedTokenizer

# A first guess at how much text fills the model; texts with longer words are read further.
_CHARACTERS_PER_TOKEN = 8
_MAX_BYTES = 1 << 28  # of a tokenizer.json; the largest in use have a tenth of it
_TERM_IDS = range(-(1 << 31), 1 << 32)  # int32 as in vectors, or what the library can be asked
_LONGEST_WORD = 40  # characters; what is longer is no word, but writing without spaces
_PANIC = "PanicException"  # of Rust: it derives from BaseException, and cannot be imported


Span = tuple[int, int]  # where something begins and ends, in characters


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


@dataclass(frozen=True, slots=True)
class PlacedText:
    """The tokens of one text, or of a window of it, and where they stand.

    Attributes:
        tokens: The tokens.
        words: For each token where the word that it is a piece of begins and ends, in characters of
            the text; None for special tokens and the prompt's.
    """

    tokens: TokenizedText
    words: tuple[Span | None, ...]


class Tokenizer:
    """A tokenizer with a fixed length limit.

    Args:
        path: A `tokenizer.json`.
        max_length: How many tokens to keep, special tokens counted.
        prompt: Put before every text.
        special_tokens: Whether to add those that a model expects around a text.

    Raises:
        BundleFileError: The file is no tokenizer; or, later, it fails on a text.
    """

    def __init__(
        self, path: Path, *, max_length: int, prompt: str = "", special_tokens: bool = True
    ) -> None:
        self._path = path
        self._max_length = max_length
        self._guess = max_length * _CHARACTERS_PER_TOKEN
        self._prompt = prompt
        self._special_tokens = special_tokens
        self._untruncated: LoadedTokenizer | None = None
        content = read_file(path, _MAX_BYTES)
        with self._speaking("is no tokenizer"):
            self._tokenizer = _load(content)
            self._tokenizer.no_padding()
            self._tokenizer.enable_truncation(max_length)
            added = self._added
        if added >= max_length:
            raise BundleFileError(
                f"{path} puts {added} special tokens around a text, which leaves nothing of "
                f"{max_length}. Export the bundle again with a larger max_length."
            )

    @property
    def size(self) -> int:
        """How many terms the vocabulary has, added ones counted."""
        with self._speaking("is no tokenizer"):
            return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Tokenize texts; see `TokenizedText`."""
        prompted = [self._prompt + valid_unicode(text) for text in texts]
        # The fast way leaves out where tokens stand, which tells the prompt's from the text's.
        encode = self._tokenizer.encode_batch if self._prompt else self._tokenizer.encode_batch_fast
        heads = [head_of(text, self._guess) for text in prompted]
        with self._speaking():
            encodings = encode(heads, add_special_tokens=self._special_tokens)
            settled = (
                self._read(text, encoding)
                for text, encoding in zip(prompted, encodings, strict=True)
            )
            return [
                TokenizedText(encoding.ids, self._content(encoding), truncated)
                for encoding, truncated in settled
            ]

    def tokenize_endings(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Tokenize texts, of which the end is kept where they are too long; see `tokenize`."""
        prompt = self._plain_ids(self._prompt)
        length = self._max_length - self._added - len(prompt)
        self._checked(0, len(prompt))
        heads = [tail_of(valid_unicode(text), SECTION) for text in texts]
        with self._speaking():
            whole = self._whole()
            encodings = whole.encode_batch(heads, add_special_tokens=False)
            found = []
            for text, head, encoding in zip(texts, heads, encodings, strict=True):
                is_cut = len(encoding.ids) > length or len(head) < len(text)
                encoding.truncate(length, direction="left")
                if self._special_tokens:
                    encoding = whole.post_process(encoding)
                kept = self._with_prompt(encoding, prompt)
                found.append(TokenizedText(kept.ids, kept.content, is_cut))
            return found

    def windows(self, texts: Sequence[str], overlap: int) -> list[list[TokenizedText]]:
        """Tokenize texts wholly, in windows of `max_length` tokens that share `overlap` of them.

        Each window has the special tokens and the prompt.

        Raises:
            InputError: Windows with so much overlap would not move on.
        """
        prompt = self._plain_ids(self._prompt)
        overlap = self._checked(overlap, len(prompt))
        length = self._max_length - len(prompt)
        found: list[list[TokenizedText]] = [[] for _ in texts]
        # The prompt is put into each window as ids: as text it would stand in the first one alone.
        for numbers, sections in sections_together([valid_unicode(text) for text in texts]):
            encodings = self._in_windows(sections, length, overlap)
            for number, encoding in zip(numbers, encodings, strict=True):
                parts = (encoding, *encoding.overflowing)
                found[number] += [self._with_prompt(part, prompt) for part in parts]
        return found

    def placed(self, text: str, overlap: int | None) -> list[PlacedText]:
        """Tokenize one text, and say where its tokens stand.

        Args:
            text: The text, in valid Unicode.
            overlap: None cuts what is longer than the limit; a number reads all of it, in windows.

        Raises:
            InputError: See `windows`.
        """
        if overlap is None:
            prompted = self._prompt + text
            with self._speaking():
                encoding, cut = self._read(prompted, self._encode(head_of(prompted, self._guess)))
            tokens = TokenizedText(encoding.ids, self._content(encoding), cut)
            (words,) = _words([encoding], prompted, len(self._prompt))
            return [PlacedText(tokens, tuple(words))]
        prompt = self._plain_ids(self._prompt)
        overlap = self._checked(overlap, len(prompt))
        found = []
        for begin, section in sections_of(text):
            (whole,) = self._in_windows([section], self._max_length - len(prompt), overlap)
            parts = (whole, *whole.overflowing)
            for part, words in zip(parts, _words(parts, section), strict=True):
                moved = [span and (span[0] + begin, span[1] + begin) for span in words]
                before = _opening(part)
                moved[before:before] = [None] * len(prompt)
                found.append(PlacedText(self._with_prompt(part, prompt), tuple(moved)))
        return found

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
        overlap = self._checked(overlap, prompt)
        length = self._max_length - prompt - reserved
        room = length - self._added
        if room < 1:
            raise InputError(
                f"a title of {reserved} tokens and the prompt leave no room for text in windows of "
                f"{self._max_length}. Use a shorter title."
            )
        spans = []
        for begin, section in sections_of(text):
            # Behind a long title little room is left: sharing most of it would hardly move on.
            (encoding,) = self._in_windows([section], length, min(overlap, room // 2))
            for part in (encoding, *encoding.overflowing):
                marked = zip(part.offsets, part.special_tokens_mask, strict=True)
                inside = [span for span, special in marked if not special]
                if inside:
                    start, end = min(start for start, _ in inside), max(end for _, end in inside)
                    spans.append((begin + start, begin + end))
        return spans

    def beginning(self, text: str, tokens: int) -> tuple[str, int]:
        """Return the beginning of a text that has at most so many tokens, and how many it has."""
        head = head_of(valid_unicode(text), self._guess)
        with self._speaking():
            encoding = self._tokenizer.encode(head, add_special_tokens=False)
        kept = min(len(encoding.ids), tokens)
        if kept == len(encoding.ids):
            return head, kept
        return head[: encoding.offsets[kept - 1][1]] if kept else "", kept

    def _plain_ids(self, text: str) -> list[int]:
        if not text:
            return []
        with self._speaking():
            return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _with_prompt(self, encoding: "Encoding", prompt: list[int]) -> TokenizedText:
        mask, before = encoding.special_tokens_mask, _opening(encoding)
        ids = [*encoding.ids[:before], *prompt, *encoding.ids[before:]]
        return TokenizedText(ids, len(mask) - sum(mask), truncated=False)

    def _in_windows(self, texts: list[str], length: int, overlap: int) -> "list[Encoding]":
        """Tokenize with a copy that cuts nothing, and cut what it gives.

        Truncation is a setting of the library's object, which other threads use meanwhile: it is
        never changed after its making, here nor there.
        """
        with self._speaking():
            whole = self._whole()
            encodings: list[Encoding] = whole.encode_batch(texts, add_special_tokens=False)
            for encoding in encodings:
                encoding.truncate(length - self._added, stride=overlap)
            if self._special_tokens:
                return [whole.post_process(encoding) for encoding in encodings]
            return encodings

    def _whole(self) -> "LoadedTokenizer":
        """Return the copy that cuts nothing."""
        if self._untruncated is None:
            whole = _load(self._tokenizer.to_str().encode())
            whole.no_truncation()
            self._untruncated = whole
        return self._untruncated

    @property
    def _added(self) -> int:
        """How many special tokens are put around a text."""
        added = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        return int(added) if self._special_tokens else 0

    def _checked(self, overlap: int, prompt: int) -> int:
        most = self._max_length - self._added - prompt - 1
        if most < 0:
            raise InputError(
                f"the prompt has {prompt} tokens, which leaves no room for text in windows of "
                f"{self._max_length}: texts cannot be read in windows."
            )
        expected = (
            f"a whole number from 0 to {most}, so that windows of {self._max_length} tokens move on"
        )
        return as_whole(overlap, "overlap", range(most + 1), expected)

    @contextmanager
    def _speaking(self, of: str = "fails on a text") -> Iterator[None]:
        """Turn whatever the library raises, panics included, into an error that names the file."""
        try:
            yield
        except (SpladeletError, MemoryError):
            raise
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
                raise  # an interrupt
            raise BundleFileError(
                f"{self._path} {of} ({error}). Copy or export the bundle again."
            ) from error

    def _content(self, encoding: "Encoding") -> int:
        """Count the tokens that are neither special nor the prompt's."""
        if not self._prompt:
            return len(encoding.ids) - int(sum(encoding.special_tokens_mask))
        spans = zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
        return sum(end > len(self._prompt) for (_, end), special in spans if not special)

    def _read(self, text: str, encoding: "Encoding") -> "tuple[Encoding, bool]":
        """Read on, twice as far each time, until the length limit or the text's end is reached.

        Returns:
            What was read, and whether there is more.
        """
        # Twice as far each time, so that all attempts together cost no more than two of the last.
        limit = self._guess
        most = max(limit, MOST_CHARACTERS)
        head = head_of(text, limit)
        while limit < most and not _is_settled(text, head, encoding):
            limit = min(2 * limit, most)
            head = head_of(text, limit)
            encoding = self._encode(head)
        more = bool(encoding.overflowing)
        return encoding, more or (len(text) > len(head) and not text[len(head) :].isspace())

    def _encode(self, text: str) -> "Encoding":
        return self._tokenizer.encode(text, add_special_tokens=self._special_tokens)

    def word_pieces(self, text: str, overlap: int | None = None) -> list[tuple[str, list[int]]]:
        """Return the words of a text in lower case, each with the ids of its pieces.

        Special tokens and the prompt are left out, and what the length limit cuts unless the text
        is read in windows; see `placed`.
        """
        text = valid_unicode(text)
        words: dict[tuple[int, int], list[int]] = {}
        for part in self.placed(text, overlap):
            known = words.keys() & part.words  # windows share words
            for token, span in zip(part.tokens.ids, part.words, strict=True):
                if span is not None and span not in known:
                    words.setdefault(span, []).append(token)
        return [(text[begin:end].lower(), ids) for (begin, end), ids in words.items()]

    def term(self, term_id: int) -> str:
        """Return the vocabulary's entry; a number that has none is shown in brackets."""
        number = as_whole(term_id, "a term id", _TERM_IDS, "a whole number of 32 bits")
        token = self._tokenizer.id_to_token(number) if number >= 0 else None
        return f"[{term_id}]" if token is None else str(token)

    def special_ids(self) -> tuple[frozenset[int], frozenset[int]]:
        """Return the ids of the special tokens without the unknown token, and of that one."""
        with self._speaking("is no tokenizer"):
            special = {
                number
                for number, token in self._tokenizer.get_added_tokens_decoder().items()
                if token.special
            }
            # Models that keep its number, not its name, as Unigram does, use one of these two.
            unknown = {
                number
                for name in ("[UNK]", "<unk>", getattr(self._tokenizer.model, "unk_token", None))
                if name is not None and (number := self._tokenizer.token_to_id(name)) is not None
            }
        return frozenset(special - unknown), frozenset(unknown)


def _load(content: bytes) -> "LoadedTokenizer":
    with unforked():
        from tokenizers import Tokenizer as LoadedTokenizer

        return LoadedTokenizer.from_buffer(content)


def _opening(encoding: "Encoding") -> int:
    """Count the special tokens that open a window; a prompt stands behind them."""
    mask = encoding.special_tokens_mask
    return next((i for i, special in enumerate(mask) if not special), 0)


def _words(parts: "Sequence[Encoding]", text: str, start: int = 0) -> list[list[Span | None]]:
    """Return where the word of each token of a text's windows begins and ends, from `start` on.

    None for special tokens, white space and what ends before it. Where nothing parts the words, so
    that one would be a whole sentence, each token is by itself.
    """
    words: dict[int, Span] = {}
    for part in parts:
        for word, (begin, end) in zip(part.word_ids, part.offsets, strict=True):
            if word is not None and end > start:
                first, last = words.get(word, (len(text), 0))
                words[word] = (min(first, max(begin, start)), max(last, end))

    def place(word: int | None, span: Span) -> Span | None:
        if word is None or span[1] <= start:
            return None
        begin, end = words[word]
        if end - begin > _LONGEST_WORD:
            begin, end = max(span[0], start), span[1]
        while end < len(text) and unicodedata.combining(text[end]):
            end += 1
        found = text[begin:end]  # some tokenizers count the space before to the word
        begin += len(found) - len(found.lstrip())
        end = begin + len(found.strip())
        return (begin - start, end - start) if end > begin else None

    return [[place(*at) for at in zip(part.word_ids, part.offsets, strict=True)] for part in parts]


def _is_settled(text: str, head: str, encoding: "Encoding") -> bool:
    """Say whether what is left of the text can change nothing.

    A cut may spoil the last word, also at white space, some of which tokenizers drop. So the limit
    must come before that word.
    """
    if len(head) == len(text):
        return True
    # Words are numbered from the start, so the last that was kept must come before the last one.
    kept = [word for word in encoding.word_ids if word is not None]
    beyond = [word for part in encoding.overflowing for word in part.word_ids if word is not None]
    return bool(beyond) and (not kept or kept[-1] < max(beyond))


def _run_alone() -> None:
    """Keep a forked child from waiting for the threads of its parent, whatever it was told."""
    if os.environ.get("TOKENIZERS_PARALLELISM"):  # else the library sees to it
        os.environ["TOKENIZERS_PARALLELISM"] = "false"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_run_alone)
