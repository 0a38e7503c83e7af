"""The training pairs: read from files, or made from sources that are no pairs yet.

Each source is a list of pairs whose order is fixed by the recipe's seed; the first `held_out` of it
are never trained on. Does not score or batch them.
"""

import gzip
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_WORDS = range(8, 41)  # of a sentence that can stand for a query
_REST = 40  # words that must be left of its passage


@dataclass(frozen=True, slots=True)
class Source:
    """Pairs of one origin.

    Attributes:
        name: Its name in the recipe.
        share: How often a batch is of it.
        clusters: How many clusters of queries such a batch has: more where texts are short.
        pairs: Query and passage, to train on.
        held_out: Query and passage, for the curve only.
    """

    name: str
    share: float
    clusters: int
    pairs: list[tuple[str, str]]
    held_out: list[tuple[str, str]]


def read_sources(
    recipe: Mapping[str, Any], folder: Path, wordnet: Path | None = None
) -> list[Source]:
    """Read the recipe's sources; one whose file is missing is an error.

    Args:
        recipe: The whole recipe.
        folder: Where NAME.jsonl.gz are.
        wordnet: Where WordNet's data.noun, ..., and cntlist.rev are; None leaves that source out.

    Raises:
        FileNotFoundError: A source's file is not there.
    """
    seed, held_out = recipe["run"]["seed"], recipe["run"]["held_out"]
    sources = []
    for entry in recipe["source"]:
        name = entry["name"]
        rng = random.Random(f"{seed} {name}")
        if name == "wordnet":
            if wordnet is None:
                continue
            pairs = list(_wordnet_pairs(wordnet, rng))[: entry.get("limit")]
        elif "made_from" in entry:
            pairs = _sentence_pairs(entry["made_from"], folder, recipe, rng)
        else:
            pairs = _read(folder / f"{name}.jsonl.gz")
        rng.shuffle(pairs)
        pairs = pairs[: entry.get("limit")]
        clusters = entry.get("clusters", recipe["splade"]["clusters"])
        sources.append(Source(name, entry["share"], clusters, pairs[held_out:], pairs[:held_out]))
    return sources


def _read(file: Path) -> list[tuple[str, str]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [
        (row["query"], f"{row.get('title') or ''} {row['passage']}".strip())
        for row in rows
        if row["query"].strip() and row["passage"].strip()
    ]


def _sentence_pairs(
    counts: Mapping[str, int], folder: Path, recipe: Mapping[str, Any], rng: random.Random
) -> list[tuple[str, str]]:
    """Take sentences out of passages: as claims and abstracts are, close in sense, not in words.

    A passage that its own source holds out is left alone.
    """
    seed, held_out = recipe["run"]["seed"], recipe["run"]["held_out"]
    made = []
    for name, count in counts.items():
        rows = _read(folder / f"{name}.jsonl.gz")
        random.Random(f"{seed} {name}").shuffle(rows)
        passages = list(dict.fromkeys(passage for _, passage in rows[held_out:]))
        cut = [pair for passage in passages for pair in _cut_sentences(passage, rng)]
        made += rng.sample(cut, min(count, len(cut)))
    return made


def _cut_sentences(passage: str, rng: random.Random) -> Iterator[tuple[str, str]]:
    sentences = _SENTENCE.split(passage)
    fit = [i for i, sentence in enumerate(sentences) if len(sentence.split()) in _WORDS]
    for i in rng.sample(fit, min(4, len(fit))):
        rest = " ".join(sentences[:i] + sentences[i + 1 :])
        if len(rest.split()) >= _REST:
            yield sentences[i], rest


def _wordnet_pairs(folder: Path, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Pair a word, or an example of its use, with the other words and the definition.

    The most used come first, by WordNet's counts in sense-tagged texts: its long tail is of species
    and places that nobody asks for.

    Source: Princeton WordNet 3.0; formats in its manual pages wndb(5) and cntlist(5).
    """
    counts = _sense_counts(folder / "cntlist.rev")
    used: list[tuple[int, float, str]] = []
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{part}").read_text(encoding="latin-1").splitlines():
            if not line.startswith("  "):  # the licence
                used.append((-sum(counts[s] for s in _senses(line)), rng.random(), line))
    for *_, line in sorted(used):
        head, _, gloss = line.partition(" | ")
        words = [re.sub(r"\(.*\)", "", w).replace("_", " ") for w, _ in _words(head)]
        definition = gloss.partition('"')[0].strip(" ;")
        examples = re.findall(r'"([^"]{12,})"', gloss)
        if not definition or (len(words) < 2 and not examples):
            continue
        if examples and rng.random() < 0.5:
            yield rng.choice(examples), f"{', '.join(words)}: {definition}"
        else:
            word = words.pop(rng.randrange(len(words)))
            yield word, f"{', '.join(words)}: {definition}" if words else definition


def _words(line: str) -> list[tuple[str, int]]:
    fields = line.split()
    named = fields[4 : 4 + 2 * int(fields[3], 16)]
    return [(word, int(number, 16)) for word, number in zip(named[::2], named[1::2], strict=True)]


_PARTS_OF_SPEECH = {"n": 1, "v": 2, "a": 3, "r": 4, "s": 5}


def _senses(line: str) -> Iterator[str]:
    _, file, part, *_ = line.split(maxsplit=3)
    for word, number in _words(line):
        lemma = re.sub(r"\(.*\)", "", word).lower()
        yield f"{lemma}%{_PARTS_OF_SPEECH[part]}:{file}:{number:02d}"


def _sense_counts(file: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    for line in file.read_text(encoding="latin-1").splitlines():
        sense, _, count = line.split()
        counts[":".join(sense.split(":")[:3])] += int(count)
    return counts
