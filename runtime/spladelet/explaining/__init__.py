"""Why documents were found: scores taken apart, where each part comes from, and the passage."""

from spladelet.explaining.explainer import Explainer
from spladelet.explaining.snippets import Mark, Snippet

__all__ = ["Explainer", "Mark", "Snippet"]
