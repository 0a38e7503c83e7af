"""The contract against running servers: `pytest -m live`, with ELASTICSEARCH_URL and so on set.

Each engine whose address is not set is skipped. Collections are named spladelet-test-… and deleted.
"""

import os
import uuid

import pytest
from runtime.engines.test_contract import LOSS, random_index, vector

from spladelet.engines import TermNames, connect, engines, push

pytestmark = pytest.mark.live


@pytest.fixture(params=sorted(engines()))
def engine(request):
    name = request.param
    if not os.environ.get(f"{name.upper()}_URL"):
        pytest.skip(f"{name.upper()}_URL is not set")
    names = TermNames(lambda i: f"term{i}") if engines()[name].is_term_keyed else None
    engine = connect(name, f"spladelet_test_{uuid.uuid4().hex[:12]}", names=names)
    yield engine
    engine.delete()


def test_a_round_trip(engine):
    index = random_index(500)
    assert push(engine, index, batch_size=100).failed == {}
    assert push(engine, index, batch_size=64).failed == {}
    assert engine.count() == 500
    for seed in range(10):
        row = index.vectors()[seed].to_dict()
        query = vector(dict(list(row.items())[:6]))
        exact = {hit.id: hit.score for hit in index.search(query, 500)}
        found = engine.search(query, 10)
        best = sorted(exact.values(), reverse=True)[:10]
        assert len(found) == 10
        for hit, score in zip(found, best, strict=True):
            assert hit.score == pytest.approx(exact[hit.id], rel=LOSS[engine.name])
            assert hit.score == pytest.approx(score, rel=2 * LOSS[engine.name])
