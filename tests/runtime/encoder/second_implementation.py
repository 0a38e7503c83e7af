"""A bundle read as docs/implementers.md says, by nothing of spladelet.

It stands for a client in any language: what it needs to know, and the page does not say, makes its
tests fail. Numbers in comments are those of the rules. Does not batch, prune or explain.
"""

import hashlib
import json
import os
from unittest.mock import patch

import numpy as np

SEMANTICS = {
    "pooling": ("max", "sum"),
    "activation": ("log1p", "log1p_log1p"),
    "special_tokens": ("keep", "zero_dims"),
    "unknown_token": ("keep", "zero_dims"),
    "max_length": None,
    "prompt": None,
}
DEFAULTS = ("max", "log1p", "keep", "keep", 512, "")
NEEDED = {
    "same": (),
    "separate": ("query/model.onnx", "query/tokenizer.json"),
    "idf": ("query_weights.npy",),
    "bow": (),
    "lexical": ("query_weights.npy",),
}


class Refused(Exception):
    """The page says that this must be refused."""


def require(condition, why):
    if not condition:
        raise Refused(why)


class SecondEncoder:
    """Encodes queries and documents; `folder` is a pathlib.Path."""

    def __init__(self, folder):
        self.folder = folder
        self.description = read_description(folder)
        self.int8 = self.description["quantization"].get("weights") == "int8"
        self.sessions = {}
        self.tokenizers = {}

    def encode(self, side, text):
        """Return what conformance.json has of a side."""
        mode = self.description["query_mode"] if side == "query" else "same"
        tokenizer, ids, truncated, is_empty = self.tokenize(side, text)
        weights = np.zeros(self.description["vocab_size"], np.float32)
        if not is_empty:  # 16
            weights = self.weights(mode, ids)
            weights[self.zeroed(side, tokenizer)] = 0  # 28
        term_ids = np.flatnonzero(weights > 0)  # 26
        return {
            "ids": ids,
            "truncated": truncated,
            "term_ids": term_ids.tolist(),
            "weights": weights[term_ids],
        }

    def tokenize(self, side, text):
        """Return the tokenizer, the ids, whether the text was cut, and whether it is empty."""
        semantics, mode = self.description[side], self.description["query_mode"]
        name = "tokenizer.json"  # 11
        if side == "query" and mode in ("separate", "idf", "bow"):
            own = "query/tokenizer.json"
            name = own if own in self.description["files"] else name
        tokenizer = self.tokenizer(name)
        has_special = side == "document" or mode not in ("idf", "bow")  # 12
        prompted = mended(semantics["prompt"] + text)  # 9, 10
        added = tokenizer.num_special_tokens_to_add(False) if has_special else 0
        encoding = tokenizer.encode(prompted, add_special_tokens=False)
        room = semantics["max_length"] - added
        truncated = len(encoding.ids) > room
        encoding.truncate(room)  # 13
        begin = len(mended(semantics["prompt"]))
        is_empty = not any(end > begin for _, end in encoding.offsets)
        if has_special:
            encoding = tokenizer.post_process(encoding)
        return tokenizer, encoding.ids, truncated, is_empty

    def tokenizer(self, name):
        from tokenizers import Tokenizer

        if name not in self.tokenizers:
            self.tokenizers[name] = Tokenizer.from_file(str(self.folder / name))
            self.tokenizers[name].no_truncation()
            self.tokenizers[name].no_padding()
        return self.tokenizers[name]

    def weights(self, mode, ids):
        """Return the weight of each term: 29."""
        own = np.zeros(self.description["vocab_size"], np.float32)
        own[ids] = self.table(mode)[ids] if mode in ("idf", "lexical") else 1
        if mode in ("idf", "bow"):
            return own
        graph = self.run("query/model.onnx" if mode == "separate" else "model.onnx", ids)
        return own * graph if mode == "lexical" else graph

    def table(self, mode):
        return np.load(self.folder / "query_weights.npy", allow_pickle=False)  # 30

    def zeroed(self, side, tokenizer):
        added = json.loads(tokenizer.to_str())
        special = {t["id"] for t in added["added_tokens"] if t["special"]}
        names = ["[UNK]", "<unk>", added["model"].get("unk_token")]
        found = {tokenizer.token_to_id(name) for name in names if name}
        unknown = found - {None}
        semantics = self.description[side]
        chosen = set()
        if semantics["special_tokens"] == "zero_dims":
            chosen |= special - unknown
        if semantics["unknown_token"] == "zero_dims":
            chosen |= unknown
        return sorted(chosen)

    def run(self, name, ids):
        """Ask the graph for one text alone: 18, 19."""
        feed = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, len(ids)), np.int64),
        }
        (found,) = self.session(name).run(None, feed)
        require(np.isfinite(found).all() and (found >= 0).all(), "weights")  # 25
        return found[0]

    def session(self, name):
        """Open a graph by its path: 20 to 24."""
        with patch.dict(os.environ, {"ORT_DISABLE_TELEMETRY": "1"}):
            import onnxruntime

        if name not in self.sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.enable_mem_pattern = False
            if self.int8 and self.saturates(onnxruntime):
                options.add_session_config_entry("session.x64quantprecision", "1")
            self.sessions[name] = onnxruntime.InferenceSession(
                str(self.folder / name),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=["SkipLayerNormFusion"],
            )
        return self.sessions[name]

    def saturates(self, onnxruntime):
        probe = onnxruntime.InferenceSession(
            (self.folder / "saturation.onnx").read_bytes(), providers=["CPUExecutionProvider"]
        )
        (total,) = probe.run(None, {"activations": np.full((1, 4), 255, np.uint8)})
        return int(total[0, 0]) != 129_540


