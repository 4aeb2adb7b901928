"""Why a program has no solution: constraints that conflict, and the cheapest loosening that gives it one.

Every knob of the user's (`Loosening`) gets a column priced in $/h per unit. The cheapest use of these columns is the
way out. Knobs that matter are those with a price in the linear program of the least loosening (a sensitivity filter),
thinned out by a deletion filter (Chinneck and Dravnieks 1991, "Locating minimal infeasible constraint sets in linear
programs"): a knob without whose rows the rest still conflicts is no part of the conflict.
"""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from planner.hardware import Inventory, Quota
from planner.highs import INFINITY, Floats, LinearModel, Outcome, Solution, columns_of, solve
from planner.plan import Change, ChangeKind, Infeasible, Plan
from planner.program_rows import Loosening, Program
from planner.search import Search, over_used, solved
from planner.service import ServiceSpec
from planner.subset import coarse, spread, without
from planner.tenants import label, row_of, tenants
from planner.words import named, needs, told, way_out

_ENOUGH = 1e-6
_NODES = 100  # a feasibility question is answered early or not at all
_MIDDLE = 2_000  # columns of a program whose way out is looked for in part of it
_WAY_OUT_GAP = 0.01
_NEAR_GAP = 0.02  # over the recipes of the linear program, which is a guess anyway
SMALL_COLUMNS = 10_000  # columns of a program that is asked many questions
_OWN_COST = 1e-3  # of the plan's own price, when loosenings are priced


def over_budget(
    program: Program, model: LinearModel, services: Sequence[ServiceSpec], search: Search
) -> tuple[Infeasible, Floats | None] | None:
    """Services that cost more than their budgets even with every node free for them, and what would be enough.

    With it a solution of the program after that, where there is one service only.
    """
    after: Floats | None = None
    dear: list[tuple[str, float, float, float]] = []
    for service in services:
        budget = service.constraints.usd_per_hour
        if budget is None or search.over():
            continue
        least = _least(program, model, "budget", f"budget of {service.name}", {service.name}, budget, search)
        if least is not None and least.bound > budget + _ENOUGH:
            dear.append((service.name, budget, least.bound, math.ceil(least.objective * 100 - _ENOUGH) / 100))
            after = least.x if len(services) == 1 else None
    if not dear:
        return None
    why = Infeasible(
        why="; ".join(f"{name} costs at least ${low:.2f}/h, its budget is ${has:.2f}/h" for name, has, low, _ in dear),
        constraints=tuple(f"budget of {name}" for name, *_ in dear),
        relaxation=" and ".join(f"raise the budget of {name} to ${enough:.2f}/h" for name, _, _, enough in dear),
        changes=tuple(Change("budget", name, enough) for name, _, _, enough in dear),
    )
    return why, after


def over_quota(
    program: Program, model: LinearModel, services: Sequence[ServiceSpec], inventory: Inventory, search: Search
) -> tuple[Infeasible, Floats | None] | None:
    """Namespaces whose services need more GPUs than they may have even with every node free for them."""
    after: Floats | None = None
    short: list[tuple[Quota, int, int]] = []
    for quota in inventory.quotas:
        mine = {service.name for service in tenants(quota, services)}
        if row_of(quota) not in program.rows.names or search.over():
            continue
        left = quota.gpus - quota.held_gpus
        least = _least(program, model, "quota", row_of(quota), mine, left, search)
        if least is not None and least.bound > left + _ENOUGH:
            needed, enough = (math.ceil(gpus - _ENOUGH) for gpus in (least.bound, least.objective))
            short.append((quota, needed, quota.held_gpus + enough))
            after = least.x if len(mine) == len(services) else None
    if not short:
        return None
    why = Infeasible(
        why="; ".join(needs(quota, needed) for quota, needed, _ in short),
        constraints=tuple(f"quota {label(quota)} ({quota.gpus} GPUs)" for quota, *_ in short),
        relaxation=" and ".join(f"raise quota {label(quota)} to {enough} GPUs" for quota, _, enough in short),
        changes=tuple(Change("quota", label(quota), float(enough)) for quota, _, enough in short),
    )
    return why, after


