import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spladelet.errors import InputError, RunError
from spladelet.evaluation import read_run, write_run
from spladelet.evaluation.runs import ranking, without_self_matches

ids = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=8)
doubles = st.floats(allow_nan=False, allow_infinity=False)


@given(run=st.dictionaries(ids, st.dictionaries(ids, doubles, min_size=1), min_size=1))
def test_what_is_written_is_read(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "a.trec"
    write_run(path, run, "ours")
    read = read_run(path)
    assert read == run
    assert {q: ranking(f) for q, f in read.items()} == {q: ranking(f) for q, f in run.items()}


def test_the_file_is_trecs(tmp_path):
    write_run(tmp_path / "a.trec", {"1": {"x": 0.5, "y": 2.0}}, "my run")
    assert (tmp_path / "a.trec").read_bytes() == b"1 Q0 y 1 2.0 my-run\n1 Q0 x 2 0.5 my-run\n"


def test_a_gzipped_run_with_windows_line_ends(tmp_path):
    (tmp_path / "a.trec.gz").write_bytes(gzip.compress(b"1 Q0 y 1 2.5 other\r\n\r\n"))
    assert read_run(tmp_path / "a.trec.gz") == {"1": {"y": 2.5}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("1 Q0 y 1 2.5\n", "line 1 has 5 columns"),
        ("1 Q0 y 1 2.5 a\n1 Q0 y 2 high a\n", "line 2 has score 'high'"),
        ("1 Q0 y 1 nan a\n", "score 'nan'"),
        ("1 Q0 y 1 inf a\n", "score 'inf'"),
        ("1 Q0 y 1 2 a\n1 Q0 y 2 1 a\n", "document 'y' for query '1' a second time"),
    ],
)
def test_a_broken_run_is_named_by_line(tmp_path, text, message):
    path = tmp_path / "a.trec"
    path.write_text(text)
    with pytest.raises(RunError, match=message):
        read_run(path)


def test_a_run_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        read_run(tmp_path / "none.trec")


@pytest.mark.parametrize("run", [{"": {"a": 1.0}}, {"1": {"a b": 1.0}}, {"1\t2": {}}])
def test_ids_that_the_format_cannot_hold_leave_no_file(tmp_path, run):
    with pytest.raises(RunError, match="white space"):
        write_run(tmp_path / "a.trec", run, "ours")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("identity", ["a\0", "a\ud800"])
def test_ids_that_others_would_read_otherwise_leave_no_file(tmp_path, identity):
    for run in ({identity: {"a": 1.0}}, {"1": {identity: 1.0}}):
        with pytest.raises(RunError, match="Rename it"):
            write_run(tmp_path / "a.trec", run, "ours")
    assert list(tmp_path.iterdir()) == []
    write_run(tmp_path / "a.trec", {"1": {"a": 1.0}}, "of \ud800")
    assert read_run(tmp_path / "a.trec") == {"1": {"a": 1.0}}


def test_what_is_no_text_is_no_run(tmp_path):
    path = tmp_path / "a.trec"
    for content in (b"PAR1", "1 Q0 y 1 2.5 a".encode("utf-16"), b"1 Q0 \xff 1 2.5 a"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.trec is"):
            read_run(path)
    for source in (tmp_path, "/dev/zero", "a\0b"):
        with pytest.raises(InputError):
            read_run(source)


def test_a_write_that_fails_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.trec"
    write_run(path, {"1": {"old": 1.0}}, "ours")
    before = path.read_bytes()
    monkeypatch.setattr("pathlib.Path.replace", _no_space)
    with pytest.raises(OSError, match="No space"):
        write_run(path, {"1": {"new": 1.0}}, "ours")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def _no_space(*_):
    raise OSError(28, "No space left on device")


def test_a_document_with_the_querys_id_is_no_answer():
    run = {"1": {"1": 9.0, "2": 1.0}, "2": {"1": 1.0}}
    assert without_self_matches(run) == {"1": {"2": 1.0}, "2": {"1": 1.0}}


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_the_format_cannot_hold_leave_no_file(tmp_path, score):
    with pytest.raises(RunError, match="has score"):
        write_run(tmp_path / "a.trec", {"1": {"x": score}}, "ours")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_ends_in_gz_is_packed(tmp_path):
    run = {"1": {"x": 0.1}}
    write_run(tmp_path / "a.trec.gz", run, "ours")
    assert (tmp_path / "a.trec.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert read_run(tmp_path / "a.trec.gz") == run
