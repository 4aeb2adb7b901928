"""Prices of terms: a kernel by hand, prices found again, libraries never measured."""

import numpy as np
import pytest

from planner.perf.op_base import UNSEEN_QUANTILE, Prices, base_s, fitted

TERMS = np.array([[1e-6, 3e-4, 0.0, 4e-4, 0.0, 1e-5]])


def test_arithmetic_and_memory_overlap_and_the_rest_adds_up() -> None:
    prices = Prices(np.array([7.0]), np.log([[5.0, 1.0, 1.0, 1.0, 1.0, 2.0]]), np.zeros(6))
    expected = 5e-6 + (3e-4**3 + 4e-4**3) ** (1 / 3) + 2e-5
    assert base_s(prices, TERMS, np.array([7.0]))[0] == pytest.approx(expected)


def test_a_group_never_measured_pays_the_lower_quartile() -> None:
    rng = np.random.default_rng(1)
    terms = rng.uniform(1e-6, 1e-3, size=(900, 6))
    terms[:, 0] = 1e-6
    group, gpu = np.repeat([0.0, 1.0, 2.0], 300), np.full(900, "A")
    true = np.log(np.array([[4.0, 1.2, 0.3, 1.1, 0.2, c] for c in (0.2, 0.4, 0.8)]))
    time_s = base_s(Prices(np.array([0.0, 1.0, 2.0]), true, true[0]), terms, group)
    made = fitted(terms, group, gpu, time_s)
    assert np.median(np.abs(base_s(made, terms, group) / time_s - 1)) < 0.02
    assert made.unseen == pytest.approx(np.quantile(made.log_prices, UNSEEN_QUANTILE, axis=0))
    unseen = base_s(made, terms, np.full(900, 5.0))
    dearest = base_s(made, terms, np.full(900, 2.0))
    assert np.median(unseen / dearest) < 1
