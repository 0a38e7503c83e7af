"""Reading a checkpoint: of what family it is, and what its vectors mean, for queries and documents.

Whatever would be loaded wrong is refused with the reason. Does not load the encoder's weights.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spladelet.bundle.description import TOKENIZER, Semantics
from spladelet_export.checkpoint.checkpoint_files import read_json
from spladelet_export.checkpoint.families import FAMILIES, Family
from spladelet_export.checkpoint.layout import Route, read_routes
from spladelet_export.checkpoint.query_table import Weights, read_table
from spladelet_export.errors import CheckpointError, door, require

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# What a hub repository is asked for: never other people's ONNX files or other frameworks' weights.
_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model", "pytorch_model*.bin", "README.md"]
_NO_LIMIT = 1_000_000  # tokenizers without a limit state 1e30

_POOLINGS = {"max": "max", "sum": "sum"}
# sentence-transformers' names -> ours.
ACTIVATIONS = {"relu": "log1p", "log1p_relu": "log1p_log1p"}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that can be exported.

    Attributes:
        folder: Where config.json, tokenizer.json and the weights of the documents' encoder are.
        name: What people call it.
        family: Its encoder family; None for a graph that is exported already.
        query: Semantics of queries.
        document: Semantics of documents.
        source: Where it came from: checkpoint, revision, license.
        query_mode: How queries get their weights; see `spladelet.bundle.QUERY_MODES`.
        query_folder: The same as `folder`, of the queries' own encoder; None if they have none.
        query_tokenizer: Queries' own tokenizer.json; None if they have the documents'.
        query_weights: float32[vocab_size], a weight for each term; None if there is no such table.
    """

    folder: Path
    name: str
    family: Family | None
    query: Semantics
    document: Semantics
    source: Mapping[str, str | None]
    query_mode: str = "same"
    query_folder: Path | None = None
    query_tokenizer: Path | None = None
    query_weights: Weights | None = None


@door("the checkpoint cannot be read", CheckpointError)
def read_checkpoint(checkpoint: str | Path) -> Checkpoint:
    """Find a checkpoint and read what its vectors mean.

    Args:
        checkpoint: A folder; or a hub id, owner/name or owner/name@revision, which is downloaded.

    Raises:
        CheckpointError: There is none, or it is of a kind that cannot be exported.
    """
    top, source = _locate(checkpoint)
    query, document, encoder = _check_routes(top)
    family = _check_encoder(encoder)
    prompts = _prompts(top)
    # sentence-transformers takes no other name for it, as long as there is a "document", and it
    # puts an empty one where there is none.
    prompt = prompts.get("document", "")
    semantics = replace(_semantics(document, encoder), prompt=prompt)
    found = Checkpoint(
        encoder,
        str(source["checkpoint"]).rstrip("/").rsplit("/", 1)[-1],
        family,
        replace(semantics, prompt=prompts.get("query", "")),
        semantics,
        source,
    )
    return _with_query_side(found, query, document, top)


def _check_routes(top: Path) -> tuple[Route, Route, Path]:
    """Return the routes of queries and of documents, and the folder of the documents' model."""
    query, document = read_routes(top)
    if document.encoder is None or document.table is not None:
        raise CheckpointError(
            f"{top} encodes documents by a table of weights. Only queries can do without a masked "
            "language model."
        )
    return query, document, document.encoder


