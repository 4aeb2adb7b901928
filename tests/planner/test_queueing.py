"""Waits against exact formulas."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.queueing import count_quantile, deviates, wait_quantile_s


def erlang_c(servers: int, load: float) -> float:
    """Probability to wait in M/M/c with `load` = arrivals x service time."""
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = load * blocked / (n + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def mean_wait_s(rho: float, servers: int, service_scv: float) -> float:
    """In service times: the mean of the quantiles."""
    percentiles = (np.arange(20_000) + 0.5) / 20_000
    return float(np.mean(wait_quantile_s(rho, float(servers), 1.0, percentiles, service_scv)))


@given(st.floats(0.001, 0.99), st.floats(0.5, 0.999), st.floats(1e-3, 100))
def test_one_exponential_server_is_exact(rho: float, percentile: float, service_s: float) -> None:
    # M/M/1: P(wait > t) = rho exp(-(1 - rho) t / service)
    exact_s = max(0.0, service_s / (1 - rho) * math.log(rho / (1 - percentile)))
    assert wait_quantile_s(rho, 1.0, service_s, percentile) == pytest.approx(exact_s, rel=1e-9, abs=1e-12)


def test_half_busy_a_95th_percentile_waits_4_6_service_times() -> None:
    assert wait_quantile_s(0.5, 1.0, 1.0, 0.95) == pytest.approx(2 * math.log(10))


@pytest.mark.parametrize("servers", [2, 5, 20, 100])
@pytest.mark.parametrize("rho", [0.7, 0.8, 0.9, 0.95])
def test_many_exponential_servers_are_close_to_erlang(servers: int, rho: float) -> None:
    # M/M/c: P(wait > t) = C exp(-c (1 - rho) t / service); the 99th percentile, in service times
    exact_s = max(0.0, math.log(erlang_c(servers, servers * rho) / 0.01) / (servers * (1 - rho)))
    assert wait_quantile_s(rho, float(servers), 1.0, 0.99) == pytest.approx(exact_s, rel=0.1, abs=0.08)


@pytest.mark.parametrize(("rho", "mean_s"), [(0.5, 0.5), (0.8, 2.0), (0.9, 4.5)])
def test_the_mean_wait_for_one_constant_service_is_pollaczek_khinchines(rho: float, mean_s: float) -> None:
    assert mean_wait_s(rho, 1, service_scv=0.0) == pytest.approx(mean_s, rel=0.01)  # M/D/1: rho / (2 (1 - rho))


@pytest.mark.parametrize("servers", [2, 5, 10])
def test_the_mean_wait_for_constant_services_is_close_to_cosmetatos(servers: int) -> None:
    # M/D/c within 2 %: Cosmetatos, "Some approximate equilibrium results for the multi-server queue (M/G/r)", 1976.
    rho = 0.9
    correction = (1 - rho) * (servers - 1) * (math.sqrt(4 + 5 * servers) - 2) / (16 * rho * servers)
    exponential_s = erlang_c(servers, servers * rho) / (servers * (1 - rho))
    assert mean_wait_s(rho, servers, service_scv=0.0) == pytest.approx(exponential_s / 2 * (1 + correction), rel=0.04)


def test_a_full_server_makes_wait_forever_and_an_empty_one_not_at_all() -> None:
    assert wait_quantile_s(1.0, 4.0, 1.0, 0.95) == math.inf
    assert wait_quantile_s(1.7, 1.0, 1.0, 0.95) == math.inf
    assert wait_quantile_s(0.0, 1.0, 1.0, 0.95) == 0.0


@given(st.floats(0, 1.2), st.floats(0, 0.3), st.integers(1, 500), st.floats(0, 1e3), st.floats(0.01, 0.999999))
def test_waits_grow_with_load_and_are_no_numbers_but_sound_ones(
    rho: float, more: float, servers: int, service_s: float, percentile: float
) -> None:
    before_s, after_s = (float(wait_quantile_s(r, float(servers), service_s, percentile)) for r in (rho, rho + more))
    assert 0 <= before_s <= after_s * (1 + 1e-9)
    assert not math.isnan(after_s)


def test_the_count_of_poisson_events_at_a_percentile() -> None:
    assert deviates(0.95) == pytest.approx(1.6449, rel=1e-4)
    assert count_quantile(100.0, deviates(0.95)) == pytest.approx(116.4, rel=1e-3)  # exact: 117
    assert count_quantile(0.04, deviates(0.01)) == 0.0  # never below none
