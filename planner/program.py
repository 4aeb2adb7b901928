"""The integer program of a fleet: several services over one inventory.

Data        options i = (service, recipe, pool, node group); load[p, b] replicas of pool p that 1 request/s of bucket b keeps busy
Variables   n[i] whole replicas of option i; x[r, b] >= 0 share of bucket b that recipe r carries
Minimise    $/h of GPUs beyond commitments + $/h of energy on owned nodes + the price of change, spread over a horizon
Subject to  carry       sum_r x[r, b] = 1                                    every request is carried
            capacity    sum_b rate[b] load[p, b] x[r, b] <= sum_i n[i]       no pool carries more than it can at the SLO
            gpus        sum_i gpus[i] n[i] <= GPUs of the node group
            power       sum_i watts[i] n[i] <= budget of the power domain    at full load
            budget, max and min replicas, spot share, zones, survival        what each service's owner demands

Survival is planned without help from the router: each pool that is used keeps k replicas (or what one node holds of it) in
reserve, so that the weight table stays right while replicas are missing.
Follows Mélange (arXiv 2404.14527) in spirit; integer counts and continuous shares replace its one binary per slice.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from planner.hardware import Inventory, NodeGroup
from planner.highs import Floats
from planner.plan import PoolProfile, Profile
from planner.rows import Rows
from planner.service import Bucket, ServiceSpec

_SECONDS_PER_HOUR = 3600.0
_MOST_REPLICAS = 100_000


@dataclass(frozen=True, slots=True)
class Objective:
    """What is minimised besides the price of GPUs.

    `usd_per_joule` prices the energy of owned nodes (of all nodes if `energy_everywhere`: cloud prices contain it).
    A replica started or stopped costs `start_usd` or `stop_usd` per GPU once, spread over `horizon_s`.
    """

    usd_per_joule: float = 0.0
    energy_everywhere: bool = False
    start_usd: float = 0.0
    stop_usd: float = 0.0
    horizon_s: float = _SECONDS_PER_HOUR


@dataclass(frozen=True, slots=True)
class Option:
    """One pool of one recipe of one service in one node group. `key` names it across plans."""

    service: str
    profile: Profile
    pool: PoolProfile
    group: NodeGroup

    @property
    def key(self) -> tuple[str, str, str, str]:
        """(service, recipe, pool, node group)."""
        return (self.service, str(self.profile.recipe), self.pool.pool, self.group.name)


@dataclass(slots=True)
class Program:
    """The rows, and where each variable stands in them."""

    rows: Rows
    options: tuple[Option, ...]
    n: tuple[int, ...]
    x: Mapping[int, Mapping[Bucket, int]]  # profile index -> bucket -> column
    profiles: tuple[Profile, ...]
    relaxable: dict[int, tuple[str, float]] = field(default_factory=dict)  # row -> (unit in words, $/h per unit)


def options_of(service: ServiceSpec, profiles: Sequence[Profile], inventory: Inventory) -> list[Option]:
    """Every place where every recipe of the service may run. A replica stays within one node group."""
    out: list[Option] = []
    for profile in profiles:
        for group in inventory.node_groups:
            if group.gpu.name != profile.recipe.gpu or group.gpus == 0:
                continue
            if profile.recipe.power_cap_w is not None and group.power_domain is None:
                continue  # a cap is an answer to a power budget; without one it only slows
            out.extend(
                Option(service.name, profile, pool, group)
                for pool in profile.pools
                if pool.gpus_per_replica <= group.gpus
            )
    return out


def build(
    services: Sequence[ServiceSpec],
    profiles: Sequence[Profile],
    inventory: Inventory,
    objective: Objective,
    current: Mapping[tuple[str, str, str, str], int],
) -> Program:
    """The whole program; every bucket of every service must have a profile that serves it."""
    rows = Rows()
    by_service = {s.name: [p for p in profiles if p.service == s.name] for s in services}
    options = [o for s in services for o in options_of(s, by_service[s.name], inventory)]
    n = tuple(rows.column(_run_cost(o, objective), upper=_most(o), integer=True) for o in options)
    program = Program(rows, tuple(options), n, {}, tuple(profiles))
    shares = {}
    for service in services:
        shares.update(_carry(program, service))
    program.x = shares
    _capacity(program, services)
    _supply(program, inventory)
    for service in services:
        _demands(program, service, objective)
    _commitments(program, inventory)
    _price_of_change(program, objective, current)
    return program


def _most(option: Option) -> float:
    return float(min(_MOST_REPLICAS, option.group.gpus // option.pool.gpus_per_replica))


def energy_usd_per_hour(option: Option, objective: Objective) -> float:
    """$/h of one replica's energy at full load, where energy is priced."""
    priced = option.group.owned or objective.energy_everywhere
    return option.pool.power_w * objective.usd_per_joule * _SECONDS_PER_HOUR if priced else 0.0