def read_description(folder):
    """Read spladelet.json: 1 to 8."""
    content = (folder / "spladelet.json").read_bytes()
    require(len(content) <= 4 << 20, "too large")
    raw = json.loads(content)
    head = (raw["format"], raw["format_version"])
    require(head == ("spladelet-bundle", 1), "format")
    require(raw["query_mode"] in NEEDED, "query_mode")
    for side in ("query", "document"):
        require(raw[side].keys() <= SEMANTICS.keys(), "an unknown rule")
        raw[side] = dict(zip(SEMANTICS, DEFAULTS, strict=True)) | raw[side]
        for name, known in SEMANTICS.items():
            require(known is None or raw[side][name] in known, name)
    for name in ("model.onnx", "tokenizer.json", *NEEDED[raw["query_mode"]]):
        require(name in raw["files"], name)
    listed = dict(raw["files"])
    for name, entry in raw.get("auxiliary", {}).items():
        require(name not in listed, "listed twice")
        if (folder / name).exists():
            listed[name] = entry
    for name, entry in listed.items():
        check_file(folder, name, entry)
    require(raw["fingerprint"] == fingerprint(raw), "fingerprint")
    return {"quantization": {}} | raw


def check_file(folder, name, entry):
    parts = name.split("/")
    plain = not set(name) & set('\\:\0*?<>|"') and not {"", ".", ".."} & set(parts)
    require(plain, name)
    require((folder / name).stat().st_size == entry["size"], name)
    found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    require(found == entry["sha256"], name)


def fingerprint(raw):
    hashes = {name: entry["sha256"] for name, entry in raw["files"].items()}
    parts = {
        "vocab_size": raw["vocab_size"],
        "query_mode": raw["query_mode"],
        "query": raw["query"],
        "document": raw["document"],
        "files": {name: value for name, value in hashes.items() if not name.endswith(".md")},
    }
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def mended(text):
    """Replace halves of surrogate pairs."""
    units = np.frombuffer(text.encode("utf-16-le", "surrogatepass"), "<u2").tolist()
    found = []
    while units:
        unit = units.pop(0)
        if 0xD800 <= unit < 0xDC00 and units and 0xDC00 <= units[0] < 0xE000:
            found.append(chr(0x10000 + ((unit - 0xD800) << 10) + units.pop(0) - 0xDC00))
        else:
            found.append("\ufffd" if 0xD800 <= unit < 0xE000 else chr(unit))
    return "".join(found)


def text_of(case):
    """Return the text of a case of conformance.json: 34."""
    if "utf16" in case:
        return "".join(map(chr, case["utf16"]))
    return case["text"]
