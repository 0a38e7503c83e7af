"""Which segments of an index are merged into one: so that few are left, and little is rewritten."""

import math
from collections.abc import Sequence

from spladelet.index.format import MAX_DOCUMENTS
from spladelet.index.segment import Segment

_FANOUT = 8  # segments of like size that are merged into one
_DELETED_SHARE = 0.3  # of a segment's documents, from which on it is rewritten


def plan_merge(segments: Sequence[Segment]) -> slice | None:
    """Choose neighbours to merge: eight of like size, or one with many deleted documents.

    Source: the tiers of log-structured merge trees, as Lucene's LogMergePolicy has them; only
    neighbours are merged, so that documents keep their order.
    """
    for place, segment in enumerate(segments):
        if len(segment.deleted) > _DELETED_SHARE * segment.postings.documents:
            return slice(place, place + 1)
    tiers = [int(math.log(max(len(segment), 1), _FANOUT) + 1e-9) for segment in segments]
    for tier in range(max(tiers, default=0) + 1):
        start = 0
        while start < len(tiers):
            stop = start
            while stop < len(tiers) and tiers[stop] <= tier:
                stop += 1
            of_like_size = tiers[start:stop].count(tier)
            if of_like_size >= _FANOUT and (fits := fitting(segments, start)) > start + 1:
                return slice(start, min(stop, fits))
            start = max(stop, start + 1)
    return None


def fitting(segments: Sequence[Segment], start: int) -> int:
    """Return the end of the longest run from `start` that fits one segment; at least one."""
    stop, size = start + 1, len(segments[start])
    while stop < len(segments) and size + len(segments[stop]) <= MAX_DOCUMENTS:
        size += len(segments[stop])
        stop += 1
    return stop
