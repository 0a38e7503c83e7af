"""The graph with its logits, for tools that pool them themselves.

Vespa and fastembed take the graph, and sentence-transformers opens the folder:
`SparseEncoder(FOLDER, backend="onnx")`. Does not keep what that layout cannot say: that special
tokens do not count, and how queries are weighed if not by the documents' graph.
"""

import json
import shutil
from pathlib import Path

import onnx

from spladelet.bundle.description import GRAPH
from spladelet_export.checkpoint.checkpoint import ACTIVATIONS, Checkpoint
from spladelet_export.errors import ExportError
from spladelet_export.graph.logits_graph import MAX_BYTES
from spladelet_export.whole_folder import is_fixed, replacing_folder

_COPIED = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)
_POOLING = "1_SpladePooling"
_TYPES = "sentence_transformers.sparse_encoder.models."


def write_logits(checkpoint: Checkpoint, graph: onnx.ModelProto, folder: Path) -> None:
    """Write a folder with model.onnx, its logits as output, and what sentence-transformers needs.

    Args:
        checkpoint: What the graph was made of.
        graph: int64 input_ids, attention_mask and perhaps token_type_ids [batch, length] to
            float32 logits [batch, length, vocab_size].
        folder: Must not exist, or be empty.

    Raises:
        ExportError: It has something in it, or cannot be written, or the graph does not fit one
            file.
    """
    if graph.ByteSize() > MAX_BYTES:
        raise ExportError("the logits graph is larger than the 2 GB that one ONNX file can hold.")
    with replacing_folder(folder, check_new) as aside:
        onnx.save(graph, aside / GRAPH)
        for name in _COPIED:
            if (checkpoint.folder / name).is_file():
                shutil.copyfile(checkpoint.folder / name, aside / name)
        for name, content in _settings(checkpoint).items():
            (aside / name).parent.mkdir(exist_ok=True)
            (aside / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def check_new(folder: Path) -> None:
    """Raise ExportError unless a folder does not exist, or is empty and can be replaced."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir()) or is_fixed(folder)):
        raise ExportError(f"{folder} exists. Give the name of a new folder for the logits graph.")


def _settings(checkpoint: Checkpoint) -> dict[str, object]:
    document = checkpoint.document
    activation = next(name for name, ours in ACTIVATIONS.items() if ours == document.activation)
    modules = (("0", "", "MLMTransformer"), ("1", _POOLING, "SpladePooling"))
    return {
        "modules.json": [
            {"idx": number, "name": name, "path": path, "type": _TYPES + kind}
            for number, (name, path, kind) in enumerate(modules)
        ],
        "config_sentence_transformers.json": {
            "model_type": "SparseEncoder",
            "prompts": {"query": checkpoint.query.prompt, "document": document.prompt},
            "default_prompt_name": None,
            "similarity_fn_name": "dot",
        },
        "sentence_bert_config.json": {"max_seq_length": document.max_length},
        f"{_POOLING}/config.json": {
            "pooling_strategy": document.pooling,
            "activation_function": activation,
        },
    }
