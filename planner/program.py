"""The integer program of a fleet: several services over one inventory.

Data        options i = (service, recipe, pool, node group)
            load[p, b] replicas of pool p that 1 request/s of bucket b keeps busy
Variables   n[i] whole replicas of option i; x[r, b] >= 0 share of bucket b that recipe r carries
Minimise    $/h of GPUs beyond commitments + $/h of energy on owned nodes + the price of change, spread over a horizon
Subject to  carry       sum_r x[r, b] = 1                                    every request is carried
            capacity    sum_b rate[b] load[p, b] x[r, b] <= sum_i n[i]       no pool carries more than it can at the SLO
            gpus        sum_i gpus[i] n[i] <= GPUs of the node group, and whole replicas in whole nodes
            power       sum_i watts[i] n[i] <= budget of the power domain    at full load
            what each owner demands (`planner.demands`), commitments and the price of change (`planner.billing`)

Survival is planned without help from the router: each pool that is used keeps k replicas (or what one node holds of
it) in reserve, so that the weight table stays right while replicas are missing.
Follows Mélange (arXiv 2404.14527) in spirit; integer counts and continuous shares replace its one binary per slice.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from planner.billing import commitments, price_of_change, run_usd_per_hour
from planner.demands import demand, survive
from planner.hardware import Inventory, NodeGroup
from planner.highs import Floats
from planner.options import Key, Objective, options_of
from planner.plan import Profile
from planner.program_rows import Program
from planner.rows import Rows
from planner.service import Bucket, ServiceSpec

_UNPRICED_USD_PER_HOUR = 3.0  # only to compare ways out of an infeasible problem
_LEAST_BUSY = 1e-5  # replicas; a smaller load would fit into what the solver takes for a whole count of 0


def build(
    services: Sequence[ServiceSpec],
    profiles: Sequence[Profile],
    inventory: Inventory,
    objective: Objective,
    current: Mapping[Key, int],
) -> Program:
    """The whole program; every bucket of every service must have a profile that serves it."""
    rows = Rows()
    by_service = {s.name: [p for p in profiles if p.service == s.name] for s in services}
    options = tuple(o for s in services for o in options_of(s, by_service[s.name], inventory))
    n = tuple(rows.column(run_usd_per_hour(o, objective), upper=float(o.most), integer=True) for o in options)
    program = Program(rows, options, n, tuple(profiles))
    program.x = {index: columns for s in services for index, columns in _carry(program, s).items()}
    for service in services:
        _capacity(program, service)
    _supply(program, inventory)
    for service in services:
        demand(program, service, objective)
    commitments(program, inventory)
    price_of_change(program, objective, current)
    return program


def _carry(program: Program, service: ServiceSpec) -> dict[int, dict[Bucket, int]]:
    """x[r, b] and: every request is carried."""
    rows, out = program.rows, {}
    busy = [bucket for bucket, rate in service.workload.rates_per_s.items() if rate > 0]
    placed = {id(o.profile) for o in program.options}
    for index, profile in enumerate(program.profiles):
        if profile.service != service.name or id(profile) not in placed:
            continue
        served = [b for b in busy if all(b in pool.load for pool in profile.pools)]
        columns = rows.columns(len(served))  # at most 1 by the row below; a bound that says so again misled presolve
        out[index] = {b: int(c) for b, c in zip(served, columns, strict=True)}
    for bucket in busy:
        cols = [x[bucket] for x in out.values() if bucket in x]
        name = f"carry_{service.name}_{'_'.join(map(str, bucket))}"
        program.owed(service.name, rows.row(name, cols, [1.0] * len(cols), least=1.0, most=1.0))
    return out


def _pools(program: Program, service: str) -> dict[tuple[int, str], list[int]]:
    """(profile index, pool) -> positions of its options."""
    index_of = {id(p): i for i, p in enumerate(program.profiles)}
    out: dict[tuple[int, str], list[int]] = {}
    for position, option in enumerate(program.options):
        if option.service == service:
            out.setdefault((index_of[id(option.profile)], option.pool.pool), []).append(position)
    return out


def _capacity(program: Program, service: ServiceSpec) -> None:
    """No pool carries more than its replicas can, less what must survive a loss."""
    rates = service.workload.rates_per_s
    for (index, pool), positions in _pools(program, service.name).items():
        x = program.x[index]
        if not x:
            continue  # it serves no bucket with traffic
        load = next(p.load for p in program.profiles[index].pools if p.pool == pool)
        cols = [*x.values(), *(program.n[i] for i in positions)]
        values = [*(max(rates[b] * load[b], _LEAST_BUSY) for b in x), *([-1.0] * len(positions))]
        survive(program, service, f"{service.name}_{index}_{pool}", positions, cols, values)


def _supply(program: Program, inventory: Inventory) -> None:
    """GPUs of each node group, watts of each power domain."""
    rows = program.rows
    for group in inventory.node_groups:
        here = [i for i, o in enumerate(program.options) if o.group.name == group.name]
        if here:
            _gpus(program, group, here)
    domains = {group.name: group.power_domain for group in inventory.node_groups}
    for domain in inventory.power_domains:
        here = [i for i, o in enumerate(program.options) if domains[o.group.name] == domain.name]
        if here:
            watts = [program.options[i].pool.power_w for i in here]
            row = rows.row(f"power of {domain.name}", [program.n[i] for i in here], watts, most=domain.budget_w)
            program.relaxable[row] = (f"W in {domain.name}", 0.005)


def _gpus(program: Program, group: NodeGroup, here: Sequence[int]) -> None:
    """Replicas fit into the group's nodes.

    Sizes are powers of two, each dividing the next, so the largest go first and none is stranded: it suffices that for
    each size g the slots of g GPUs that replicas of g and more take are no more than the nodes have.
    """
    size = {i: program.options[i].pool.gpus_per_replica for i in here}
    for g in sorted({1, *size.values()}):
        if g > 1 and group.gpus_per_node % g == 0:
            continue  # the row for single GPUs says it already
        larger = [i for i in here if size[i] >= g]
        name = f"gpus of {group.name}" if g == 1 else f"gpus of {group.name}, {g} in one node"
        slots = group.gpus_per_node // g * group.nodes
        row = program.rows.row(name, [program.n[i] for i in larger], [size[i] / g for i in larger], most=float(slots))
        unit = "GPUs" if g == 1 else f"times {g} GPUs in one node"
        program.relaxable[row] = (f"{group.gpu.name} {unit} in {group.name}", _more_usd_per_hour(group) * g)


def _more_usd_per_hour(group: NodeGroup) -> float:
    """What another GPU of the group would cost, as far as anything says; more owned ones are not for nothing."""
    return max(group.usd_per_gpu_hour, group.gpu.usd_per_hour or _UNPRICED_USD_PER_HOUR)


def shares_of(program: Program, x: Floats) -> dict[int, dict[Bucket, float]]:
    """profile index -> bucket -> share, from a solution; solver dust is dropped and each bucket sums to 1.

    Dust is also what a profile without replicas was given within the solver's tolerance.
    """
    running = {id(o.profile) for o, column in zip(program.options, program.n, strict=True) if used(x, column)}
    raw = {
        index: {b: float(x[c]) for b, c in columns.items() if x[c] > 1e-9}
        for index, columns in program.x.items()
        if id(program.profiles[index]) in running
    }
    totals: dict[tuple[str, Bucket], float] = {}
    for index, shares in raw.items():
        for b, share in shares.items():
            key = (program.profiles[index].service, b)
            totals[key] = totals.get(key, 0.0) + share
    return {
        index: {b: share / totals[program.profiles[index].service, b] for b, share in shares.items()}
        for index, shares in raw.items()
    }


def used(x: Floats, column: int) -> int:
    """A count from a solution."""
    return math.floor(float(np.round(x[column])))
