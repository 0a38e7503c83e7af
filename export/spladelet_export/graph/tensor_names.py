"""What the fused graph calls its inputs, its output, and the tensors of its head.

The head is written in one place (`pooling`) and found by these names in others (`compaction`,
`spladelet_export.int8`): a name written out twice could be changed once, and int8 would leave the
head in float32 without a word. So they are read from this module, never copied.
"""

INPUTS = ("input_ids", "attention_mask")
OUTPUT = "weights"
TRACED = "positions"  # of each term, where its weight comes from; only in the graph that says so

PREFIX = "splade/"
HIDDEN = f"{PREFIX}hidden"  # what the decoder multiplies, padding replaced
POOLED = f"{PREFIX}max"  # the maxima over positions, before the bias
DECODER = f"{PREFIX}decoder"
ATTENTION = f"{PREFIX}attention"
POSITIONS = f"{PREFIX}positions"


def decoder_block(number: int) -> str:
    """Return the name of one block of the decoder: float32[hidden, terms]."""
    return f"{DECODER}/{number}"


def is_decoder_block(name: str) -> bool:
    """Say whether a tensor is a block of the decoder, or a part of one that was rewritten."""
    return name.startswith(f"{DECODER}/")
