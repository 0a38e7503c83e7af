"""How fast, and with how much memory, are texts encoded?

Every system runs in a process of its own, on the same checkpoint, texts and threads, in turn; a
ratio is the median over rounds of the two figures of one round.

    python benchmarks/encode.py                           a random checkpoint of the default's shape
    python benchmarks/encode.py --checkpoint FOLDER       a real one (--int8: its bundle)
    python benchmarks/encode.py --quick                   a check that it runs, in about a minute
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from common import machine, markdown_table, median_ratio, peak_rss_mb, run_worker, save, seconds

OURS = "spladelet int8"
FASTEMBED = ("fastembed", "fastembed, batches of 32")
TORCH = "sentence-transformers"
QUERY = "how long do goldfish live in a small tank"
LENGTHS = {"32 tokens": 32, "128 tokens": 128, "512 tokens": 512}
MIX = "10 to 400 words"
PREPARE = "prepare"

Encode = Callable[[list[str]], object]


def main() -> None:
    """Parse arguments and measure, or be a worker."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="a SPLADE checkpoint's folder")
    parser.add_argument("--int8", type=Path, metavar="BUNDLE", help="its int8, made before")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--documents", type=int, default=128, help="texts of 128 tokens a round")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", choices=[PREPARE, *SYSTEMS], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker == PREPARE:
        prepare(options.checkpoint, options.int8, options.folder)
        print("{}")
        return
    if options.worker:
        print(json.dumps(work(options.worker, options.folder, options.started)))
        return
    if options.quick:
        options.rounds, options.documents = 1, 8
    result = measure(options)
    save("encode", options.quick, result)
    print(json.dumps(result, indent=1) if options.json else table(result))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Prepare checkpoint, bundle and texts, then run the systems in turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = options.checkpoint or random_checkpoint(folder / "random")
        print("every system's form of the checkpoint …", file=sys.stderr)
        bundle = [] if options.int8 is None else ["--int8", str(options.int8)]
        given = ["--folder", name, "--checkpoint", str(checkpoint), *bundle]
        run_worker(["--worker", PREPARE, *given])  # its memory is free again when the others run
        (folder / "texts.json").write_text(json.dumps(texts(options.documents)))
        runs: dict[str, list[dict[str, Any]]] = {system: [] for system in SYSTEMS}
        for number in range(options.rounds):
            for system in SYSTEMS:
                print(f"round {number + 1}: {system} …", file=sys.stderr)
                runs[system].append(run_worker(["--worker", system, "--folder", name]))
    return {
        "machine": machine(),
        "checkpoint": checkpoint.name if options.checkpoint else "random, BERT 6 x 384",
        "rounds": options.rounds,
        "documents": options.documents,
        "runs": runs,
        "ratios": {
            system: {figure: _ratio(runs, system, figure) for figure in runs[OURS][0]}
            for system in SYSTEMS
            if system != OURS
        },
    }


def work(system: str, folder: Path, started: float) -> dict[str, float]:
    """Measure one system in this process; figures by name."""
    query, documents = SYSTEMS[system](folder)
    query([QUERY])
    figures = {"cold start, s": time.time() - started}
    texts: dict[str, list[str]] = json.loads((folder / "texts.json").read_text())
    figures["one query, ms"] = 1000 * statistics.median(seconds(lambda: query([QUERY]), 30))
    for name, group in texts.items():
        documents(group[:4])
        start = time.perf_counter()
        documents(group)
        figures[f"{name}, texts/s"] = len(group) / (time.perf_counter() - start)
        if name == "128 tokens":
            figures["peak memory at 128 tokens, MB"] = peak_rss_mb()
    figures["peak memory, MB"] = peak_rss_mb()
    return figures


def table(result: dict[str, Any]) -> str:
    """Draw one row a system: medians, and in brackets the ratio of ours to its."""
    runs, ratios = result["runs"], result["ratios"]
    figures = list(runs[OURS][0])
    rows = [
        [
            system,
            *(
                three_digits(median(rounds, figure))
                + (f" ({ratios[system][figure]:.2f})" if system in ratios else "")
                for figure in figures
            ),
        ]
        for system, rounds in runs.items()
    ]
    return markdown_table(["", *figures], rows)


