"""Engines under load in closed form: small cases by hand, what always holds, and the step-exact loop."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from planner.perf.closed_loop import closed
from planner.perf.open_loop import open_loop
from planner.perf.under_load import Answer, Load, Server, capacity_per_s
from planner.simulate import Engine, Request, Served, Step, serve

STEP_S, SEQUENCE_S, TOKEN_S, BUDGET = 0.01, 1e-4, 4e-5, 2048


def number(x: float) -> NDArray[np.float64]:
    return np.array(float(x))


def load(prompt: float = 1000, tokens: float = 100, spread_ratio: float = 0.0) -> Load:
    return Load(number(prompt), number(tokens), spread_ratio)


def server(sequences: float = 1e6, lookahead: bool = False, **changed: float) -> Server:
    """10 ms a step, 0.1 ms a sequence, 40 ms a thousand prompt tokens."""
    given_ = {"step_s": STEP_S, "sequence_s": SEQUENCE_S, "token_s": TOKEN_S, "step_tokens": BUDGET, **changed}
    arrays = {key: number(value) for key, value in given_.items()}
    return Server(sequences=number(sequences), lookahead=lookahead, **arrays)  # type: ignore[arg-type]


def simulated(
    users: int, prompt: int, tokens: int, waves: int, uneven: bool, lookahead: bool, sequences: int = 10**6
) -> Served:
    """The same engine, step by step; uneven lengths lie between 80 and 100 %."""
    random = np.random.default_rng(0)
    share = random.uniform(0.8 if uneven else 1.0, 1.0, size=(users * waves, 2))
    requests = [Request(0.0, round(prompt * a), round(tokens * b)) for a, b in share]
    return serve(requests, Engine(sequences, BUDGET, 10**7, reuse=False, lookahead=lookahead), step_time, users=users)


def step_time(step: Step) -> float:
    return STEP_S + SEQUENCE_S * len(step.contexts) + TOKEN_S * sum(new for new, _ in step.chunks)


def test_a_user_alone_waits_for_one_step_with_his_prompt() -> None:
    # 10 ms and 1,000 tokens of 40 us: 50 ms; then a step of one sequence each: 10.1 ms.
    answer = closed(number(1), load(), server(sequence_s=0.0))
    assert float(answer.ttft.mean_s) == pytest.approx(0.050)
    assert float(answer.tpot.mean_s) == pytest.approx(0.010)
    assert float(answer.e2e.mean_s) == pytest.approx(0.050 + 99 * 0.010)
    assert answer.ttft.percentiles_s == pytest.approx(0.050, rel=0.01)


def test_a_prompt_longer_than_a_step_takes_as_many_steps_as_its_chunks() -> None:
    # 4,000 tokens in steps of 2,048: two steps of 10 ms, and 160 ms of prefill.
    answer = closed(number(1), load(prompt=4000), server(sequence_s=0.0))
    assert float(answer.ttft.mean_s) == pytest.approx(0.180, rel=0.01)


def test_those_who_start_together_stand_in_line_once() -> None:
    # One wave: sixteen prompts of 1,024 tokens, two a step of 10 + 82 ms; on average (1 + ... + 8) / 8 = 4.5 steps.
    answer = closed(number(16), load(prompt=1024), server(sequence_s=0.0, step_tokens=2056), waves=1)
    assert float(answer.ttft.mean_s) == pytest.approx(4.5 * (0.010 + 2048 * TOKEN_S), rel=0.02)


def test_users_beyond_the_batch_wait_as_little_says() -> None:
    # 64 users, 16 places: a request holds its place for about 100 steps of 10 ms and 16/100 of 40 us x 100 each, and
    # three others of the four that share a place come before: waits of about three lives.
    answer = closed(number(64), load(prompt=100), server(sequences=16, sequence_s=0.0), waves=1000)
    life_s = 100 * (0.010 + 0.16 * 100 * TOKEN_S)
    assert float(answer.ttft.mean_s) == pytest.approx(3 * life_s, rel=0.03)
    assert float(answer.in_flight) == pytest.approx(16)


def test_a_full_engine_carries_its_budget_of_tokens() -> None:
    # Prompt of 2,000 and one token: each step holds at most 2,048 / 2,000 prompts of 80 ms, and lasts 10 + 81.92 ms.
    carried = capacity_per_s(load(prompt=2000, tokens=1), server())
    assert float(carried) == pytest.approx(2048 / 2000 / (0.010 + 2048 * TOKEN_S))


def test_an_idle_open_engine_answers_as_to_one_user() -> None:
    quiet = open_loop(number(1e-6), load(), server())
    assert float(quiet.ttft.mean_s) == pytest.approx(0.050, rel=1e-3)
    assert float(quiet.tpot.mean_s) == pytest.approx(0.010, rel=1e-3)


@pytest.mark.parametrize("busy", [0.2, 0.5, 0.8])
def test_a_prefill_server_queues_as_m_d_1(busy: float) -> None:
    # A prompt fills a step and nothing decodes: service 10 + 81.92 ms, and M/D/1 waits busy / (2 (1 - busy)) services.
    service_s = 0.010 + 2048 * TOKEN_S
    answer = open_loop(number(busy / service_s), load(prompt=2048, tokens=1), server())
    assert float(answer.ttft.mean_s) == pytest.approx(service_s * (1 + busy / (2 * (1 - busy))), rel=0.1)


def test_overload_is_said_and_not_counted() -> None:
    most = float(capacity_per_s(load(), server(sequences=8)))
    answer = open_loop(np.array([0.5 * most, 2 * most]), load(), server(sequences=8))
    assert answer.overload[0] == ""
    assert answer.overload[1] == f"overload: {2 * most:.3g} requests/s come, at most {most:.3g} are carried"
    assert np.isfinite(answer.ttft.mean_s[0])
    assert np.isnan(answer.ttft.mean_s[1])
    assert np.isnan(answer.e2e.percentiles_s[1]).all()


@given(
    users=st.integers(1, 500),
    prompt=st.integers(1, 20_000),
    tokens=st.integers(1, 2_000),
    sequences=st.integers(1, 600),
    spread=st.sampled_from([0.0, 0.06, 0.5]),
    lookahead=st.booleans(),
)
def test_figures_are_ordered_and_little_holds(
    users: int, prompt: int, tokens: int, sequences: int, spread: float, lookahead: bool
) -> None:
    answer = closed(number(users), load(prompt, tokens, spread), server(sequences, lookahead))
    for figures in (answer.ttft, answer.tpot, answer.e2e):
        assert np.isfinite(figures.mean_s)
        assert (np.diff(figures.percentiles_s) >= 0).all()
    assert float(answer.ttft.mean_s) >= STEP_S
    assert float(answer.requests_per_s * answer.e2e.mean_s) == pytest.approx(users)


@given(prompt=st.integers(16, 8_000), tokens=st.integers(2, 1_000), shares=st.tuples(*2 * [st.floats(0.01, 0.98)]))
def test_a_higher_rate_never_answers_sooner(prompt: int, tokens: int, shares: tuple[float, float]) -> None:
    most = float(capacity_per_s(load(prompt, tokens), server(64)))
    answer = open_loop(np.sort(shares) * most, load(prompt, tokens), server(64))
    assert (answer.overload == "").all()
    assert np.diff(answer.ttft.mean_s)[0] >= -1e-9
    assert np.diff(answer.tpot.mean_s)[0] >= -1e-9


@given(users=st.integers(1, 200), more=st.integers(1, 200), prompt=st.integers(16, 4_000))
def test_more_users_never_wait_less(users: int, more: int, prompt: int) -> None:
    answer = closed(np.array([users, users + more], dtype=float), load(prompt), server(32))
    assert np.diff(answer.ttft.mean_s)[0] >= -0.05 * answer.ttft.mean_s[0]  # a step filled up may save a little


def error(answer: Answer, served: Served) -> list[float]:
    """Of mean TTFT, mean TPOT, mean E2E, and the 95th percentiles of TTFT and E2E."""
    pairs = (
        (answer.ttft.mean_s, served.ttft_s.mean()),
        (answer.tpot.mean_s, np.nanmean(served.tpot_s)),
        (answer.e2e.mean_s, served.e2e_s.mean()),
        (answer.ttft.percentiles_s[2], np.percentile(served.ttft_s, 95)),
        (answer.e2e.percentiles_s[2], np.percentile(served.e2e_s, 95)),
    )
    return [abs(float(ours) / float(true) - 1) for ours, true in pairs]


def test_closed_runs_agree_with_the_step_exact_loop() -> None:
    errors = []
    grid = product((1, 8, 32), (200, 1000, 4000), (64,), (False, True), (False, True))
    for users, prompt, tokens, uneven, lookahead in grid:
        share = 0.9 if uneven else 1.0
        spread = 0.0577 / 0.9 if uneven else 0.0  # uniform over 80 to 100 %: 0.2 / sqrt(12) of the longest
        ours = closed(number(users), load(share * prompt, share * tokens, spread), server(1e6, lookahead), waves=5)
        errors.append(error(ours, simulated(users, prompt, tokens, 5, uneven, lookahead)))
    median, worst = np.median(errors, axis=0), np.max(errors, axis=0)
    assert (median < [0.03, 0.02, 0.02, 0.03, 0.03]).all(), median
    assert (worst < [0.16, 0.08, 0.08, 0.15, 0.15]).all(), worst


def test_closed_runs_with_too_few_places_agree_with_the_step_exact_loop() -> None:
    errors = []
    for users, places, tokens, uneven in product((16, 64), (4, 8), (32, 128), (False, True)):
        share, spread = (0.9, 0.0577 / 0.9) if uneven else (1.0, 0.0)
        ours = closed(number(users), load(share * 200, share * tokens, spread), server(places, True), waves=5)
        errors.append(error(ours, simulated(users, 200, tokens, 5, uneven, True, places)))
    assert (np.median(errors, axis=0) < [0.04, 0.02, 0.03, 0.05, 0.05]).all(), np.median(errors, axis=0)
    assert (np.max(errors, axis=0)[:3] < 0.12).all(), np.max(errors, axis=0)


def test_an_open_engine_agrees_with_the_step_exact_loop() -> None:
    errors = []
    for prompt, tokens, share in product((200, 1000), (32, 128), (0.3, 0.6)):
        rate = share * float(capacity_per_s(load(prompt, tokens), server(256)))
        at_s = np.cumsum(np.random.default_rng(1).exponential(1 / rate, 1000))
        engine = Engine(256, BUDGET, 10**7, reuse=False, lookahead=False)
        served = serve([Request(float(t), prompt, tokens) for t in at_s], engine, step_time)
        errors.append(error(open_loop(number(rate), load(prompt, tokens), server(256)), served))
    assert (np.median(errors, axis=0) < [0.1, 0.08, 0.08, 0.35, 0.15]).all(), np.median(errors, axis=0)
