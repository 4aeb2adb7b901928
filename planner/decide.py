"""From profiled recipes to a plan: build the program, solve it, read it back, check that it adds up."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from planner.added import in_stock
from planner.billing import committed_usd_per_hour, exactly
from planner.check import crowded, violations
from planner.decompose import decompose
from planner.errors import SolverFault
from planner.hardware import Inventory
from planner.highs import Floats, LinearModel, Outcome, Solution, columns_of, solve
from planner.hopeless import far_beyond, unserved
from planner.infeasible import SMALL_COLUMNS, explain, mended, over_budget, over_quota
from planner.loosen import loosened
from planner.one_type import one_type
from planner.options import Key, Objective, Option, options_of
from planner.plan import Allocation, Change, Infeasible, Plan, Profile, Status, uncapped
from planner.program import build
from planner.program_rows import Program
from planner.readback import allocations, counts_of, evened
from planner.search import Search, better, find
from planner.service import ServiceSpec
from planner.subset import subset, widened, without
from planner.supply import Seats, seats_of

_OPTIMAL_GAP = 1e-6
_TIDY_NODES = 20
_HALF = 0.5
_CAP_GPUS = 1e-3  # what a capped GPU counts more than another where plans cost the same
_SAME_USD = 1e-7
_COMPARE_RATIO = 0.2  # of a time limit, for the comparison with one-type fleets
_MOST_ROUNDS = 4
_TURNS = 3

Progress = Callable[[str], None]


def decide(
    services: Sequence[ServiceSpec],
    profiles: Sequence[Profile],
    inventory: Inventory,
    objective: Objective,
    current: Mapping[Key, int],
    search: Search,
    compare: bool = False,
    progress: Progress = lambda _: None,
    turns: int = _TURNS,
    start: Floats | None = None,
) -> Plan:
    """The plan for recipes that are profiled already; raises SolverFault for one that does not add up.

    `start`: a solution to begin from, where the program has such columns.
    `turns`: how often a way out of an infeasible problem is planned with, and mended where it leads nowhere.
    """
    placed = [p for s in services for p in profiles if p.service == s.name and options_of(s, [p], inventory)]
    stranded = unserved(services, placed, inventory.stock) or far_beyond(services, placed, inventory)
    if stranded is not None:
        return _none("infeasible", stranded)
    main = search.within(1 - _COMPARE_RATIO) if compare else search
    seated: dict[str, Seats] = {}
    bound = -math.inf
    for _ in range(_MOST_ROUNDS):
        progress("building the program")
        program = build(services, profiles, inventory, objective, current, seated)
        model = program.rows.model()
        progress(f"solving {len(program.n)} counts, {len(model.cost) - len(program.n)} shares")
        alone = partial(_alone, services, profiles, inventory, objective, current, seated)
        known = start if start is not None and len(start) == len(model.cost) else None
        solved = _solve(model, program, alone, main, known)
        if solved.outcome is Outcome.INFEASIBLE:
            progress("looking for the constraints that conflict")
            again = partial(_again, services, profiles, inventory, objective, current, replace(main, gap_ratio=1.0))
            why = _conflict(program, model, services, inventory, main, again, turns)
            return _none("infeasible", why)
        if "by size" not in seated.values():
            bound = max(bound, solved.bound)  # placing by size forbids more than it must: it bounds nothing
        if solved.outcome is Outcome.UNKNOWN:
            return _none("unknown", None, bound)
        answer = _read(program, model, replace(solved, bound=bound), services, objective, inventory)
        full = crowded(answer, services, inventory, profiles)
        if not full or set(full) <= set(seated):
            break
        seated |= {group.name: seats_of(program, group) for group in inventory.node_groups if group.name in full}
    wrong = violations(answer, services, inventory, profiles)
    if wrong and not search.strict:
        tight = replace(search, strict=True)
        return decide(services, profiles, inventory, objective, current, tight, compare, progress, turns)
    if wrong:
        raise SolverFault(f"the solver's plan does not add up: {'; '.join(wrong[:3])}")
    if compare:
        progress("pricing one-type fleets")
        answer = one_type(answer, model, program, search, committed_usd_per_hour(inventory))
    return answer


def _conflict(
    program: Program,
    model: LinearModel,
    services: Sequence[ServiceSpec],
    inventory: Inventory,
    search: Search,
    again: Callable[..., Plan],
    turns: int,
) -> Infeasible:
    """Which constraints conflict, with a way out that was planned with where there are turns left to mend it."""
    short = over_budget(program, model, services, search) or over_quota(program, model, services, inventory, search)
    why, after = short or explain(program, model, services, search)
    if turns and why.changes and len(model.cost) <= SMALL_COLUMNS:
        why = mended(why, program, partial(again, after), turns - 1)
    return replace(why, changes=in_stock(why.changes, program))


def _again(
    services: Sequence[ServiceSpec],
    profiles: Sequence[Profile],
    inventory: Inventory,
    objective: Objective,
    current: Mapping[Key, int],
    search: Search,
    start: Floats | None,
    changes: Sequence[Change],
    turns: int,
) -> Plan:
    """The plan after changes to constraints."""
    asked, hardware = loosened(services, replace(inventory, stock=()), changes)  # changes of what is planned on
    return decide(asked, profiles, hardware, objective, current, search, turns=turns, start=start)


def _alone(
    services: Sequence[ServiceSpec],
    profiles: Sequence[Profile],
    inventory: Inventory,
    objective: Objective,
    current: Mapping[Key, int],
    seated: Mapping[str, Seats],
) -> dict[str, Program]:
    """The program of each service by itself."""
    return {s.name: build([s], profiles, inventory, objective, current, seated) for s in services}


def _solve(
    model: LinearModel,
    program: Program,
    alone: Callable[[], dict[str, Program]],
    search: Search,
    start: Floats | None,
) -> Solution:
    """One service in one go; several by decomposition, then in one go from there if the program is small."""
    solved = None
    if len(program.services) > 1 and start is None and not search.strict:
        solved = decompose(program, model, alone, search)
    if solved is None or _open(solved, search, len(model.cost)):
        known = solved.x if solved is not None and len(solved.x) else start
        whole = find(model, search, known)
        solved = whole if solved is None else better(solved, whole)
    if solved.outcome in (Outcome.OPTIMAL, Outcome.FEASIBLE) and not search.over():
        free = any(model.cost[column] == 0 for column in program.n)
        if free or any(_capped(option) for _, option in _running(program, solved)):
            solved = _tidy(model, program, solved, search, free)
    return solved


def _running(program: Program, solved: Solution) -> list[tuple[int, Option]]:
    """The options that a solution has replicas of, by position."""
    return [(at, option) for at, option in enumerate(program.options) if solved.x[program.n[at]] >= _HALF]


def _capped(option: Option) -> bool:
    return option.profile.recipe.power_cap_w is not None


def _full_power(option: Option) -> Key:
    return (option.service, str(uncapped(option.profile.recipe)), option.pool.pool, option.group.name)


def _open(solved: Solution, search: Search, columns: int) -> bool:
    """Whether the whole program should be searched too."""
    if solved.outcome is Outcome.INFEASIBLE or search.over():
        return False
    apart = solved.objective - solved.bound > max(_OPTIMAL_GAP, search.gap_ratio) * max(1.0, abs(solved.objective))
    return solved.outcome is Outcome.UNKNOWN or (apart and columns <= SMALL_COLUMNS)


def _tidy(model: LinearModel, program: Program, solved: Solution, search: Search, free: bool) -> Solution:
    """A solution of the same cost with as few GPUs as a short search finds (`free`: some cost nothing), of these as few
    with a power cap as it finds: free ones are not kept for nothing, none is slowed for watts that nobody lacks."""
    running = _running(program, solved)
    kept = {at for at, _ in running}
    twins = {_full_power(option) for _, option in running if _capped(option)}
    kept |= {at for at, option in enumerate(program.options) if option.key in twins}
    stay = without(program, [at for at in range(len(program.n)) if at not in kept], len(model.cost))
    small = subset(model, stay)
    rows, cols = len(small.row_lower), np.flatnonzero(small.cost).astype(np.int32)
    per_column = np.repeat(np.arange(len(small.cost), dtype=np.int32), np.diff(small.matrix.start))
    gpus = np.zeros_like(model.cost)
    gpus[list(program.n)] = [o.pool.gpus_per_replica * (free + _CAP_GPUS * _capped(o)) for o in program.options]
    fewest = replace(
        small,
        cost=gpus[stay],
        row_lower=np.append(small.row_lower, -np.inf),
        row_upper=np.append(small.row_upper, solved.objective + _SAME_USD),
        matrix=columns_of(
            np.append(small.matrix.index, np.full(len(cols), rows, np.int32)),
            np.append(per_column, cols),
            np.append(small.matrix.value, small.cost[cols]),
            len(small.cost),
        ),
    )
    found = solve(fewest, nodes=_TIDY_NODES, time_limit_s=search.seconds(), start=solved.x[stay], verify=False)
    if found.outcome not in (Outcome.OPTIMAL, Outcome.FEASIBLE):
        return solved
    return replace(solved, x=widened(found, stay, len(model.cost)).x)  # within what the solver takes for the same cost


def _none(status: Status, why: Infeasible | None, bound: float | None = None) -> Plan:
    proved = bound if bound is not None and math.isfinite(bound) else None
    return Plan(status, None, proved, None, None, 0.0, infeasible=why)


def _read(
    program: Program,
    model: LinearModel,
    solved: Solution,
    services: Sequence[ServiceSpec],
    objective: Objective,
    inventory: Inventory,
) -> Plan:
    """The plan of a solution. Its cost is what the fleet costs per hour, commitments whole, changes not counted."""
    usd_per_hour, changes = exactly(program, counts_of(program, solved.x))
    apart = max(0.0, usd_per_hour - solved.bound)
    running = usd_per_hour - changes + committed_usd_per_hour(inventory)
    optimal = apart <= _OPTIMAL_GAP * max(1.0, abs(usd_per_hour))
    placed = allocations(program, evened(program, model, solved.x), services, objective)
    return Plan(
        status="optimal" if optimal else "feasible",
        usd_per_hour=running,
        bound_usd_per_hour=running if optimal else running - apart,
        gap_ratio=0.0 if optimal else apart / max(running, apart),
        power_w=sum(a.power_w for a in placed),
        solve_s=0.0,
        allocations=tuple(placed),
        idle_cold_start_s=_idle(services, program.profiles, placed),
    )


def _idle(
    services: Sequence[ServiceSpec], profiles: Sequence[Profile], placed: Sequence[Allocation]
) -> dict[str, float]:
    """Services scaled to zero, and how long the quickest recipe takes to start when their first request comes."""
    busy = {a.service for a in placed}
    starts: dict[str, float] = {}
    for profile in profiles:
        start_s = max(pool.prediction.cold_start_s for pool in profile.pools)
        starts[profile.service] = min(start_s, starts.get(profile.service, math.inf))
    return {s.name: starts[s.name] for s in services if s.name not in busy and s.name in starts}
