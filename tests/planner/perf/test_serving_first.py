"""What a first token waits for: parts by hand, what falls back to what, and the fit on made-up runs."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from planner.perf.fit_serving_first import fit_first
from planner.perf.serving_first import (
    CAMPAIGN,
    ENGINE,
    NAMES,
    PROTOCOL,
    PROTOCOLS,
    TERMS,
    FirstIndex,
    Waits,
    campaigns,
    first_index,
    first_s,
    log_coefficients,
    waits,
)
from planner.perf.serving_physics import demand
from planner.perf.serving_rows import ENGINES, Rows, parse

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


def size(known: int) -> int:
    return len(NAMES) + PROTOCOLS * len(PROTOCOL) + len(ENGINES) * len(ENGINE) + known * len(CAMPAIGN)


def start(known: int) -> NDArray[np.float64]:
    v = np.zeros(size(known))
    v[: len(NAMES)] = np.log([first for first, _ in TERMS.values()])
    return v


def test_those_who_start_together_wait_for_half_the_prompts() -> None:
    assert part("own", rows()) == PROMPT_S
    assert part("wave", rows()) == pytest.approx(16 * PROMPT_S / 2)
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


def test_a_campaign_never_seen_falls_back_to_its_engine() -> None:
    found, v = rows(), start(2)
    v[len(NAMES) + PROTOCOLS * len(PROTOCOL) + len(ENGINES) * len(ENGINE) :] = 1.0
    seen = first_index(found, ["other", str(campaigns(found)[0])])
    new = first_index(found, ["other", "another"])
    assert (seen.campaign[0], new.campaign[0]) == (1, -1)
    own = NAMES.index("own")
    assert log_coefficients(v, new, 2)[0, own] == 0.0
    assert log_coefficients(v, seen, 2)[0, own] == 1.0


def test_the_fit_finds_coefficients_and_ignores_broken_runs() -> None:
    random = np.random.default_rng(0)
    parts = random.lognormal(0, 1, size=(400, len(NAMES))) * 0.05
    none = np.zeros(400, dtype=np.int64)
    at, found = FirstIndex(none, none, none % 1), Waits(parts, np.ones(400))
    true = start(1)
    true[NAMES.index("own")] += 0.3
    true[NAMES.index("step")] -= 0.5
    y = np.log(first_s(true, found, at, 1)) + random.normal(0, 0.03, 400)
    y[:20] += 3  # a twentieth of the runs broke
    made = fit_first(found, at, 1, y)
    error = np.abs(np.log(first_s(made, found, at, 1)) - np.log(first_s(true, found, at, 1)))
    assert np.median(error) < 0.02
    assert (
        log_coefficients(made, at, 1)[0, NAMES.index("step")]
        < log_coefficients(start(1), at, 1)[0, NAMES.index("step")]
    )
