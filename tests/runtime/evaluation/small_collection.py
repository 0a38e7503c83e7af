"""A small collection with a known answer to every question, written in BEIR's layout."""

import json
from pathlib import Path

DOCUMENTS = {
    "cat": ("Cats", "A cat purrs when it is content."),
    "brake": ("Brakes", "Brakes turn motion into heat."),
    "jury": ("Juries", "A jury decides whether the accused is guilty."),
    "bread": ("", "Yeast makes bread dough rise."),
}
QUERIES = {"1": "why do cats purr", "2": "how does bread rise", "3": "who finds a person guilty"}
QRELS = {"1": {"cat": 2, "brake": 0}, "2": {"bread": 1}, "3": {"jury": 1, "cat": 0}}


def write_collection(
    folder: Path, documents=DOCUMENTS, queries=QUERIES, qrels=QRELS, split: str = "test"
) -> Path:
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    corpus = [{"_id": i, "title": t, "text": x} for i, (t, x) in documents.items()]
    asked = [{"_id": i, "text": text} for i, text in queries.items()]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, corpus)))
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, asked)))
    rows = [f"{q}\t{d}\t{g}" for q, grades in qrels.items() for d, g in grades.items()]
    (folder / "qrels" / f"{split}.tsv").write_text(
        "\n".join(["query-id\tcorpus-id\tscore", *rows]) + "\n"
    )
    return folder
