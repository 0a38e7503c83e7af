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
    modules = _read_json(top / "modules.json", list)
    folder, pooling = (top, {}) if modules is None else _read_modules(top, modules)
    config = _read_json(folder / "config.json", dict)
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
    _check_case(folder)
    semantics = Semantics(
        pooling=_translate(pooling.get("pooling_strategy", "max"), _POOLINGS, "pooling"),
        activation=_translate(
            pooling.get("activation_function", "relu"), _ACTIVATIONS, "activation function"
        ),
        max_length=_max_length(folder, config, family),
    )
    prompts = _prompts(top)
    document_prompt = next(
        (prompts[key] for key in ("document", "passage", "corpus") if key in prompts), ""
    )
    return Checkpoint(
        folder,
        str(source["checkpoint"]).rstrip("/").rsplit("/", 1)[-1],
        family,
        replace(semantics, prompt=prompts.get("query", "")),
        replace(semantics, prompt=document_prompt),
        source,
    )


def _locate(checkpoint: str | Path) -> tuple[Path, dict[str, str | None]]:
    folder = Path(checkpoint)
    if _is_folder(folder):
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


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False


def _read_modules(top: Path, modules: Any) -> tuple[Path, Mapping[str, Any]]:  # noqa: ANN401
    """Read sentence-transformers' list of modules: a masked language model, then its pooling."""
    if not all(isinstance(module, dict) for module in modules):
        raise CheckpointError(
            f"{top}/modules.json does not list modules. Get the checkpoint again."
        )
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules]
    if kinds in (["MLMTransformer", "SpladePooling"], ["Transformer", "SpladePooling"]):
        encoder, pooling = (_module_folder(top, module) for module in modules)
        return encoder, _read_json(pooling / "config.json", dict) or {}
    raise CheckpointError(
        f"{top} is made of the modules {', '.join(kinds) or 'none'}; this version exports "
        "MLMTransformer + SpladePooling. A dense encoder has no term weights to export; models "
        "with different encoders for queries and documents (Router) are not supported yet."
    )


def _module_folder(top: Path, module: Mapping[str, Any]) -> Path:
    path = module.get("path")
    if not isinstance(path, str):
        raise CheckpointError(
            f"{top}/modules.json has a module with path {path!r}; expected a folder's name. Get "
            "the checkpoint again."
        )
    folder = top / path
    if not folder.resolve().is_relative_to(top.resolve()):
        raise CheckpointError(f"{top}/modules.json leads out of the checkpoint, to {path!r}.")
    return folder


def _prompts(top: Path) -> Mapping[str, str]:
    settings = _read_json(top / "config_sentence_transformers.json", dict) or {}
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


def _max_length(folder: Path, config: Mapping[str, Any], family: Family) -> int:
    """Return the smallest of the limits that are stated."""
    module = _read_json(folder / "sentence_bert_config.json", dict) or {}
    tokenizer = _read_json(folder / "tokenizer_config.json", dict) or {}
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
        if not isinstance(limit, (int, float)):
            raise CheckpointError(f"{folder} states {name} {limit!r}; expected a number.")
        reserved = family.reserved_positions if name == "max_position_embeddings" else 0
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
    settings = _read_json(folder / "sentence_bert_config.json", dict) or {}
    if settings.get("do_lower_case") is not True:
        return
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:
        raise CheckpointError(f"{folder}/tokenizer.json is no tokenizer: {error}.") from error
    if tokenizer.encode("RIVER Stone").ids != tokenizer.encode("river stone").ids:
        raise CheckpointError(
            f"{folder} has do_lower_case in sentence_bert_config.json, and a tokenizer that keeps "
            "capitals. Put a Lowercase normalizer into tokenizer.json, or set it to false."
        )


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


def _read_json(path: Path, kind: type) -> Any:  # noqa: ANN401
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON: {error}. Get the checkpoint again.") from error
    if not isinstance(content, kind):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}; expected a {kind.__name__}. Get the "
            "checkpoint again."
        )
    return content
