"""An installation without scipy and huggingface_hub: the same index, hits and scores."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spladelet.index import transposing

# Its first argument says what is refused; it writes what was found, and what each door said.
PROGRAM = """
import json, sys, tempfile

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"{name} is refused by this test", name=name)

sys.meta_path.insert(0, Refuse())
import numpy as np
from spladelet import Document, Encoder, Index, IndexWriter, SparseVectors, read_vectors
from spladelet.errors import MissingDependencyError
from spladelet.lexical.words import Words

COUNT = 10_000
draw = np.random.default_rng(7)
ids = np.sort(draw.integers(0, 1000, (COUNT, 8)) * 8 + np.arange(8), axis=1).astype(np.int32)
weights = draw.uniform(0.1, 3, ids.shape).astype(np.float32).ravel()
vectors = SparseVectors(np.arange(COUNT + 1) * 8, ids.ravel(), weights, 9000)
texts = [f"word{n % 97} word{n % 31}" for n in range(COUNT)]
documents = [Document(str(n), text, metadata={"part": n % 3}) for n, text in enumerate(texts)]
folder = tempfile.mkdtemp() + "/index"
Index.build(vectors, documents, words=Words("english")).save(folder)
index = Index.open(folder)
queries = [index.vector(n) for n in range(0, 200, 20)]

def found():
    hits = [index.search(query, k=20) for query in queries]
    hits.append(index.search(queries[0], k=5, ids=["1", "5", "7"]))
    hits.append(index.search(queries[0], k=5, where={"part": 1}))
    hits.append(index.search("word5 word7", k=20, lexical="only"))
    return [[(hit.id, float(hit.score).hex()) for hit in some] for some in hits]

before = found()
with IndexWriter(folder) as writer:
    writer.delete([str(n) for n in range(0, 500, 3)])
index.refresh()
after = found()
for part in range(9):  # so many that segments are merged
    rows = vectors.between(part * 10, part * 10 + 10)
    names = [Document(f"{part}-{n}", texts[n], metadata={"part": part}) for n in range(10)]
    with IndexWriter(folder) as writer:
        writer.add(rows, names)
index.refresh()
merged = [index.segments < 9, found()]
with IndexWriter(folder) as writer:
    writer.compact()
index.refresh()
reasons = Encoder.load().explain("a cat", "cats purr")
text = Encoder.load().encode_query("a cat sat on a mat")
np.savez(folder + ".npz", data=weights[:1], indices=[1], indptr=[0, 1], shape=[1, 9], format=b"csr")
said = []
doors = (
    vectors.to_csr,
    lambda: SparseVectors.from_csr(np.eye(3)),
    lambda: list(read_vectors(folder + ".npz", 9)),
)
for door in doors:
    try:
        door()
        said.append("")
    except MissingDependencyError as error:
        said.append(str(error))
encoded = [text.term_ids.tolist(), [float(weight).hex() for weight in text.weights]]
why = [float(reasons.score).hex(), [str(term) for term in reasons.terms]]
sys.stdout.write(json.dumps([[before, after, merged, found(), encoded, why], said]))
"""


def run(refused, python=sys.executable):
    result = subprocess.run(
        [python, "-c", PROGRAM, refused],
        capture_output=True,
        encoding="utf-8",
        timeout=200,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_without_scipy_hits_and_scores_are_the_same_to_the_bit():
    found, said = run("scipy,huggingface_hub")
    expected, _ = run("nothing")

    assert found == expected
    assert found[2][0], "no segments were merged"
    assert len(said) == 3
    assert all("scipy" in one and "pip install scipy" in one for one in said)


@pytest.mark.skipif("SPLADELET_SLIM" not in os.environ, reason="needs SPLADELET_SLIM")
def test_the_slim_installation_finds_the_same():
    python = os.environ["SPLADELET_SLIM"]
    subprocess.run([Path(python).with_name("spladelet"), "demo"], check=True, timeout=200)

    assert run("nothing", python)[0] == run("nothing")[0]


@given(st.lists(st.lists(st.integers(0, 99_999), max_size=9), max_size=30))
def test_sorting_transposes_as_scipy_does(rows):
    sparse = pytest.importorskip("scipy.sparse")
    columns = np.array([column for row in rows for column in row], np.int32)
    ends = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    values = np.arange(len(columns), dtype=np.float32)

    occurring, offsets, numbers, moved = transposing._by_sorting(columns, ends, values)

    theirs = sparse.csr_array((values, columns, ends), shape=(len(rows), 100_000)).tocsc()
    assert occurring.dtype == numbers.dtype == np.int32
    assert offsets.dtype == np.int64
    assert occurring.tolist() == np.flatnonzero(np.diff(theirs.indptr)).tolist()
    assert offsets.tolist() == [*theirs.indptr[occurring], theirs.nnz]
    assert numbers.tolist() == theirs.indices.tolist()
    assert moved.tobytes() == theirs.data.tobytes()
