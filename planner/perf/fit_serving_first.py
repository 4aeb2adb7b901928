"""Fits the coefficients of a first token (`planner.perf.serving_first`), with normal priors.

Of measured campaigns: Cauchy errors in log space, whose width is narrowed in turns, so that broken runs do not decide.
Of new ones: the size of the relative error, which is what a prediction of an unknown campaign is judged by; in logs it
would come out too high, as a prediction can be off by far more than 100 % above and no more than that below.

Gauss-Newton steps with damping (Levenberg, Quarterly of Applied Mathematics 2, 1944; Marquardt, SIAM Journal on Applied
Mathematics 11, 1963) on reweighted errors: a sum of exponentials has its derivatives in its shares, so that a fit of
some 500 coefficients takes a second.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.perf.serving_first import (
    NAMES,
    TERMS,
    FirstIndex,
    Level,
    Waits,
    columns_of,
    log_coefficients,
    measured_levels,
    new_levels,
)

Array = NDArray[np.float64]
WIDTHS = (2.0, 0.5, 0.24, 0.12)  # of the errors, in logs; the last is about that of repeated runs of two versions
NEW_WIDTHS = (2.0, 0.8)  # campaigns differ by more than a factor of two
# A relative error counts like its square below this, and in full far above; so much of it counts like one unit of the
# priors (twice their negative logarithm), as do errors of a campaign's width.
SMALL, UNIT = 0.3, 0.3
LARGEST_LOG = 4.0  # beyond e^4 times too high, more does not count
STEPS, NEW_STEPS, TRIES = 6, 12, 6
ENOUGH = 1.0  # gain in twice the log posterior below which a width is done
LARGEST_STEP = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """Twice the negative log likelihood, and an error per row with its derivative by the log and its weight."""

    total: float
    error: Array
    slope: Array
    weight: Array


Measure = Callable[[Array], Loss]


def fit_measured(found: Waits, at: FirstIndex, known: int, log_ttft: Array) -> Array:
    """The mode for measured campaigns: common coefficients first, then by level and group."""
    levels = measured_levels(at, known)
    return _mode(found, levels, log_ttft, [(_cauchy(width), STEPS) for width in WIDTHS])


def fit_new(found: Waits, at: FirstIndex, log_ttft: Array) -> Array:
    """The mode for campaigns that are new, in the same order."""
    measures = [(_cauchy(width), STEPS) for width in NEW_WIDTHS]
    return _mode(found, new_levels(at), log_ttft, [*measures, (_relative, NEW_STEPS)])


def _cauchy(width: float) -> Measure:
    def measure(r: Array) -> Loss:
        square = (r / width) ** 2 / 2
        return Loss(float(2 * np.log1p(square).sum()), r, np.ones(len(r)), 1 / (1 + square) / width**2)

    return measure


def _relative(r: Array) -> Loss:
    near = np.minimum(r, LARGEST_LOG)
    error = np.expm1(near)
    size = np.hypot(error, SMALL)
    return Loss(float(2 * (size - SMALL).sum() / UNIT), error, np.exp(near), 1 / size / UNIT)


def _mode(found: Waits, levels: Sequence[Level], y: Array, measures: Sequence[tuple[Measure, int]]) -> Array:
    mean, spread = _priors(levels)
    places = _places(levels, len(y))

    def cost(v: Array, measure: Measure) -> tuple[Array, Loss, float]:
        terms = found.parts * np.exp(log_coefficients(v, len(y), levels))
        total = terms.sum(axis=1)
        loss = measure(np.log(total) - y)
        return terms / total[:, None], loss, loss.total + float((((v - mean) / spread) ** 2).sum())

    v, damping = mean.copy(), 0.3
    for measure, steps in measures:
        share, loss, now = cost(v, measure)
        for _ in range(steps):
            jacobian = np.zeros((len(y), len(v) + 1))  # the last column takes what has no group
            np.put_along_axis(jacobian, places, np.concatenate(_per_level(share, levels), axis=1), axis=1)
            jacobian = jacobian[:, :-1] * (loss.slope * np.sqrt(loss.weight))[:, None]
            hessian = jacobian.T @ jacobian
            slope = jacobian.T @ (loss.error * np.sqrt(loss.weight)) + (v - mean) / spread**2
            scale = np.diag(hessian) + 0.1 / spread**2
            hessian[np.diag_indices(len(v))] += 1 / spread**2
            for _ in range(TRIES):
                damped = hessian.copy()
                damped[np.diag_indices(len(v))] += damping * scale
                new = v - np.clip(np.linalg.solve(damped, slope), -LARGEST_STEP, LARGEST_STEP)
                new_share, new_loss, there = cost(new, measure)
                if there < now:
                    break
                damping *= 4
            else:
                break
            damping = max(damping / 3, 1e-4)
            gain, v, share, loss, now = now - there, new, new_share, new_loss, there
            if gain < ENOUGH:
                break
    return v


def _priors(levels: Sequence[Level]) -> tuple[Array, Array]:
    mean, spread = [np.log([start for start, _ in TERMS.values()])], [[width for _, width in TERMS.values()]]
    for level in levels:
        mean.append(np.zeros(len(level.spread) * level.groups))
        spread.append(list(level.spread.values()) * level.groups)
    return np.concatenate(mean), np.concatenate(spread)


def _places(levels: Sequence[Level], rows: int) -> NDArray[np.int64]:
    """(rows, entries): where in the vector each share of a row's derivative goes, one past its end without a group."""
    start = len(NAMES)
    end = start + sum(len(level.spread) * level.groups for level in levels)
    out = [np.tile(np.arange(start), (rows, 1))]
    for level in levels:
        width = len(level.spread)
        at = start + level.at[:, None] * width + np.arange(width)
        out.append(np.where(level.at[:, None] >= 0, at, end))
        start += width * level.groups
    return np.concatenate(out, axis=1)


def _per_level(share: Array, levels: Sequence[Level]) -> list[Array]:
    return [share, *(share[:, columns_of(level)] for level in levels)]
