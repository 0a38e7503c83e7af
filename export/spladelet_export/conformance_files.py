"""What implementations in other languages need of a bundle, beside what its vectors depend on."""

import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from spladelet.bundle.description import (
    CONFORMANCE,
    QUERY_TOKENIZER,
    QUERY_TOKENIZER_CONFIG,
    SATURATION,
    TOKENIZER,
    TOKENIZER_CONFIG,
    Description,
    Semantics,
)
from spladelet.bundle.folder import Bundle
from spladelet.encoder.conformance import conformance_json
from spladelet_export.amending import amend, write_auxiliary
from spladelet_export.conformance_texts import conformance_texts
from spladelet_export.errors import door

_FILES = (CONFORMANCE, SATURATION, TOKENIZER_CONFIG, QUERY_TOKENIZER_CONFIG)
# What BERT and what RoBERTa and their kin call them.
_SPECIAL = {
    "unk_token": ("[UNK]", "<unk>"),
    "sep_token": ("[SEP]", "</s>"),
    "pad_token": ("[PAD]", "<pad>"),
    "cls_token": ("[CLS]", "<s>"),
    "mask_token": ("[MASK]", "<mask>"),
}


@door("the bundle stays as it was")
def conform_bundle(bundle: str | os.PathLike[str]) -> Description:
    """Add to a bundle that was made before what other languages need; vectors stay the same.

    Its vectors here are written down as the right ones.

    Args:
        bundle: Its folder.

    Returns:
        Its description, in which the new files are listed.

    Raises:
        BundleError: There is no bundle, or it is damaged or does not load.
        InputError: It is a .zip.
        ExportError: The folder cannot be written.
    """
    return amend(bundle, _FILES, _contents)


def add_conformance(folder: Path, description: Description) -> Description:
    """Write the files; returns the description that lists them, too."""
    return write_auxiliary(folder, description, _contents(folder, description))


def _contents(folder: Path, description: Description) -> dict[str, bytes]:
    longest = max(description.query.max_length, description.document.max_length)
    told = conformance_json(Bundle(folder, description), conformance_texts(longest))
    contents = {
        CONFORMANCE: told.encode(),
        TOKENIZER_CONFIG: _tokenizer_config(folder / TOKENIZER, description.document),
    }
    if QUERY_TOKENIZER in description.files:
        config = _tokenizer_config(folder / QUERY_TOKENIZER, description.query)
        contents[QUERY_TOKENIZER_CONFIG] = config
    if description.is_int8:
        contents[SATURATION] = (files("spladelet") / "data" / SATURATION).read_bytes()
    return contents


def _tokenizer_config(tokenizer: Path, semantics: Semantics) -> bytes:
    """Return a tokenizer_config.json, as transformers and transformers.js read it.

    A checkpoint's own is not taken: its class may build another tokenizer than the tokenizer.json
    describes, or give token_type_ids, which a bundle's graph does not take.
    """
    known = Tokenizer.from_file(str(tokenizer))
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": semantics.max_length,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }
    for role, names in _SPECIAL.items():
        found = next((name for name in names if known.token_to_id(name) is not None), None)
        if found is not None:
            config[role] = found
    return (json.dumps(config, indent=2) + "\n").encode()
