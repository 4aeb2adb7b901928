"""Continuous batching: the closed form by hand, and the chosen point against an exhaustive search."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.batching import (
    LOADS,
    Mask,
    Objective,
    Replica,
    Sizes,
    Steady,
    objective,
    operate,
    steady,
    unloaded,
    wait_s,
)
from planner.calibration import ENGINES
from planner.queueing import deviates
from planner.roofline import step_time
from planner.service import SLO
from planner.simulate import Engine, Request, Step, serve
from planner.technique import Technique, cost_of
from planner.techniques.chunked_prefill import ChunkedPrefill
from tests.planner.perf_factories import H100, LLAMA_8B, case

VLLM = ENGINES["vllm"]
BATCHES = np.array([[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]])


def sizes(*rows: tuple[float, float]) -> Sizes:
    table = np.array(rows)
    return Sizes(table[:, :1], table[:, 1:], table[:, :1])


def run(of: Sizes, *chosen: Technique, lanes: int = 1) -> Steady:
    here = case(LLAMA_8B, H100, BATCHES, of.input_tokens, of.output_tokens)
    return steady(cost_of(here, chosen), Replica(H100, VLLM, of, BATCHES, lanes))


def fixed(rows: int, decode_s: float = 0.01, prefill_s: float = 0.1, rate: float = 1.0) -> Steady:
    """A replica whose figures do not depend on size or batch."""
    shape = (rows, BATCHES.size)
    return Steady(
        *(np.full(shape, figure) for figure in (decode_s, prefill_s, prefill_s, prefill_s, 1.0, rate, 0.1, 0.1))
    )


def test_a_replica_carries_one_over_prefill_and_decode_time_of_a_request() -> None:
    of = sizes((1024.0, 100.0))
    here = cost_of(case(LLAMA_8B, H100, BATCHES, of.input_tokens, of.output_tokens), [])
    prefill_s, decode_s = (
        np.asarray(step_time(here.phases[name], H100, VLLM).total_s) for name in ("prefill", "decode")
    )
    expected = 1 / (prefill_s + 100 * decode_s / BATCHES)
    assert run(of).requests_per_s == pytest.approx(np.broadcast_to(expected, (1, 8)))


def test_tpot_is_the_step_and_the_prefills_that_fall_into_it() -> None:
    of, limits = sizes((1024.0, 100.0)), objective([SLO("s", percentile=0.5)])
    known = run(of)
    # On average one prefill falls into a step for every n / B steps.
    expected = known.decode_s + BATCHES / 100 * known.prefill_s
    _, tpot_s = unloaded(known, of, BATCHES, limits)
    assert tpot_s == pytest.approx(expected)
    # Little's law: B requests in flight, each n x TPOT long.
    assert known.requests_per_s == pytest.approx(BATCHES / (100 * expected))


def test_tpot_at_a_percentile_meets_more_prefills_than_the_mean() -> None:
    of, known = sizes((1024.0, 100.0)), fixed(1)
    _, tpot_s = unloaded(known, of, BATCHES, objective([SLO("s", percentile=0.95)]))
    met = 16 + deviates(0.95) * 4  # of a Poisson count with mean 16, the batch in column 4
    assert tpot_s[0, 4] == pytest.approx(0.01 + met / 100 * 0.1)


def test_tpot_and_rate_grow_with_the_batch() -> None:
    of = sizes((128.0, 64.0), (1024.0, 256.0), (8192.0, 512.0))
    for chosen in ([], [ChunkedPrefill()]):
        known = run(of, *chosen)
        _, tpot_s = unloaded(known, of, BATCHES, objective([SLO("s")] * 3))
        assert (np.diff(tpot_s) > 0).all()
        assert (np.diff(known.requests_per_s) >= -1e-12).all()


def test_ttft_grows_with_load() -> None:
    of, limits = sizes((1024.0, 100.0)), objective([SLO("s")])
    waits = np.array([np.broadcast_to(wait_s(run(of), BATCHES, 1, limits, load), (1, 8)) for load in sorted(LOADS)])
    assert (np.diff(waits, axis=0) >= 0).all()
    assert (waits[-1] > waits[0]).all()


def test_a_batch_job_waits_for_nothing() -> None:
    assert wait_s(fixed(1), BATCHES, 1, objective([SLO("s")]), 1.0) == 0.0


def test_a_longer_prompt_takes_longer_to_its_first_token() -> None:
    of = sizes((128.0, 100.0), (1024.0, 100.0), (8192.0, 100.0))
    for chosen in ([], [ChunkedPrefill()]):
        ttft_s, _ = unloaded(run(of, *chosen), of, BATCHES, objective([SLO("s")] * 3))
        assert (np.diff(ttft_s, axis=0) > 0).all()


def test_chunks_keep_decoding_steps_shorter_than_whole_prompts() -> None:
    of, limits = sizes((8192.0, 100.0)), objective([SLO("s", percentile=0.99)])
    whole, chunked = (unloaded(run(of, *chosen), of, BATCHES, limits)[1] for chosen in ([], [ChunkedPrefill()]))
    assert (chunked < whole).all()


def test_pipeline_lanes_carry_as_much_more() -> None:
    of = sizes((1024.0, 100.0))
    assert run(of, lanes=2).requests_per_s == pytest.approx(2 * run(of).requests_per_s)


def test_all_percent_is_read_as_all_but_one_in_a_million() -> None:
    assert objective([SLO("s", percentile=1.0)]).percentile[0, 0] == 1 - 1e-6


def test_equal_percentiles_are_one_row() -> None:
    assert objective([SLO("a"), SLO("b")]).percentile.shape == (1, 1)
    assert objective([SLO("a"), SLO("b", percentile=0.5)]).percentile.shape == (2, 1)


def exhaustive(known: Steady, of: Sizes, limits: Objective, fits: Mask) -> list[float]:
    """The best rate of each bucket by trying every batch and load."""
    best = []
    ttft_s, tpot_s = unloaded(known, of, BATCHES, limits)
    for row in range(len(fits)):
        found = 0.0
        for load in LOADS:
            waited_s = np.broadcast_to(wait_s(known, BATCHES, 1, limits, load), fits.shape)
            first_s = ttft_s + waited_s
            e2e_s = first_s + (of.output_tokens - 1) * tpot_s
            good = fits & (tpot_s <= limits.tpot_s) & (first_s <= limits.ttft_s) & (e2e_s <= limits.e2e_s)
            found = max(found, float(np.where(good[row], load * known.requests_per_s[row], 0.0).max()))
        best.append(found)
    return best


LIMIT = st.none() | st.floats(0.01, 20)
CLASS = st.tuples(LIMIT, LIMIT, LIMIT, st.sampled_from([0.5, 0.9, 0.95, 0.99]))


@settings(max_examples=60)
@given(
    rows=st.lists(st.tuples(st.floats(1, 20_000), st.floats(1, 4000), CLASS), min_size=1, max_size=5),
    chunked=st.booleans(),
    last=st.integers(0, 8),
)
def test_the_chosen_point_is_the_best_and_keeps_every_limit(
    rows: list[tuple[float, float, tuple[float | None, float | None, float | None, float]]], chunked: bool, last: int
) -> None:
    of = sizes(*((inputs, outputs) for inputs, outputs, _ in rows))
    slos = [SLO("s", ttft, tpot, None if e2e is None else 10 * e2e, q) for _, _, (ttft, tpot, e2e, q) in rows]
    limits, known = objective(slos), run(of, *([ChunkedPrefill()] if chunked else []))
    fits = np.broadcast_to(np.arange(8) < last, (len(rows), 8))
    point = operate(known, of, BATCHES, 1, fits, limits, LOADS)
    assert point.requests_per_s == pytest.approx(exhaustive(known, of, limits, fits))
    for i, slo in enumerate(slos):
        if point.batch[i]:
            assert point.batch[i] in BATCHES[0, :last]
            for value, limit in (
                (point.ttft_s[i], slo.ttft_s),
                (point.tpot_s[i], slo.tpot_s),
                (point.e2e_s[i], slo.e2e_s),
            ):
                assert 0 <= value <= (np.inf if limit is None else limit * (1 + 1e-9))
        else:
            assert point.requests_per_s[i] == 0


@given(st.floats(0.05, 5), st.floats(1.0, 4.0), st.floats(16, 8192), st.floats(1, 1000))
def test_a_looser_objective_never_carries_less(ttft_s: float, looser: float, inputs: float, outputs: float) -> None:
    of, fits = sizes((inputs, outputs)), np.ones((1, 8), dtype=bool)
    rates = [
        operate(run(of), of, BATCHES, 1, fits, objective([SLO("s", limit, 0.05)]), LOADS).requests_per_s[0]
        for limit in (ttft_s, ttft_s * looser)
    ]
    assert rates[0] <= rates[1]


@pytest.mark.parametrize(("prompt", "tokens", "places"), [(200, 64, 8), (1000, 128, 32), (4000, 64, 8)])
@pytest.mark.parametrize("load", [0.9, 0.4])
def test_a_percentile_that_is_planned_with_is_no_less_than_in_the_step_exact_loop(
    prompt: int, tokens: int, places: int, load: float
) -> None:
    """An engine of 10 ms a step, 0.1 ms a sequence and 40 us a prompt token, 2,048 of them a step at most."""
    step_s, own_s = 0.010 + 1e-4 * places, 4e-5 * prompt
    chunks = prompt / 2048
    slot_s = chunks * (2048 * 4e-5 + step_s)
    prompt_s = max(chunks, 1.0) * (own_s / max(chunks, 1.0) + step_s)
    rate = 1 / max(own_s + tokens * step_s / places, slot_s)
    figures = (step_s, own_s, prompt_s, slot_s, tokens * step_s + places * own_s, rate, 0.0, 0.0)
    known, of = Steady(*(np.array([[x]]) for x in figures)), sizes((float(prompt), float(tokens)))
    limits = objective([SLO("s", percentile=0.95)])
    batch = np.array([[float(places)]])
    first_s, between_s = unloaded(known, of, batch, limits)
    planned_s = first_s + wait_s(known, batch, 1, limits, load) + (tokens - 1) * between_s

    def seconds(step: Step) -> float:
        return 0.010 + 1e-4 * len(step.contexts) + 4e-5 * sum(new for new, _ in step.chunks)

    at_s = np.cumsum(np.random.default_rng(1).exponential(1 / (load * rate), 1000))
    run = serve([Request(float(t), prompt, tokens) for t in at_s], Engine(places, 2048, 10**7, reuse=False), seconds)
    assert float(planned_s[0, 0]) >= np.percentile(run.e2e_s, 95)
