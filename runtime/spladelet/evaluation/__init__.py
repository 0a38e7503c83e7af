"""How well does a model find what it should? Test collections, baselines, fusion, reports.

    from spladelet import Encoder
    from spladelet.evaluation import VectorCache, evaluate, read_collections

    for collection in read_collections("scifact"):
        outcome = evaluate(VectorCache(Encoder.load()), collection)
        print(outcome.model.figures()["nDCG@10"])

Needs the extra `evaluate`; does not need torch. Does not train, and does not judge: relevance comes
with the collection.
"""

from spladelet.evaluation.collection import Collection, demo_collection, read_collections
from spladelet.evaluation.examples import Example, wins_and_losses
from spladelet.evaluation.experiment import Outcome, Settings, System, evaluate
from spladelet.evaluation.fusion import reciprocal_rank_fusion, weighted_fusion
from spladelet.evaluation.measures import MEASURES, Comparison, compare, measure
from spladelet.evaluation.report import write_report
from spladelet.evaluation.runs import Run, read_run, write_run
from spladelet.evaluation.searches import bm25_run
from spladelet.evaluation.tables import published, to_dict, to_markdown
from spladelet.evaluation.vector_cache import VectorCache, default_folder

__all__ = [
    "MEASURES",
    "Collection",
    "Comparison",
    "Example",
    "Outcome",
    "Run",
    "Settings",
    "System",
    "VectorCache",
    "bm25_run",
    "compare",
    "default_folder",
    "demo_collection",
    "evaluate",
    "measure",
    "published",
    "read_collections",
    "read_run",
    "reciprocal_rank_fusion",
    "to_dict",
    "to_markdown",
    "weighted_fusion",
    "wins_and_losses",
    "write_report",
    "write_run",
]
