"""Clocks under a power limit: the curve by hand, and what was published and measured of H200, V100, H100 and A100."""

import csv
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.catalog import gpu
from planner.perf.clocks import (
    LOWEST_CLOCK,
    clock_ratio,
    draw_w,
    rated_prefill_clock,
    slowdown,
    slowdown_at,
    voltage_ratio,
)

H200, H100, A100 = gpu("H200"), gpu("H100"), gpu("A100")
RATIO = st.floats(0.0, 1.0)


def test_voltage_falls_with_the_clock_to_its_floor() -> None:
    assert np.round(voltage_ratio(H200, np.array([1.0, 0.9, 0.75, 0.5])), 6).tolist() == [1.0, 0.9, 0.75, 0.75]


def test_a_gpu_with_its_clocks_up_and_no_work_draws_what_an_h200_does() -> None:
    assert draw_w(H200, 1.0, 0.0, 0.0) == pytest.approx(125.1, rel=0.02)


def test_a_b200_at_rest_between_tiny_kernels_draws_a_quarter_of_its_rated_power() -> None:
    assert draw_w(gpu("B200"), 1.0, 0.0, 0.0) == pytest.approx(245, abs=3)


def test_a_large_product_is_held_down_to_the_clock_that_was_read() -> None:
    # 8192^3 in bf16 on an H200: 655 TFLOP/s at 698 W with the clock at 1,425 of 1,980 MHz. At full clock that is
    # 655 / 0.72 = 910 of 989 TFLOP/s; its 0.4 GB in 1.68 ms are 0.05 of the bandwidth, which no cache holds twice.
    assert clock_ratio(H200, 700.0, 0.92, 0.05) == pytest.approx(1425 / 1980, abs=0.07)
    assert draw_w(H200, 1425 / 1980, 0.92, 0.05) == pytest.approx(698, rel=0.08)


def test_a_product_with_one_row_is_not_held_down() -> None:
    # m = 1: 3.65 TB/s at 571 W.
    assert draw_w(H200, 1.0, 0.004, 3.65 / 4.8) == pytest.approx(571, rel=0.05)
    assert clock_ratio(H200, 700.0, 0.004, 3.65 / 4.8) == 1.0


def test_prefill_slows_under_a_cap_and_decode_hardly() -> None:
    cap_w = np.array([700.0, 600.0, 500.0])
    prefill, decode = slowdown(H200, cap_w, 0.8, 0.1), slowdown(H200, cap_w, 0.08, 0.5)
    assert prefill.tolist() == sorted(prefill.tolist())
    assert (prefill[0], prefill[2] > 1.2) == (1.0, True)
    assert decode.tolist() == [1.0, 1.0, 1.0]


def test_half_the_power_of_an_h100_slows_splitwises_prompts_by_a_third_and_not_its_tokens(shared: Path) -> None:
    # Splitwise (arXiv 2311.18677) takes 1.3 for every prompt. By arithmetic per second it depends on how many GPUs
    # share the work: with two they compute nearly all the time, with eight they wait for each other.
    prompts: dict[int, list[float]] = {2: [], 4: [], 8: []}
    tokens = []
    with (shared / "data/planner/serving/splitwise_perf_llama2-70b.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["hardware"] == "h100-80gb"]
    for row in rows:
        batch, tp = int(row["batch_size"]), int(row["tensor_parallel"])
        prompt_s, token_s, read_bytes = float(row["prompt_time"]) / 1e3, float(row["token_time"]) / 1e3, 138e9 / tp
        flops = 2 * 69e9 * int(row["prompt_size"]) * batch / tp
        if 512 <= int(row["prompt_size"]) * batch <= 8192:
            prompts[tp].append(_half_power(flops / prompt_s, read_bytes / prompt_s))
        tokens.append(_half_power(2 * 69e9 * batch / tp / token_s, read_bytes / token_s))
    medians = [median(values) for values in prompts.values()]
    assert medians == sorted(medians, reverse=True)
    assert sum(medians) / 3 == pytest.approx(1.3, abs=0.1)
    assert median(tokens) == 1.0


def _half_power(flops_per_s: float, bytes_per_s: float) -> float:
    return float(slowdown(H100, 350.0, flops_per_s / H100.flops("bf16"), bytes_per_s / H100.hbm_bytes_per_s))


def test_training_on_a_v100_slows_under_its_limits_as_zeus_measured(shared: Path) -> None:
    card = replace(gpu("V100"), tdp_w=250.0)  # Zeus's are 250 W cards
    with (shared / "data/planner/power/zeus_summary_power_v100.csv").open(encoding="utf-8") as file:
        job = {"dataset": "squad", "batch_size": "32", "optimizer": "adamw"}
        rows = [row for row in csv.DictReader(file) if job.items() <= row.items()]
    seconds = {float(row["power_limit"]): float(row["time_per_epoch"]) for row in rows}
    limits_w = np.array(sorted(seconds))
    measured = np.array([seconds[limit_w] / seconds[250.0] for limit_w in limits_w])
    # It drew 228 W without a limit: 0.32 of the arithmetic and a tenth of the bandwidth draw as much.
    made = slowdown(card, limits_w, 0.32, 0.1)
    assert draw_w(card, 1.0, 0.32, 0.1) == pytest.approx(228, abs=5)
    assert np.abs(made / measured - 1).mean() < 0.06


def test_polcas_clocks_cost_a_decode_nothing_and_a_prefill_their_ratio() -> None:
    # POLCA (arXiv 2308.12908) holds low priority at 1,275 and 1,110 of 1,410 MHz, for a median loss of at most 5 %.
    for clock in (1275 / 1410, 1110 / 1410):
        assert slowdown_at(A100, clock, 0.05, 0.5) == 1.0
        assert slowdown_at(A100, clock, 1.0, 0.1) == pytest.approx(1 / clock)
        # Power falls by more than speed does: a tenth and a fifth less clock saves a fifth and two fifths.
        assert draw_w(A100, clock, 0.8, 0.1) < 0.95 * clock * draw_w(A100, 1.0, 0.8, 0.1)


def test_a_limit_that_no_clock_meets_leaves_the_lowest() -> None:
    assert clock_ratio(H200, 1.0, 0.5, 0.5) == LOWEST_CLOCK
    assert rated_prefill_clock(H200, 1.0) == LOWEST_CLOCK


@given(RATIO, RATIO, st.floats(100, 700), st.floats(100, 700))
def test_more_watts_never_slow_a_phase(tensor: float, hbm: float, low_w: float, high_w: float) -> None:
    low_w, high_w = sorted((low_w, high_w))
    assert slowdown(H200, low_w, tensor, hbm) >= slowdown(H200, high_w, tensor, hbm) - 1e-9 >= 1 - 2e-9


@given(RATIO, RATIO, st.floats(150, 700))
def test_the_clock_that_meets_a_limit_draws_no_more(tensor: float, hbm: float, cap_w: float) -> None:
    clock = float(clock_ratio(H200, cap_w, tensor, hbm))
    assert draw_w(H200, clock, tensor, hbm) <= cap_w or clock == LOWEST_CLOCK
