"""How far int8 goes: from the fastest model to the most faithful one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Int8Recipe:
    """What is done to each matrix product.

    Attributes:
        name: Recorded in the bundle.
        row_wise_gain: Scale activations row by row where that cuts the error by this share; None
            never does.
        float_share: The share of products, those with the largest error, that stay float32.
    """

    name: str
    row_wise_gain: float | None = None
    float_share: float = 0.0


# From the fastest to the most faithful; the first that passes the gate is taken.
INT8_RECIPES = (
    Int8Recipe("static"),
    Int8Recipe("row-wise where it pays", row_wise_gain=0.3),
    Int8Recipe("row-wise where it helps", row_wise_gain=0.1),
    Int8Recipe("row-wise where it helps, a tenth float32", row_wise_gain=0.1, float_share=0.1),
    Int8Recipe("row-wise where it helps, a quarter float32", row_wise_gain=0.1, float_share=0.25),
)
