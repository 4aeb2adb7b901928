"""`muster explain`: the lines add up to the step, and say what binds it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from planner.calibration import ENGINES
from planner.catalog import gpu, model
from planner.cost import Case
from planner.perf.explain import Breakdown, explain
from planner.roofline import step_time
from planner.show import lines
from planner.show_tables import breakdown_table
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
    assert ended.stdout.startswith("fits: needs ")
    assert "engine: 1.48 ms a step" in ended.stdout
    assert "times: modelled" in ended.stdout
    assert max(len(line) for line in ended.stdout.splitlines()) <= 100
    answer = json.loads(muster("explain", "llama-3.1-405b", "H100", "--json").stdout)
    assert not answer["fits"]
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
        (("llama-3.1-8b", "H1000"), "did you mean 'H100'?"),
        (("/", "H100"), "allowed: a config.json"),
        (("llama-3.1-8b", "H100", "--input", "200000"), "allowed: at most 131,072"),
        (("llama-3.1-8b", "A100", "--technique", "fp8"), "no fp8 peak"),
        (("llama-3.1-8b", "A100", "--kv", "fp8"), "no fp8 peak"),
        (("llama-3.1-8b", "H100", "--weights", "int4", "--technique", "fp8"), "two formats of the same weights"),
        (("llama-3.1-8b", "H100", "--kv", "bf16", "--technique", "kv-fp8"), "two formats of the same cache"),
        (("llama-3.1-8b", "H100", "--technique", "tensor-parallel"), "a degree of parallelism"),
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


def answer(*words: str) -> dict[str, Any]:
    ended = muster("explain", "llama-3.1-8b", *words, "--json")
    assert ended.returncode == 0, ended.stderr
    made: dict[str, Any] = json.loads(ended.stdout)
    return made


@pytest.mark.parametrize(
    ("option", "technique"),
    [(("--weights", "int4"), "w4a16"), (("--weights", "fp8"), "fp8"), (("--kv", "fp8"), "kv-fp8")],
)
def test_a_format_and_its_technique_are_one_answer(option: tuple[str, str], technique: str) -> None:
    plain, by_option = answer("H100"), answer("H100", *option)
    assert by_option == answer("H100", "--technique", technique)
    assert by_option["memory"]["kv_tokens"] > plain["memory"]["kv_tokens"]
    assert by_option["phases"][1]["total_s"] < plain["phases"][1]["total_s"]


def test_fp8_weights_are_unpacked_and_it_is_said_where_a_gpu_has_no_fp8_units() -> None:
    made = answer("A100", "--weights", "fp8")
    assert made["techniques"] == ["fp8-weight-only"]
    assert "arithmetic in 16 bits" in made["note"]


def test_more_sequences_than_memory_holds_are_said_first_and_the_exit_code_stays_0() -> None:
    ended = muster("explain", "llama-3.1-8b", "H100", "--batch", "500", "--input", "100000")
    assert ended.returncode == 0
    assert ended.stdout.startswith("does not fit: needs ")
    assert ended.stdout.count("needs") == 1


def test_the_step_of_a_chunk_says_that_it_rides_on_decoding_and_shows_no_empty_rows() -> None:
    shown = muster("explain", "llama-3.1-8b", "H100", "--technique", "chunked-prefill").stdout
    assert "a chunk of 2,048 prompt tokens rides on a decode step" in shown
    assert " 0 us" not in shown


@pytest.mark.parametrize("prompt", [1000, 131_000])
def test_tables_stay_within_80_characters_at_any_size(prompt: int) -> None:
    case = Case(model("llama-3.1-405b"), gpu("V100-SXM-16GB"), batch=100_000.0, input_tokens=float(prompt), tp=8)
    for phase in explain(case):
        assert max(len(line) for line, _ in lines([breakdown_table(phase)], 200)) <= 80


def test_times_beyond_ten_seconds_are_in_seconds_minutes_and_hours() -> None:
    def shown(value_s: float) -> str:
        table = breakdown_table(Breakdown("decode", (), value_s, value_s, 1.0))
        return lines([table], 80)[-1][0].split("tokens")[1].split("100%")[0].strip()

    assert [shown(x) for x in (0.0005, 9.0, 60.0, 600.0, 7200.0)] == [
        "500 us", "9,000.00 ms", "60.0 s", "10.0 min", "2.0 h",
    ]  # fmt: skip


def test_techniques_are_costed_by_name_and_refused_in_words() -> None:
    words = ("explain", "llama-3.1-8b", "H100", "--batch", "8", "--json", "--technique")
    plain, narrow = (json.loads(muster(*words[:-1], *more).stdout) for more in ((), ("--technique", "fp8")))
    assert narrow["memory"]["bytes"]["weights"] == pytest.approx(plain["memory"]["bytes"]["weights"] / 2)
    prefill, _ = json.loads(muster(*words, "disaggregation").stdout)["phases"]
    assert prefill["lines"][0]["operation"] == "send"
    assert "unknown technique 'nonsense'" in muster(*words, "nonsense").stderr
    assert "on one GPU there is no all-reduce to hide" in muster(*words, "token-split-overlap").stderr
