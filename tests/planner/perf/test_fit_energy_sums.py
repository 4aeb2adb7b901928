"""The sums of the energy model find again what made seconds and watts; where rows say nothing, what is expected."""

import numpy as np
import pytest

from planner.perf.energy_terms import GROUPS, OTHERS, TERMS, TIMED, Coefficients, Terms, draw_ratio, shares, step_s
from planner.perf.fit_energy_sums import fit_draws, fit_factors

pytest.importorskip("scipy")
ROWS = 300
WEIGHT = np.full(ROWS, 2.0)


def engines() -> Terms:
    """Made-up engines, half of them on a Blackwell: every term takes a share of a step, another one in each row."""
    rng = np.random.default_rng(0)
    seconds = rng.lognormal(-6.0, 1.5, (ROWS, len(TIMED)))
    other = np.zeros((ROWS, len(OTHERS)))
    other[::2, OTHERS.index("blackwell")] = 1.0
    rated_w = np.full(ROWS, 700.0)
    return Terms(seconds, rng.lognormal(-8.0, 1.0, ROWS), other, rated_w, 0.1 * rated_w, np.zeros((ROWS, 1)))


def truth() -> Coefficients:
    """Factors a quarter above what is expected, and a Blackwell whose host takes 0.8 as long and draws 1.2 as much."""
    factors = np.array([1.25 * max(TERMS[name].factor, 0.1) for name in TIMED])
    slower, hotter = (np.ones((len(OTHERS), len(GROUPS))) for _ in range(2))
    at = (OTHERS.index("blackwell"), GROUPS.index("host"))
    slower[at], hotter[at] = 0.8, 1.2
    return Coefficients(factors, slower, np.array([0.8 * term.draw for term in TERMS.values()]), hotter)


def test_seconds_and_watts_that_follow_the_sums_are_found_again() -> None:
    asked, true = engines(), truth()
    seconds = step_s(asked, true)
    watts = asked.rated_w * draw_ratio(asked, shares(asked, true), true)
    factors, slower = fit_factors(asked, seconds, WEIGHT)
    made = fit_draws(Coefficients(factors, slower, factors, slower), asked, seconds, WEIGHT, watts)
    assert np.abs(step_s(asked, made) / seconds - 1).max() < 0.03
    assert np.abs(asked.rated_w * draw_ratio(asked, shares(asked, made), made) / watts - 1).max() < 0.03
    assert slower[OTHERS.index("blackwell"), GROUPS.index("host")] == pytest.approx(0.8, abs=0.05)


def test_an_architecture_without_rows_keeps_hoppers_figures() -> None:
    asked, true = engines(), truth()
    slower = fit_factors(asked, step_s(asked, true), WEIGHT)[1]
    assert slower[OTHERS.index("ampere")] == pytest.approx(np.ones(len(GROUPS)))


def test_an_engine_that_waits_teaches_what_waiting_draws() -> None:
    asked, true = engines(), truth()
    seconds = 4 * step_s(asked, true)
    spent = shares(asked, true, seconds)
    assert spent[:, -1] == pytest.approx(np.full(ROWS, 0.75))
    watts = asked.rated_w * draw_ratio(asked, spent, true)
    made = fit_draws(true, asked, seconds, WEIGHT, watts)
    assert np.abs(asked.rated_w * draw_ratio(asked, spent, made) / watts - 1).max() < 0.03
    assert made.draws[-1] < TERMS["waiting"].draw  # it was 0.8 of that