def _with_query_side(found: Checkpoint, query: Route, document: Route, top: Path) -> Checkpoint:
    """Say how queries get their weights: by the documents' encoder, their own, or a table."""
    weights = None
    if query.table is not None:
        tokenizer = _tokenizer(found.folder)
        weights = read_table(query.table, top, tokenizer, _vocab_size(found.folder))
    if query.encoder is None and query.table is not None and weights is not None:
        if document.encoder == query.table:
            found = _without_special_tokens(found)
        else:
            found = _with_tables_tokenizer(found, query.table)
        return _with_table(found, weights)
    if query.encoder is None:
        raise CheckpointError(f"{top} has nothing that weighs queries. Get the checkpoint again.")
    _check_encoder(query.encoder)
    own = replace(_semantics(query, query.encoder), prompt=found.query.prompt)
    if _same_encoder(query.encoder, found.folder) and _pools_alike(own, found.document):
        mode = "same" if weights is None else "lexical"
        return replace(found, query=own, query_mode=mode, query_weights=weights)
    if weights is not None:
        raise CheckpointError(
            f"{top} multiplies query weights by a table after an encoder of their own, which no "
            "query mode does. Export the documents' side alone."
        )
    _check_vocabularies(query.encoder, found.folder)
    sizes = [_vocab_size(folder) for folder in (query.encoder, found.folder)]
    if sizes[0] != sizes[1]:
        raise CheckpointError(
            f"{top} has {sizes[0]} terms for queries and {sizes[1]} for documents, so no query can "
            "meet a document."
        )
    return replace(
        found,
        query=own,
        query_mode="separate",
        query_folder=query.encoder,
        query_tokenizer=query.encoder / TOKENIZER,
    )


def _without_special_tokens(found: Checkpoint) -> Checkpoint:
    """Leave special tokens and the unknown one out on both sides.

    A table beside a plain checkpoint is OpenSearch's, which does so.
    """
    query, document = (
        replace(side, special_tokens="zero_dims", unknown_token="zero_dims")
        for side in (found.query, found.document)
    )
    return replace(found, query=query, document=document)


def _with_tables_tokenizer(found: Checkpoint, folder: Path) -> Checkpoint:
    """Cut queries as a table's folder says: sentence-transformers saves a tokenizer beside it."""
    if (folder / TOKENIZER).is_file():
        _check_vocabularies(folder, found.folder)
        if _tokenizer_rules(folder) != _tokenizer_rules(found.folder):
            found = replace(found, query_tokenizer=folder / TOKENIZER)
    return replace(found, query=replace(found.query, max_length=_max_length(folder, {}, 0)))


def _with_table(found: Checkpoint, weights: Weights) -> Checkpoint:
    """Weigh queries by a table: `idf`, or `bow` if it has 1 for every ordinary term."""
    query, tokenizer = found.query, _tokenizer(found.folder)
    added = tokenizer.get_added_tokens_decoder()
    special = [n for n, token in added.items() if token.special and n < len(weights)]
    ordinary = np.ones(len(weights), bool)
    ordinary[special] = False
    ordinary[tokenizer.get_vocab_size(with_added_tokens=True) :] = False
    if not (weights[ordinary] == 1).all():
        return replace(found, query_mode="idf", query_weights=weights)
    if not weights[special].any():
        query = replace(query, special_tokens="zero_dims", unknown_token="zero_dims")
    return replace(found, query=query, query_mode="bow")


def _check_vocabularies(query: Path, document: Path) -> None:
    if _tokenizer(query).get_vocab() != _tokenizer(document).get_vocab():
        raise CheckpointError(
            f"{query} has another vocabulary than {document}, so no query can meet a document. Get "
            "the checkpoint again."
        )


def _pools_alike(one: Semantics, other: Semantics) -> bool:
    return (one.pooling, one.activation) == (other.pooling, other.activation)


def _check_encoder(folder: Path) -> Family:
    config = read_json(folder / "config.json", dict)
    if config is None:
        raise CheckpointError(
            f"{folder} has no config.json, so it is no checkpoint. Give the folder that "
            "`save_pretrained` wrote, or a hub id."
        )
    family = _family(config, folder)
    if not (folder / TOKENIZER).is_file():
        raise CheckpointError(
            f"{folder} has no tokenizer.json, the only tokenizer format that runs without "
            "transformers. If the tokenizer has a fast version, write it with "
            "`AutoTokenizer.from_pretrained(…).save_pretrained(…)`; if it has none (MeCab, for "
            "example), the model cannot be exported."
        )
    _check_case(folder)
    return family