def billed_usd_per_hour(option: Option, objective: Objective) -> float:
    """$/h of one replica: its GPUs at the price of their group, and its energy where that is priced."""
    return option.group.usd_per_gpu_hour * option.pool.gpus_per_replica + energy_usd_per_hour(option, objective)


def _run_cost(option: Option, objective: Objective) -> float:
    # A group with a commitment is billed by the GPU, in `_commitments`.
    price = 0.0 if option.group.commitment else option.group.usd_per_gpu_hour * option.pool.gpus_per_replica
    return price + energy_usd_per_hour(option, objective)


def _carry(program: Program, service: ServiceSpec) -> dict[int, dict[Bucket, int]]:
    """x[r, b] and: every request is carried."""
    rows, out = program.rows, {}
    busy = [bucket for bucket, rate in service.workload.rates_per_s.items() if rate > 0]
    reachable = {(o.profile.recipe, o.pool.pool) for o in program.options if o.service == service.name}
    for index, profile in enumerate(program.profiles):
        placed = all((profile.recipe, pool.pool) in reachable for pool in profile.pools)
        if profile.service != service.name or not placed:
            continue
        served = [b for b in busy if all(b in pool.load for pool in profile.pools)]
        columns = rows.columns(len(served), upper=1.0)
        out[index] = {b: int(c) for b, c in zip(served, columns, strict=True)}
    for bucket in busy:
        cols = [x[bucket] for x in out.values() if bucket in x]
        rows.row(f"carry_{service.name}_{'_'.join(map(str, bucket))}", cols, [1.0] * len(cols), least=1.0, most=1.0)
    return out


def _pools(program: Program, service: str) -> dict[tuple[int, str], list[int]]:
    """(profile index, pool) -> positions of its options."""
    index_of = {id(p): i for i, p in enumerate(program.profiles)}
    out: dict[tuple[int, str], list[int]] = {}
    for position, option in enumerate(program.options):
        if option.service == service:
            out.setdefault((index_of[id(option.profile)], option.pool.pool), []).append(position)
    return out


def _capacity(program: Program, services: Sequence[ServiceSpec]) -> None:
    """No pool carries more than its replicas can, less what must survive a loss."""
    rows = program.rows
    for service in services:
        rates = service.workload.rates_per_s
        for (index, pool), positions in _pools(program, service.name).items():
            if index not in program.x:
                continue
            load = next(p.load for p in program.profiles[index].pools if p.pool == pool)
            x = program.x[index]
            cols = [*x.values(), *(program.n[i] for i in positions)]
            values = [*(rates[b] * load[b] for b in x), *([-1.0] * len(positions))]
            name = f"{service.name}_{index}_{pool}"
            _survive(program, service, name, positions, cols, values)


def _survive(
    program: Program, service: ServiceSpec, name: str, positions: list[int], cols: list[int], values: list[float]
) -> None:
    """Capacity rows of one pool: as it is, after k replicas are lost, and after one node of any group is lost."""
    rows, demands = program.rows, service.constraints
    if not x_columns(program, cols):
        return
    if demands.survive_replicas == 0 and demands.survive_nodes == 0:
        rows.row(f"capacity_{name}", cols, values, most=0.0)
        return
    if demands.survive_replicas:
        used = rows.column(upper=1.0, integer=True)
        for i in positions:
            most = _most(program.options[i])
            rows.row(f"used_{name}", [program.n[i], used], [1.0, -most], most=0.0)
        rows.row(f"survive_{name}", [*cols, used], [*values, float(demands.survive_replicas)], most=0.0)
    if demands.survive_nodes:
        for i in positions:
            nodes = program.options[i].group.nodes
            # What the fullest node holds when the replicas are spread evenly over the group's nodes.
            held = rows.column(integer=True)
            rows.row(f"spread_{name}", [held, program.n[i]], [1.0, -1.0 / nodes], least=0.0)
            rows.row(f"survive_node_{name}", [*cols, held], [*values, 1.0], most=0.0)


def x_columns(program: Program, cols: list[int]) -> bool:
    """True when a row has a share in it at all (a pool that serves no bucket needs no capacity)."""
    counts = set(program.n)
    return any(col not in counts for col in cols)


def _supply(program: Program, inventory: Inventory) -> None:
    """GPUs of each node group, watts of each power domain."""
    rows = program.rows
    for group in inventory.node_groups:
        here = [i for i, o in enumerate(program.options) if o.group.name == group.name]
        if here:
            gpus = [float(program.options[i].pool.gpus_per_replica) for i in here]
            row = rows.row(f"gpus of {group.name}", [program.n[i] for i in here], gpus, most=float(group.gpus))
            program.relaxable[row] = (f"{group.gpu.name} GPUs in {group.name}", max(group.usd_per_gpu_hour, 0.01))
    domains = {group.name: group.power_domain for group in inventory.node_groups}
    for domain in inventory.power_domains:
        here = [i for i, o in enumerate(program.options) if domains[o.group.name] == domain.name]
        if here:
            watts = [program.options[i].pool.power_w for i in here]
            row = rows.row(f"power of {domain.name}", [program.n[i] for i in here], watts, most=domain.budget_w)
            program.relaxable[row] = (f"W in {domain.name}", 0.005)


