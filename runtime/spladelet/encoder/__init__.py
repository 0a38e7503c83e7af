"""Text to sparse vectors: the encoder, and what it is made of."""

from spladelet.encoder.encoder import Encoder
from spladelet.encoder.encoding import Encoding
from spladelet.encoder.notices import LanguageWarning, TruncationWarning

__all__ = ["Encoder", "Encoding", "LanguageWarning", "TruncationWarning"]
