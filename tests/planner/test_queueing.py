"""Waits against exact formulas."""

import math

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
    assert wait_quantile_s(rho, float(servers), 1.0, 0.99) == pytest.approx(exact_s, rel=0.1, abs=0.03)


@pytest.mark.parametrize(
    ("rho", "servers", "mean_s"),
    # Exact M/D/c: Pollaczek-Khinchine rho / (2 (1 - rho)) for one server; for more, half of M/M/c within a few
    # percent at these loads (Cosmetatos, "Some approximate equilibrium results for the multi-server queue", 1976).
    [(0.5, 1, 0.5), (0.8, 1, 2.0), (0.9, 1, 4.5), (0.9, 2, 0.5 * 4.2632), (0.9, 5, 0.5 * 1.5250)],
)
def test_the_mean_wait_of_equal_services_is_half_of_exponential_ones(rho: float, servers: int, mean_s: float) -> None:
    # The mean of a wait that is exponential once there is one: the integral of its quantiles.
    steps = 4000
    quantiles = [float(wait_quantile_s(rho, float(servers), 1.0, (i + 0.5) / steps, 0.0)) for i in range(steps)]
    assert sum(quantiles) / steps == pytest.approx(mean_s, rel=0.03)


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
