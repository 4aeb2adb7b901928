"""What a first token waits for: parts by hand, what falls back to what, and the fit on made-up runs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from planner.perf.fit_serving_first import fit_measured, fit_new
from planner.perf.serving_first import (
    NAMES,
    TERMS,
    FirstIndex,
    Level,
    Waits,
    campaigns,
    first_index,
    first_s,
    log_coefficients,
    measured_levels,
    new_levels,
    waits,
)
from planner.perf.serving_physics import demand
from planner.perf.serving_rows import Rows, parse

TPOT_S, PROMPT_S = 0.010, 0.050


def rows(count: int = 1, **given: object) -> Rows:
    """Llama-3.1-8B on one H100 with vLLM, 16 users, 1,000 tokens in and 200 out."""
    values: dict[str, Any] = {
        "model_path": "meta-llama/Llama-3.1-8B-Instruct", "system": "h100_sxm", "backend": "vllm", "isl": 1000.0,
        "osl": 200.0, "concurrency": 16.0, "batch_size": 16.0, **given,
    }  # fmt: skip
    return parse({k: np.array([v] * count, dtype=object if isinstance(v, str) else float) for k, v in values.items()})


def part(name: str, found: Rows) -> float:
    one = np.ones(len(found.concurrency))
    return float(waits(found, demand(found), TPOT_S * one, PROMPT_S * one).parts[0, NAMES.index(name)])


def start(levels: Sequence[Level]) -> NDArray[np.float64]:
    deviations = sum(len(level.spread) * level.groups for level in levels)
    return np.concatenate([np.log([first for first, _ in TERMS.values()]), np.zeros(deviations)])


def test_those_who_start_together_wait_for_half_the_prompts() -> None:
    assert part("own", rows()) == PROMPT_S
    assert part("wave", rows()) == pytest.approx(16 * PROMPT_S / 2)
    published = rows(backend_version="0.9")  # once in a run of so many requests
    assert part("burst", published) == pytest.approx(16 * 16 * PROMPT_S / 2)
    assert part("burst", rows(backend_version="0.9", protocol="sweep")) == 0  # there every user has ten of his own
    assert part("burst", rows()) == 0  # no run that ends
    assert part("line", rows()) == pytest.approx(200 * TPOT_S / 16)  # a place falls free so often
    assert part("full", rows()) == 0


def test_users_beyond_the_kv_memory_wait_by_littles_law() -> None:
    # One H100: 0.9 x 85.02 GB, less 16 GB of weights and 3 GB: 57.5 GB. A token is 32 layers x 2 x 8 x 128 x 2 bytes
    # = 131,072; a request holds 32,000 + 100 tokens on average, 4.21 GB: about 13.6 at once, of 64.
    found = rows(isl=32_000.0, concurrency=64.0, batch_size=64.0)
    room = float(1 / waits(found, demand(found), np.ones(1), np.ones(1)).fullness[0] * 64)
    assert room == pytest.approx((0.9 * 85.017e9 - 16.06e9 - 3e9) / (131_072 * 32_100), rel=0.02)
    assert part("full", found) == pytest.approx((64 / room - 1) * 200 * TPOT_S)


def test_disaggregated_requests_queue_for_prefill_workers_alone() -> None:
    apart = rows(mode="disagg", prefill_num_workers=2.0, decode_num_workers=1.0, concurrency=400.0)
    # 400 prompts of 50 ms on two workers: 10 s a round, of which tokens take 2 s.
    assert part("pool", apart) == pytest.approx(5.0)
    assert part("pool_full", apart) == pytest.approx(10.0 - 2.0)
    assert part("full", apart) == part("wave", apart) == 0


def test_the_sweep_is_told_by_its_lengths_unless_the_protocol_is_stated() -> None:
    assert rows(isl=8192.0, osl=1024.0).sweep[0]
    assert not rows(isl=8192.0, osl=512.0).sweep[0]
    assert not rows(isl=8192.0, osl=1024.0, protocol="steady").sweep[0]
    assert rows(isl=8192.0, osl=512.0, protocol="sweep").sweep[0]
    assert campaigns(rows(isl=1024.0, osl=8192.0, backend_version="0.9"))[0] == "vllm:0.9|llama-3.1-8b|H100-SXM|sweep"


def test_a_campaign_never_seen_has_the_coefficients_of_new_ones() -> None:
    found = rows()
    seen = first_index(found, ["other", str(campaigns(found)[0])])
    unseen = first_index(found, ["other", "another"])
    assert (seen.campaign[0], unseen.campaign[0]) == (1, -1)
    measured, new = start(measured_levels(seen, 2)), start(new_levels(seen))
    own = NAMES.index("own")
    measured[own], new[own] = np.log(3.0), np.log(5.0)
    one = Waits(np.eye(len(NAMES))[[own]], np.ones(1))
    assert first_s(measured, new, one, seen, 2)[0] == pytest.approx(3.0)
    assert first_s(measured, new, one, unseen, 2)[0] == pytest.approx(5.0)


def test_deviations_add_up_level_by_level_and_are_0_without_a_group() -> None:
    levels = (Level({"own": 0.3}, 2, np.array([0, 1, -1])), Level({"own": 0.3, "step": 0.3}, 1, np.array([0, -1, 0])))
    v = np.concatenate([np.zeros(len(NAMES)), [0.1, 0.2], [1.0, 2.0]])
    made = log_coefficients(v, 3, levels)
    assert made[:, NAMES.index("own")].tolist() == pytest.approx([1.1, 0.2, 1.0])
    assert made[:, NAMES.index("step")].tolist() == [2.0, 0.0, 2.0]


def made_up(count: int) -> tuple[Waits, FirstIndex]:
    """Runs of one campaign whose waits are random."""
    parts = np.random.default_rng(0).lognormal(0, 1, size=(count, len(NAMES))) * 0.05
    none = np.zeros(count, dtype=np.int64)
    return Waits(parts, np.ones(count)), FirstIndex(none, none, none, none - 1, none)


def test_the_fit_finds_coefficients_and_ignores_broken_runs() -> None:
    found, at = made_up(400)
    levels = measured_levels(at, 1)
    true = start(levels)
    true[NAMES.index("own")] += 0.3
    true[NAMES.index("step")] -= 0.5
    seconds = (found.parts * np.exp(log_coefficients(true, 400, levels))).sum(axis=1)
    y = np.log(seconds) + np.random.default_rng(1).normal(0, 0.03, 400)
    y[:20] += 3  # a twentieth of the runs broke
    made = fit_measured(found, at, 1, y)
    again = first_s(made, start(new_levels(at)), found, at, 1)
    assert np.median(np.abs(np.log(again / seconds))) < 0.02
    step = NAMES.index("step")
    assert log_coefficients(made, 400, levels)[0, step] < log_coefficients(start(levels), 400, levels)[0, step]


def test_the_fit_for_new_campaigns_has_less_relative_error_than_the_one_for_measured_ones() -> None:
    found, at = made_up(400)
    true = start(new_levels(at))
    seconds = (found.parts * np.exp(log_coefficients(true, 400, new_levels(at)))).sum(axis=1)
    # A factor of e either way, as campaigns differ: relative errors are least well below the middle.
    y = np.log(seconds) + np.where(np.arange(400) % 2, 1.0, -1.0)
    new = FirstIndex(at.protocol, at.engine, at.campaign - 1, at.latent, at.manner)
    measured, unseen = fit_measured(found, at, 1, y), fit_new(found, at, y)
    error = [np.abs(first_s(measured, unseen, found, index, 1) / np.exp(y) - 1).mean() for index in (at, new)]
    assert error[1] < error[0]
