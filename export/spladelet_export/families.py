"""What differs from one encoder family to the next. A new family is a row here.

Where the decoder is and how weights are tied is read off the graph (see `graph`), so it needs no
row.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """One encoder family.

    Attributes:
        model_type: `model_type` in config.json.
        architecture: The class with the masked-language-model head.
        reserved_positions: How many of `max_position_embeddings` hold no token.
    """

    model_type: str
    architecture: str
    reserved_positions: int = 0


FAMILIES = {
    family.model_type: family
    for family in (
        Family("bert", "BertForMaskedLM"),
        Family("distilbert", "DistilBertForMaskedLM"),
    )
}