def _least(
    program: Program,
    model: LinearModel,
    kind: ChangeKind,
    name: str,
    mine: Collection[str],
    allowed: float,
    search: Search,
) -> Solution | None:
    """The least that some services need of a row with the others out of the way; None where that does not let them run.

    `kind`: of knobs to open, among which is the row's. Where fractions of replicas need more than is allowed already,
    that is proof enough, and some good solution will do.
    """
    row = program.rows.names.index(name)
    bill = np.zeros_like(model.cost)
    column = np.repeat(np.arange(len(model.cost)), np.diff(model.matrix.start))
    here = model.matrix.index == row
    bill[column[here]] = model.matrix.value[here]
    row_upper, row_lower, upper = model.row_upper.copy(), model.row_lower.copy(), model.upper.copy()
    for knob in program.loosenings:
        if knob.kind == kind:
            row_upper[[at for at, _ in knob.terms]] = INFINITY
    for other, dues in program.dues.items():
        if other not in mine:
            row_lower[dues], row_upper[dues] = -INFINITY, INFINITY
    upper[[n for n, o in zip(program.n, program.options, strict=True) if o.service not in mine]] = 0.0
    alone = replace(model, cost=bill, upper=upper, row_lower=row_lower, row_upper=row_upper)
    relaxed = solve(replace(alone, integer=None), time_limit_s=search.seconds())
    if relaxed.outcome is not Outcome.OPTIMAL:
        return None
    if relaxed.objective > allowed + _ENOUGH and (some := over_used(alone, relaxed.x, search, _WAY_OUT_GAP)):
        return replace(some, bound=relaxed.objective)
    found = solved(alone, search, _NODES, _WAY_OUT_GAP)
    return found if found.outcome in (Outcome.OPTIMAL, Outcome.FEASIBLE) else None


def mended(why: Infeasible, program: Program, again: Callable[[Sequence[Change], int], Plan], turns: int) -> Infeasible:
    """A way out that was planned with: with what it takes besides, and without what then is needless."""
    then = again(why.changes, turns).infeasible
    if then is None or not then.changes:
        return why
    changes = {(c.kind, c.target): c for c in (*why.changes, *then.changes)}
    for key in list(changes):
        fewer = [change for other, change in changes.items() if other != key]
        if again(fewer, 0).status in ("optimal", "feasible"):
            del changes[key]
    said = tuple(changes.values())
    return replace(why, relaxation=way_out(said, program), changes=said)


def explain(
    program: Program, model: LinearModel, services: Sequence[ServiceSpec], search: Search
) -> tuple[Infeasible, Floats | None]:
    """The conflict and the way out of an infeasible program, and a solution of the program after it."""
    knobs = program.loosenings
    loose = _loosened(model, program)
    relaxed = solve(replace(loose, integer=None))
    if relaxed.outcome is not Outcome.OPTIMAL:
        return _hopeless(program), None
    found = _way_out(program, loose, relaxed, search)
    units = found.x[len(model.cost) :]
    changes = tuple(_change(knob, float(u)) for knob, u in zip(knobs, units, strict=True) if u > _ENOUGH)
    conflict = _conflict(model, program, relaxed, units)
    # There may be several conflicts; what the way out changes is part of one of them.
    conflict += [k for k, u in zip(knobs, units, strict=True) if u > _ENOUGH and not any(k is c for c in conflict)]
    why = Infeasible(
        why=f"no plan keeps {told(conflict, program)}" if conflict else "no plan keeps all constraints",
        constraints=tuple(dict.fromkeys(named([knob], program.stock) for knob in conflict)),
        relaxation=way_out(changes, program) + _leave_out(model, program, services),
        changes=changes,
    )
    return why, found.x[: len(model.cost)]


def _hopeless(program: Program) -> Infeasible:
    """What no knob helps: some service finds no place at all."""
    return Infeasible(
        why="no plan keeps all constraints, and no number in the specs or the inventory helps",
        constraints=tuple(dict.fromkeys(named([knob], program.stock) for knob in program.loosenings)),
        relaxation="add a node group in another zone or of another GPU type",
    )


def _loosened(model: LinearModel, program: Program) -> LinearModel:
    """The program with a priced column for every knob; its own costs count a thousandth."""
    knobs, count = program.loosenings, len(model.cost)
    terms = [(row, count + at, value) for at, knob in enumerate(knobs) for row, value in (*knob.terms, *knob.takes)]
    column = np.repeat(np.arange(count), np.diff(model.matrix.start))
    plain_row, plain_column, plain_value, plain = _plain_capacity(model, program, column)
    most = [knob.most if plain or not _spare(knob) else 0.0 for knob in knobs]
    upper = model.upper.copy()
    upper[list(program.n)] = program.ample  # more GPUs mean more replicas
    integer = model.integer if model.integer is not None else np.zeros(count, dtype=np.bool_)
    return LinearModel(
        cost=np.concatenate([model.cost * _OWN_COST, [knob.usd_per_unit for knob in knobs]]),
        lower=np.concatenate([model.lower, np.zeros(len(knobs))]),
        upper=np.concatenate([upper, most]),
        row_lower=np.concatenate([model.row_lower, np.full(plain, -INFINITY)]),
        row_upper=np.concatenate([model.row_upper, np.zeros(plain)]),
        matrix=columns_of(
            np.concatenate([model.matrix.index, [row for row, _, _ in terms], plain_row]).astype(np.int32),
            np.concatenate([column, [col for _, col, _ in terms], plain_column]).astype(np.int32),
            np.concatenate([model.matrix.value, [value for _, _, value in terms], plain_value]),
            count + len(knobs),
        ),
        integer=np.concatenate([integer, [knob.whole for knob in knobs]]),
    )


def _spare(knob: Loosening) -> bool:
    return knob.kind in ("survive_replicas", "survive_nodes")


