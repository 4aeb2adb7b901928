"""Fits the coefficients of `planner.perf.serving_step`: the mode of Cauchy errors in log space and normal priors.

Gauss-Newton steps with the exact Jacobian, damped (Levenberg, Marquardt) and reweighted, so that a fit takes a second
and every split can be left out in turn. What was measured together (engine version, model, GPU and format: a campaign)
errs together, so each campaign has an effect of its own while fitting, which no prediction uses.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from planner.perf.serving_step import COMMON, LEVELS, MEAN, SPREAD, Effect, Level, Placed, Steps, log_step_s, placed

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
ERROR = 0.1  # width of the Cauchy errors, in logs
MOST_STEPS = 25
CAMPAIGN: Effect = ("whole", "campaign")
CAMPAIGN_SPREAD = 0.08
SETTLED = 1e-4  # relative gain of a step that is not worth another


def fit_step(steps: Steps, together: Level, log_s: Array, train: Mask) -> tuple[Array, tuple[str, ...]]:
    """The coefficients and their names; effects of campaigns and of what no row of the mask shows are left out.

    `together`: the campaign of each row.
    """
    steps = replace(steps, whole=(*steps.whole, CAMPAIGN), levels={**steps.levels, CAMPAIGN[1]: together})
    names, mean, spread = _priors(steps, train)
    some = _rows(placed(steps, names), train)
    v = _mode(some, log_s[train], mean, spread)
    kept = np.array(["|campaign|" not in name for name in names])
    return v[kept], tuple(name for name, keep in zip(names, kept, strict=True) if keep)


def _priors(steps: Steps, train: Mask) -> tuple[list[str], Array, Array]:
    effects = dict.fromkeys([e for term in steps.terms for e in term.effects] + list(steps.whole))
    names: list[str] = []
    figures: list[tuple[float, float]] = []
    for effect in effects:
        seen = set(steps.levels[effect[1]].at[train].tolist())
        for i, name in enumerate(steps.names(effect)):
            if i in seen:
                names.append(name)
                figures.append(_prior(effect, name))
    mean, spread = np.array(figures).T
    return names, mean, spread


def _prior(effect: Effect, name: str) -> tuple[float, float]:
    if not effect[1]:
        start, spread = COMMON[effect[0]]
        return float(np.log(start)), spread
    if effect == CAMPAIGN:
        return 0.0, CAMPAIGN_SPREAD
    return MEAN.get((effect[0], name.rsplit("|", 1)[1]), 0.0), SPREAD.get(effect, LEVELS[effect[1]])


def _rows(p: Placed, mask: Mask) -> Placed:
    at = tuple(tuple(place[mask] for place in places) for places in p.at)
    return Placed(p.groups, p.group_of, p.log_work[mask], at, tuple(place[mask] for place in p.whole))


def _jacobian(p: Placed, shares: Array, size: int) -> Array:
    """(rows, coefficients): each effect moves the log by its term's share, effects on the whole by one."""
    out = np.zeros((len(shares), size + 1))
    row = np.arange(len(shares))
    for term, places in enumerate(p.at):
        for place in places:
            out[row, place] += shares[:, term]
    for place in p.whole:
        out[row, place] += 1.0
    return out[:, :size]


def _mode(p: Placed, y: Array, mean: Array, spread: Array) -> Array:
    def cost(r: Array, v: Array) -> float:
        return float(np.log1p((r / ERROR) ** 2 / 2).sum() + (((v - mean) / spread) ** 2).sum() / 2)

    v, damping = mean.copy(), 1e-3
    made, shares = log_step_s(v, p)
    now = cost(made - y, v)
    for _ in range(MOST_STEPS):
        r, jacobian = made - y, _jacobian(p, shares, len(v))
        weight = 1 / (1 + (r / ERROR) ** 2 / 2) / ERROR**2
        curvature = jacobian.T @ (jacobian * weight[:, None]) + np.diag(1 / spread**2)
        slope = jacobian.T @ (weight * r) + (v - mean) / spread**2
        before = now
        for _ in range(6):
            tried = v - np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), slope)
            made_there, shares_there = log_step_s(tried, p)
            there = cost(made_there - y, tried)
            if there < now:
                v, made, shares, now, damping = tried, made_there, shares_there, there, max(damping / 5, 1e-6)
                break
            damping *= 6
        if before - now < SETTLED * max(1.0, before):
            break
    return v
