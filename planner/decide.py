"""From profiled recipes to a plan: build the program, solve it, read it back, check that it adds up."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.check import violations
from planner.errors import SolverFault
from planner.hardware import Inventory
from planner.highs import Floats, LinearModel, Outcome, Solution, solve
from planner.infeasible import explain, unserved
from planner.plan import Allocation, Infeasible, Plan, Profile, Status
from planner.program import Objective, Program, billed_usd_per_hour, build, shares_of, used
from planner.service import ServiceSpec

_OPTIMAL_GAP = 1e-6
_DEFAULT_NODES = 20_000
_ONE_TYPE_NODES = 200

Progress = Callable[[str], None]
Key = tuple[str, str, str, str]


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
    """The plan for recipes that are profiled already; raises SolverFault rather than return one that does not add up."""
    stranded = unserved(list(services), list(profiles))
    if stranded is not None:
        return _none("infeasible", stranded)
    progress("building the program")
    program = build(services, profiles, inventory, objective, current)
    model = program.rows.model()
    progress(f"solving {len(program.n)} counts, {len(model.cost) - len(program.n)} shares")
    solved = _solve(model, search)
    if solved.outcome is Outcome.INFEASIBLE:
        progress("looking for the constraints that conflict")
        return _none("infeasible", explain(program))
    if solved.outcome is Outcome.UNKNOWN:
        return _none("unknown", None, solved.bound)
    answer = _read(program, solved, services, objective)
    wrong = violations(answer, services, inventory, profiles)
    if wrong:
        raise SolverFault(f"the solver's plan does not add up: {'; '.join(wrong[:3])}")
    if compare:
        progress("pricing one-type fleets")
        answer = replace(answer, one_type=_one_type(model, program))
    return answer


def _solve(model: LinearModel, search: Search) -> Solution:
    return solve(model, gap_ratio=search.gap_ratio, nodes=search.nodes, time_limit_s=search.time_limit_s)


def _none(status: Status, why: Infeasible | None, bound: float | None = None) -> Plan:
    proved = bound if bound is not None and math.isfinite(bound) else None
    return Plan(status, None, proved, None, None, 0.0, infeasible=why)


def _read(program: Program, solved: Solution, services: Sequence[ServiceSpec], objective: Objective) -> Plan:
    gap = max(0.0, (solved.objective - solved.bound) / abs(solved.objective)) if abs(solved.objective) > 1e-9 else 0.0
    allocations = _allocations(program, solved.x, services, objective)
    optimal = gap <= _OPTIMAL_GAP
    return Plan(
        status="optimal" if optimal else "feasible",
        usd_per_hour=sum(a.usd_per_hour for a in allocations),
        bound_usd_per_hour=solved.objective if optimal else solved.bound,
        gap_ratio=0.0 if optimal else gap,
        power_w=sum(a.power_w for a in allocations),
        solve_s=0.0,
        allocations=tuple(allocations),
    )


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
    out = []
    for option, count in zip(program.options, counts, strict=True):
        if count == 0:
            continue
        index = index_of[id(option.profile)]
        part = count / together[index, option.pool.pool]
        price = billed_usd_per_hour(option, objective)
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


def _one_type(model: LinearModel, program: Program) -> dict[str, float]:
    """GPU type -> $/h of the cheapest plan that uses this type alone; a type that cannot do it alone is absent."""
    out = {}
    for gpu in sorted({o.group.gpu.name for o in program.options}):
        upper = model.upper.copy()
        for column, option in zip(program.n, program.options, strict=True):
            if option.group.gpu.name != gpu:
                upper[column] = 0.0
        alone = solve(replace(model, upper=upper), gap_ratio=0.001, nodes=_ONE_TYPE_NODES)
        if alone.outcome in (Outcome.OPTIMAL, Outcome.FEASIBLE):
            out[gpu] = float(np.round(alone.objective, 6))
    return out
