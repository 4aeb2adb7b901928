"""Fits the coefficients of a first token (`planner.perf.serving_first`): Cauchy errors in log space, normal priors.

Gauss-Newton steps with damping (Levenberg, Quarterly of Applied Mathematics 2, 1944; Marquardt, SIAM Journal on Applied
Mathematics 11, 1963) on reweighted errors: a sum of exponentials has its derivatives in its shares, so that a fit of
some 500 coefficients takes a second. The width of the errors is narrowed in turns, so that broken runs do not decide.
"""

import numpy as np
from numpy.typing import NDArray

from planner.perf.serving_first import LEVELS, NAMES, TERMS, FirstIndex, Waits, columns_of, groups, log_coefficients

Array = NDArray[np.float64]
WIDTHS = (2.0, 0.5, 0.24, 0.12)  # of the errors, in logs; the last is about that of repeated runs of two versions
STEPS, TRIES = 6, 6
ENOUGH = 1.0  # gain in twice the log posterior below which a width is done
LARGEST_STEP = 1.0


def fit_first(found: Waits, at: FirstIndex, known: int, log_ttft: Array) -> Array:
    """The mode of the coefficients, common ones first, then by level and group (as `log_coefficients` reads them)."""
    mean, spread = _priors(known)
    places = _places(at, known)
    v, damping = mean.copy(), 0.3
    for width in WIDTHS:
        share, r, cost = _cost(v, found, at, known, log_ttft, width, mean, spread)
        for _ in range(STEPS):
            weight = np.sqrt(1 / (1 + (r / width) ** 2 / 2)) / width
            jacobian = np.zeros((len(r), len(v)))
            np.put_along_axis(jacobian, places, np.concatenate(_per_level(share), axis=1), axis=1)
            jacobian *= weight[:, None]
            hessian = jacobian.T @ jacobian
            slope = jacobian.T @ (r * weight) + (v - mean) / spread**2
            scale = np.diag(hessian) + 0.1 / spread**2
            hessian[np.diag_indices(len(v))] += 1 / spread**2
            for _ in range(TRIES):
                damped = hessian.copy()
                damped[np.diag_indices(len(v))] += damping * scale
                new = v - np.clip(np.linalg.solve(damped, slope), -LARGEST_STEP, LARGEST_STEP)
                new_share, new_r, new_cost = _cost(new, found, at, known, log_ttft, width, mean, spread)
                if new_cost < cost:
                    break
                damping *= 4
            else:
                break
            damping = max(damping / 3, 1e-4)
            gain, v, share, r, cost = cost - new_cost, new, new_share, new_r, new_cost
            if gain < ENOUGH:
                break
    return v


def _priors(known: int) -> tuple[Array, Array]:
    mean, spread = [np.log([start for start, _ in TERMS.values()])], [[width for _, width in TERMS.values()]]
    for level, count in zip(LEVELS, groups(known), strict=True):
        mean.append(np.zeros(len(level) * count))
        spread.append(list(level.values()) * count)
    return np.concatenate(mean), np.concatenate(spread)


def _places(at: FirstIndex, known: int) -> NDArray[np.int64]:
    """(rows, entries): where in the vector each share of a row's derivative goes; every row has its campaign here."""
    rows, start = len(at.engine), len(NAMES)
    out = [np.tile(np.arange(start), (rows, 1))]
    for level, count, of in zip(LEVELS, groups(known), (at.protocol, at.engine, at.campaign), strict=True):
        out.append(start + of[:, None] * len(level) + np.arange(len(level)))
        start += len(level) * count
    return np.concatenate(out, axis=1)


def _per_level(share: Array) -> list[Array]:
    return [share, *(share[:, columns_of(level)] for level in LEVELS)]


def _cost(
    v: Array, found: Waits, at: FirstIndex, known: int, y: Array, width: float, mean: Array, spread: Array
) -> tuple[Array, Array, float]:
    """Shares of the terms, errors, and twice the negative log posterior."""
    terms = found.parts * np.exp(log_coefficients(v, at, known))
    total = terms.sum(axis=1)
    r = np.log(total) - y
    cost = 2 * np.log1p((r / width) ** 2 / 2).sum() + (((v - mean) / spread) ** 2).sum()
    return terms / total[:, None], r, float(cost)
