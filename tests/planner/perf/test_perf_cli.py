"""`muster predict` and `muster fit` as users run them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from planner.perf import cli
from planner.perf.cli import fit

MUSTER = Path(sys.executable).with_name("muster")
ROWS = "model_path,system,isl,osl,batch_size\nllama-3.1-8b,h100_sxm,1000,200,16\nllama-3.1-8b,nothing,1000,200,16\n"


def muster(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([MUSTER, *words], capture_output=True, text=True, check=False)


def test_rows_come_back_with_predictions_and_refusals(tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    rows.write_text(ROWS)
    ended = muster("predict", "serving", str(rows), "-o", str(out), "--json")
    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout)
    assert (summary["rows"], summary["answered"]) == (2, 1)
    header, first, second = out.read_text().splitlines()
    assert header.startswith("model_path,system,isl,osl,batch_size,ttft_s,tpot_s,")
    assert first.split(",")[header.split(",").index("source")] == "modelled"
    assert first.endswith(",measured")  # of its power
    assert "unknown GPU 'nothing'" in second


def test_the_summary_names_the_refusals(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text(ROWS)
    ended = muster("predict", "serving", str(rows), "-o", str(tmp_path / "out.csv"))
    assert "1 of 2 rows answered (1 modelled)" in ended.stdout
    assert "refused 1: unknown GPU 'nothing'" in ended.stdout


def test_bad_files_end_in_one_line(tmp_path: Path) -> None:
    for words in (
        ("predict", "serving", str(tmp_path / "none.csv"), "-o", str(tmp_path / "o.csv")),
        ("fit", "nothing", "--data", str(tmp_path)),
        ("fit", "serving_step", "--data", str(tmp_path)),
        ("fit", "serving", "--data", str(tmp_path), "--ship", "-o", str(tmp_path / "o.npz")),
        ("fit", "serving", "--data", str(tmp_path / "none")),
        ("fit", "serving", "--data", str(tmp_path)),
    ):
        ended = muster(*words)
        assert ended.returncode == 2, ended.stderr
        assert ended.stderr.startswith("error: ")
        assert len(ended.stderr.splitlines()) == 1


def test_a_degree_that_does_not_divide_the_heads_is_refused_in_its_row(tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    rows.write_text("model_path,system,tp_size\nllama-3.1-8b,h100_sxm,3\nllama-3.1-8b,h100_sxm,4\n")
    ended = muster("predict", "serving", str(rows), "-o", str(out))
    assert "1 of 2 rows answered" in ended.stdout
    assert "refused 1: tp=3 does not divide 32 heads of llama-3.1-8b" in ended.stdout


def test_a_fit_is_written_here_unless_it_is_to_ship(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {"meta": np.array(json.dumps({"rows": 3, "cross_validation": {}}))}
    monkeypatch.setattr("planner.perf.fit_layers.fit", lambda data: made)
    monkeypatch.chdir(tmp_path)
    fit("layers", tmp_path)
    assert (tmp_path / "layers.npz").is_file()
    assert capsys.readouterr().out.startswith("layers.npz: fitted on 3 rows")


def test_every_family_has_a_fit_and_a_shipped_file() -> None:
    folder = Path(cli.__file__).parent
    assert {path.stem for path in (folder / "data").glob("*.npz")} >= set(cli.FAMILIES)
    assert all("\ndef fit(" in (folder / f"fit_{family}.py").read_text() for family in cli.FAMILIES)
