"""`muster predict` and `muster fit` as users run them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from planner.errors import BadInput
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


def test_a_table_without_a_needed_column_is_told_which_there_are(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("model,system,isl\nllama-3.1-8b,h100_sxm,1000\n")
    ended = muster("predict", "serving", str(rows), "-o", str(tmp_path / "out.csv"))
    assert ended.returncode == 0
    assert "refused 1: no model_path given" in ended.stdout
    assert ended.stderr.endswith("rows.csv: no column model_path; there are model, system, isl\n")


def test_a_fit_is_written_here_unless_it_is_to_ship(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {"meta": np.array(json.dumps({"rows": 3, "inputs_sha256": {"a.csv": "0"}, "cross_validation": {}}))}
    monkeypatch.setattr("planner.perf.fit_layers.fit", lambda data: made)
    monkeypatch.chdir(tmp_path)
    fit("layers", tmp_path)
    assert (tmp_path / "layers.npz").is_file()
    assert capsys.readouterr().out.startswith("layers.npz: fitted on 3 rows of a.csv")


def test_figures_of_groups_are_printed_with_the_name_of_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The meta of the shipped model of matrix products nests its half widths and its counts of rows."""
    with np.load(Path(cli.__file__).parent / "data" / "gemm_power.npz", allow_pickle=False) as stored:
        made = {"meta": stored["meta"]}
    monkeypatch.setattr("planner.perf.fit_gemm_power.fit", lambda data: made)
    fit("gemm_power", tmp_path, tmp_path / "made.npz")
    printed = capsys.readouterr().out
    assert "fitted on 345 power, 4500 runtime rows of h200_gemm_sweep.npz" in printed
    assert "half_width at_limit 0.0" in printed


@pytest.mark.parametrize("family", cli.FAMILIES)
def test_a_folder_without_tables_is_refused_in_one_line(family: str, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="fitting needs scikit-learn")
    with pytest.raises(BadInput, match=re.escape(str(tmp_path))):
        fit(family, tmp_path, tmp_path / "made.npz")
    assert not (tmp_path / "made.npz").exists()


def test_a_measured_table_without_a_column_names_it(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="fitting needs scikit-learn")
    (tmp_path / "engine").mkdir()
    table = tmp_path / "engine" / "silicon_sample.csv"
    table.write_text("model_path,system\nllama-3.1-8b,h100_sxm\n")
    with pytest.raises(BadInput, match=r"silicon_sample\.csv: got no column 'silicon_ttft_ms'"):
        fit("serving", tmp_path, tmp_path / "made.npz")
    table.write_text("model_path,system,silicon_ttft_ms,silicon_tpot_ms\nllama-3.1-8b,h100_sxm,30,7\n")
    with pytest.raises(BadInput, match=r"silicon_sample\.csv: got 1 complete rows with both latencies"):
        fit("serving", tmp_path, tmp_path / "made.npz")


def test_every_family_has_a_fit_and_a_shipped_file() -> None:
    folder = Path(cli.__file__).parent
    assert {path.stem for path in (folder / "data").glob("*.npz")} >= set(cli.FAMILIES)
    assert all("\ndef fit(" in (folder / f"fit_{family}.py").read_text() for family in cli.FAMILIES)
