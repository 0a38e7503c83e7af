"""Reading a checkpoint: where its files are, what family it is of, and what its vectors mean.

Two layouts: a plain Hugging Face masked language model, and sentence-transformers' SparseEncoder
(modules.json). Whatever would be loaded wrong is refused with the reason. Does not load weights.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spladelet.bundle import Semantics
from spladelet_export.errors import CheckpointError, require
from spladelet_export.families import FAMILIES, Family

# What a hub repository is asked for: never other people's ONNX files or other frameworks' weights.
_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model", "pytorch_model*.bin", "README.md"]
_NO_LIMIT = 1_000_000  # tokenizers without a limit state 1e30

_POOLINGS = {"max": "max", "sum": "sum"}
# sentence-transformers' names -> ours.
_ACTIVATIONS = {"relu": "log1p", "log1p_relu": "log1p_log1p"}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that can be exported.

    Attributes:
        folder: Where config.json, tokenizer.json and the weights are.
        name: What people call it.
        family: Its encoder family; None for a graph that is exported already.
        query: Semantics of queries.
        document: Semantics of documents.
        source: Where it came from: checkpoint, revision, license.
    """

    folder: Path
    name: str
    family: Family | None
    query: Semantics
    document: Semantics
    source: Mapping[str, str | None]


def read_checkpoint(checkpoint: str | Path) -> Checkpoint:
    """Find a checkpoint and read what its vectors mean.

    Args:
        checkpoint: A folder; or a hub id, owner/name or owner/name@revision, which is downloaded.

    Raises:
        CheckpointError: There is none, or it is of a kind that cannot be exported.
    """
    top, source = _locate(checkpoint)
    modules = _read_json(top / "modules.json")
    folder, pooling = (top, {}) if modules is None else _read_modules(top, modules)
    config = _read_json(folder / "config.json")
    if config is None:
        raise CheckpointError(
            f"{folder} has no config.json, so it is no checkpoint. Give the folder that "
            "`save_pretrained` wrote, or a hub id."
        )
    family = _family(config, folder)
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(
            f"{folder} has no tokenizer.json, the only tokenizer format that runs without "
            "transformers. If the tokenizer has a fast version, write it with "
            "`AutoTokenizer.from_pretrained(…).save_pretrained(…)`; if it has none (MeCab, for "
            "example), the model cannot be exported."
        )
    semantics = Semantics(
        pooling=_translate(pooling.get("pooling_strategy", "max"), _POOLINGS, "pooling"),
        activation=_translate(
            pooling.get("activation_function", "relu"), _ACTIVATIONS, "activation function"
        ),
        max_length=_max_length(folder, config, family),
    )
    prompts = (_read_json(top / "config_sentence_transformers.json") or {}).get("prompts") or {}
    document_prompt = next(
        (prompts[key] for key in ("document", "passage", "corpus") if prompts.get(key)), ""
    )
    return Checkpoint(
        folder,
        str(source["checkpoint"]).rstrip("/").rsplit("/", 1)[-1],
        family,
        replace(semantics, prompt=prompts.get("query") or ""),
        replace(semantics, prompt=document_prompt),
        source,
    )


def _locate(checkpoint: str | Path) -> tuple[Path, dict[str, str | None]]:
    folder = Path(checkpoint)
    if folder.is_dir():
        return folder, {
            "checkpoint": folder.resolve().name,
            "revision": None,
            "license": _license(folder),
        }
    name, _, revision = str(checkpoint).partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith("."):
        raise CheckpointError(
            f"there is no folder {name!r}. Give a checkpoint's folder or a hub id (owner/name)."
        )
    require("huggingface_hub")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision or None, allow_patterns=_WANTED))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{name!r} is no folder here, and cannot be had from the hub: {error} If it is gated, "
            "accept its terms there and log in with `hf auth login`."
        ) from error
    return folder, {"checkpoint": name, "revision": folder.name, "license": _license(folder)}


def _read_modules(top: Path, modules: Any) -> tuple[Path, Mapping[str, Any]]:  # noqa: ANN401
    """Read sentence-transformers' list of modules: a masked language model, then its pooling."""
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules]
    if kinds in (["MLMTransformer", "SpladePooling"], ["Transformer", "SpladePooling"]):
        return top / modules[0].get("path", ""), (
            _read_json(top / modules[1]["path"] / "config.json") or {}
        )
    raise CheckpointError(
        f"{top} is made of the modules {', '.join(kinds) or 'none'}; this version exports "
        "MLMTransformer + SpladePooling. A dense encoder has no term weights to export; models "
        "with different encoders for queries and documents (Router) are not supported yet."
    )


def _family(config: Mapping[str, Any], folder: Path) -> Family:
    architectures = config.get("architectures") or []
    model_type = config.get("model_type")
    if "auto_map" in config:
        raise CheckpointError(
            f"{folder} brings its own code (auto_map in config.json), which is not run. Only "
            "architectures that transformers itself has can be exported."
        )
    if any("CausalLM" in name for name in architectures):
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


def _max_length(folder: Path, config: Mapping[str, Any], family: Family) -> int:
    """Return the smallest of the limits that are stated."""
    stated = [
        (_read_json(folder / "sentence_bert_config.json") or {}).get("max_seq_length"),
        (_read_json(folder / "tokenizer_config.json") or {}).get("model_max_length"),
    ]
    limits = [int(limit) for limit in stated if limit is not None and limit < _NO_LIMIT]
    if positions := config.get("max_position_embeddings"):
        limits.append(int(positions) - family.reserved_positions)
    return min(limits, default=512)


def _translate(value: str, table: Mapping[str, str], what: str) -> str:
    if value not in table:
        raise CheckpointError(f"{what} {value!r} is not one of {', '.join(table)}.")
    return table[value]


def _license(folder: Path) -> str | None:
    """Return the licence that the model card's header states."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    header = re.match(r"---\n(.*?)\n---", card.read_text(errors="replace"), re.DOTALL)
    stated = re.search(r"^license:\s*(\S+)\s*$", header[1], re.MULTILINE) if header else None
    return stated[1] if stated else None


def _read_json(path: Path) -> Any:  # noqa: ANN401
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON: {error}. Get the checkpoint again.") from error
