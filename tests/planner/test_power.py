"""Watts by hand calculation, and a cap against what Splitwise states."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import catalog
from planner.calibration import ENGINES
from planner.perf.clocks import draw_w, slowdown_at
from planner.power import cap_objection, capped, idle_w, power_w, under_cap
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


def test_a_decode_under_a_cap_first_saves_power_and_loses_no_time() -> None:
    # 0.05 of the arithmetic, half of HBM: 0.18 + 2.05 x 0.05 + (0.22 + 0.58) x 0.5 = 0.6825 of 700 W without a cap.
    found = under_cap(H100, 420.0, 0.05, 0.5)
    assert found.slowdown == 1.0
    assert found.power_w == pytest.approx(420, rel=1e-6)
    assert found.energy_ratio == pytest.approx(420 / (0.6825 * 700))


def test_a_decode_slows_where_the_clock_no_longer_feeds_the_memory() -> None:
    # At 0.5 of the clock V is at its floor, 0.75. HBM, busy for 0.5 / 0.8 of the time, takes 0.62 / 0.5 times as long:
    # 1 - 0.625 + 0.775 = 1.15. Draw: 0.18 x 0.75 + ((0.1025 + 0.11) x 0.5625 + 0.29) / 1.15 = 0.4911.
    found = under_cap(H100, 0.4911 * 700, 0.05, 0.5)
    assert found.slowdown == pytest.approx(1.15, rel=1e-3)
    assert found.energy_ratio == pytest.approx(1.15 * 0.4911 / 0.6825, rel=1e-3)


def test_a_prefill_slows_with_the_clock_and_saves_energy_down_to_the_voltage_floor() -> None:
    # 0.3 of the arithmetic (0.3 / 0.8 of the time), a tenth of HBM: 0.18 + 0.615 + 0.08 = 0.875 without a cap.
    # At 0.75 of the clock: 1 - 0.375 + 0.375 / 0.75 = 1.125 times as long,
    # drawing 0.135 + ((0.615 + 0.022) x 0.5625 + 0.058) / 1.125 = 0.5051.
    found = under_cap(H100, 0.5051 * 700, 0.3, 0.1)
    assert found.slowdown == pytest.approx(1.125, rel=1e-3)
    assert found.energy_ratio == pytest.approx(1.125 * 0.5051 / 0.875, rel=1e-3)
    assert under_cap(H100, 0.3 * 700, 0.3, 0.1).energy_ratio > found.energy_ratio  # below, static power runs longer


def test_a_fifth_less_power_costs_a_prompt_what_polca_says() -> None:
    # POLCA (arXiv 2308.12908): locking clocks takes a fifth off the peak power for 5 to 7 % of performance.
    # A100 at 0.9 of the clock, half its arithmetic (0.5 / 0.83 of the time): 1 + 0.602 x (1 / 0.9 - 1) = 1.067, and
    # 0.162 + (1.047 x 0.81 + 0.058) / 1.067 = 1.011 of 1.285.
    assert slowdown_at(A100, 0.9, 0.5, 0.1) == pytest.approx(1.067, abs=1e-3)
    assert draw_w(A100, 0.9, 0.5, 0.1) / draw_w(A100, 1.0, 0.5, 0.1) == pytest.approx(0.787, abs=2e-3)


def test_no_cap_changes_nothing() -> None:
    found = under_cap(H100, 700.0, 0.6, 0.2)
    assert (found.slowdown, found.energy_ratio) == (1.0, 1.0)


def test_a_cap_that_starves_the_memory_narrows_it_in_the_capped_gpu() -> None:
    # A decode at half of HBM draws 0.135 + 0.5 x (0.22 x 0.5625 + 0.58) = 0.487 where its memory is last fed in full.
    assert capped(H100, 0.49 * 700).hbm_bytes_per_s == H100.hbm_bytes_per_s
    low = capped(H100, 0.4 * 700)
    # 0.352 / 1.328 + 0.135 = 0.4: the memory gives 1 / 1.328 of its bandwidth.
    assert H100.hbm_bytes_per_s / low.hbm_bytes_per_s == pytest.approx(0.351875 / 0.265, rel=1e-3)


def test_links_add_their_joules_per_byte() -> None:
    # 450 GB/s out and in over NVLink at 4 pJ a bit: 900e9 x 32e-12 = 28.8 W.
    assert draw_w(H100, 1.0, 0.3, 0.1, 900e9) - draw_w(H100, 1.0, 0.3, 0.1) == pytest.approx(28.8)
    assert under_cap(H100, 500.0, 0.3, 0.1, 900e9).slowdown > under_cap(H100, 500.0, 0.3, 0.1).slowdown


def test_caps_that_a_gpu_cannot_have_are_refused_in_words() -> None:
    assert cap_objection(H100, 400.0) is None
    assert "200 to 700 W" in str(cap_objection(H100, 150.0))
    assert "MIG slice" in str(cap_objection(catalog.gpu("H100-SXM-1g.10gb"), 60.0))
    assert "nobody published" in str(cap_objection(gpu(min_cap_w=None), 60.0))
    assert cap_objection(H100, float("nan"))
