"""Does transformers cut texts into the same tokens as the bundle does?

The bundle has `tokenizer.json` alone. transformers reads `tokenizer_config.json` beside it, whose
entries may overrule it: another case, other accents, other special tokens. Then the vectors differ
for a reason that has nothing to do with the graph, so tokens are compared before weights.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spladelet.bundle.description import TOKENIZER
from spladelet.bundle.folder import Bundle
from spladelet.encoder.sides import Side, TableSide, open_sides
from spladelet.text import valid_unicode
from spladelet_export.checkpoint.checkpoint_files import read_json
from spladelet_export.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from spladelet_export.checks.reference import Reference

_CONFIG = "tokenizer_config.json"
# What transformers' tokenizers are made of, as tokenizer.json calls it.
_PARTS = ("normalizer", "pre_tokenizer", "model", "post_processor", "added_tokens")
# The entries of tokenizer_config.json that change them.
_ENTRIES = (
    "tokenizer_class",
    "do_lower_case",
    "strip_accents",
    "tokenize_chinese_chars",
    "add_prefix_space",
)


def check_tokens(bundle: Bundle, reference: "Reference", texts: Sequence[str]) -> None:
    """Compare the tokens of texts, as queries and as documents.

    Args:
        bundle: Whose tokenizers are compared.
        reference: With what; nothing is done where it has none of its own.
        texts: Some texts; those without content do not count.

    Raises:
        CheckpointError: Some differ; the message says where, and what makes them.
    """
    query, document = open_sides(bundle, threads=1)
    for side, theirs in (
        (document, reference.tokenizer("document")),
        (query, reference.tokenizer("query")),
    ):
        if theirs is None:
            continue
        for text, tokens in zip(texts, side.tokenizer.tokenize(texts), strict=True):
            expected = _ids(theirs, side, text)
            if tokens.content and tokens.ids != expected:
                raise CheckpointError(_message(theirs, text, tokens.ids, expected))


def _ids(tokenizer: "PreTrainedTokenizerBase", side: Side, text: str) -> list[int]:
    return list(
        tokenizer(
            side.semantics.prompt + valid_unicode(text),
            truncation=True,
            max_length=side.semantics.max_length,
            add_special_tokens=not isinstance(side, TableSide),
        )["input_ids"]
    )


def _message(
    theirs: "PreTrainedTokenizerBase", text: str, ids: Sequence[int], expected: Sequence[int]
) -> str:
    folder = Path(theirs.name_or_path)
    place = next(
        (n for n, (one, other) in enumerate(zip(ids, expected, strict=False)) if one != other),
        min(len(ids), len(expected)),
    )
    found = [
        theirs.convert_ids_to_tokens(list(tokens[place : place + 3])) for tokens in (ids, expected)
    ]
    config = read_json(folder / _CONFIG, dict) or {}
    stated = {name: config[name] for name in _ENTRIES if config.get(name) is not None}
    entries = ", ".join(f"{name} {value!r:.40}" for name, value in stated.items())
    differences = "; ".join(_differences(folder, theirs)) or "no part of it that could be named"
    return (
        f"{folder} holds two tokenizers that differ: of {text!r:.60}, {TOKENIZER} makes "
        f"{found[0]} from token {place} on, and transformers, with {_CONFIG} "
        f"({entries or 'empty'}), {found[1]}. "
        f"They differ in {differences}. If transformers is right, as the model was trained, write "
        f"{TOKENIZER} anew with `AutoTokenizer.from_pretrained(…).save_pretrained(…)`; if "
        f"{TOKENIZER} is, correct the entry of {_CONFIG}."
    )


def _differences(folder: Path, theirs: "PreTrainedTokenizerBase") -> Iterator[str]:
    """Say which parts of a tokenizer differ, and which of their settings."""
    backend = getattr(theirs, "backend_tokenizer", None)
    if backend is None:
        yield f"all: transformers takes {type(theirs).__name__}, which does not read {TOKENIZER}"
        return
    here: dict[str, Any] = read_json(folder / TOKENIZER, dict) or {}
    there: dict[str, Any] = json.loads(backend.to_str())
    for part in _PARTS:
        one, other = here.get(part), there.get(part)
        if one == other:
            continue
        if not (isinstance(one, dict) and isinstance(other, dict)):
            yield f"{part} ({one!r:.60} and {other!r:.60})"
            continue
        names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
        settings = (f"{name} {one.get(name)!r:.40} and {other.get(name)!r:.40}" for name in names)
        yield f"{part} ({', '.join(settings)})"
