"""Fits the sums of the energy model: maximum a posteriori, errors that forgive outliers, priors from `TERMS`."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from planner.perf.energy_terms import (
    OTHERS,
    TERMS,
    TIMED,
    Coefficients,
    Terms,
    group_of,
    limited,
    limited_slope,
    shares,
    spent_s,
    wanted,
)

Array = NDArray[np.float64]
DOUBT_S, DOUBT_W = 0.10, 0.08  # log seconds and watts by which engines depart from the sums


def fit_factors(asked: Terms, seconds: Array, weight: Array) -> tuple[Array, Array]:
    """Factors on the terms and the ratios of the newer architecture, drawn towards what is expected of them."""
    group = group_of()[: len(TIMED)]
    known, ratios = len(TIMED), len(OTHERS) * group.shape[1]
    expected = np.log([TERMS[name].factor for name in TIMED] + [1.0] * ratios)
    least = np.log([max(TERMS[name].least, 0.02) for name in TIMED])
    doubt = np.concatenate([np.full(known, 0.5), np.full(ratios, 0.3)])

    def made(logs: Array) -> Coefficients:
        slower = np.exp(logs[known:]).reshape(len(OTHERS), -1)
        return Coefficients(np.exp(logs[:known]), slower, logs, slower)

    def away(logs: Array) -> tuple[Array, Array]:
        spent = spent_s(asked, made(logs))
        share = spent / spent.sum(axis=1)[:, None]
        return np.log(spent.sum(axis=1) / seconds) / DOUBT_S, np.hstack(
            [share, _by_other(asked, share @ group)]
        ) / DOUBT_S

    lows = np.concatenate([least, np.full(ratios, -1.0)])
    highs = np.concatenate([np.full(known, 6.0), np.full(ratios, 1.0)])
    found = made(_fit(away, expected, doubt, (lows, highs), weight))
    return found.factors, found.slower


def fit_draws(sums: Coefficients, asked: Terms, seconds: Array, weight: Array, watts: Array) -> Coefficients:
    """The coefficients with draws, and their ratios, drawn towards what is expected of them.

    Rows share out the seconds that were measured: what an engine waits beyond the sum has a draw of its own, so that
    even engines which wait for their host most of the time teach what the rest of their steps draws.
    """
    spent, group = shares(asked, sums, seconds), group_of()
    known, ratios = len(TERMS), len(OTHERS) * group.shape[1]
    expected = np.concatenate([[term.draw for term in TERMS.values()], np.zeros(ratios)])

    def made(values: Array) -> Coefficients:
        return replace(sums, draws=values[:known], hotter=np.exp(values[known:]).reshape(len(OTHERS), -1))

    def away(values: Array) -> tuple[Array, Array]:
        each = wanted(asked, spent, made(values))
        drawn = limited(each.sum(axis=1))
        slope = np.hstack([each / values[:known], _by_other(asked, each @ group)])
        slope *= (limited_slope(each.sum(axis=1)) / drawn)[:, None]
        return np.log(asked.rated_w * drawn / watts) / DOUBT_W, slope / DOUBT_W

    lows = np.concatenate([np.full(known, 0.08), np.full(ratios, -1.0)])
    highs = np.concatenate([np.full(known, 1.8), np.full(ratios, 1.0)])
    return made(_fit(away, expected, np.full(len(expected), 0.2), (lows, highs), weight))


def _by_other(asked: Terms, by_group: Array) -> Array:
    """A column for each ratio: what a group has of a row of that architecture."""
    return (asked.other[:, :, None] * by_group[:, None, :]).reshape(len(by_group), -1)


def _fit(
    away: Callable[[Array], tuple[Array, Array]],
    expected: Array,
    doubt: Array,
    bounds: tuple[Array, Array],
    weight: Array,
) -> Array:
    """What makes errors (forgiving large ones) and departures from what is expected small, both in units of doubt."""
    from scipy.optimize import least_squares

    def errors(values: Array) -> Array:
        far = away(values)[0]
        root = np.sqrt(2 * (np.sqrt(1 + far * far) - 1))
        return np.concatenate([weight * np.sign(far) * root, (values - expected) / doubt])

    def slopes(values: Array) -> Array:
        far, slope = away(values)
        root = np.sqrt(2 * (np.sqrt(1 + far * far) - 1))
        small = root < 1e-6
        chain = np.where(small, 1.0, np.abs(far) / np.sqrt(1 + far * far) / np.where(small, 1.0, root))
        return np.vstack([(weight * chain)[:, None] * slope, np.diag(1 / doubt)])

    start = np.clip(expected, bounds[0] + 1e-6, bounds[1] - 1e-6)
    return np.asarray(least_squares(errors, start, jac=slopes, bounds=bounds, max_nfev=40).x)