def _semantics(route: Route, folder: Path) -> Semantics:
    config = read_json(folder / "config.json", dict) or {}
    pooling = route.pooling
    reserved = _family(config, folder).reserved_positions(config.get("pad_token_id"))
    return Semantics(
        pooling=_translate(pooling.get("pooling_strategy", "max"), _POOLINGS, "pooling"),
        activation=_translate(
            pooling.get("activation_function", "relu"), ACTIVATIONS, "activation function"
        ),
        max_length=_max_length(folder, config, reserved),
    )


def _same_encoder(one: Path, other: Path) -> bool:
    """Say whether two folders hold the same weights and tokenizer."""
    if one.resolve() == other.resolve():
        return True
    weights = {path.name for folder in (one, other) for path in folder.iterdir()}
    weights = {name for name in weights if name.endswith((".safetensors", ".bin"))}
    return (
        bool(weights)
        and all(_sha256(one / name) == _sha256(other / name) for name in weights)
        and _tokenizer_rules(one) == _tokenizer_rules(other)
    )


def _sha256(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tokenizer_rules(folder: Path) -> dict[str, Any]:
    """Return a tokenizer without its truncation and padding, which change as it is used."""
    rules = read_json(folder / TOKENIZER, dict) or {}
    return {name: rule for name, rule in rules.items() if name not in ("truncation", "padding")}


def _vocab_size(folder: Path) -> int:
    size = (read_json(folder / "config.json", dict) or {}).get("vocab_size")
    if not isinstance(size, int) or size < 1:
        raise CheckpointError(f"{folder}/config.json has vocab_size {size!r}; expected a number.")
    return size


def _locate(checkpoint: str | Path) -> tuple[Path, dict[str, str | None]]:
    folder = Path(checkpoint)
    if is_folder(folder):
        return folder, _origin(folder, folder.resolve().name, None)
    name, _, revision = str(checkpoint).partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith("."):
        raise CheckpointError(
            f"there is no folder {name!r}. Give a checkpoint's folder or a hub id (owner/name)."
        )
    require("huggingface_hub")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    try:
        folder = Path(snapshot_download(name, revision=revision or None, allow_patterns=_WANTED))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{name!r} is no folder here, and cannot be had from the hub: {error} If it is gated, "
            "accept its terms there and log in with `hf auth login`."
        ) from error
    return folder, _origin(folder, name, folder.name)


def is_folder(path: Path) -> bool:
    """Say whether a path is a folder, whatever text it is."""
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False


def _prompts(top: Path) -> Mapping[str, str]:
    settings = read_json(top / "config_sentence_transformers.json", dict) or {}
    prompts = settings.get("prompts") or {}
    if isinstance(prompts, dict):
        prompts = {side: prompt or "" for side, prompt in prompts.items()}
    if not isinstance(prompts, dict) or not all(isinstance(v, str) for v in prompts.values()):
        raise CheckpointError(
            f"{top}/config_sentence_transformers.json has prompts {prompts!r:.60}; expected names "
            "with texts. Get the checkpoint again."
        )
    return prompts


def _family(config: Mapping[str, Any], folder: Path) -> Family:
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list):
        raise CheckpointError(f"{folder} states architectures {architectures!r}; expected a list.")
    architectures = [str(name) for name in architectures]
    model_type = config.get("model_type")
    _check_plain(config, folder)
    if "auto_map" in config:
        raise CheckpointError(
            f"{folder} brings its own code (auto_map in config.json), which is not run. Only "
            "architectures that transformers itself has can be exported."
        )
    if any("CausalLM" in name or "LMHead" in name for name in architectures):
        raise CheckpointError(
            f"{folder} is a causal language model ({', '.join(architectures)}). SPLADE needs a "
            "masked language model, which sees the words on both sides."
        )
    family = FAMILIES.get(str(model_type))
    if family is None:
        raise CheckpointError(
            f"{folder} is of family {model_type!r}; this version exports {', '.join(FAMILIES)}."
        )
    if family.architecture not in architectures:
        raise CheckpointError(
            f"{folder} states architecture {', '.join(architectures) or 'none'}, which has no "
            f"masked-language-model head; expected {family.architecture}. A dense encoder has no "
            "term weights to export."
        )
    return family


