"""Text to sparse vectors: the encoder, and what it is made of."""

from spladelet.encoder.encoder import Encoder, LanguageWarning, TruncationWarning
from spladelet.encoder.encoding import Encoding

__all__ = ["Encoder", "Encoding", "LanguageWarning", "TruncationWarning"]
