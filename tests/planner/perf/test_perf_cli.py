"""`muster predict` and `muster fit` as users run them."""

import json
import subprocess
import sys
from pathlib import Path

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
    assert first.endswith(",measured,")
    assert "unknown GPU 'nothing'" in second


def test_the_summary_names_the_refusals(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text(ROWS)
    ended = muster("predict", "serving", str(rows), "-o", str(tmp_path / "out.csv"))
    assert "1 of 2 rows answered (1 measured)" in ended.stdout
    assert "refused 1: unknown GPU 'nothing'" in ended.stdout


def test_bad_files_end_in_one_line(tmp_path: Path) -> None:
    for words in (
        ("predict", "serving", str(tmp_path / "none.csv"), "-o", str(tmp_path / "o.csv")),
        ("fit", "nothing", "--data", str(tmp_path)),
        ("fit", "serving", "--data", str(tmp_path / "none")),
        ("fit", "serving", "--data", str(tmp_path)),
    ):
        ended = muster(*words)
        assert ended.returncode == 2, ended.stderr
        assert ended.stderr.startswith("error: ")
        assert len(ended.stderr.splitlines()) == 1
