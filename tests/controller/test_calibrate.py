"""`muster calibrate` as people run it, and `muster predict serving --calibration` after it."""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.controller.engine_text import run_of, sglang, steady, vllm
from tests.controller.loopback import sends, serving

MUSTER = Path(sys.executable).with_name("muster")


def muster(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([MUSTER, *words], capture_output=True, text=True, env={**os.environ, **environment})


def recorded(folder: Path, text: str = "") -> str:
    path = folder / "day.prom"
    path.write_text(text or vllm(steady(200, 0.5, 0.05), running=16.0))
    return str(path)


def test_the_real_run_is_recovered_and_its_kv_cache_compared(tmp_path: Path, shared: Path) -> None:
    done = run_of(shared / "data/perf/requests/rtx4090_llama-3.1-8b_tp1")
    metrics = recorded(tmp_path, vllm([], at_s=0.0) + vllm(done, at_s=max(one.last_s for one in done)))
    ended = muster("calibrate", "--metrics", metrics, "--gpu", "RTX-4090", "--engine-version", "0.19.0", "--json")
    assert ended.returncode == 0, ended.stderr
    answer = json.loads(ended.stdout)
    rows = {row["name"]: row for row in answer["compared"]}
    assert rows["TPOT"]["measured_s"] == pytest.approx(0.03245, rel=1e-3)
    assert rows["TTFT"]["measured_s"] == pytest.approx(65.49, rel=1e-3)
    for row in rows.values():
        assert row["corrected_s"] == pytest.approx(row["measured_s"], rel=0.03)
    assert answer["kv_tokens"]["measured"] == 41_408
    assert answer["kv_tokens"]["predicted"] == pytest.approx(41_408, rel=0.03)


def test_a_correction_is_written_used_by_predictions_and_by_the_next_calibration(tmp_path: Path) -> None:
    metrics, file = recorded(tmp_path), str(tmp_path / "calibration.json")
    first = muster("calibrate", "--metrics", metrics, "--gpu", "H100", "-o", file, "--tolerance", "0.2")
    assert first.returncode == 5
    assert "drift: predicted TTFT" in first.stderr
    assert "correction written" in first.stdout
    again = muster("calibrate", "--metrics", metrics, "--gpu", "H100", "--calibration", file, "--tolerance", "0.2")
    assert again.returncode == 0, again.stderr
    rows, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    rows.write_text(
        "model_path,system,isl,osl,concurrency\nllama-3.1-8b,H100,1000,200,16\nllama-3.1-8b,A100,1000,200,16\n"
    )
    ended = muster("predict", "serving", str(rows), "-o", str(out), "--calibration", file)
    assert ended.returncode == 0, ended.stderr
    assert "1 rows are of its deployments" in ended.stderr
    header, here, _ = (line.split(",") for line in out.read_text().splitlines())
    # Five times the prediction: after 200 requests the factor is still drawn towards 1 by some 2 %.
    assert float(here[header.index("tpot_s")]) == pytest.approx(0.05, rel=0.03)
    assert here[header.index("source")] == "measured"


def test_the_report_says_how_far_off_and_what_the_factors_are(tmp_path: Path) -> None:
    ended = muster("calibrate", "--metrics", recorded(tmp_path), "--gpu", "H100", "--concurrency", "16")
    assert ended.returncode == 0, ended.stderr
    assert "llama-3.1-8b on H100-SXM, vllm, tp=1, pp=1 (bf16): 200 requests" in " ".join(ended.stdout.split())
    assert "factors: TTFT" in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= 100


def test_sglang_is_calibrated_too(tmp_path: Path) -> None:
    text = sglang(steady(100), running=8.0, waiting=1.0)
    ended = muster("calibrate", "--metrics", recorded(tmp_path, text), "--gpu", "H100", "--json")
    assert ended.returncode == 0, ended.stderr
    answer = json.loads(ended.stdout)
    assert (answer["correction"]["engine"], answer["kv_tokens"]) == ("sglang", None)


def test_a_running_engine_is_scraped_at_both_ends_of_a_window() -> None:
    done, asked = steady(200, 0.5, 0.05), []

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.headers["Authorization"])
        sends(vllm(done[: 100 * len(asked)], running=16.0).encode())(request)

    with serving(answer) as url:
        words = ("calibrate", "--metrics", url, "--window", "0.1", "--gpu", "H100", "--concurrency", "16", "--json")
        ended = muster(*words, "--token-env", "TOKEN", TOKEN="hidden", no_proxy="127.0.0.1")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["observed"]["requests"] == 100
    assert asked == ["Bearer hidden", "Bearer hidden"]
    assert "hidden" not in ended.stdout + ended.stderr


def test_silence_ends_with_3_and_words(tmp_path: Path) -> None:
    text = vllm(steady(5), at_s=0.0) + vllm(steady(5), at_s=60.0)
    ended = muster("calibrate", "--metrics", recorded(tmp_path, text), "--gpu", "H100")
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.startswith("refused: no request got its first token within 60 s")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--gpu", "nothing"), 3, "unknown GPU 'nothing'"),
        (("--gpu", "H100", "--model", "nothing"), 3, "unknown model 'nothing'"),
        (("--gpu", "H100", "--served-name", "else"), 3, "no metrics of a model called 'else'"),
        (("--gpu", "H100", "--calibration", "none.json"), 2, "none.json: cannot be read"),
        (("--gpu", "H100", "--token-env", "MUSTER_NO_SUCH"), 2, "--token-env: MUSTER_NO_SUCH is not set to a token"),
        (("--gpu", "H100", "-o", "/nowhere/else.json"), 2, "cannot be written"),
        (("--gpu", "H100", "--spec", "none.yaml"), 2, "none.yaml: cannot be read"),
    ],
)
def test_bad_words_end_in_one_line(tmp_path: Path, words: tuple[str, ...], code: int, said: str) -> None:
    ended = muster("calibrate", "--metrics", recorded(tmp_path), *words)
    assert ended.returncode == code, ended.stderr
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_spec_names_the_model_where_the_metrics_do_not(tmp_path: Path) -> None:
    spec = Path(__file__).parents[2] / "deploy/examples/chat.yaml"
    text = vllm(steady(200), running=4.0, model="my-alias")
    ended = muster("calibrate", "--metrics", recorded(tmp_path, text), "--gpu", "H100", "--spec", str(spec), "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["correction"]["model"].startswith("llama-3.1")
