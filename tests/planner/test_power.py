"""Watts by hand calculation, and a cap against what Splitwise states."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.calibration import ENGINES
from planner.power import capped, idle_w, power_w
from planner.roofline import step_time
from planner.technique import sharded
from tests.planner.factories import gpu
from tests.planner.perf_factories import A100, H100, L4, LLAMA_70B, case


def test_idle_watts_are_the_catalogues_or_the_usual_share() -> None:
    assert idle_w(gpu(idle_w=60.0)) == 60.0
    assert idle_w(gpu(tdp_w=400.0)) == 0.13 * 400


def test_an_idle_gpu_draws_its_idle_power_and_full_arithmetic_all_of_it() -> None:
    one = gpu(tdp_w=400.0, idle_w=60.0)
    assert power_w(one, 0.0, 0.0) == 60.0
    assert power_w(one, 1.0, 0.0) == 400.0
    assert power_w(one, 0.0, 1.0) == 60 + 340 * 0.52
    assert power_w(one, 1.0, 1.0) == 400.0  # never above its limit


def test_half_the_power_of_an_h100_makes_prompts_1_3_times_as_long_and_leaves_tokens() -> None:
    half, engine = capped(H100, 350.0), ENGINES["vllm-2023"]
    phases = sharded(case(LLAMA_70B, input_tokens=2048.0, tp=2)).phases

    def slower(phase: str) -> float:
        before, after = (float(step_time(phases[phase], row, engine).total_s) for row in (H100, half))
        return after / before

    # At 0.762 of the clock, V is 0.762 too: 0.18 x 0.762 + 0.82 x 0.762^3 = 0.5; arithmetic takes 1.31 times as long,
    # and it is not all of a prefill.
    assert slower("prefill") == pytest.approx(1.3, rel=0.05)  # Splitwise, arXiv 2311.18677
    assert slower("decode") == pytest.approx(1.0, abs=0.01)


def test_a_cap_bounds_what_is_drawn_and_keeps_the_bandwidth() -> None:
    low = capped(A100, 200.0)
    assert power_w(low, 1.0, 1.0) == 200.0
    assert (low.hbm_bytes_per_s, low.tdp_w, low.name) == (A100.hbm_bytes_per_s, 400.0, "A100")


def test_a_cap_at_or_above_the_rated_power_changes_nothing() -> None:
    assert capped(H100, 700.0) is H100


@given(st.floats(100, 700), st.floats(0, 1), st.floats(0, 1), st.sampled_from([H100, A100, L4]))
def test_watts_lie_between_idle_and_the_limit(cap_w: float, compute: float, hbm: float, row: object) -> None:
    one = capped(row, cap_w)  # type: ignore[arg-type]  # a sample
    assert idle_w(one) <= power_w(one, compute, hbm) <= min(cap_w, one.tdp_w)


@given(st.floats(92, 700), st.floats(92, 700))
def test_a_higher_cap_is_no_slower(low_w: float, high_w: float) -> None:
    low_w, high_w = sorted((low_w, high_w))
    assert capped(H100, low_w).flops("bf16") <= capped(H100, high_w).flops("bf16")
