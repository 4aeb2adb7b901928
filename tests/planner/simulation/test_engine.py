"""The jumping engine against the step-exact one, and against what can be worked out by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from planner.simulate import Engine as Limits
from planner.simulate import Request, Served, Step, serve
from planner.simulation.engine import Engine
from planner.simulation.pace import Pace
from planner.simulation.sequence import Sequence

PROMPT_S = 6e-5


def a_pace(
    sequences: int = 64, tokens: int = 2048, kv: int = 200_000, lookahead: bool = True, fixed_s: float = 0.012
) -> Pace:
    """Steps of 12 ms and 80 us a sequence, 25 ns a token of context, 60 us a token of a prompt."""
    flying = range(sequences + 1)
    return Pace(
        sequences, tokens, kv,
        decode_s=tuple(fixed_s + 8e-5 * n if n else 0.0 for n in flying),
        context_s=tuple(2.5e-8 for _ in flying),
        prompt_tokens=(16.0, 8192.0), prompt_s=(PROMPT_S, PROMPT_S), first_s=0.0,
        idle_w=100.0, decode_w=tuple(300.0 for _ in flying), prompt_w=600.0, lookahead=lookahead,
    )  # fmt: skip


def exact(pace: Pace, requests: list[Request]) -> Served:
    """The same requests step by step."""

    def step_s(step: Step) -> float:
        count = len(step.contexts)
        decode_s = pace.decode_s[count] + pace.context_s[count] * sum(step.contexts)
        return decode_s + sum(new for new, _ in step.chunks) * PROMPT_S

    blocks = pace.kv_tokens // 16
    limits = Limits(pace.max_sequences, pace.max_step_tokens, blocks, reuse=pace.reuse, lookahead=pace.lookahead)
    return serve(requests, limits, step_s)


def served(pace: Pace, requests: list[Request]) -> tuple[Engine, list[Sequence]]:
    """By jumps; in order of the requests."""
    engine = Engine(pace, 0.0)
    for index, one in enumerate(requests):
        made = Sequence(index, one.arrival_s, one.input_tokens, one.output_tokens, 0, one.blocks)
        engine.offer(made, one.arrival_s)
    engine.advance(math.inf)
    return engine, sorted(engine.done, key=lambda one: one.index)


def some(count: int, rate_per_s: float, inputs: tuple[int, int], outputs: tuple[int, int], seed: int) -> list[Request]:
    chance = np.random.default_rng(seed)
    arrival_s = np.cumsum(chance.exponential(1 / rate_per_s, count))
    sizes = zip(chance.integers(*inputs, count), chance.integers(*outputs, count), strict=True)
    return [Request(float(at_s), int(new), int(out)) for at_s, (new, out) in zip(arrival_s, sizes, strict=True)]


@pytest.mark.parametrize("lookahead", [True, False])
@pytest.mark.parametrize(("sequences", "rate_per_s"), [(64, 3.0), (8, 3.0), (64, 0.2)])
def test_every_token_comes_when_the_exact_loop_says(lookahead: bool, sequences: int, rate_per_s: float) -> None:
    pace = a_pace(sequences, lookahead=lookahead)
    requests = some(250, rate_per_s, (20, 5000), (1, 400), seed=sequences)
    whole = exact(pace, requests)
    engine, done = served(pace, requests)
    assert engine.steps == whole.steps
    assert [one.first_s for one in done] == pytest.approx(list(whole.first_token_s), rel=1e-9)
    assert [one.last_s for one in done] == pytest.approx(list(whole.last_token_s), rel=1e-9)


@pytest.mark.parametrize(
    ("kv", "inputs", "outputs"),
    [(30_000, (20, 3000), (1, 600)), (8_000, (50, 500), (300, 600)), (16_000, (2500, 3500), (50, 60))],
)
def test_memory_that_runs_out_costs_what_the_exact_loop_says(
    kv: int, inputs: tuple[int, int], outputs: tuple[int, int]
) -> None:
    pace = a_pace(kv=kv)
    requests = some(250, 8.0, inputs, outputs, seed=kv)
    whole = exact(pace, requests)
    engine, done = served(pace, requests)
    assert engine.preemptions == whole.preemptions > 20
    assert engine.steps == whole.steps
    assert [one.first_s for one in done] == pytest.approx(list(whole.first_token_s), rel=1e-9)
    assert [one.last_s for one in done] == pytest.approx(list(whole.last_token_s), rel=1e-9)


@pytest.mark.parametrize("kv", [200_000, 12_000])
def test_prompts_that_begin_alike_share_blocks_as_in_the_exact_loop(kv: int) -> None:
    """Eight beginnings of 1,024 tokens; with little memory they are pushed out and computed again.

    Two who compute the same block at once keep a copy each, which the exact loop tries to name again at every step, and
    the engine at the end: it shows in one place of thousands, where memory is short.
    """
    pace = replace(a_pace(kv=kv), reuse=True)
    chance = np.random.default_rng(4)
    requests = []
    for index, one in enumerate(some(300, 4.0, (1030, 2500), (2, 200), seed=9)):
        beginning = 1000 * (1 + int(chance.integers(8)))
        full = one.input_tokens // 16
        names = tuple(beginning + i if i < 64 else 10**6 * (index + 1) + i for i in range(full))
        requests.append(replace(one, blocks=names))
    whole = exact(pace, requests)
    engine, done = served(pace, requests)
    alone, _ = served(replace(pace, reuse=False), requests)
    assert engine.preemptions == pytest.approx(whole.preemptions, rel=0.03)
    assert engine.steps == pytest.approx(whole.steps, rel=1e-3)
    assert abs(engine.steps - alone.steps) > 0.005 * whole.steps
    ends = np.array([one.last_s for one in done])
    assert np.abs(ends - whole.last_token_s).max() <= (1e-6 if kv > 100_000 else 0.1)
    for at in (0.5, 0.95, 0.99):
        waited = np.quantile([one.last_s - one.arrival_s for one in done], at)
        assert waited == pytest.approx(np.quantile(whole.e2e_s, at), rel=0.01)


def test_steps_that_give_several_tokens_end_sooner_and_leave_nothing_held() -> None:
    """A prompt's step gives a token, then 100 more come 2.5 a step."""
    engine, done = served(replace(a_pace(), tokens_per_step=2.5), [Request(0.0, 1000, 101)])
    context_s = sum(2.5e-8 * (1001 + 2.5 * step) for step in range(40))
    assert done[0].last_s == pytest.approx(1000 * PROMPT_S + 40 * (0.012 + 8e-5) + context_s)
    assert engine.kv_ratio == pytest.approx(0.0, abs=1e-9)