def capacity_weight(option: Option, service: ServiceSpec) -> float:
    """Requests/s one replica carries of the service's mix: the measure behind shares by zone and by spot."""
    rates = service.workload.rates_per_s
    served = [(rates[b], load) for b, load in option.pool.load.items() if rates.get(b, 0.0) > 0]
    busy = sum(rate * load for rate, load in served)
    return sum(rate for rate, _ in served) / busy if busy > 0 else 0.0


def _demands(program: Program, service: ServiceSpec, objective: Objective) -> None:
    """Budget, replica counts, spot share and zones of one service."""
    rows, demands = program.rows, service.constraints
    mine = [i for i, o in enumerate(program.options) if o.service == service.name]
    n = [program.n[i] for i in mine]
    if demands.usd_per_hour is not None:
        prices = [billed_usd_per_hour(program.options[i], objective) for i in mine]
        row = rows.row(f"budget of {service.name}", n, prices, most=demands.usd_per_hour)
        program.relaxable[row] = (f"$/h in the budget of {service.name}", 1.0)
    if demands.max_replicas is not None:
        row = rows.row(f"max replicas of {service.name}", n, [1.0] * len(n), most=float(demands.max_replicas))
        program.relaxable[row] = (f"replicas allowed for {service.name}", 1.0)
    if demands.min_replicas:
        rows.row(f"min replicas of {service.name}", n, [1.0] * len(n), least=float(demands.min_replicas))
    weights = [capacity_weight(program.options[i], service) for i in mine]
    if demands.max_spot_share < 1.0:
        spot = [
            w * (float(program.options[i].group.spot) - demands.max_spot_share)
            for i, w in zip(mine, weights, strict=True)
        ]
        row = rows.row(f"spot share of {service.name}", n, spot, most=0.0)
        program.relaxable[row] = (f"requests/s on spot for {service.name}", 0.1)
    _zones(program, service, mine, weights)


def _zones(program: Program, service: ServiceSpec, mine: list[int], weights: list[float]) -> None:
    rows, demands = program.rows, service.constraints
    zones = sorted({program.options[i].group.zone for i in mine})
    if demands.max_zone_share < 1.0:
        for zone in zones:
            share = [
                w * (float(program.options[i].group.zone == zone) - demands.max_zone_share)
                for i, w in zip(mine, weights, strict=True)
            ]
            row = rows.row(f"share of {service.name} in zone {zone}", [program.n[i] for i in mine], share, most=0.0)
            program.relaxable[row] = (f"requests/s in zone {zone} for {service.name}", 0.1)
    if demands.min_zones > 1:
        present = []
        for zone in zones:
            here = rows.column(upper=1.0, integer=True)
            inside = [program.n[i] for i in mine if program.options[i].group.zone == zone]
            rows.row(f"present_{service.name}_{zone}", [here, *inside], [1.0, *([-1.0] * len(inside))], most=0.0)
            present.append(here)
        least = float(demands.min_zones)
        row = rows.row(f"zones of {service.name}", present, [1.0] * len(present), least=least)
        program.relaxable[row] = (f"zones fewer for {service.name}", 0.5)


def _commitments(program: Program, inventory: Inventory) -> None:
    """Committed GPUs are paid for anyway: only GPUs beyond them cost more."""
    for group in inventory.node_groups:
        if group.commitment is None:
            continue
        here = [i for i, o in enumerate(program.options) if o.group.name == group.name]
        beyond = program.rows.column(group.usd_per_gpu_hour)
        gpus = [float(program.options[i].pool.gpus_per_replica) for i in here]
        cols = [*(program.n[i] for i in here), beyond]
        program.rows.row(f"committed_{group.name}", cols, [*gpus, -1.0], most=float(group.commitment.gpus))


def _price_of_change(program: Program, objective: Objective, current: Mapping[tuple[str, str, str, str], int]) -> None:
    """n[i] = what runs now + started - stopped."""
    if not current or (objective.start_usd == 0 and objective.stop_usd == 0):
        return
    per_hour = _SECONDS_PER_HOUR / objective.horizon_s
    for position, option in enumerate(program.options):
        now, gpus = current.get(option.key, 0), option.pool.gpus_per_replica
        started = program.rows.column(objective.start_usd * gpus * per_hour)
        stopped = program.rows.column(objective.stop_usd * gpus * per_hour, upper=float(now))
        cols = [program.n[position], started, stopped]
        program.rows.row(f"change_{position}", cols, [1.0, -1.0, 1.0], least=float(now), most=float(now))


def shares_of(program: Program, x: Floats) -> dict[int, dict[Bucket, float]]:
    """profile index -> bucket -> share, from a solution; solver dust is dropped and each bucket sums to 1."""
    raw = {index: {b: float(x[c]) for b, c in columns.items() if x[c] > 1e-9} for index, columns in program.x.items()}
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
