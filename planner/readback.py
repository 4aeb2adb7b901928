"""From a solution of the fleet program to allocations: counts, evened-out shares, and what each part costs."""

from collections.abc import Mapping, Sequence

import numpy as np

from planner.hardware import NodeGroup
from planner.highs import Floats, LinearModel, Outcome, columns_of, solve
from planner.launch import engine_flags
from planner.options import Objective, Option, energy_usd_per_hour
from planner.plan import Allocation
from planner.program_rows import Place, Program
from planner.service import Bucket, ServiceSpec

_DUST = 1e-9
_NOTHING = 1e-9  # GPUs

Shares = Mapping[Place, Mapping[Bucket, float]]


def counts_of(program: Program, x: Floats) -> list[int]:
    """Whole replicas of each option."""
    return [round(float(x[column])) for column in program.n]


def evened(program: Program, model: LinearModel, x: Floats) -> Floats:
    """The same counts with the load spread: the busiest pool is as little busy as it can be.

    A vertex of the program leaves some replicas full and others idle; a fleet that runs should have its headroom
    everywhere. A linear program over the shares of recipes in use, counts fixed: busy <= t (replicas - reserve), min t.
    """
    fixed = np.array(x)
    whole = np.array(model.integer)
    fixed[whole] = np.round(fixed[whole])
    running = {place for (place, _), positions in _pools(program) if any(fixed[program.n[i]] > 0 for i in positions)}
    free = np.array(sorted(c for place in running for c in program.x[place].values()), dtype=np.int64)
    if not len(free):
        return fixed
    even = _even_model(program, model, fixed, free)
    found = solve(even)
    if found.outcome is not Outcome.OPTIMAL:
        return fixed
    for columns in program.x.values():
        fixed[list(columns.values())] = 0.0
    fixed[free] = found.x[:-1]
    return fixed


def _pools(program: Program) -> list[tuple[tuple[Place, str], list[int]]]:
    names = dict.fromkeys(option.service for option in program.options)
    return [item for name in names for item in program.places(name).items()]


def _even_model(program: Program, model: LinearModel, fixed: Floats, free: np.ndarray) -> LinearModel:
    """Columns: the free shares and t; rows: those of the program that hold any of them."""
    start, index, value = model.matrix.start, model.matrix.index, model.matrix.value
    column = np.repeat(np.arange(len(model.cost)), np.diff(start))
    shares = np.concatenate([np.array(list(c.values()), dtype=np.int64) for c in program.x.values()])
    others = fixed.copy()
    others[shares] = 0.0
    constant = np.bincount(index, value * others[column], len(model.row_lower))  # what all else adds to each row
    at = np.full(len(model.cost), -1)
    at[free] = np.arange(len(free))
    mine = at[column] >= 0
    rows_used = np.unique(index[mine])
    row_at = np.full(len(model.row_lower), -1)
    row_at[rows_used] = np.arange(len(rows_used))
    capacity = np.array([row for row in program.capacity if row_at[row] >= 0], dtype=np.int64)
    is_capacity = np.zeros(len(model.row_lower), dtype=np.bool_)
    is_capacity[capacity] = True
    shift = np.where(is_capacity, 0.0, constant)[rows_used]
    matrix = columns_of(
        np.concatenate([row_at[index[mine]], row_at[capacity]]).astype(np.int32),
        np.concatenate([at[column[mine]], np.full(len(capacity), len(free))]).astype(np.int32),
        np.concatenate([value[mine], constant[capacity]]),
        len(free) + 1,
    )
    cost = np.zeros(len(free) + 1)
    cost[-1] = 1.0
    return LinearModel(
        cost=cost,
        lower=np.zeros(len(free) + 1),
        upper=np.append(np.full(len(free), np.inf), 1.0),
        row_lower=model.row_lower[rows_used] - shift,
        row_upper=model.row_upper[rows_used] - shift,
        matrix=matrix,
    )


