"""Tiny checkpoints and the bundles made of them, shared by the exporter's tests.

Everything is made on the spot, once a session: nothing is downloaded, and no binary is kept.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sparse_encoder.modules import SpladePooling
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoModelForMaskedLM, AutoTokenizer

from spladelet import Encoder
from spladelet.encoder.notices import TruncationWarning
from spladelet_export import Int8, Limits, export_checkpoint
from spladelet_export.checks.fidelity_texts import built_in_texts

MakeFolder = Callable[..., Path]
Logits = tuple[NDArray[np.float32], list[int]]

# Models this small gain nothing from threads, and on a busy machine torch's wait for each other.
torch.set_num_threads(1)

# What float32 arithmetic in another order may differ by; a term that only one side has is a
# difference of its whole weight, so this also says that both sides have the same terms.
TOLERANCE = 1e-4

_SENTENCES = (
    "the cat sat on the mat and watched a bird in the garden",
    "how long do goldfish live in a small bowl of cold water",
    "the engine of the old train stopped near the bridge over the river",
    "bread needs flour, water, salt and a warm place to rise",
    "a doctor reads the letter that the teacher wrote last winter",
    "what is the capital of France? Paris, of course!",
    "music from the open window filled the market square at noon",
    "1234567890 (one) [two] {three} <four> #5 %6 & * + - = / \\ ~ ^ | @ $ _ ` ' \" ; : . , ! ?",
    "naïve café Ångström Übergröße señor",
    "Пример русского текста про реку",
    "日本語の文章 中文句子 한국어 문장",
    "ελληνικό κείμενο נص عربي हिन्दी",
)
_SCRIPTS = (
    "日本語の文章と中文句子です",
    "Пример русского текста про погоду",
    "نص عربي قصير جدا",
    "हिन्दी में एक छोटा वाक्य",
    "한국어 문장 하나 더 있습니다",
    "ประโยคภาษาไทยสั้น",
    "ελληνικό κείμενο με τόνους",
    "טקסט קצר בעברית",
)
_EMOJI = "😀 🚀 👩‍👩‍👧‍👦 🇫🇷 ❤️ 👍🏽 🧠 ⚙️ 🌍 ☕".split(" ")
_PUNCTUATION = (
    "? ! . , ; : - -- ... ' \" ( ) [ ] { } < > / \\ | @ # $ % ^ & * _ + = ~ ` … « » —".split()
)
_ODDITIES = (
    "[SEP]",
    "[CLS] [MASK] [UNK] [PAD] written out",
    "x" * 120,
    "tabs\tand\nnew\r\nlines and a nul \x00 inside",
    "zero\u200bwidth and soft\u00adhyphen and e\u0301 combined",
    "    spaces   around    and   between    ",
    "http://example.org/a?b=c&d=%20#e user@example.org",
    "UPPER lower MiXeD cAsE",
    "\ufffd replacement \ufeff mark",
    "a " * 509,
    "a " * 510,  # with [CLS] and [SEP] exactly 512 tokens
    "a " * 511,
    "cat, " * 300,
)

_DISENTANGLED = {  # DeBERTa's attention, made small
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "max_relative_positions": 64,
    "type_vocab_size": 0,
}
# A family's class, the kind of its tokenizer, and what its configuration needs beside its size.
_FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertForMaskedLM", "WordPiece", {}),
    "distilbert": ("DistilBertForMaskedLM", "WordPiece", {}),
    "mpnet": ("MPNetForMaskedLM", "WordPiece", {"max_position_embeddings": 514}),
    "electra": ("ElectraForMaskedLM", "WordPiece", {"embedding_size": 16}),
    "roberta": ("RobertaForMaskedLM", "BPE", {"max_position_embeddings": 514}),
    "modernbert": (
        "ModernBertForMaskedLM",
        "BPE",
        # More terms than the tokenizer has: vocabularies are padded to round sizes.
        {"local_attention": 16, "global_attn_every_n_layers": 2, "padded": 20},
    ),
    "deberta": ("DebertaForMaskedLM", "BPE", _DISENTANGLED),
    "xlm-roberta": ("XLMRobertaForMaskedLM", "Unigram", {"max_position_embeddings": 514}),
    "camembert": ("CamembertForMaskedLM", "Unigram", {"max_position_embeddings": 514}),
    "albert": ("AlbertForMaskedLM", "Unigram", {"embedding_size": 16}),
    "deberta-v2": (
        "DebertaV2ForMaskedLM",
        "Unigram",
        {**_DISENTANGLED, "position_buckets": 32, "share_att_key": True},
    ),
}
_NO_TOKEN_TYPES = ("distilbert", "mpnet", "modernbert")
_SPARSE_ENCODERS = {
    "bert-max": {},
    "bert-sum": {"pooling": "sum", "max_length": 96},
    "bert-sum-long": {"pooling": "sum"},
    "bert-max-twice": {"activation": "log1p_relu"},
    "bert-sum-twice": {"pooling": "sum", "activation": "log1p_relu", "max_length": 96},
    "distilbert-prompt": {"query": "the question: "},
}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> MakeFolder:
    """Return `make(kind)`: a family for the plain layout, or a key of _SPARSE_ENCODERS.

    The folder is shared: use `edited` to change it.
    """

    @cache
    def make(kind: str) -> Path:
        folder = tmp_path_factory.mktemp("checkpoint") / kind
        if kind in _FAMILIES:
            _save_plain(folder, kind)
        elif kind == "bert-other":  # the same terms, other weights and another width
            _save_plain(folder, "bert", seed=12, hidden_size=16)
        else:
            family, _, _ = kind.partition("-")
            _save_sparse_encoder(folder, make(family), **_SPARSE_ENCODERS[kind])
        return folder

    return make


@pytest.fixture(scope="session")
def bundle(checkpoint: MakeFolder, tmp_path_factory: pytest.TempPathFactory) -> MakeFolder:
    """Return `make(kind)`: the bundle of a checkpoint, exported once."""

    @cache
    def make(kind: str) -> Path:
        folder = tmp_path_factory.mktemp("bundle") / kind
        export_checkpoint(checkpoint(kind), folder)
        return folder

    return make


@pytest.fixture(scope="session")
def any_int8() -> Int8:
    """Return int8 calibrated on 40 texts, whatever it finds."""
    texts = [text for text in built_in_texts() if text.strip()][:40]
    return Int8(texts, limits=Limits(overlap=0.0, ndcg_ratio=0.0))


@pytest.fixture(scope="session")
def int8_bundle(
    checkpoint: MakeFolder, any_int8: Int8, tmp_path_factory: pytest.TempPathFactory
) -> MakeFolder:
    """Return `make(kind)`: the int8 bundle of a checkpoint, exported once."""

    @cache
    def make(kind: str) -> Path:
        folder = tmp_path_factory.mktemp("int8") / kind
        export_checkpoint(checkpoint(kind), folder, int8=any_int8)
        return folder

    return make


@pytest.fixture
def edited(checkpoint: MakeFolder, tmp_path: Path) -> MakeFolder:
    """Return `make(kind, {name: content})`: a copy of a checkpoint with some files changed.

    A dict is merged into the JSON that is there, a list replaces it, a text or bytes are written as
    they are, and None removes the file.
    """

    def make(kind: str, files: Mapping[str, object]) -> Path:
        folder = tmp_path / "edited"
        shutil.copytree(checkpoint(kind), folder)
        for name, content in files.items():
            _edit(folder / name, content)
        return folder

    return make


@pytest.fixture(scope="session")
def varied_texts() -> list[str]:
    """Return over 200 texts with content: from one token to more than 512, in many scripts."""
    random = Random(20210910)
    words = sorted({word for sentence in _SENTENCES for word in sentence.split()})
    pools = (words, words, _EMOJI, _SCRIPTS, _PUNCTUATION)
    mixed = [
        " ".join(random.choice(random.choice(pools)) for _ in range(length))
        for length in (*range(2, 42), 64, 128, 192, 256)
    ]
    phrases = [" ".join(random.sample(words, length)) for length in range(2, 36)]
    texts = [*words[::2], *_EMOJI, *_SCRIPTS, *_PUNCTUATION, *_ODDITIES, *phrases, *mixed]
    assert len(texts) >= 200
    return texts


@pytest.fixture(scope="session")
def assert_parity(varied_texts: list[str]) -> Callable[..., None]:
    """Return `check(encoder, side, theirs, texts=varied_texts)`, for dense reference rows.

    All texts are encoded in one call, which puts them into mixed batches, and every third one alone
    as well. The text whose weights differ most is named.
    """

    def check(
        encoder: Encoder,
        side: str,
        theirs: NDArray[np.float32],
        texts: Sequence[str] = varied_texts,
    ) -> None:
        encode = encoder.encode_queries if side == "query" else encoder.encode_documents
        for calls, expected in (([[text] for text in texts[::3]], theirs[::3]), ([texts], theirs)):
            with warnings.catch_warnings():
                # Texts over the length limit are among them on purpose.
                warnings.simplefilter("ignore", TruncationWarning)
                ours = np.concatenate([encode(call).to_csr().toarray() for call in calls])
            assert ours.shape == expected.shape
            worst = np.abs(ours - expected).max(axis=1)
            row = int(worst.argmax())
            text = [text for call in calls for text in call][row]
            assert worst[row] <= TOLERANCE, f"{text!r:.80}, in one of {len(calls)} calls"

    return check


def _save_plain(folder: Path, family: str, seed: int = 11, hidden_size: int = 32) -> None:
    class_name, kind, extra = _FAMILIES[family]
    backend = Tokenizer.from_str(_trained_once(kind))
    torch.manual_seed(seed)
    model_class = getattr(transformers, class_name)
    config = _config(model_class, backend.get_vocab_size(), hidden_size, **extra)
    config.pad_token_id = list(_SPECIAL[kind]).index("pad")
    model = model_class(config)
    _enliven(model)
    model.save_pretrained(folder)
    inputs = ["input_ids", "attention_mask"]
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=512,
        model_input_names=inputs if family in _NO_TOKEN_TYPES else [*inputs, "token_type_ids"],
        **{f"{name}_token": token for name, token in _SPECIAL[kind].items()},
    ).save_pretrained(folder)


def _save_sparse_encoder(
    folder: Path,
    plain: Path,
    pooling: str = "max",
    activation: str = "relu",
    max_length: int = 512,
    query: str = "",
) -> None:
    trunk = Transformer(str(plain), transformer_task="fill-mask")
    trunk.max_seq_length = max_length
    prompts = {"query": query, "document": ""}
    modules = [trunk, SpladePooling(pooling, activation)]
    SparseEncoder(modules=modules, prompts=prompts, device="cpu").save(str(folder))


def _config(
    model_class: Any, vocab_size: int, hidden_size: int, *, padded: int = 0, **extra: Any
) -> transformers.PretrainedConfig:
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": hidden_size}
    shape |= {"vocab_size": vocab_size + padded}
    config = model_class.config_class(**shape, **extra)
    # One family calls the width between the layers by another name.
    name = "hidden_dim" if config.model_type == "distilbert" else "intermediate_size"
    setattr(config, name, 2 * hidden_size)
    return config


def _enliven(model: transformers.PreTrainedModel) -> None:
    """Make a few dozen terms active, special ones among them: fresh logits are all near zero."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6)
        head = model.get_output_embeddings()
        bias = head.bias
        bias.copy_(torch.randn(bias.shape) - 2)
        bias[:5] = 3


