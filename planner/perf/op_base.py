"""The time of a kernel as a sum of what it asks of a GPU, each at a price that its library shows on measured rows.

Terms (`planner/perf/op_features.py`) are seconds at data sheet rates: a launch, arithmetic, arithmetic in whole tiles,
memory, memory as far as multiprocessors can ask for it, then what the family adds. Arithmetic and memory overlap (a
norm of order three), the rest adds up. Prices of memory have a tight prior near what memory delivers, since a kernel
that needs far more time is not held up by memory, and would not gain from a faster one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
OVERLAP = 3.0
ARITHMETIC, MEMORY = slice(1, 3), slice(3, 5)
# Logarithms of prices before any row was seen, and how firmly they are held, in units of one row's log error.
_PRIOR = (1.5, 0.0, -1.0, 0.15, -1.0)
_OTHER = -1.0
_FIRM, _LOOSE, _FIRM_MEMORY = 0.005, 0.02, 10.0
# What libraries never measured are taken to cost: the lower quartile of those measured, term by term. New libraries
# are written because the old ones were slower.
UNSEEN_QUANTILE = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """Logarithms of prices: of each group (library and dtype), (groups, terms), and of a group never measured."""

    groups: Array
    log_prices: Array
    unseen: Array


def base_s(prices: Prices, terms: Array, group: Array) -> Array:
    """Seconds of every kernel, from its terms (rows, terms) and its group."""
    at = np.searchsorted(prices.groups, group).clip(0, len(prices.groups) - 1)
    table = np.concatenate([prices.log_prices, prices.unseen[None]])
    return _time(table[np.where(prices.groups[at] == group, at, len(prices.groups))], terms)[0]


def _time(log_price: Array, terms: Array) -> tuple[Array, Array]:
    """Seconds, and their derivatives by the logarithm of each price."""
    cost = np.exp(log_price) * terms
    arithmetic, memory = cost[:, ARITHMETIC].sum(axis=1), cost[:, MEMORY].sum(axis=1)
    most = np.maximum(arithmetic, memory)
    longer = most * ((arithmetic / most) ** OVERLAP + (memory / most) ** OVERLAP) ** (1 / OVERLAP)
    time_s = cost[:, 0] + longer + cost[:, 5:].sum(axis=1)
    slope = cost.copy()
    slope[:, ARITHMETIC] *= ((arithmetic / longer) ** (OVERLAP - 1))[:, None]
    slope[:, MEMORY] *= ((memory / longer) ** (OVERLAP - 1))[:, None]
    return time_s, slope


def fitted(terms: Array, group: Array, gpu: NDArray[np.str_], time_s: Array, most: int = 4000) -> Prices:
    """Prices of every group, near those of all groups together; each GPU has an equal say."""
    names = np.unique(group)
    rng = np.random.default_rng(0)
    few = _sample([(group == g) & (gpu == name) for g in names for name in np.unique(gpu)], 700, rng)
    prior = np.array([*_PRIOR, *[_OTHER] * (terms.shape[1] - len(_PRIOR))])
    common = _robust(terms[few], time_s[few], prior, _FIRM)
    common[3] = prior[3]
    rows = []
    for g in names:
        some = _sample([(group == g) & (gpu == name) for name in np.unique(gpu)], most, rng)
        rows.append(_robust(terms[some], time_s[some], common, _LOOSE))
    table = np.array(rows)
    return Prices(names, table, np.quantile(table, UNSEEN_QUANTILE, axis=0))


def _sample(masks: list[NDArray[np.bool_]], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.concatenate([rng.permutation(np.flatnonzero(mask))[:most] for mask in masks])


def _robust(terms: Array, time_s: Array, prior: Array, firm: float) -> Array:
    """Least squares in logarithms, reweighted towards least absolute deviations."""
    found, weight = prior, np.ones(len(time_s))
    for _ in range(3):
        found = _least_squares(terms, time_s, prior, firm, weight, found)
        error = np.abs(np.log(_time(found[None], terms)[0] / time_s))
        weight = 1 / np.maximum(error, 0.03)
        weight /= weight.mean()
    return found


def _least_squares(terms: Array, time_s: Array, prior: Array, firm: float, weight: Array, start: Array) -> Array:
    """Levenberg and Marquardt's steps on weighted squares of log errors plus the prior."""
    hold = np.full(len(prior), firm**2)
    hold[3] *= _FIRM_MEMORY**2
    share = weight / len(time_s)

    def loss(at: Array) -> float:
        error = np.log(_time(at[None], terms)[0] / time_s)
        return float(share @ error**2 + hold @ (at - prior) ** 2)

    at, damping = start.copy(), 1e-3
    now = loss(at)
    for _ in range(60):
        made, slope = _time(at[None], terms)
        slope = slope / made[:, None]
        bend = slope.T @ (share[:, None] * slope) + np.diag(hold)
        pull = slope.T @ (share * np.log(made / time_s)) + hold * (at - prior)
        step = np.linalg.solve(bend + damping * np.diag(np.diag(bend)), pull)
        new = at - np.clip(step, -2.0, 2.0)
        then = loss(new)
        if then < now:
            at, done, now, damping = new, now - then < 1e-9 * now, then, damping / 5
            if done:
                break
        else:
            damping *= 5
    return at