def shares_of(program: Program, x: Floats, counts: Sequence[int]) -> Shares:
    """Place -> bucket -> share; solver dust is dropped and each bucket sums to 1.

    Dust is also what a profile without replicas was given within the solver's tolerance.
    """
    running = {place for (place, _), at in _pools(program) if any(counts[i] for i in at)}
    raw = {
        place: {b: float(x[c]) for b, c in columns.items() if x[c] > _DUST}
        for place, columns in program.x.items()
        if place in running
    }
    totals: dict[tuple[str, Bucket], float] = {}
    for place, shares in raw.items():
        for b, share in shares.items():
            key = (program.profiles[place[0]].service, b)
            totals[key] = totals.get(key, 0.0) + share
    return {
        place: {b: share / totals[program.profiles[place[0]].service, b] for b, share in shares.items()}
        for place, shares in raw.items()
    }


def allocations(program: Program, x: Floats, services: Sequence[ServiceSpec], objective: Objective) -> list[Allocation]:
    """One allocation per option in use. Replicas of one pool in several groups carry shares by their number."""
    counts = counts_of(program, x)
    shares = shares_of(program, x, counts)
    by_name = {s.name: s for s in services}
    budgeted = {s.name for s in services if s.constraints.usd_per_hour is not None}
    price = _usd_per_gpu_hour(program, x, counts, budgeted)
    out = []
    for (place, _), positions in _pools(program):
        together = sum(counts[i] for i in positions)
        for i in positions:
            option, count = program.options[i], counts[i]
            if count:
                part = {b: share * count / together for b, share in shares.get(place, {}).items()}
                usd = price[option.service, option.group.name] * option.pool.gpus_per_replica
                usd += energy_usd_per_hour(option, objective)
                out.append(_allocation(option, count, part, usd, by_name[option.service]))
    return out


def _allocation(
    option: Option, count: int, shares: Mapping[Bucket, float], usd_per_hour: float, service: ServiceSpec
) -> Allocation:
    rates = service.workload.rates_per_s
    busy = sum(rates[b] * option.pool.load[b] * share for b, share in shares.items())
    return Allocation(
        service=option.service,
        model=service.model.name,
        pool=option.pool.pool,
        node_group=option.group.name,
        zone=option.group.zone,
        recipe=option.profile.recipe,
        replicas=count,
        gpus_per_replica=option.pool.gpus_per_replica,
        usd_per_hour=count * usd_per_hour,
        power_w=count * option.pool.power_w,
        predicted=option.pool.prediction,
        shares=shares,
        busy_ratio=min(1.0, busy / count),
        engine=service.engine,
        flags=engine_flags(option.profile.recipe, service.engine, option.pool.pool, option.profile.context_tokens),
    )


def _usd_per_gpu_hour(
    program: Program, x: Floats, counts: Sequence[int], budgeted: set[str]
) -> dict[tuple[str, str], float]:
    """(service, node group) -> what one of its GPUs costs: first what budgets count on, then the rest of commitments.

    What is left of a commitment is shared by GPUs: services without a budget first, the others only if it is cheaper.
    """
    gpus: dict[tuple[str, str], int] = {}
    groups = {option.group.name: option.group for option in program.options}
    for option, count in zip(program.options, counts, strict=True):
        key = (option.service, option.group.name)
        gpus[key] = gpus.get(key, 0) + count * option.pool.gpus_per_replica
    out = {}
    for name, group in groups.items():
        here = {s: count for (s, g), count in gpus.items() if g == name and count}
        committed = _covered(program, x, group, here, budgeted)
        for service, count in here.items():
            under = committed.get(service, 0.0)
            paid = group.commitment.usd_per_gpu_hour if group.commitment else 0.0
            out[service, name] = (under * paid + (count - under) * group.usd_per_gpu_hour) / count
    return out


def _covered(
    program: Program, x: Floats, group: NodeGroup, here: Mapping[str, int], budgeted: set[str]
) -> dict[str, float]:
    """Service -> committed GPUs that it is billed for."""
    if group.commitment is None:
        return {}
    counted_on = {s: program.covered.get((s, group.name)) for s in here}
    out = {s: min(float(here[s]), float(x[c])) if c is not None else 0.0 for s, c in counted_on.items()}
    left = group.commitment.gpus - sum(out.values())
    cheaper = group.commitment.usd_per_gpu_hour < group.usd_per_gpu_hour
    for turn in (set(here) - budgeted, budgeted & set(here) if cheaper else set()):
        want = sum(here[s] - out[s] for s in turn)
        part = max(0.0, min(1.0, left / want)) if want > _NOTHING else 0.0
        left -= want * part
        out |= {s: out[s] + (here[s] - out[s]) * part for s in turn}
    return out
