"""`muster explain` under load: the closed forms on the planner's own step times, held to the step-exact loop."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner.calibration import ENGINES
from planner.catalog import gpu, model
from planner.cost import Case
from planner.perf.explain import memory
from planner.perf.explain_load import GRID, Loaded, under_load
from planner.perf.format_choice import Choice
from planner.roofline import step_time
from planner.simulate import Engine, Request, Served, Step, serve
from planner.techniques import techniques

MUSTER = Path(sys.executable).with_name("muster")
PROMPT, TOKENS = 1000, 100
CHUNKED = Choice(("chunked-prefill",), "", "bf16")
# Not in the tables of measured engines: the roofline's own times, so that they can be written out here.
HERE = Case(model("llama-3.1-8b"), gpu("L4"), 32.0, float(PROMPT), float(TOKENS))


def loaded(users: int | None = None, rate_per_s: float | None = None, case: Case = HERE) -> Loaded:
    made = memory(case, "vllm-2023")
    found = under_load(case, "vllm-2023", CHUNKED, made, users, rate_per_s)
    assert isinstance(found, Loaded), found
    return found


def served(requests: list[Request], places: int, users: int | None = None) -> Served:
    """The same steps one by one: a decode step's seconds by its sequences, and a share of a chunk's by its tokens."""
    wide = replace(HERE, batch=GRID)
    cost = CHUNKED.cost(wide)
    chunk_tokens = techniques()["chunked-prefill"]().chunk_tokens  # type: ignore[attr-defined]
    decode_s, chunk_s = (
        np.broadcast_to(step_time(cost.phases[name], HERE.gpu, ENGINES["vllm-2023"]).total_s, GRID.shape)
        for name in ("decode", "prefill")
    )

    def time_of(step: Step) -> float:
        running = max(len(step.contexts), 1)
        new = sum(tokens for tokens, _ in step.chunks)
        return float(np.interp(running, GRID, decode_s) + new / chunk_tokens * np.interp(running, GRID, chunk_s))

    return serve(requests, Engine(places, chunk_tokens + 32, 10**7, reuse=False), time_of, users=users)


@pytest.mark.parametrize("users", [1, 8, 24])
def test_users_wait_as_long_as_in_the_step_exact_loop(users: int) -> None:
    found = loaded(users)
    run = served([Request(0.0, PROMPT, TOKENS)] * (users * 10), found.places, users)
    for figures, times_s in ((found.answer.ttft, run.ttft_s), (found.answer.e2e, run.e2e_s)):
        assert float(figures.mean_s) == pytest.approx(times_s.mean(), rel=0.1)
    for at, percentile in ((0, 50), (3, 99)):  # the 90th and the 95th lie on the edge of the first of ten waves
        assert found.answer.e2e.percentiles_s[at] == pytest.approx(np.percentile(run.e2e_s, percentile), rel=0.1)


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_arrivals_wait_as_long_as_in_the_step_exact_loop(share: float) -> None:
    most = loaded(users=1).most_per_s
    found = loaded(rate_per_s=share * most)
    at_s = np.cumsum(np.random.default_rng(0).exponential(1 / (share * most), 1500))
    run = served([Request(float(t), PROMPT, TOKENS) for t in at_s], found.places)
    assert float(found.answer.e2e.mean_s) == pytest.approx(run.e2e_s.mean(), rel=0.1)
    assert found.answer.e2e.percentiles_s[2] == pytest.approx(np.percentile(run.e2e_s, 95), rel=0.15)


def test_a_rate_beyond_what_is_carried_is_overload_and_no_number() -> None:
    most = loaded(users=1).most_per_s
    found = loaded(rate_per_s=1.5 * most)
    assert found.overload == f"overload: {1.5 * most:.3g} requests/s come, at most {most:.3g} are carried"
    assert np.isnan(found.answer.e2e.mean_s)
    assert not loaded(rate_per_s=0.5 * most).overload


def test_users_beyond_memory_are_said_to_wait() -> None:
    found = loaded(users=1000)
    assert found.places < 1000
    assert found.overload.startswith(f"overload: 1,000 users, {found.places:,} sequences fit")
    assert float(found.answer.ttft.mean_s) > float(loaded(users=found.places).answer.ttft.mean_s)


@pytest.mark.parametrize("users", [8, 200, 1000])
def test_no_more_is_carried_than_can_be(users: int) -> None:
    found = loaded(users)
    assert 0 < float(found.answer.requests_per_s) <= found.most_per_s


def test_an_answer_of_one_token_has_no_time_per_token_after_the_first() -> None:
    load = answer("llama-3.1-8b", "H100", "--output", "1", "--concurrency", "4")["load"]
    assert "tpot" not in load
    assert load["ttft"]["mean_s"] == pytest.approx(load["e2e"]["mean_s"])


def test_phases_in_pools_of_their_own_are_refused() -> None:
    chosen = Choice(("disaggregation",), "", "bf16")
    case = replace(HERE, gpu=gpu("H100"))
    words = under_load(case, "vllm", chosen, memory(case), users=8)
    assert isinstance(words, str)
    assert "muster plan" in words


def muster(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([MUSTER, "explain", *words], capture_output=True, text=True, check=False)


def answer(*words: str) -> dict[str, Any]:
    ended = muster(*words, "--json")
    assert ended.returncode == 0, ended.stderr
    made: dict[str, Any] = json.loads(ended.stdout)
    return made


def test_the_command_says_percentiles_and_overload() -> None:
    load = answer("llama-3.1-8b", "H100", "--rate", "4")["load"]
    assert load["overload"] == load["refusal"] == ""
    assert load["ttft"]["p50_s"] < load["ttft"]["p95_s"] < load["ttft"]["p99_s"]
    assert load["e2e"]["mean_s"] == pytest.approx(load["ttft"]["mean_s"] + 255 * load["tpot"]["mean_s"])
    assert load["tpot_interval_ratio"] > 1
    over = answer("llama-3.1-8b", "H100", "--rate", "4000")["load"]
    assert over["overload"].startswith("overload: 4,000 requests/s come")
    assert "e2e" not in over
    assert answer("llama-3.1-8b", "H100")["load"] is None
    shown = muster("llama-3.1-8b", "H100", "--concurrency", "64")
    assert "64 USERS" in shown.stdout
    assert "P95" in shown.stdout
    assert max(len(line) for line in shown.stdout.splitlines()) <= 100


@pytest.mark.parametrize(
    ("words", "said"),
    [(("--rate", "1", "--concurrency", "1"), "--concurrency: got it with --rate"), (("--rate", "0"), "--rate: got 0")],
)
def test_two_loads_or_none_at_all_are_refused(words: tuple[str, ...], said: str) -> None:
    ended = muster("llama-3.1-8b", "H100", *words)
    assert ended.returncode == 2
    assert said in ended.stderr