def _plain_capacity(
    model: LinearModel, program: Program, column: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats, int]:
    """Rows busy <= replicas beside those with a reserve that a knob lowers: a half-turned knob must not carry load.

    They cost much in a large program, which goes without these knobs.
    """
    knobs = [knob for knob in program.loosenings if _spare(knob)] if len(model.cost) <= SMALL_COLUMNS else []
    spare = sorted({row for knob in knobs for row, _ in knob.terms})
    load = np.zeros(len(model.cost), dtype=np.bool_)
    load[list(program.n)] = True
    load[[c for x in program.x.values() for c in x.values()]] = True
    at = np.full(len(model.row_lower), -1, dtype=np.int64)
    at[spare] = len(model.row_lower) + np.arange(len(spare))
    mine = (at[model.matrix.index] >= 0) & load[column]
    return at[model.matrix.index[mine]], column[mine], model.matrix.value[mine], len(spare)


def _way_out(program: Program, loose: LinearModel, relaxed: Solution, search: Search) -> Solution:
    """The cheapest use of knobs; in larger programs over the recipes of the linear one, and coarser."""
    limit_s = search.seconds()
    if len(loose.cost) > _MIDDLE:
        columns = without(program, [at for at, n in enumerate(program.n) if relaxed.x[n] <= _ENOUGH], len(loose.cost))
        small, at = coarse(program, loose, columns)
        found = spread(solve(small, gap_ratio=_NEAR_GAP, nodes=1, time_limit_s=limit_s, verify=False), at)
        if found.outcome in (Outcome.OPTIMAL, Outcome.FEASIBLE):
            return found
    found = solved(loose, search, _NODES, _WAY_OUT_GAP)
    return found if found.outcome in (Outcome.OPTIMAL, Outcome.FEASIBLE) else relaxed


def _change(knob: Loosening, units: float) -> Change:
    """The knob's new value, rounded to what people write: whole units, cents, watts, percent."""
    step = {"budget": 0.01, "max_zone_share": 0.01, "max_spot_share": 0.01}.get(knob.kind, 1.0)
    value = knob.now + knob.sign * (knob.idle + units)
    whole = math.ceil(value / step - _ENOUGH) if knob.sign > 0 else math.floor(value / step + _ENOUGH)
    return Change(knob.kind, knob.target, round(whole * step, 6))


def _conflict(model: LinearModel, program: Program, relaxed: Solution, units: Floats) -> list[Loosening]:
    """Knobs that conflict: a smallest set where the program is small, else all that have a say."""
    knobs = program.loosenings
    dual = np.abs(relaxed.row_dual)
    said = [
        knob
        for knob, used in zip(knobs, units, strict=True)
        if used > _ENOUGH or any(dual[row] > _ENOUGH for row, _ in knob.terms)
    ]
    if len(model.cost) > SMALL_COLUMNS:
        return said
    upper = model.upper.copy()
    upper[list(program.n)] = program.ample
    base = replace(model, upper=upper, cost=np.zeros_like(model.cost))
    kept = said if _conflicts(base, knobs, said) else list(knobs)
    for knob in list(kept):
        fewer = [k for k in kept if k is not knob]
        if _conflicts(base, knobs, fewer):
            kept = fewer
    return kept


def _conflicts(model: LinearModel, knobs: Iterable[Loosening], kept: Sequence[Loosening]) -> bool:
    """Whether there is no solution with the knobs that are not kept wide open."""
    lower, upper = model.row_lower.copy(), model.row_upper.copy()
    stay = {row for knob in kept for row, _ in knob.terms}
    for knob in knobs:
        if not any(knob is k for k in kept):
            for row, value in knob.terms:
                if row not in stay or _spare(knob):
                    (lower if value > 0 else upper)[row] = -INFINITY if value > 0 else INFINITY
    return _is_infeasible(replace(model, row_lower=lower, row_upper=upper))


def _leave_out(model: LinearModel, program: Program, services: Sequence[ServiceSpec]) -> str:
    """The services of lowest priority without which the others fit, in words; empty where that says nothing."""
    if len(model.cost) > SMALL_COLUMNS:
        return ""
    dropped: list[str] = []
    for service in sorted(services, key=lambda s: s.priority)[:-1]:
        dropped.append(service.name)
        lower, upper = model.row_lower.copy(), model.row_upper.copy()
        for name in dropped:
            dues = program.dues.get(name, [])
            lower[dues], upper[dues] = -INFINITY, INFINITY
        if not _is_infeasible(replace(model, cost=np.zeros_like(model.cost), row_lower=lower, row_upper=upper)):
            return f"; or leave out {' and '.join(dropped)} (lowest priority)"
    return ""


def _is_infeasible(model: LinearModel) -> bool:
    if solve(replace(model, integer=None)).outcome is Outcome.INFEASIBLE:
        return True
    return solve(model, nodes=_NODES, verify=False).outcome is Outcome.INFEASIBLE
