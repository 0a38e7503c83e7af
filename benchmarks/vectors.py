"""Vectors to index: of real passages, or synthetic in any number.

    python benchmarks/vectors.py FILE... -o INDEX --limit 60000     passages, by the default model

Passages are windows of 60 words of the "text" or "passage" of JSONL files, none twice; FILE may be
.gz.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

VOCAB_SIZE = 30522
DOCUMENT_TERMS = 120
TOPICS = 200
_WORDS, _LEAST_WORDS = 60, 15
_BATCH = 4096


def main() -> None:
    """Encode passages into an index."""
    from spladelet import Document, Encoder, IndexWriter
    from spladelet.progress import Progress
    from spladelet.records import json_object
    from spladelet.sources import read_lines

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="+", help="documents, JSONL")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the index")
    parser.add_argument("--limit", type=int, default=60_000)
    options = parser.parse_args()
    lines = (
        json_object(line, n, name) for path in options.file for name, n, line in read_lines(path)
    )
    texts = (str(record.get("text") or record.get("passage") or "") for record in lines)
    found = sorted(set(passages(texts)))
    np.random.default_rng(0).shuffle(found)
    print(f"{len(found)} passages", file=sys.stderr)
    found = found[: options.limit]
    encoder = Encoder.load()
    with IndexWriter(options.output) as writer, Progress("passages", len(found)) as progress:
        for start in range(0, len(found), _BATCH):
            batch = found[start : start + _BATCH]
            documents = [Document(str(start + n), text) for n, text in enumerate(batch)]
            writer.add(encoder.encode_documents(documents, progress=False), documents)
            progress.advance(len(documents))


def passages(texts: Iterable[str]) -> Iterator[str]:
    """Cut texts into windows of words."""
    for text in texts:
        words = text.split()
        for start in range(0, len(words), _WORDS):
            window = words[start : start + _WORDS]
            if len(window) >= _LEAST_WORDS:
                yield " ".join(window)


def synthetic_documents(documents: int, rng: np.random.Generator) -> csr_array:
    """Draw documents: each of one topic, two thirds of its terms from the topic's own terms.

    About 120 terms each of 30,522, drawn by a Zipf-like popularity within 200 topics, so that
    posting lists have the lengths of real SPLADE indexes.
    """
    popularity = 1.0 / (np.arange(VOCAB_SIZE) + 50.0)
    topics = rng.permuted(np.tile(np.arange(VOCAB_SIZE), (TOPICS, 1)), axis=1)[:, :1500]
    own = DOCUMENT_TERMS * 2 // 3
    of_topic = topics[rng.integers(TOPICS, size=documents)]
    places = (rng.random((documents, own)) ** 2 * 1500).astype(np.int64)
    specific = np.take_along_axis(of_topic, places, axis=1)
    general = rng.choice(
        VOCAB_SIZE, (documents, DOCUMENT_TERMS - own), p=popularity / popularity.sum()
    )
    terms = np.concatenate([specific, general], axis=1)
    weights = rng.gamma(2.0, 0.4, terms.shape).astype(np.float32)
    offsets = np.arange(0, terms.size + 1, DOCUMENT_TERMS, dtype=np.int32)
    terms = terms.astype(np.int32)
    matrix = csr_array((weights.ravel(), terms.ravel(), offsets), shape=(documents, VOCAB_SIZE))
    matrix.sum_duplicates()
    return matrix


if __name__ == "__main__":
    main()
