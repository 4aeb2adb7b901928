"""From profiled recipes to a plan: build the program, solve it, read it back, check that it adds up."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.billing import committed_usd_per_hour
from planner.check import violations
from planner.errors import SolverFault
from planner.hardware import Inventory
from planner.highs import Floats, LinearModel, Outcome, Solution, columns_of, solve
from planner.infeasible import explain, over_budget, unserved
from planner.options import Key, Objective, energy_usd_per_hour, options_of
from planner.plan import Allocation, Infeasible, Plan, Profile, Status
from planner.program import build, shares_of, used
from planner.program_rows import Program
from planner.service import ServiceSpec

_OPTIMAL_GAP = 1e-6
_DEFAULT_NODES = 5_000
_ONE_TYPE_NODES = 200
_FIRST_NODES = 20
_ONE_TYPE_GAP = 0.001
_TIDY_NODES = 50
_SAME_USD = 1e-7

# Of a time limit in seconds, the share that the comparison with one-type fleets may use up.
_COMPARE_RATIO = 0.2

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Search:
    """How long to look. Without `time_limit_s` the answer is the same on every machine."""

    gap_ratio: float = 0.0
    nodes: int = _DEFAULT_NODES
    time_limit_s: float | None = None


def decide(
    services: Sequence[ServiceSpec],
    profiles: Sequence[Profile],
    inventory: Inventory,
    objective: Objective,
    current: Mapping[Key, int],
    search: Search,
    compare: bool = False,
    progress: Progress = lambda _: None,
) -> Plan:
    """The plan for recipes that are profiled already; raises SolverFault for one that does not add up."""
    placed = [p for s in services for p in profiles if p.service == s.name and options_of(s, [p], inventory)]
    stranded = unserved(services, placed)
    if stranded is not None:
        return _none("infeasible", stranded)
    progress("building the program")
    program = build(services, profiles, inventory, objective, current)
    model = program.rows.model()
    progress(f"solving {len(program.n)} counts, {len(model.cost) - len(program.n)} shares")
    limit_s = search.time_limit_s
    main_s = limit_s if limit_s is None or not compare else limit_s * (1 - _COMPARE_RATIO)
    first = min(search.nodes, _FIRST_NODES)
    solved = solve(model, gap_ratio=search.gap_ratio, nodes=first, time_limit_s=main_s, verify=False)
    nothing = solved.outcome in (Outcome.INFEASIBLE, Outcome.UNKNOWN)
    if nothing and (dear := over_budget(program, services, objective)) is not None:
        return _none("infeasible", dear)
    if solved.outcome is not Outcome.OPTIMAL:
        solved = solve(model, gap_ratio=search.gap_ratio, nodes=search.nodes, time_limit_s=main_s)
    if solved.outcome is Outcome.INFEASIBLE:
        progress("looking for the constraints that conflict")
        return _none("infeasible", explain(program, services))
    if solved.outcome is Outcome.UNKNOWN:
        return _none("unknown", None, solved.bound)
    if any(model.cost[column] == 0 for column in program.n):
        progress("letting go of what is free but idle")
        solved = _tidy(model, program, solved)
    paid_anyway = committed_usd_per_hour(inventory)
    answer = _read(program, solved, services, objective, paid_anyway)
    wrong = violations(answer, services, inventory, profiles)
    if wrong:
        raise SolverFault(f"the solver's plan does not add up: {'; '.join(wrong[:3])}")
    if compare:
        progress("pricing one-type fleets")
        alone = _one_type(model, program, None if limit_s is None else limit_s * _COMPARE_RATIO)
        answer = replace(answer, one_type={gpu: cost + paid_anyway for gpu, cost in alone.items()})
    return answer


def _tidy(model: LinearModel, program: Program, solved: Solution) -> Solution:
    """A solution of the same cost with as few GPUs as a short search finds: free ones are not kept for nothing."""
    rows, cols = len(model.row_lower), np.flatnonzero(model.cost).astype(np.int32)
    per_column = np.repeat(np.arange(len(model.cost), dtype=np.int32), np.diff(model.matrix.start))
    gpus = np.zeros_like(model.cost)
    gpus[list(program.n)] = [float(option.pool.gpus_per_replica) for option in program.options]
    fewest = replace(
        model,
        cost=gpus,
        row_lower=np.append(model.row_lower, -np.inf),
        row_upper=np.append(model.row_upper, solved.objective + _SAME_USD),
        matrix=columns_of(
            np.append(model.matrix.index, np.full(len(cols), rows, np.int32)),
            np.append(per_column, cols),
            np.append(model.matrix.value, model.cost[cols]),
            len(model.cost),
        ),
    )
    found = solve(fewest, nodes=_TIDY_NODES, start=solved.x, verify=False)
    if found.outcome not in (Outcome.OPTIMAL, Outcome.FEASIBLE):
        return solved
    cost = float(model.cost @ found.x)
    return replace(solved, x=found.x, objective=cost, bound=min(solved.bound, cost))


def _none(status: Status, why: Infeasible | None, bound: float | None = None) -> Plan:
    proved = bound if bound is not None and math.isfinite(bound) else None
    return Plan(status, None, proved, None, None, 0.0, infeasible=why)


def _read(
    program: Program, solved: Solution, services: Sequence[ServiceSpec], objective: Objective, paid_anyway: float
) -> Plan:
    """The plan of a solution. Its cost is what the fleet costs per hour, commitments whole, changes not counted."""
    gap = max(0.0, (solved.objective - solved.bound) / abs(solved.objective)) if abs(solved.objective) > 1e-9 else 0.0
    cost = program.rows.cost
    changes = sum(cost[column] * float(solved.x[column]) for column in program.changes)
    running = solved.objective - changes + paid_anyway
    optimal = gap <= _OPTIMAL_GAP
    allocations = _allocations(program, solved.x, services, objective)
    return Plan(
        status="optimal" if optimal else "feasible",
        usd_per_hour=running,
        bound_usd_per_hour=running if optimal else running - (solved.objective - solved.bound),
        gap_ratio=0.0 if optimal else (solved.objective - solved.bound) / running,
        power_w=sum(a.power_w for a in allocations),
        solve_s=0.0,
        allocations=tuple(allocations),
        idle_cold_start_s=_idle(services, program.profiles, allocations),
    )


def _idle(
    services: Sequence[ServiceSpec], profiles: Sequence[Profile], allocations: Sequence[Allocation]
) -> dict[str, float]:
    """Services scaled to zero, and how long the quickest recipe takes to start when their first request comes."""
    busy = {a.service for a in allocations}
    starts: dict[str, float] = {}
    for profile in profiles:
        start_s = max(pool.prediction.cold_start_s for pool in profile.pools)
        starts[profile.service] = min(start_s, starts.get(profile.service, math.inf))
    return {s.name: starts[s.name] for s in services if s.name not in busy and s.name in starts}


def _allocations(
    program: Program, x: Floats, services: Sequence[ServiceSpec], objective: Objective
) -> list[Allocation]:
    """One allocation per option in use. Replicas of one pool in several groups carry shares by their number."""
    counts = [used(x, column) for column in program.n]
    shares = shares_of(program, x)
    index_of = {id(p): i for i, p in enumerate(program.profiles)}
    models = {s.name: s.model.name for s in services}
    together: dict[tuple[int, str], int] = {}
    for option, count in zip(program.options, counts, strict=True):
        key = (index_of[id(option.profile)], option.pool.pool)
        together[key] = together.get(key, 0) + count
    gpu_price = _usd_per_gpu_hour(program, counts)
    out = []
    for option, count in zip(program.options, counts, strict=True):
        if count == 0:
            continue
        index = index_of[id(option.profile)]
        part = count / together[index, option.pool.pool]
        energy = energy_usd_per_hour(option, objective)
        price = gpu_price[option.group.name] * option.pool.gpus_per_replica + energy
        out.append(
            Allocation(
                service=option.service,
                model=models[option.service],
                pool=option.pool.pool,
                node_group=option.group.name,
                zone=option.group.zone,
                recipe=option.profile.recipe,
                replicas=count,
                gpus_per_replica=option.pool.gpus_per_replica,
                usd_per_hour=count * price,
                power_w=count * option.pool.power_w,
                predicted=option.pool.prediction,
                shares={b: share * part for b, share in shares.get(index, {}).items()},
            )
        )
    return out


def _usd_per_gpu_hour(program: Program, counts: Sequence[int]) -> dict[str, float]:
    """Node group -> what one of its GPUs in use costs: commitments first, the rest at the group's price."""
    groups = {option.group.name: option.group for option in program.options}
    out = {name: group.usd_per_gpu_hour for name, group in groups.items()}
    for name, group in groups.items():
        here = zip(program.options, counts, strict=True)
        gpus = sum(count * option.pool.gpus_per_replica for option, count in here if option.group.name == name)
        if group.commitment is not None and gpus:
            committed = min(gpus, group.commitment.gpus)
            bill = committed * group.commitment.usd_per_gpu_hour + (gpus - committed) * group.usd_per_gpu_hour
            out[name] = bill / gpus
    return out


def _one_type(model: LinearModel, program: Program, limit_s: float | None) -> dict[str, float]:
    """GPU type -> $/h of the cheapest plan of this type alone, changes not counted; absent if it cannot do it alone."""
    out = {}
    types = sorted({o.group.gpu.name for o in program.options})
    cost = model.cost.copy()
    cost[program.changes] = 0.0
    each_s = None if limit_s is None else limit_s / len(types)
    for gpu in types:
        upper = model.upper.copy()
        for column, option in zip(program.n, program.options, strict=True):
            if option.group.gpu.name != gpu:
                upper[column] = 0.0
        only = replace(model, cost=cost, upper=upper)
        alone = solve(only, gap_ratio=_ONE_TYPE_GAP, nodes=_ONE_TYPE_NODES, time_limit_s=each_s)
        if alone.outcome in (Outcome.OPTIMAL, Outcome.FEASIBLE):
            out[gpu] = float(np.round(alone.objective, 6))
    return out
