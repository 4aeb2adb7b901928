"""Size cells and rates: every request in its cell, means exact, nothing dropped."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import BadInput
from planner.sizes import (
    DEFAULT_EDGES,
    Distribution,
    DistributionName,
    SizeCell,
    distribution_cells,
    planned_rate,
    trace_cells,
    window_rates,
)
from planner.traces import Trace, read_trace


def trace(arrival_s: list[float], inputs: list[int] | None = None, outputs: list[int] | None = None) -> Trace:
    ones = [1] * len(arrival_s)
    return Trace("azure", np.array(arrival_s), np.array(inputs or ones), np.array(outputs or ones))


def one_axis(distribution: Distribution, edges: list[int] | tuple[int, ...] = DEFAULT_EDGES) -> list[SizeCell]:
    """The cells of a distribution of input tokens, where every request gives one token back."""
    return list(distribution_cells(distribution, Distribution("constant", 1), edges))


def mean_of(cells: list[SizeCell]) -> float:
    return sum(cell.share * cell.mean_input_tokens for cell in cells)


def test_requests_fall_into_the_cell_whose_edge_is_the_first_at_or_above_them() -> None:
    cells = trace_cells(trace([0, 1, 2, 3], [100, 101, 200, 50], [7, 7, 7, 7]), [100, 200, 400], [10])
    assert cells == (SizeCell(100, 7, 0.5, 75.0, 7.0), SizeCell(200, 7, 0.5, 150.5, 7.0))


def test_requests_above_the_last_edge_get_an_edge_of_their_own() -> None:
    cells = trace_cells(trace([0, 1], [50, 9000], [5, 6]), [100], [5])
    assert cells == (SizeCell(100, 5, 0.5, 50.0, 5.0), SizeCell(9000, 6, 0.5, 9000.0, 6.0))


def test_the_largest_size_ends_the_grid_so_that_no_cell_promises_more_than_was_seen() -> None:
    assert trace_cells(trace([0], [3000], [300]))[0][:2] == (3000, 300)


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**5)), min_size=1, max_size=50))
def test_no_request_and_no_token_of_a_trace_is_lost(sizes: list[tuple[int, int]]) -> None:
    inputs, outputs = ([*column] for column in zip(*sizes, strict=True))
    cells = trace_cells(trace([0.0] * len(sizes), inputs, outputs))
    assert sum(cell.share for cell in cells) == pytest.approx(1, abs=1e-12)
    assert sum(cell.share * cell.mean_input_tokens for cell in cells) == pytest.approx(np.mean(inputs), rel=1e-9)
    assert sum(cell.share * cell.mean_output_tokens for cell in cells) == pytest.approx(np.mean(outputs), rel=1e-9)
    assert all(cell.mean_input_tokens <= cell.input_tokens for cell in cells)


def test_a_constant_is_one_cell_with_its_own_mean() -> None:
    assert one_axis(Distribution("constant", 1000)) == [SizeCell(1024, 16, 1.0, 1000.0, 1.0)]


def test_a_uniform_is_split_by_length() -> None:
    # mean 100, spread 30: from 100 - 30*sqrt(3) = 48.04 to 151.96; below 100 half, with the mean (48.04 + 100) / 2.
    below, above = one_axis(Distribution("uniform", 100, 30), [100, 200])
    assert [below.share, above.share] == pytest.approx([0.5, 0.5])
    assert below.mean_input_tokens == pytest.approx((100 - 30 * math.sqrt(3) + 100) / 2)


def test_a_normal_is_split_by_its_quantiles() -> None:
    # one spread below the mean: 15.8655 %; the mean below m - s is m - s * density(1) / share(-1).
    below, above = one_axis(Distribution("normal", 1000, 100), [900, 1500])
    assert below.share == pytest.approx(0.158655254)
    assert below.mean_input_tokens == pytest.approx(1000 - 100 * 0.241970725 / 0.158655254)
    assert above.share == pytest.approx(0.841344746)


def test_a_lognormal_is_split_by_its_median() -> None:
    # mean 1000, spread 1000: sigma^2 = ln 2, median 1000 / sqrt(2) = 707.1; half the requests are below it.
    below = one_axis(Distribution("lognormal", 1000, 1000), [707, 100_000])[0]
    assert below.share == pytest.approx(0.5, abs=1e-4)


def test_a_gamma_with_spread_equal_to_the_mean_is_an_exponential() -> None:
    # share up to x: 1 - exp(-x/m); mean of these: (m - (x + m) exp(-x/m)) / share.
    below = one_axis(Distribution("gamma", 500, 500), [200, 10_000])[0]
    share = 1 - math.exp(-0.4)
    assert below.share == pytest.approx(share, rel=1e-12)
    assert below.mean_input_tokens == pytest.approx((500 - 700 * math.exp(-0.4)) / share, rel=1e-12)


def test_a_gamma_of_shape_four_agrees_with_its_poisson_sum() -> None:
    # shape 4, scale 100: P(X <= x) = 1 - sum of the first four Poisson terms at x / 100.
    below = one_axis(Distribution("gamma", 400, 200), [700, 10_000])[0]
    assert below.share == pytest.approx(1 - math.exp(-7) * (1 + 7 + 49 / 2 + 343 / 6), rel=1e-12)


def test_larger_sizes_count_as_the_largest_that_is_allowed() -> None:
    cells = one_axis(Distribution("gamma", 500, 500, largest=1000), [500])
    assert cells[-1].input_tokens == 1000
    # E[min(X, c)] of an exponential is m (1 - exp(-c/m)).
    assert mean_of(cells) == pytest.approx(500 * (1 - math.exp(-2)), rel=1e-12)


def test_a_grid_that_ends_too_early_is_doubled_until_hardly_a_request_exceeds_it() -> None:
    edges = [cell.input_tokens for cell in one_axis(Distribution("gamma", 500, 500), [100])]
    assert edges == [100, 200, 400, 800, 1600, 3200, 6400]  # exp(-3200/500) = 0.0017, exp(-6400/500) < 0.001


@settings(max_examples=300)
@given(
    st.sampled_from(["uniform", "normal", "lognormal", "gamma"]),
    st.floats(1, 1e6),
    st.floats(0, 100),
    st.lists(st.integers(1, 10**6), min_size=1, max_size=8, unique=True).map(sorted),
)
def test_cells_of_any_distribution_keep_all_requests_and_nearly_all_tokens(
    name: DistributionName, mean: float, relative_spread: float, edges: list[int]
) -> None:
    try:
        cells = one_axis(Distribution(name, mean, mean * relative_spread), edges)
    except BadInput:
        assert name in ("uniform", "normal")
        assert relative_spread > 0.4
        return
    assert sum(cell.share for cell in cells) == pytest.approx(1, abs=1e-9)
    lows = [0, *[cell.input_tokens for cell in cells]]
    assert all(low <= cell.mean_input_tokens <= cell.input_tokens for low, cell in zip(lows, cells, strict=False))
    if mean >= 100 and relative_spread <= 1:
        assert mean_of(cells) == pytest.approx(mean, rel=0.01)


@pytest.mark.parametrize(
    ("distribution", "message"),
    [
        (Distribution("constant", 100, 5), "got spread 5 of a constant"),
        (Distribution("normal", 100, 60), "got spread 60 at mean 100, allowed: at most 42.99 for normal"),
        (Distribution("uniform", 100, 60), "allowed: at most 57.74 for uniform"),
        (Distribution("gamma", 100, 60, largest=50), "got max 50 below the mean 100"),
    ],
)
def test_a_distribution_that_cannot_be_is_refused(distribution: Distribution, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        one_axis(distribution)


def test_rates_are_counts_per_window_and_the_last_window_ends_with_the_trace() -> None:
    # 0, 5, 10, 20 s in windows of 10 s: [0, 10) holds 2, [10, 20] holds 2.
    assert window_rates(trace([0, 5, 10, 20]), 10) == (0.2, 0.2)
    # 24 s: two windows, the second of 14 s; 26 s: three, the third of 6 s.
    assert window_rates(trace([0, 24]), 10) == (0.1, 1 / 14)
    assert window_rates(trace([0, 26]), 10) == (0.1, 0.0, 1 / 6)


def test_a_trace_shorter_than_a_window_has_the_rate_of_its_own_length() -> None:
    assert window_rates(trace([0, 1, 2]), 600) == (1.5,)


@pytest.mark.parametrize(("arrival_s", "step_s"), [([0.0, 0.0], 10.0), ([0.0, 1e9], 1e-6)])
def test_no_time_at_all_and_too_many_windows_are_refused(arrival_s: list[float], step_s: float) -> None:
    with pytest.raises(BadInput, match=r"got .*allowed: "):
        window_rates(trace(arrival_s), step_s)


@pytest.mark.parametrize(("ratio", "rate"), [(1.0, 10.0), (0.95, 10.0), (0.9, 9.0), (0.5, 5.0), (0.01, 1.0)])
def test_the_planned_rate_is_one_that_the_series_reached(ratio: float, rate: float) -> None:
    assert planned_rate([10, 1, 9, 2, 8, 3, 7, 4, 6, 5], ratio) == rate


def test_the_published_azure_trace_keeps_its_tokens(shared: Path) -> None:
    read = read_trace(shared / "data/planner/traces/azure_llm_2023_code_first_half.csv")
    cells = trace_cells(read)
    assert sum(cell.share * cell.mean_input_tokens for cell in cells) == pytest.approx(read.input_tokens.mean())
    assert max(cell.input_tokens for cell in cells) == read.input_tokens.max()