def three_digits(value: float) -> str:
    """Write a figure with three digits, but all of those before the point."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _spladelet(folder: Path, bundle: str) -> tuple[Encode, Encode]:
    from spladelet import Encoder

    warnings.simplefilter("ignore")
    encoder = Encoder.load(folder / bundle)
    return encoder.encode_queries, encoder.encode_documents


def _fastembed(folder: Path, batch_size: int) -> tuple[Encode, Encode]:
    from fastembed import SparseTextEmbedding

    from spladelet.encoder.cpus import available_cpus

    model = SparseTextEmbedding(
        "prithivida/Splade_PP_en_v1",
        specific_model_path=str(folder / "logits"),
        threads=available_cpus(),
    )
    return (
        lambda texts: list(model.query_embed(texts)),
        lambda texts: list(model.embed(texts, batch_size=batch_size)),
    )


def _sentence_transformers(folder: Path) -> tuple[Encode, Encode]:
    from sentence_transformers import SparseEncoder
    from torch import set_num_threads

    from spladelet.encoder.cpus import available_cpus

    set_num_threads(available_cpus())
    model = SparseEncoder(str(folder / "checkpoint"), device="cpu", local_files_only=True)
    return model.encode_query, model.encode_document


def _onnx_backend(folder: Path, file: str) -> tuple[Encode, Encode]:
    from sentence_transformers import SparseEncoder

    model = SparseEncoder(
        str(folder / "logits"),
        device="cpu",
        backend="onnx",
        local_files_only=True,
        model_kwargs={"file_name": file, "provider": "CPUExecutionProvider"},
    )
    return model.encode_query, model.encode_document


def _openvino_backend(folder: Path) -> tuple[Encode, Encode]:
    from sentence_transformers import SparseEncoder

    from spladelet.encoder.cpus import available_cpus

    threads = {"INFERENCE_NUM_THREADS": str(available_cpus())}
    model = SparseEncoder(
        str(folder / "openvino"),
        device="cpu",
        backend="openvino",
        local_files_only=True,
        model_kwargs={"file_name": "openvino_model.xml", "ov_config": threads},
    )
    return model.encode_query, model.encode_document


SYSTEMS: dict[str, Callable[[Path], tuple[Encode, Encode]]] = {
    OURS: lambda folder: _spladelet(folder, "int8"),
    "spladelet float32": lambda folder: _spladelet(folder, "float32"),
    # As shipped; with --documents 128 it needs more than 23 GB for the mix.
    FASTEMBED[0]: lambda folder: _fastembed(folder, 256),
    FASTEMBED[1]: lambda folder: _fastembed(folder, 32),
    TORCH: _sentence_transformers,
    f"{TORCH}, ONNX": lambda folder: _onnx_backend(folder, "model.onnx"),
    f"{TORCH}, ONNX int8": lambda folder: _onnx_backend(folder, "model_int8.onnx"),
    f"{TORCH}, OpenVINO int8": _openvino_backend,
}


def prepare(checkpoint: Path, bundle: Path | None, folder: Path) -> None:
    """Give every system the same checkpoint in its own form."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    link(checkpoint, folder)
    export_bundles(checkpoint, bundle, folder)
    logits = folder / "logits"
    export_logits(checkpoint, logits)
    # What sentence-transformers' own export does for this processor: dynamic, per channel.
    quantize_dynamic(
        logits / "model.onnx",
        logits / "model_int8.onnx",
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
    _report("static int8 by OpenVINO's NNCF")
    _quantize_openvino(checkpoint, folder / "openvino")


def link(checkpoint: Path, folder: Path) -> None:
    """Have the checkpoint itself in the folder of all forms."""
    (folder / "checkpoint").symlink_to(checkpoint.resolve(), target_is_directory=True)


def export_bundles(checkpoint: Path, bundle: Path | None, folder: Path) -> None:
    """Make our bundles, float32 and int8, if the latter is not there already."""
    from spladelet_export import Int8, export_checkpoint

    export_checkpoint(checkpoint, folder / "float32", report=_report)
    if bundle is not None:
        (folder / "int8").symlink_to(bundle.resolve(), target_is_directory=True)
    else:
        # Speed is measured here; what int8 finds is measured when a real model is exported.
        export_checkpoint(checkpoint, folder / "int8", int8=Int8(force=True), report=_report)


def export_logits(checkpoint: Path, logits: Path) -> None:
    """Make the plain logits graph, for the others."""
    from optimum.exporters.onnx import main_export

    _report("the plain logits graph, for the others")
    main_export(
        str(checkpoint),
        output=logits,
        task="fill-mask",
        library_name="transformers",  # sentence-transformers' layout would be taken for its own
        do_validation=False,
    )
    settings = json.loads((logits / "tokenizer_config.json").read_text())
    settings.pop("max_length", None)  # fastembed would cut there instead of at model_max_length
    (logits / "tokenizer_config.json").write_text(json.dumps(settings))


def _report(step: str) -> None:
    print(f"{step} …", file=sys.stderr)


def _quantize_openvino(checkpoint: Path, folder: Path) -> None:
    """Do what sentence-transformers' export does, calibrated on texts that are here already."""
    import nncf
    from optimum.intel import OVConfig, OVModelForMaskedLM, OVQuantizationConfig, OVQuantizer
    from transformers import AutoTokenizer

    from spladelet.documents import read_documents

    tokenizer = AutoTokenizer.from_pretrained(str(checkpoint))
    texts = [d.content for d in read_documents(str(files("spladelet") / "data" / "demo.jsonl"))]
    inputs = [dict(tokenizer(text, return_tensors="pt", truncation=True)) for text in texts]
    model = OVModelForMaskedLM.from_pretrained(str(checkpoint), export=True)
    OVQuantizer.from_pretrained(model).quantize(
        nncf.Dataset(inputs),
        save_directory=folder,
        ov_config=OVConfig(quantization_config=OVQuantizationConfig(num_samples=len(texts))),
    )
    tokenizer.save_pretrained(folder)


def random_checkpoint(folder: Path) -> Path:
    """Make a checkpoint of the default model's shape: speed does not depend on the weights.

    But vectors must be sparse to be exported, so the bias puts most terms below zero.
    """
    import torch
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    from spladelet.bundle.find import find_bundle

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    model = BertForMaskedLM(config)
    torch.nn.init.constant_(model.cls.predictions.bias, -1.2)
    model.save_pretrained(folder)
    special = {"unk": "[UNK]", "pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    PreTrainedTokenizerFast(
        tokenizer_file=str(find_bundle(None).path("tokenizer.json")),
        model_max_length=512,
        **{f"{name}_token": token for name, token in special.items()},
    ).save_pretrained(folder)
    return folder


def texts(documents: int) -> dict[str, list[str]]:
    """Make texts of fixed length, and a mix, from the sentences of the demo corpus."""
    from spladelet.bundle.find import find_bundle
    from spladelet.documents import read_documents
    from spladelet.encoder.tokenizer import Tokenizer

    tokenizer = Tokenizer(find_bundle(None).path("tokenizer.json"), max_length=512)
    corpus = read_documents(str(files("spladelet") / "data" / "demo.jsonl"))
    words = " ".join(document.content for document in corpus).split()
    rng = random.Random(0)
    texts = {}
    for name, length in LENGTHS.items():
        count = max(4, documents * 128 // length // (1 if length == 128 else 2))
        texts[name] = [_of_length(words, length, tokenizer, rng) for _ in range(count)]
    texts[MIX] = [_run(words, rng.randint(10, 400), rng) for _ in range(max(4, documents // 2))]
    return texts


def _of_length(words: Sequence[str], length: int, tokenizer: Any, rng: random.Random) -> str:  # noqa: ANN401
    """Take words until the text has exactly so many tokens, special ones counted."""
    while True:
        run = _run(words, length, rng).split()
        for end in range(len(run) // 2, len(run)):
            tokens = len(tokenizer.tokenize([" ".join(run[:end])])[0].ids)
            if tokens == length:
                return " ".join(run[:end])
            if tokens > length:
                break


def _run(words: Sequence[str], count: int, rng: random.Random) -> str:
    start = rng.randrange(len(words) - count)
    return " ".join(words[start : start + count])


def median(runs: Sequence[dict[str, float]], figure: str) -> float:
    """Return the median of one figure over the rounds."""
    return statistics.median(run[figure] for run in runs)


def _ratio(runs: dict[str, list[dict[str, float]]], system: str, figure: str) -> float:
    return median_ratio([r[figure] for r in runs[OURS]], [r[figure] for r in runs[system]])


if __name__ == "__main__":
    main()
