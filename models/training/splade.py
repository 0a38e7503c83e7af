"""The model: a BERT with a masked-language-model head, max-pooled without its logits.

[batch, length, vocabulary] is never kept: the head goes over the vocabulary in blocks, and only the
position where an active term was heaviest gets a gradient.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from teacher import own_tokens
from transformers import AutoTokenizer, BertForMaskedLM

_BLOCK = 1024
_PARTS = 2  # a batch is encoded in parts of like length, which saves padding


class _MaxHead(torch.autograd.Function):  # type: ignore[misc]
    """Max over positions of hidden @ decoder.T + bias, in vocabulary blocks."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        hidden: torch.Tensor,
        mask: torch.Tensor,
        decoder: torch.Tensor,
        bias: torch.Tensor,
    ) -> torch.Tensor:
        # A maximum does not mind a position twice, so padding takes the first one's place.
        seen = torch.where(mask[:, :, None].bool(), hidden, hidden[:, :1])
        # Terms by positions, so that a maximum is over what lies side by side.
        columns = seen.reshape(-1, seen.shape[2]).T.contiguous()
        best = [
            (decoder[start : start + _BLOCK] @ columns).view(-1, *mask.shape).amax(2)
            for start in range(0, len(decoder), _BLOCK)
        ]
        ctx.save_for_backward(hidden, mask, decoder)
        return torch.cat(best).T.float() + bias

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:  # noqa: ANN401
        hidden, mask, decoder = ctx.saved_tensors
        d_hidden, d_decoder = torch.zeros_like(hidden), torch.zeros_like(decoder)
        d_bias = torch.zeros_like(decoder[:, 0])
        for row in range(len(hidden)):
            # Where each term was heaviest: found again for the few that the ReLU let through,
            # which is faster than keeping it of all.
            terms = torch.nonzero(grad[row])[:, 0]
            slopes, own = grad[row, terms], hidden[row, mask[row].bool()]
            positions = (own @ decoder[terms].T).argmax(0)
            d_hidden[row].index_add_(0, positions, slopes[:, None] * decoder[terms])
            d_decoder.index_add_(0, terms, slopes[:, None] * own[positions])
            d_bias.index_add_(0, terms, slopes)
        return d_hidden, None, d_decoder, d_bias


class Splade:
    """A model in training, with its tokenizer.

    Args:
        base: A folder or hub id of a BERT, with or without a masked-language-model head.
        device: Where it runs.
    """

    def __init__(self, base: str | Path, device: str = "cpu") -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(str(base))
        # Plain attention: the fused kernel's way back takes three times as long on a CPU.
        bert = BertForMaskedLM.from_pretrained(str(base), attn_implementation="eager")
        # Not train(): dropout would not pay in so short a training.
        self.bert = bert.to(device).eval()
        self.device = device
        self.bfloat16 = _multiplies_bfloat16(device)  # 1.6 times as fast, for 0.03 of a weight
        self.head = self.bert.cls.predictions
        self.decoder = self.bert.bert.embeddings.word_embeddings.weight

    def parameters(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return the trunk's parameters and the head's."""
        named = list(self.bert.named_parameters())
        return [p for n, p in named if "cls" not in n], [p for n, p in named if "cls" in n]

    def tokenize(self, texts: Sequence[str], length: int) -> Any:  # noqa: ANN401
        """Return padded token ids and mask, [texts, length]."""
        return self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=length, return_tensors="pt"
        ).to(self.device)

    def encode(self, texts: Sequence[str], length: int) -> torch.Tensor:
        """Return the texts' weights, float32[texts, vocabulary]."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        size = -(-len(order) // _PARTS)
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        logits = torch.cat([self._encode([texts[i] for i in part], length) for part in parts])
        places = torch.empty(len(order), dtype=torch.long, device=self.device)
        places[[i for part in parts for i in part]] = torch.arange(len(order), device=self.device)
        return torch.log1p(F.relu(logits[places]))

    def _encode(self, texts: Sequence[str], length: int) -> torch.Tensor:
        batch = self.tokenize(texts, length)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bfloat16):
            hidden = self.head.transform(self.bert.bert(**batch)[0])
            result: torch.Tensor = _MaxHead.apply(
                hidden.float(), batch["attention_mask"], self.decoder, self.head.bias
            )
        return result

    def save(self, folder: Path, table: torch.Tensor | None = None) -> None:
        """Write a checkpoint in the layout of sentence-transformers' SparseEncoder.

        Args:
            folder: Where.
            table: Queries' weights by term, float32[vocabulary], for a model whose queries take no
                network; None for one whose queries are encoded as documents are.
        """
        from sentence_transformers import SparseEncoder, SparseEncoderModelCardData
        from sentence_transformers.base.modules import Router
        from sentence_transformers.sparse_encoder.modules import (
            MLMTransformer,
            SparseStaticEmbedding,
            SpladePooling,
        )

        plain = folder / "plain"
        self.bert.save_pretrained(plain)
        self.tokenizer.save_pretrained(plain)
        modules = [MLMTransformer(str(plain), max_seq_length=512), SpladePooling("max")]
        if table is not None:
            queries = [SparseStaticEmbedding(self.tokenizer, table.cpu(), frozen=True)]
            modules = [Router.for_query_document(queries, modules)]
        card = SparseEncoderModelCardData(language="en", license="apache-2.0")
        model = SparseEncoder(modules=modules, device="cpu", model_card_data=card)
        model.save_pretrained(str(folder))
        for file in plain.iterdir():
            file.unlink()
        plain.rmdir()


class TableQueries:
    """Queries without a network: each of their word pieces has a weight, the same in all queries.

    Source: Geng et al. 2024, https://arxiv.org/abs/2411.04403 (IDF as that weight, documents
    trained to it).

    Args:
        tokenizer: The model's.
        table: The weights, float32[vocabulary].
    """

    def __init__(self, tokenizer: Any, table: torch.Tensor) -> None:  # noqa: ANN401
        self._tokenizer = tokenizer
        self.table = table

    def encode(self, texts: Sequence[str], length: int) -> torch.Tensor:
        """Return the queries' weights, float32[texts, vocabulary]."""
        bags = own_tokens(self._tokenizer, texts, length)
        return torch.from_numpy(bags.toarray()).to(self.table.device) * self.table


def _multiplies_bfloat16(device: str) -> bool:
    """Return whether a processor has instructions for products of bfloat16."""
    if device == "cpu":
        features = torch.cpu.get_capabilities()
        return bool(features.get("avx512_bf16") or features.get("amx_bf16"))
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))
