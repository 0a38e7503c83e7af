"""Text to sparse vectors: the encoder, and what it is made of."""

from spladelet.encoder.encoder import Encoder, LanguageWarning, TruncationWarning

__all__ = ["Encoder", "LanguageWarning", "TruncationWarning"]
