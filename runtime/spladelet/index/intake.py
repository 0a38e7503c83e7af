"""What an index takes: its first documents decide what all that come after must be like."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from spladelet.errors import InputError
from spladelet.index.format import KeptEncoding, Manifest, check_encoding, check_kind
from spladelet.lexical.words import Words, as_words
from spladelet.vector import SparseVectors, check_same_model

# How words are counted; "auto" waits for the first documents.
WordsArgument: TypeAlias = Words | Literal["auto"] | None


def new_manifest(
    weight_type: str | None, model_name: str, encoding: KeptEncoding | Mapping[str, Any] | None
) -> Manifest:
    """Return the manifest of an index that is yet to get documents.

    Raises:
        InputError: There is no such type of weights, or `encoding` cannot be kept.
    """
    kind = "float32" if weight_type is None else weight_type
    check_kind(kind)
    return Manifest(0, 0, None, model_name or "", kind, (), check_encoding(encoding))


def admit(
    manifest: Manifest,
    words: WordsArgument,
    vectors: SparseVectors | None,
    *,
    has_texts: bool,
    is_empty: bool,
) -> Manifest:
    """Return an index's manifest once it takes documents.

    Args:
        manifest: The index as it is.
        words: What of its words is still to be decided; None is nothing.
        vectors: The documents' vectors; None for words alone.
        has_texts: Whether the documents have texts.
        is_empty: Whether there are no documents yet.

    Raises:
        InputError: It has words alone and there are vectors, or the other way round; or its words
            were stemmed by another release of Snowball.
        ModelMismatchError: The vectors are of another model.
    """
    if words is not None:
        language = "english" if vectors is None else vectors.language if has_texts else None
        manifest = replace(manifest, words=as_words(words, language))
    if manifest.words is not None:
        manifest.words.check_stemmer()
    if vectors is None:
        if manifest.vocab_size or manifest.words is None:
            raise InputError(
                "vectors is None, which only an index of words alone takes; give a vector for each "
                "document, as Encoder.encode_documents makes them."
            )
        return manifest
    if not manifest.vocab_size:
        if not is_empty:
            raise InputError("the index has words alone, so that it takes no vectors: give None.")
        return replace(manifest, vocab_size=vectors.vocab_size, model=vectors.model)
    check_same_model(vectors, manifest)
    if manifest.model is None and is_empty:
        return replace(manifest, model=vectors.model)
    return manifest