def test_a_queue_before_one_server_waits_as_the_formula_says() -> None:
    """M/D/1: one sequence at a time, each of the same length; mean wait = rho s / (2 (1 - rho))."""
    pace = a_pace(sequences=1, lookahead=False)
    requests = some(60_000, 1.0, (200, 201), (20, 21), seed=5)
    alone = exact(pace, [requests[0]])
    service_s = float(alone.e2e_s[0])
    rho = 0.7
    scale = service_s / rho / (requests[-1].arrival_s / len(requests))  # the sample's own rate is made exact
    requests = [Request(one.arrival_s * scale, one.input_tokens, one.output_tokens) for one in requests]
    _, done = served(pace, requests)
    waited_s = np.mean([one.last_s - one.arrival_s for one in done]) - service_s
    assert waited_s == pytest.approx(rho * service_s / (2 * (1 - rho)), rel=0.02)


def test_a_saturated_engine_gives_as_many_tokens_as_its_step_allows() -> None:
    """32 places always taken, prompts of one token: a step of 32 sequences each 12 ms + 32 x 80 us + context."""
    pace = a_pace(sequences=32, fixed_s=0.012)
    requests = [Request(0.0, 1, 100) for _ in range(3200)]
    engine, done = served(pace, requests)
    step_s = 0.012 + 32 * 8e-5 + 2.5e-8 * 32 * 51
    expected_s = 3200 / 32 * 100 * step_s
    assert max(one.last_s for one in done) == pytest.approx(expected_s, rel=0.02)
    assert engine.empty


def test_nothing_is_held_once_all_is_done() -> None:
    engine, done = served(a_pace(kv=20_000), some(500, 10.0, (20, 3000), (1, 600), seed=3))
    assert len(done) == 500
    assert engine.kv_ratio == pytest.approx(0.0, abs=1e-9)
    assert engine.running == engine.waiting == 0


def test_watts_are_those_of_rest_of_tokens_and_of_prompts() -> None:
    """A prompt of 1,000 tokens takes 60 ms at 600 W, 9 more steps of 12.08 ms and the context 300 W, the rest 100 W."""
    engine, done = served(a_pace(), [Request(0.0, 1000, 10)])
    busy_s = done[0].last_s
    ratio, watts = engine.used(10.0)
    assert ratio == pytest.approx(busy_s / 10)
    joules = 0.06 * 600 + (busy_s - 0.06) * 300 + (10 - busy_s) * 100
    assert watts == pytest.approx(joules / 10)


def test_no_request_ends_before_it_is_said_to_at_the_soonest_when_the_engine_grows_faster() -> None:
    engine = Engine(a_pace(fixed_s=0.05), 0.0)
    engine.offer(Sequence(0, 0.0, 512, 300, 0), 0.0)
    engine.runs(a_pace(fixed_s=0.005), 1.0)
    said_s = engine.next_s()
    engine.advance(math.inf)
    assert said_s <= engine.done[0].last_s < 2.5