# What special tokens are called, in the order of their ids; RoBERTa's kin count positions from
# the id of padding, which is 1 there.
_OF_ROBERTA = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
_SPECIAL = {
    "WordPiece": {
        "pad": "[PAD]",
        "unk": "[UNK]",
        "cls": "[CLS]",
        "sep": "[SEP]",
        "mask": "[MASK]",
    },
    "BPE": _OF_ROBERTA,
    "Unigram": _OF_ROBERTA,
}


def _word_pieces() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=300,
        limit_alphabet=120,
        special_tokens=list(_SPECIAL["WordPiece"].values()),
        show_progress=False,
    )
    return _trained(tokenizer, trainer, "WordPiece")


def _bytes_bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=list(_SPECIAL["BPE"].values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    return _trained(tokenizer, trainer, "BPE")


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300,
        special_tokens=list(_SPECIAL["Unigram"].values()),
        unk_token="<unk>",
        show_progress=False,
    )
    return _trained(tokenizer, trainer, "Unigram")


def _trained(tokenizer: Tokenizer, trainer: Any, kind: str) -> Tokenizer:
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    begin, end = _SPECIAL[kind]["cls"], _SPECIAL[kind]["sep"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (begin, end)],
    )
    return tokenizer


@cache
def _trained_once(kind: str) -> str:
    """Return a tokenizer as JSON; training it again would give equal terms other numbers."""
    return _TOKENIZERS[kind]().to_str()


