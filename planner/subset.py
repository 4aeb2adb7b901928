"""A program over some of its columns, the others at zero: smaller arrays where most recipes are out of question."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from planner.highs import Floats, LinearModel, Outcome, Solution, columns_of
from planner.program_rows import Place, Program
from planner.service import Bucket

_STEP = 4.0  # doublings of tokens within which requests are alike


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
    return _summed(model, at, len(columns))


def widened(solution: Solution, columns: NDArray[np.int64], width: int) -> Solution:
    """A solution of `subset` as one of the whole."""
    if solution.outcome not in (Outcome.OPTIMAL, Outcome.FEASIBLE):
        return solution
    x: Floats = np.zeros(width)
    x[columns] = solution.x
    return replace(solution, x=x)


def coarse(program: Program, model: LinearModel, columns: NDArray[np.int64]) -> tuple[LinearModel, NDArray[np.int64]]:
    """The program over `columns` where requests of similar size are routed alike, and the column that each becomes.

    A restriction with far fewer shares: its solutions solve the program, and cost a little more than need be.
    """
    kept = np.zeros(len(model.cost), dtype=np.bool_)
    kept[columns] = True
    at = np.full(len(model.cost), -1, dtype=np.int64)
    shares = {c for x in program.x.values() for c in x.values()}
    own = np.array([c for c in columns if c not in shares], dtype=np.int64)
    at[own] = np.arange(len(own))
    count = len(own)
    alike = _alike(program, kept)
    for place, x in program.x.items():
        seen: dict[int, int] = {}
        for bucket, column in x.items():
            if kept[column]:
                cluster = alike[program.profiles[place[0]].service, bucket]
                if cluster not in seen:
                    seen[cluster], count = count, count + 1
                at[column] = seen[cluster]
    return _summed(model, at, count), at


def _alike(program: Program, kept: NDArray[np.bool_]) -> dict[tuple[str, Bucket], int]:
    """(service, bucket) -> cluster: same SLO class, similar tokens, and served in the same places."""
    places: dict[tuple[str, Bucket], list[Place]] = {}
    for place, x in program.x.items():
        for bucket, column in x.items():
            if kept[column]:
                places.setdefault((program.profiles[place[0]].service, bucket), []).append(place)
    keys = {
        (service, b): (
            service,
            b.slo_class,
            int(np.log2(b.input_tokens + 1) / _STEP),
            int(np.log2(b.output_tokens + 1) / _STEP),
            tuple(where),
        )
        for (service, b), where in places.items()
    }
    number = {key: i for i, key in enumerate(dict.fromkeys(keys.values()))}
    return {bucket: number[key] for bucket, key in keys.items()}


def _summed(model: LinearModel, at: NDArray[np.int64], count: int) -> LinearModel:
    """Columns with the same target added up; bounds and costs of shares are equal (0 and up, free)."""
    of = at[np.repeat(np.arange(len(model.cost)), np.diff(model.matrix.start))]
    mine = of >= 0
    height = len(model.row_lower)
    keys, where = np.unique(of[mine] * height + model.matrix.index[mine], return_inverse=True)
    values = np.bincount(where, model.matrix.value[mine], len(keys)).astype(np.float64)
    source = np.zeros(count, dtype=np.int64)
    source[at[at >= 0]] = np.flatnonzero(at >= 0)
    return LinearModel(
        cost=model.cost[source],
        lower=model.lower[source],
        upper=model.upper[source],
        row_lower=model.row_lower,
        row_upper=model.row_upper,
        matrix=columns_of((keys % height).astype(np.int32), (keys // height).astype(np.int32), values, count),
        integer=None if model.integer is None else model.integer[source],
    )


def spread(solution: Solution, at: NDArray[np.int64]) -> Solution:
    """A solution of `coarse` as one of the whole."""
    if solution.outcome not in (Outcome.OPTIMAL, Outcome.FEASIBLE):
        return solution
    return replace(solution, x=np.where(at >= 0, np.append(solution.x, 0.0)[at], 0.0))
