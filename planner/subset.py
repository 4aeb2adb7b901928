"""A program over some of its columns, the others at zero: smaller arrays where most recipes are out of question."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from planner.highs import Floats, LinearModel, Outcome, Solution, columns_of
from planner.program_rows import Program


def without(program: Program, barred: Iterable[int], columns: int) -> NDArray[np.int64]:
    """Columns that stay when the options at `barred` positions may not be used; `columns` in all."""
    out = set(barred)
    stay = np.ones(columns, dtype=np.bool_)
    stay[[program.n[i] for i in out]] = False
    open_places = {(id(o.profile), o.site) for i, o in enumerate(program.options) if i not in out}
    for (index, site), x in program.x.items():
        if (id(program.profiles[index]), site) not in open_places:
            stay[list(x.values())] = False
    return np.flatnonzero(stay)


def subset(model: LinearModel, columns: NDArray[np.int64]) -> LinearModel:
    """The program over `columns` (in order)."""
    at = np.full(len(model.cost), -1, dtype=np.int64)
    at[columns] = np.arange(len(columns))
    of = np.repeat(np.arange(len(model.cost)), np.diff(model.matrix.start))
    mine = at[of] >= 0
    return LinearModel(
        cost=model.cost[columns],
        lower=model.lower[columns],
        upper=model.upper[columns],
        row_lower=model.row_lower,
        row_upper=model.row_upper,
        matrix=columns_of(
            model.matrix.index[mine], at[of[mine]].astype(np.int32), model.matrix.value[mine], len(columns)
        ),
        integer=None if model.integer is None else model.integer[columns],
    )


def widened(solution: Solution, columns: NDArray[np.int64], width: int) -> Solution:
    """A solution of `subset` as one of the whole."""
    if solution.outcome not in (Outcome.OPTIMAL, Outcome.FEASIBLE):
        return solution
    x: Floats = np.zeros(width)
    x[columns] = solution.x
    return replace(solution, x=x)
