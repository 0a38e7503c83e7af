import json
import re
import sys

import pytest

from spladelet.cli.main import main
from spladelet.evaluation import read_run, write_run

pytest.importorskip("ir_measures", reason="needs the extra `evaluate`")


@pytest.fixture(autouse=True)
def _vectors_stay_here(tmp_path, monkeypatch):
    monkeypatch.setenv("SPLADELET_CACHE", str(tmp_path / "vectors"))


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_table_a_report_and_runs(capsys, collection_folder, tmp_path):
    report, runs = tmp_path / "report.html", tmp_path / "runs"
    status, out, _ = run(
        capsys, "evaluate", collection_folder, "--fusion", "rrf", "--report", report,
        "--save-runs", runs,
    )  # fmt: skip
    assert status == 0
    assert "**small**: 4 documents, 3 queries" in out
    assert out.rstrip().endswith(f"Report: {report}")
    assert report.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert {f.parent.name for f in runs.rglob("*.trec")} == {
        "default",
        "default alone",
        "bm25",
        "default alone + bm25",
    }
    assert read_run(runs / "default" / "small.trec")["1"]["cat"] > 0


def test_json_for_machines(capsys, collection_folder):
    status, out, _ = run(capsys, "evaluate", collection_folder, "--json", "--per-query")
    assert status == 0
    (found,) = json.loads(out)["collections"]
    assert found["systems"]["default"]["nDCG@10"] == pytest.approx(1.0)
    assert set(found["systems"]["bm25"]["queries"]["nDCG@10"]) == {"1", "2", "3"}


def test_saved_runs_come_back_in(capsys, collection_folder, tmp_path):
    run(capsys, "evaluate", collection_folder, "--save-runs", tmp_path / "runs")
    status, out, _ = run(
        capsys, "evaluate", collection_folder, "--json", "--baseline", "lexical",
        "--run", f"lexical={tmp_path / 'runs' / 'bm25'}",
        "--run", tmp_path / "runs" / "default" / "small.trec",
    )  # fmt: skip
    assert status == 0
    systems = json.loads(out)["collections"][0]["systems"]
    assert list(systems) == ["default", "default alone", "lexical", "small"]
    assert systems["small"]["nDCG@10"] == systems["default"]["nDCG@10"]


def test_runs_are_fused(capsys, tmp_path):
    write_run(tmp_path / "a.trec", {"1": {"x": 2.0, "y": 1.0}}, "a")
    write_run(tmp_path / "b.trec", {"1": {"y": 9.0}}, "b")
    output = tmp_path / "c.trec"
    status, out, _ = run(
        capsys, "fuse", tmp_path / "a.trec", tmp_path / "b.trec", "-o", output,
        "--method", "weighted", "--weight", "0.25", "--weight", "0.75",
    )  # fmt: skip
    assert status == 0
    assert "2 runs fused by weighted" in out
    assert read_run(output) == {"1": {"y": 0.75, "x": 0.25}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--measure", "nope"], "measure 'nope' is unknown"),
        (["--baseline", "dense"], "baseline 'dense' is none of the runs"),
        (["--share", "2"], "share is 2.0"),
        (["--split", "dev"], "its splits are test"),
        (["--run", "none.trec"], "cannot read none.trec"),
        (["--report", "no/such/folder/report.html"], "it is a folder, or in none"),
        (["--report", "."], "it is a folder, or in none"),
        (["--run", ".."], "no such|has no|expected"),
        (["--save-runs", "/dev/null"], "exists"),
    ],
)
def test_what_is_wrong_is_said(capsys, collection_folder, arguments, message):
    status, out, err = run(capsys, "evaluate", collection_folder, *arguments)
    assert status == 1
    assert re.search(message, err)
    assert out == ""


def test_a_collection_that_is_not_there(capsys):
    status, _, err = run(capsys, "evaluate", "./nowhere")
    assert status == 1
    assert "there is no collection at './nowhere'" in err


@pytest.mark.parametrize("module", ["ir_measures", "matplotlib", "jinja2"])
def test_a_missing_package_names_its_extra(
    capsys, collection_folder, tmp_path, monkeypatch, module
):
    monkeypatch.setitem(sys.modules, module, None)
    status, _, err = run(capsys, "evaluate", collection_folder, "--report", tmp_path / "r.html")
    assert status == 1
    assert f"needs {module}, which is not installed. Install it with" in err
    assert "`pip install 'spladelet[evaluate]'`" in err


def test_a_second_evaluation_reads_the_vectors(capsys, collection_folder, tmp_path):
    run(capsys, "evaluate", collection_folder)
    written = {file: file.stat().st_mtime_ns for file in (tmp_path / "vectors").rglob("*.npz")}
    assert len(written) == 2
    run(capsys, "evaluate", collection_folder)
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "vectors").rglob("*.npz")} == written


def test_collections_of_one_name_are_refused(capsys, tmp_path):
    from runtime.evaluation.small_collection import write_collection

    folders = [write_collection(tmp_path / part / "set") for part in "ab"]
    status, _, err = run(capsys, "evaluate", *folders)
    assert status == 1
    assert "two collections are named 'set'" in err


def test_runs_cannot_be_saved_outside_their_folder(capsys, collection_folder, tmp_path):
    write_run(tmp_path / "z.trec", {"1": {"cat": 1.0}}, "z")
    status, _, err = run(
        capsys, "evaluate", collection_folder, "--run", f"..={tmp_path / 'z.trec'}",
        "--save-runs", tmp_path / "out",
    )  # fmt: skip
    assert status == 1
    assert "a system is named '..'" in err
    assert not (tmp_path / "small.trec").exists()
