"""Several services in one program: each solved alone, tied together by prices on what they share.

Lagrangian relaxation of the shared rows (GPUs of node groups, watts, quotas, commitments) with prices p >= 0:
    bound(p) = sum over services of min (c_s + p A_s) x  -  p b
Every service keeps the shared rows for itself, which makes its own problem no easier than it is. Prices come from the
linear program. The recipes that any service chose at any prices are its proposals; the whole program over proposals
alone is small, and its solution is a plan that keeps every constraint.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.highs import INFINITY, Floats, LinearModel, Outcome, Solution, solve
from planner.program_rows import Program
from planner.search import Search, better, solved
from planner.subset import coarse, spread, subset, widened, without

_ROUNDS = 4
_MERGE_NODES = 200
_NODE_COLUMNS = 1_000_000  # nodes of a service's own problem, times its columns
_CLOSED = 1e-6
_SHARED = ("gpus of ", "power of ", "quota ", "committed_", "cover_")


@dataclass(frozen=True, slots=True)
class Part:
    """One service's own program: its model, where its counts stand in the whole, and the shared rows it touches."""

    service: str
    model: LinearModel
    n: tuple[int, ...]
    at: tuple[int, ...]
    shared: Mapping[str, int]


def _parts(program: Program, alone: Mapping[str, Program]) -> list[Part]:
    out = []
    for name, own in alone.items():
        shared = {row: i for i, row in enumerate(own.rows.names) if row.startswith(_SHARED)}
        out.append(Part(name, own.rows.model(), own.n, tuple(program.of(name)), shared))
    return out


def decompose(
    program: Program, model: LinearModel, alone: Callable[[], Mapping[str, Program]], search: Search
) -> Solution:
    """A solution of the whole with a proved bound; UNKNOWN where proposals do not fit together.

    `alone` makes the program of each service by itself.
    """
    relaxed = solve(replace(model, integer=None), time_limit_s=search.seconds())
    if relaxed.outcome is Outcome.INFEASIBLE:
        return relaxed
    parts = _parts(program, alone())
    best = Solution(Outcome.UNKNOWN, INFINITY, relaxed.bound, np.empty(0), np.empty(0))
    proposed = {at for at, n in enumerate(program.n) if relaxed.outcome is Outcome.OPTIMAL and relaxed.x[n] > _CLOSED}
    if proposed:
        best = replace(_early(program, model, proposed, search), bound=relaxed.bound)
    prices: dict[str, float] = {}
    for turn in range(_ROUNDS):
        before = len(proposed)
        bound, infeasible = _round(program, model, parts, prices, proposed, search.within(0.7))
        if infeasible:
            return replace(best, outcome=Outcome.INFEASIBLE)
        best = replace(best, bound=max(best.bound, bound))
        if len(proposed) > before and not _closed(best, search):
            best = replace(better(best, _merged(program, model, proposed, search, best)), bound=best.bound)
        if _closed(best, search) or search.over() or (turn > 0 and len(proposed) == before):
            break
        last = relaxed if turn == 0 else _relaxed(program, model, proposed, search)
        prices = _prices(program, last, prices if turn > 1 else {})
    return replace(best, bound=min(best.bound, best.objective))


def _closed(best: Solution, search: Search) -> bool:
    return best.objective - best.bound <= max(_CLOSED, search.gap_ratio) * abs(best.objective)


def _round(
    program: Program,
    model: LinearModel,
    parts: Sequence[Part],
    prices: Mapping[str, float],
    proposed: set[int],
    search: Search,
) -> tuple[float, bool]:
    """The bound at these prices, and whether some service cannot run even alone; adds to `proposed`."""
    row_at = {name: i for i, name in enumerate(program.rows.names)}
    bound = -sum(price * float(model.row_upper[row_at[row]]) for row, price in prices.items())
    for turn, part in enumerate(parts):
        charged = replace(part.model, cost=part.model.cost + _charge(part, prices))
        nodes = max(1, min(search.nodes, _NODE_COLUMNS // len(charged.cost)))
        found = solved(charged, search.within(1 / (len(parts) - turn)), nodes, search.gap_ratio)
        if found.outcome is Outcome.INFEASIBLE:
            return INFINITY, True
        bound += found.bound
        if len(found.x):
            proposed |= {at for at, n in zip(part.at, part.n, strict=True) if found.x[n] > 0.5}
    return bound, False


def _charge(part: Part, prices: Mapping[str, float]) -> Floats:
    """Prices on shared rows as costs of the part's columns."""
    weight = np.zeros(len(part.model.row_lower))
    for row, price in prices.items():
        if row in part.shared:
            weight[part.shared[row]] = price
    column = np.repeat(np.arange(len(part.model.cost)), np.diff(part.model.matrix.start))
    charge = np.bincount(column, part.model.matrix.value * weight[part.model.matrix.index], len(part.model.cost))
    return charge.astype(np.float64)


def _merged(program: Program, model: LinearModel, proposed: set[int], search: Search, best: Solution) -> Solution:
    """The whole program over the proposals; its bound holds for them only."""
    columns = without(program, set(range(len(program.n))) - proposed, len(model.cost))
    found = solve(
        subset(model, columns),
        gap_ratio=search.gap_ratio,
        nodes=min(search.nodes, _MERGE_NODES),
        time_limit_s=search.seconds(),
        start=best.x[columns] if len(best.x) else None,
        verify=False,
        polish=not len(best.x),
    )
    usable = found.outcome in (Outcome.OPTIMAL, Outcome.FEASIBLE)
    outcome = Outcome.FEASIBLE if usable else Outcome.UNKNOWN
    return replace(widened(found, columns, len(model.cost)), outcome=outcome, bound=-INFINITY)


def _early(program: Program, model: LinearModel, proposed: set[int], search: Search) -> Solution:
    """A plan soon: the recipes of the linear program, with requests of similar size routed alike."""
    columns = without(program, set(range(len(program.n))) - proposed, len(model.cost))
    small, at = coarse(program, model, columns)
    found = solve(small, nodes=1, time_limit_s=search.seconds(), verify=False)
    usable = found.outcome in (Outcome.OPTIMAL, Outcome.FEASIBLE)
    return replace(spread(found, at), outcome=Outcome.FEASIBLE if usable else Outcome.UNKNOWN)


def _relaxed(program: Program, model: LinearModel, proposed: set[int], search: Search) -> Solution:
    """The linear program over the proposals, for its prices."""
    columns = without(program, set(range(len(program.n))) - proposed, len(model.cost))
    return solve(replace(subset(model, columns), integer=None), time_limit_s=search.seconds())


def _prices(program: Program, relaxed: Solution, last: Mapping[str, float]) -> dict[str, float]:
    """Prices of shared rows from the duals of a linear program, halfway from the last ones where there are any."""
    if relaxed.outcome is not Outcome.OPTIMAL:
        return dict(last)
    rows = [(i, name) for i, name in enumerate(program.rows.names) if name.startswith(_SHARED)]
    new = {name: max(0.0, -float(relaxed.row_dual[i])) for i, name in rows}
    return {name: (price + last[name]) / 2 if last else price for name, price in new.items()}
