"""`muster explain`: the lines add up to the step, and say what binds it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from planner.calibration import ENGINES
from planner.catalog import gpu, model
from planner.cost import Case
from planner.perf.explain import explain
from planner.roofline import step_time
from planner.technique import sharded

MUSTER = Path(sys.executable).with_name("muster")


def muster(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([MUSTER, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "mixtral-8x7b", "deepseek-v2-lite"])
def test_lines_and_host_add_up_to_the_step(name: str) -> None:
    case = Case(model(name), gpu("H100"), batch=32.0, input_tokens=1000.0, output_tokens=200.0, tp=2)
    for phase in explain(case):
        whole = float(step_time(sharded(case).phases[phase.phase], case.gpu, ENGINES["vllm"]).total_s)
        assert phase.total_s == pytest.approx(whole)
        assert sum(line.time_s for line in phase.lines) + phase.host_s == pytest.approx(whole)
        assert sum(line.share_ratio for line in phase.lines) < 1


def test_prompts_are_bound_by_arithmetic_and_decoding_by_memory() -> None:
    prefill, decode = explain(Case(model("llama-3.1-8b"), gpu("H100"), batch=8.0, input_tokens=4000.0))
    bound = {(phase.phase, line.operation): line.bound for phase in (prefill, decode) for line in phase.lines}
    assert bound["prefill", "up"] == "compute"
    assert bound["decode", "up"] == "hbm"


def test_the_command_prints_both_phases_and_the_memory() -> None:
    ended = muster("explain", "llama-3.1-8b", "H100", "--batch", "8")
    assert ended.returncode == 0, ended.stderr
    assert "PREFILL STEP" in ended.stdout
    assert "DECODE STEP" in ended.stdout
    assert "85.0 GB: fits" in ended.stdout
    answer = json.loads(muster("explain", "llama-3.1-405b", "H100", "--json").stdout)
    assert answer["hbm_bytes"] > 8e11
    assert "leaves no room for KV" in answer["memory"]["refusal"]


def test_the_command_shows_where_the_bytes_go_and_how_many_kv_tokens_fit() -> None:
    shown = muster("explain", "llama-3.1-8b", "RTX-4090", "--batch", "8").stdout
    assert "MEMORY OF ONE GPU" in shown
    assert "KV cache" in shown
    wide, narrow = (
        json.loads(muster("explain", "llama-3.1-8b", "RTX-4090", "--kv", kv, "--json").stdout)["memory"]
        for kv in ("bf16", "fp8")
    )
    assert narrow["kv_tokens"] == pytest.approx(2 * wide["kv_tokens"], abs=32)
    assert sum(wide["bytes"].values()) == pytest.approx(wide["usable_bytes"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nope", "H100"), "unknown model 'nope'"),
        (("llama-3.1-8b", "nope"), "unknown GPU 'nope'"),
        (("llama-3.1-8b", "H100", "--tp", "3"), "does not divide 32 heads"),
        (("llama-3.1-8b", "H100", "--engine", "none"), "--engine: got 'none'"),
        (("llama-3.1-8b", "H100", "--kv", "none"), "--kv: got 'none'"),
        (("llama-3.1-8b", "H100", "--weights", "none"), "--weights: got 'none'"),
    ],
)
def test_bad_words_are_refused_in_one_line(words: tuple[str, ...], said: str) -> None:
    ended = muster("explain", *words)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_techniques_are_costed_by_name_and_refused_in_words() -> None:
    words = ("explain", "llama-3.1-8b", "H100", "--batch", "8", "--json", "--technique")
    plain, narrow = (json.loads(muster(*words[:-1], *more).stdout) for more in ((), ("--technique", "fp8")))
    assert narrow["hbm_bytes"] < plain["hbm_bytes"]
    prefill, _ = json.loads(muster(*words, "disaggregation").stdout)["phases"]
    assert prefill["lines"][0]["operation"] == "send"
    assert "unknown technique 'nonsense'" in muster(*words, "nonsense").stderr
    assert "on one GPU there is no all-reduce to hide" in muster(*words, "token-split-overlap").stderr
