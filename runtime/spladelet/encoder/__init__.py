"""Text to sparse vectors: the encoder, and what it is made of."""

from spladelet.encoder.conformance import Conformance, Mismatch, check_conformance
from spladelet.encoder.encoder import Encoder
from spladelet.encoder.encoding import Encoding
from spladelet.encoder.notices import LanguageWarning, TruncationWarning

__all__ = [
    "Conformance",
    "Encoder",
    "Encoding",
    "LanguageWarning",
    "Mismatch",
    "TruncationWarning",
    "check_conformance",
]