_TOKENIZERS = {"WordPiece": _word_pieces, "BPE": _bytes_bpe, "Unigram": _unigram}


def _edit(path: Path, content: object) -> None:
    if content is None:
        path.unlink()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        if isinstance(content, dict) and path.is_file():
            content = json.loads(path.read_text(encoding="utf-8")) | content
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="session")
def torch_logits(checkpoint: MakeFolder) -> Callable[[str, Sequence[str]], Iterator[Logits]]:
    """Return `logits(kind, texts)`: of each text float32[length, vocab_size], and its tokens."""

    def logits(kind: str, texts: Sequence[str]) -> Iterator[Logits]:
        folder = checkpoint(kind)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForMaskedLM.from_pretrained(folder).eval()
        for text in texts:
            tokens = tokenizer(text, truncation=True, return_tensors="pt")
            tokens.pop("token_type_ids", None)
            with torch.no_grad():
                yield model(**tokens).logits[0].numpy(), tokens["input_ids"][0].tolist()

    return logits


@pytest.fixture(scope="session")
def assert_traced(
    bundle: MakeFolder, torch_logits: Callable[[str, Sequence[str]], Iterator[Logits]]
) -> Callable[[str, Sequence[str]], None]:
    """Return `check(kind, texts)`: weights come from where torch's logits are highest.

    Of equal logits the first counts; where two are nearer than `TOLERANCE`, rounding decides.
    """

    def check(kind: str, texts: Sequence[str]) -> None:
        side = Encoder.load(bundle(kind))._document
        count = same = 0
        for text, (logits, ids) in zip(texts, torch_logits(kind, texts), strict=True):
            (tokens,) = side.tokenizer.tokenize([text])
            assert tokens.ids == ids, text
            ((_, (terms, _), positions),) = side.trace([tokens])
            best = logits[:, terms].argmax(axis=0)
            assert (logits[positions, terms] >= logits[best, terms] - TOLERANCE).all(), text
            count, same = count + len(terms), same + int((positions == best).sum())
        assert count > 100
        assert same > 0.995 * count

    return check
