"""What differs from one encoder family to the next. A new family is a row here.

Where the decoder is, how weights are tied, whether there are token types and how positions are
numbered is read off the graph (see `graph`), so it needs no row; neither does a vocabulary that is
padded to a rounder size, whose terms beyond the tokenizer's are kept as they are.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """One encoder family.

    Attributes:
        model_type: `model_type` in config.json.
        architecture: The class with the masked-language-model head.
        counts_from_padding: Whether positions are numbered from the id of padding on, so that
            `max_position_embeddings` holds fewer tokens than it says.
    """

    model_type: str
    architecture: str
    counts_from_padding: bool = False

    def reserved_positions(self, pad_token_id: object) -> int:
        """Return how many of `max_position_embeddings` hold no token."""
        if not self.counts_from_padding:
            return 0
        return (pad_token_id if isinstance(pad_token_id, int) else _USUAL_PADDING) + 1


_USUAL_PADDING = 1


FAMILIES = {
    family.model_type: family
    for family in (
        Family("bert", "BertForMaskedLM"),
        Family("distilbert", "DistilBertForMaskedLM"),
        Family("roberta", "RobertaForMaskedLM", counts_from_padding=True),
        Family("xlm-roberta", "XLMRobertaForMaskedLM", counts_from_padding=True),
        Family("camembert", "CamembertForMaskedLM", counts_from_padding=True),
        Family("mpnet", "MPNetForMaskedLM", counts_from_padding=True),
        Family("modernbert", "ModernBertForMaskedLM"),
        Family("electra", "ElectraForMaskedLM"),
        Family("albert", "AlbertForMaskedLM"),
        Family("deberta", "DebertaForMaskedLM"),
        Family("deberta-v2", "DebertaV2ForMaskedLM"),
    )
}
