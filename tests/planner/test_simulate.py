"""The step-exact loop: small cases by hand, what always holds, and two real runs."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.paged_cache import BLOCK_TOKENS, PagedCache
from planner.perf.layers import profile
from planner.simulate import Engine, Request, Served, Step, serve


def engine(**changed: object) -> Engine:
    """An engine with room for everything that schedules one step at a time."""
    given: dict[str, object] = {"max_sequences": 64, "max_step_tokens": 100, "kv_blocks": 1000, "lookahead": False}
    return Engine(**{**given, **changed})  # type: ignore[arg-type]


def one_second(step: Step) -> float:
    return 1.0


def test_a_prompt_takes_as_many_steps_as_its_chunks_then_a_step_a_token() -> None:
    served = serve([Request(0.0, 250, 4)], engine(), one_second)
    # 100 + 100 + 50 tokens of prompt; the third step gives the first token, three more steps the rest.
    assert served.first_token_s.tolist() == [3.0]
    assert served.last_token_s.tolist() == [6.0]
    assert served.tpot_s.tolist() == [1.0]
    assert served.steps == 6


def test_decoding_rides_with_prompts_and_keeps_its_pace() -> None:
    served = serve([Request(0.0, 50, 5), Request(0.5, 150, 2)], engine(), one_second)
    # Step 1: 50 tokens. Step 2: one token and 99 of the second prompt. Step 3: one and 51, the second's first token.
    assert served.first_token_s.tolist() == [1.0, 3.0]
    assert served.last_token_s.tolist() == [5.0, 4.0]


def test_a_step_costs_what_it_holds() -> None:
    seen: list[Step] = []

    def remember(step: Step) -> float:
        seen.append(step)
        return 1.0

    serve([Request(0.0, 120, 3)], engine(), remember)
    assert [step.chunks for step in seen] == [((100, 0),), ((20, 100),), (), ()]
    assert [step.contexts for step in seen] == [(), (), (121,), (122,)]


def test_a_step_scheduled_while_another_runs_loses_no_time_between() -> None:
    late = [Request(0.0, 10, 3), Request(0.1, 10, 1)]
    waits = serve(late, engine(lookahead=False), one_second)
    ahead = serve(late, engine(lookahead=True), one_second)
    assert waits.first_token_s.tolist() == [1.0, 2.0]
    assert ahead.first_token_s.tolist() == [1.0, 3.0]  # the second step was scheduled before it came
    assert ahead.last_token_s[0] == waits.last_token_s[0] == 3.0


def test_no_more_sequences_run_than_are_allowed() -> None:
    served = serve([Request(0.0, 10, 3), Request(0.0, 10, 3)], engine(max_sequences=1), one_second)
    assert served.first_token_s.tolist() == [1.0, 4.0]


def test_a_full_cache_pushes_the_youngest_back_and_all_still_finish() -> None:
    # Each grows from 1 block to 3: together 6, where there are 4.
    served = serve([Request(0.0, 16, 32), Request(0.0, 16, 32)], engine(kv_blocks=4), one_second)
    assert served.preemptions > 0
    assert np.isfinite(served.last_token_s).all()
    assert served.last_token_s[0] < served.last_token_s[1]


def test_what_can_never_fit_is_refused_and_does_not_block() -> None:
    served = serve([Request(0.0, 16 * 20, 1), Request(0.0, 16, 1)], engine(kv_blocks=10), one_second)
    assert served.refused == (0,)
    assert served.first_token_s[1] == 1.0


def test_a_shared_beginning_is_computed_once() -> None:
    blocks = tuple(range(6))
    pair = [Request(0.0, 96, 1, blocks), Request(5.0, 96, 1, blocks)]
    tokens: list[int] = []

    def count(step: Step) -> float:
        tokens.append(sum(new for new, _ in step.chunks))
        return 1.0

    serve(pair, engine(), count)
    assert tokens == [96, 16]  # five of six blocks are there; the last holds the token that must be computed
    tokens.clear()
    serve(pair, engine(reuse=False), count)
    assert tokens == [96, 96]


def test_a_closed_loop_starts_the_next_when_one_ends() -> None:
    served = serve([Request(0.0, 10, 2)] * 4, engine(), one_second, users=2)
    assert served.arrival_s.tolist() == [0.0, 0.0, 2.0, 2.0]
    assert served.ttft_s.tolist() == [1.0, 1.0, 1.0, 1.0]


def test_the_oldest_content_goes_first() -> None:
    cache = PagedCache(3)
    cache.take(3)
    for key in (1, 2, 3):
        assert cache.write(key)
    cache.let_go([1, 2, 3], 0)  # the last block of a sequence is let go first
    cache.take(1)
    assert cache.reusable([1, 2]) == 2
    assert cache.reusable([1, 2, 3]) == 2


requests = st.lists(
    st.builds(
        Request,
        arrival_s=st.floats(0, 20),
        input_tokens=st.integers(1, 120),
        output_tokens=st.integers(1, 40),
    ),
    min_size=1,
    max_size=25,
)


@given(requests, st.integers(10, 40), st.integers(1, 8), st.integers(8, 200), st.booleans(), st.booleans())
def test_every_request_is_served_once_in_order_within_the_limits(
    asked: list[Request], blocks: int, most: int, budget: int, lookahead: bool, reuse: bool
) -> None:
    def within(step: Step) -> float:
        tokens = sum(new for new, _ in step.chunks) + len(step.contexts)
        assert 1 <= tokens <= budget
        assert len(step.chunks) + len(step.contexts) <= most
        held = sum(-(-(new + cached) // BLOCK_TOKENS) for new, cached in step.chunks)
        assert reuse or held + sum(-(-n // BLOCK_TOKENS) for n in step.contexts) <= blocks
        return 0.5

    served = serve(
        asked,
        engine(kv_blocks=blocks, max_sequences=most, max_step_tokens=budget, lookahead=lookahead, reuse=reuse),
        within,
    )
    assert served.refused == ()
    assert (served.scheduled_s >= served.arrival_s).all()
    assert (served.first_token_s > served.scheduled_s).all()
    assert (served.last_token_s >= served.first_token_s + 0.5 * (served.output_tokens - 1) - 1e-9).all()
    if not served.preemptions:
        first = np.argsort(served.arrival_s, kind="stable")
        assert (np.diff(served.scheduled_s[first]) >= 0).all()


def replayed(folder: Path, name: str) -> tuple[Served, dict[str, np.ndarray]]:
    """A real run served again, and its measured figures."""
    rows = list(csv.DictReader((folder / "requests.csv").read_text().splitlines()))
    lines = [json.loads(line) for line in (folder / "workload.jsonl").read_text().splitlines()]
    blocks = {line["request"]: line["block16"] for line in lines}
    run = json.loads((folder / "run.json").read_text())
    asked = [
        Request(
            float(row["arrival_s"]),
            int(row["input_tokens"]),
            int(row["output_tokens"]),
            tuple(blocks[int(row["request"])])[: int(row["input_tokens"]) // BLOCK_TOKENS],
        )
        for row in rows
    ]
    limits = run["engine_kwargs"]
    stated = (run["kv_cache"] or {}).get("num_gpu_blocks")
    made = Engine(
        limits["max_num_seqs"], limits["max_num_batched_tokens"], stated or 30_000, frontend_s=1.3e-3
    )  # the other run states no KV budget, and comes nowhere near one
    first, last, came, count = (
        np.array([float(row[key]) for row in rows])
        for key in ("first_token_s", "last_token_s", "arrival_s", "output_tokens")
    )
    truth = {"tpot": (last - first) / (count - 1), "ttft": first - came, "e2e": last - came}
    return serve(asked, made, profile(name).time_s), truth


@pytest.mark.parametrize("name", ["rtx4090_llama-3.1-8b_tp1", "rtxpro6000_llama-3.1-8b_tp1"])
def test_real_runs_are_replayed_from_layer_times_alone(name: str, shared: Path) -> None:
    served, truth = replayed(shared / "data" / "perf" / "requests" / name, name)
    for key, bar in (("tpot", 0.03), ("ttft", 0.08), ("e2e", 0.04)):
        made = getattr(served, f"{key}_s")
        assert made.mean() == pytest.approx(truth[key].mean(), rel=bar), key
        assert np.quantile(made, 0.99) == pytest.approx(np.quantile(truth[key], 0.99), rel=0.10), key
