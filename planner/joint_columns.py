"""The master of joint planning: one column of counts for every service, all of them together within the caps.

Minimise    sum_j cost[j] z[j] + sum_t penalty[t] over[t]
Subject to  sum of z[j] over the columns of a service = 1, for every service; z >= 0 (whole, when asked)
            sum_j uses[t, j] z[j] - over[t] <= cap[t], for every capped GPU type t
(Dantzig and Wolfe, Decomposition Principle for Linear Programs, 1960.) The duals of the caps are the prices of scarce
GPUs; the penalties keep these prices in a box while there are few columns.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.highs import INFINITY, LinearModel, Outcome, columns_of, solve
from planner.transport import Floats

_PICKED = 1e-6


@dataclass(frozen=True, slots=True)
class Column:
    """A way to serve one service: its cost, and its GPUs of every capped type. `counts` may be fractional."""

    service: int
    usd_per_hour: float
    uses: Floats
    counts: Floats


@dataclass(frozen=True, slots=True)
class Mixed:
    """The best mix of columns: `prices` of the caps (0 for a whole mix), GPUs `over` them, and the columns in use."""

    usd_per_hour: float
    prices: Floats
    over: Floats
    picked: tuple[Column, ...]


def mix(columns: list[Column], services: int, caps: Floats, penalty: Floats) -> Mixed:
    """The cheapest fractional mix. Every service has a column, so there always is one."""
    found = solve(_model(columns, services, caps, penalty, whole=False))
    used = found.x[: len(columns)]
    return Mixed(
        usd_per_hour=found.objective,
        prices=np.clip(-found.row_dual[services:], 0.0, penalty),
        over=found.x[len(columns) :],
        picked=tuple(columns[j] for j in np.flatnonzero(used > _PICKED)),
    )


def choose(columns: list[Column], services: int, caps: Floats, nodes: int, gap_ratio: float) -> Mixed | None:
    """One column for every service within the caps, the cheapest up to the limits; None when none was found."""
    model = _model(columns, services, caps, np.empty(0), whole=True)
    found = solve(model, nodes=nodes, gap_ratio=gap_ratio, verify=False)
    if found.outcome not in (Outcome.OPTIMAL, Outcome.FEASIBLE):
        return None
    picked = tuple(columns[j] for j in np.flatnonzero(found.x > 0.5))
    return Mixed(sum(c.usd_per_hour for c in picked), np.zeros(len(caps)), np.zeros(len(caps)), picked)


def _model(columns: list[Column], services: int, caps: Floats, penalty: Floats, *, whole: bool) -> LinearModel:
    uses = np.array([column.uses for column in columns]).reshape(len(columns), len(caps))
    over = np.arange(len(penalty))
    column, capped = np.nonzero(uses)
    rows = [np.array([c.service for c in columns]), services + capped, services + over]
    cols = [np.arange(len(columns)), column, len(columns) + over]
    values = [np.ones(len(columns)), uses[column, capped], -np.ones(len(over))]
    width = len(columns) + len(over)
    integer: NDArray[np.bool_] = np.full(width, whole)
    return LinearModel(
        cost=np.concatenate([[c.usd_per_hour for c in columns], penalty]),
        lower=np.zeros(width),
        upper=np.concatenate([np.full(len(columns), 1.0 if whole else INFINITY), np.full(len(over), INFINITY)]),
        row_lower=np.concatenate([np.ones(services), np.full(len(caps), -INFINITY)]),
        row_upper=np.concatenate([np.ones(services), caps]),
        matrix=columns_of(
            np.concatenate(rows).astype(np.int32),
            np.concatenate(cols).astype(np.int32),
            np.concatenate(values),
            width,
        ),
        integer=integer if whole else None,
    )