def _check_plain(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse weights that transformers would take from elsewhere, or by other packages' code."""
    if config.get("quantization_config") is not None:
        raise CheckpointError(
            f"{folder} has quantized weights (quantization_config in config.json). Export the "
            "checkpoint that it was made of; `--int8` quantizes."
        )
    if (folder / "adapter_config.json").is_file():
        raise CheckpointError(
            f"{folder} is an adapter (adapter_config.json) of another model. Merge it into that "
            "one, and export the result."
        )


def _max_length(folder: Path, config: Mapping[str, Any], reserved_positions: int) -> int:
    """Return the smallest of the limits that are stated; 512 if none is."""
    module = read_json(folder / "sentence_bert_config.json", dict) or {}
    tokenizer = read_json(folder / "tokenizer_config.json", dict) or {}
    stated = {
        "max_seq_length": module.get("max_seq_length"),
        "processing_kwargs": _nested(module, "processing_kwargs", "text", "max_length"),
        "model_max_length": tokenizer.get("model_max_length"),
        "max_position_embeddings": config.get("max_position_embeddings"),
    }
    limits = []
    for name, limit in stated.items():
        if limit is None:
            continue
        is_number = isinstance(limit, (int, float)) and not isinstance(limit, bool)
        if not is_number or not limit > -math.inf:
            raise CheckpointError(
                f"{folder} states {name} {limit!r:.40}; expected a number of tokens. Correct it, "
                "or get the checkpoint again."
            )
        reserved = reserved_positions if name == "max_position_embeddings" else 0
        if limit < _NO_LIMIT:
            limits.append(int(limit) - reserved)
    return min(limits, default=512)


def _nested(settings: Mapping[str, Any], *names: str) -> Any:  # noqa: ANN401
    """Return the value below the names; None where one is missing or holds something else."""
    value: Any = settings
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _check_case(folder: Path) -> None:
    """Refuse a lowercasing that only sentence-transformers would do, outside the tokenizer."""
    settings = read_json(folder / "sentence_bert_config.json", dict) or {}
    if settings.get("do_lower_case") is not True:
        return
    tokenizer = _tokenizer(folder)
    if tokenizer.encode("RIVER Stone").ids != tokenizer.encode("river stone").ids:
        raise CheckpointError(
            f"{folder} has do_lower_case in sentence_bert_config.json, and a tokenizer that keeps "
            "capitals. Put a Lowercase normalizer into tokenizer.json, or set it to false."
        )


def _tokenizer(folder: Path) -> "Tokenizer":
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as error:
        raise CheckpointError(f"{folder}/tokenizer.json is no tokenizer: {error}.") from error


def _translate(value: object, table: Mapping[str, str], what: str) -> str:
    if not isinstance(value, str) or value not in table:
        raise CheckpointError(f"{what} {value!r} is not one of {', '.join(table)}.")
    return table[value]


def _origin(folder: Path, checkpoint: str, revision: str | None) -> dict[str, str | None]:
    """Say where the weights come from; license and language as the model card's header has them."""
    return {
        "checkpoint": checkpoint,
        "revision": revision,
        "license": _stated(folder, "license"),
        "language": _stated(folder, "language"),
    }


def _stated(folder: Path, key: str) -> str | None:
    """Return what the model card's header states, if it is one word."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    header = re.match(r"---\n(.*?)\n---", card.read_text(errors="replace"), re.DOTALL)
    line = rf"^{key}:[ \t]*(?:\n-[ \t]*)?(\S+)[ \t]*$(?!\n-)"
    stated = re.search(line, header[1], re.MULTILINE) if header else None
    return stated[1].strip("\"'") if stated else None
