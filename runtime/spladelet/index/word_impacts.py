"""What words weigh in each document now, as vectors: for engines and files that know no BM25.

A dot product with how often a query has each word is BM25, as a search for words alone has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spladelet.index.segment import Segment
from spladelet.index.transposing import stable_order
from spladelet.index.word_lists import WordLists
from spladelet.lexical.bm25 import Saturation, rarity
from spladelet.lexical.words import Words
from spladelet.vector import SparseVectors


@dataclass(frozen=True, slots=True)
class WordImpacts:
    """What words weigh in documents.

    Attributes:
        words: The words, ascending.
        vectors: What each weighs in each document: documents x words.
    """

    words: list[str]
    vectors: SparseVectors

    def of_document(self, number: int) -> dict[str, float]:
        """Return what each word of a document weighs in it, by the document's number."""
        row = self.vectors[number]
        return {
            self.words[place]: weight
            for place, weight in zip(row.term_ids.tolist(), row.weights.tolist(), strict=True)
        }

    @classmethod
    def of(cls, segments: Sequence[Segment], settings: Words) -> "WordImpacts":
        """Weigh the words of all documents that are not deleted.

        Raises:
            IndexFormatError: A list on disk is damaged.
        """
        parts = []
        for segment in segments:
            if segment.words is not None:
                if segment.checks is not None:
                    segment.checks.all_words(segment.words)
                parts.append((segment.words, segment.live if len(segment.deleted) else None))
        lists = WordLists.merge([part for part, _ in parts], [kept for _, kept in parts])
        frequency, count = np.diff(lists.offsets), len(lists.lengths)
        total = int(lists.lengths.sum(dtype=np.int64))
        saturation = Saturation.of(settings, total / count if count else 0.0)
        weights = saturation.impacts(
            lists.all_counts().astype(np.float32), lists.lengths[lists.numbers]
        )
        rarities = [rarity(count, having) for having in frequency.tolist()]
        weights *= np.repeat(np.array(rarities, np.float32), frequency)
        order = stable_order(lists.numbers)
        words = np.repeat(np.arange(len(frequency), dtype=np.int32), frequency)
        ends = np.cumsum(np.bincount(lists.numbers, minlength=count))
        vectors = SparseVectors(
            np.concatenate([[0], ends]).astype(np.int64),
            words[order],
            weights[order],
            len(frequency),
        )
        return cls([name.decode() for name in lists.all_names()], vectors)
