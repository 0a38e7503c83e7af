"""What a step is taught by: the teacher's order of passages, and how many terms a text may have.

Source: Formal et al. 2021, https://arxiv.org/abs/2109.10086 (FLOPS, distillation); Paria et al.
2020, https://arxiv.org/abs/2004.05665 (FLOPS is about a whole collection's mean weights).
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F


def divergence(
    scores: torch.Tensor,
    teacher: torch.Tensor,
    temperatures: Sequence[float],
    passages_too: float,
) -> torch.Tensor:
    """Return how far the student's order is from the teacher's.

    KL of the passages' distribution for each query, at several temperatures, each times its
    temperature so that all pull alike: at 1 it is settled by the best passages alone, and once
    those are right there is nothing left to learn; a higher one asks for the order of the others.

    Args:
        scores: The student's, float32[queries, passages].
        teacher: The teacher's, likewise.
        temperatures: Divisors of both.
        passages_too: Weight of the same from the passages' side, over the queries.
    """
    total = torch.zeros((), device=scores.device)
    for temperature in temperatures:
        rows = _kl(scores, teacher, temperature)
        columns = _kl(scores.T, teacher.T, temperature)
        total = total + temperature * (rows + passages_too * columns)
    return total


def _kl(scores: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    return F.kl_div(
        F.log_softmax(scores / temperature, 1),
        F.softmax(teacher / temperature, 1),
        reduction="batchmean",
    )


class Sparsity:
    """The price of a term, so that texts have about as many as they should.

    FLOPS is the square of a term's mean weight over a collection. Over a batch on one subject it
    would charge the subject's own terms most, the very ones that texts should be expanded by: so
    the mean is one that runs over the batches of all sources. The price follows the number of
    terms: it rises while there are too many, to at most a hundred times of what it starts at.

    Args:
        vocabulary: Number of terms.
        target: Terms a text should have, on average.
        price: What it starts at.
        device: Where it lies.
    """

    _PACE = 0.03  # of the running means: about the last 30 batches
    _PRICE_PACE = 0.02
    _PRICE_RANGE = 100.0

    def __init__(self, vocabulary: int, target: float, price: float, device: str) -> None:
        self._target = target
        self._bounds = price / self._PRICE_RANGE, price * self._PRICE_RANGE
        self._mean = torch.zeros(vocabulary, device=device)
        self._seen = 0.0  # share of the running mean that batches have filled
        self.dims = target
        self.price = price

    def charge(self, weights: torch.Tensor, share: float = 1.0) -> torch.Tensor:
        """Return the price of a batch's weights, float32[texts, vocabulary], and learn from it.

        Args:
            weights: The batch's.
            share: How much of the price counts yet. The price stands still until all of it does:
                before, it has no say in how many terms there are.
        """
        mean = weights.mean(0)
        self._mean.lerp_(mean.detach(), self._PACE)
        self._seen += self._PACE * (1 - self._seen)
        dims = float((weights > 0).sum(1).float().mean())
        self.dims += self._PACE * (dims - self.dims)
        if share == 1:
            low, high = self._bounds
            wanted = self.price * (max(self.dims, 1.0) / self._target) ** self._PRICE_PACE
            self.price = min(max(wanted, low), high)
        return share * self.price * (self._mean / self._seen * mean).sum()

    def state(self) -> dict[str, Any]:
        """Return what a later sitting goes on from."""
        return {"mean": self._mean, "seen": self._seen, "dims": self.dims, "price": self.price}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from an earlier sitting's state."""
        self._mean = state["mean"]
        self._seen, self.dims, self.price = state["seen"], state["dims"], state["price"]
