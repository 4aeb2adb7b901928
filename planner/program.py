"""The integer program of a fleet: several services over one inventory.

Data        options i = (service, recipe, pool, node group); sites = the groups that a service tells apart
            load[p, b] replicas of pool p that 1 request/s of bucket b keeps busy
Variables   n[i] whole replicas of option i; x[r, z, b] >= 0 share of bucket b that recipe r carries in site z
Minimise    $/h of GPUs beyond commitments + $/h of energy on owned nodes + the price of change, spread over a horizon
Subject to  carry       sum_r,z x[r, z, b] = 1                               every request is carried
            capacity    sum_b rate[b] load[p, b] x[r, z, b] <= sum_i n[i]    no pool carries more than it can at the SLO
            gpus        sum_i gpus[i] n[i] <= GPUs of the node group, and whole replicas in whole nodes
            power       sum_i (watts[i] - watts of its GPUs at rest) n[i] <= budget - watts of all GPUs at rest
            quota       sum_i gpus[i] n[i] <= GPUs that a namespace may have     over all its services
            what each owner demands (`planner.demands`), commitments, budgets and the price of change
            (`planner.billing`), hardware (`planner.supply`), tenants (`planner.tenants`)

Survival is planned without help from the router: each pool that carries requests keeps k replicas (or what one node
holds of it) in reserve, so that the weight table stays right while replicas are missing.
Follows Mélange (arXiv 2404.14527) in spirit; integer counts and continuous shares replace its one binary per slice.
"""

from collections.abc import Mapping, Sequence

from planner.billing import budgets, commitments, price_of_change, run_usd_per_hour
from planner.demands import demand
from planner.hardware import Inventory
from planner.options import Key, Objective, busy_buckets, options_of, serves, useful
from planner.plan import Profile
from planner.program_rows import Place, Program
from planner.rows import Rows
from planner.service import Bucket, ServiceSpec
from planner.supply import Seats, supply
from planner.tenants import quotas


def build(
    services: Sequence[ServiceSpec],
    profiles: Sequence[Profile],
    inventory: Inventory,
    objective: Objective,
    current: Mapping[Key, int],
    seated: Mapping[str, Seats] | None = None,
) -> Program:
    """The whole program; every bucket of every service must have a profile that serves it.

    `seated`: node groups whose replicas are placed node by node, or size by size, because even spreading failed there.
    """
    rows = Rows()
    options, n, ample = [], [], []
    for service in services:
        for option in options_of(service, [p for p in profiles if p.service == service.name], inventory):
            enough = float(useful(service, option, current.get(option.key, 0)))
            most = min(float(option.most), enough)
            options.append(option)
            ample.append(enough)
            n.append(rows.column(run_usd_per_hour(option, objective), upper=most, integer=True))
    program = Program(rows, tuple(options), tuple(n), tuple(profiles), tuple(ample))
    program.stock = {part: one for one in inventory.stock for part in one.parts}
    program.x = {place: columns for s in services for place, columns in _carry(program, s).items()}
    for service in services:
        demand(program, service)
    supply(program, inventory, seated or {})  # after the demands: it bounds what they say that a node holds
    quotas(program, services, inventory)
    budgets(program, services, inventory, objective)
    commitments(program, inventory)
    price_of_change(program, objective, current)
    return program


def _carry(program: Program, service: ServiceSpec) -> dict[Place, dict[Bucket, int]]:
    """x[r, z, b] and: every request is carried."""
    rows, out, busy = program.rows, {}, busy_buckets(service)
    for place in dict.fromkeys(place for place, _ in program.places(service.name)):
        served = [b for b in busy if serves(program.profiles[place[0]], b)]
        columns = rows.columns(len(served))  # at most 1 by the row below; a bound that says so again misled presolve
        out[place] = {b: int(c) for b, c in zip(served, columns, strict=True)}
    for bucket in busy:
        cols = [x[bucket] for x in out.values() if bucket in x]
        name = f"carry_{service.name}_{'_'.join(map(str, bucket))}"
        program.owed(service.name, rows.row(name, cols, [1.0] * len(cols), least=1.0, most=1.0))
    return out
