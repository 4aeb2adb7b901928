"""Options of the fleet program: which recipe of which service may run in which node group, and at what cost."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from planner.hardware import Inventory, NodeGroup
from planner.plan import PoolProfile, Profile
from planner.service import Bucket, ServiceSpec

SECONDS_PER_HOUR = 3600.0
LEAST_BUSY = 1e-5  # replicas; a smaller load would fit into what the solver takes for a whole count of 0
Key = tuple[str, str, str, str]
Site = tuple[str, bool] | None  # zone, spot; None where the service does not care


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
    horizon_s: float = SECONDS_PER_HOUR


@dataclass(frozen=True, slots=True)
class Option:
    """One pool of one recipe of one service in one node group. `key` names it across plans.

    `site` sets apart the groups between which the service's constraints tell: its requests are routed to sites.
    """

    service: str
    profile: Profile
    pool: PoolProfile
    group: NodeGroup
    site: Site = None

    @property
    def key(self) -> Key:
        """(service, recipe, pool, node group)."""
        return (self.service, str(self.profile.recipe), self.pool.pool, self.group.name)

    @property
    def most(self) -> int:
        """Replicas that the group can hold; a replica stays within one node."""
        return self.group.gpus_per_node // self.pool.gpus_per_replica * self.group.nodes


def site_of(service: ServiceSpec, group: NodeGroup) -> Site:
    """Where a group stands for a service that limits shares by zone or spot; None for one that does not."""
    demands = service.constraints
    cares = demands.max_spot_share < 1 or demands.max_zone_share < 1
    return (group.zone, group.spot) if cares else None


def options_of(service: ServiceSpec, profiles: Sequence[Profile], inventory: Inventory) -> list[Option]:
    """Every place where every recipe of the service may run."""
    out: list[Option] = []
    for profile in profiles:
        for group in inventory.node_groups:
            if group.gpu.name != profile.recipe.gpu:
                continue
            if profile.recipe.power_cap_w is not None and group.power_domain is None:
                continue  # a cap is an answer to a power budget; without one it only slows
            site = site_of(service, group)
            placed = [Option(service.name, profile, pool, group, site) for pool in profile.pools]
            if all(option.most > 0 for option in placed):
                out.extend(placed)
    return out


def busy_buckets(service: ServiceSpec) -> list[Bucket]:
    """Buckets with traffic."""
    return [bucket for bucket, rate in service.workload.rates_per_s.items() if rate > 0]


def serves(profile: Profile, bucket: Bucket) -> bool:
    """Whether every pool of the recipe can serve the bucket."""
    return all(bucket in pool.load for pool in profile.pools)


def full_load(service: ServiceSpec, profile: Profile, pool: PoolProfile) -> float:
    """Replicas of a pool that all the traffic which it can serve would keep busy."""
    rates = service.workload.rates_per_s
    return sum(max(rates[b] * pool.load[b], LEAST_BUSY) for b in busy_buckets(service) if serves(profile, b))


def useful(service: ServiceSpec, option: Option, now: int) -> int:
    """Replicas of an option beyond which no plan gains anything; keeps big-M rows small in a large inventory."""
    demands = service.constraints
    load = math.ceil(full_load(service, option.profile, option.pool))
    spare = demands.survive_replicas + demands.min_replicas + int(demands.min_zones > 1)
    return max(now, load * (1 + demands.survive_nodes) + spare + demands.survive_nodes)


def anywhere(service: ServiceSpec, profiles: Iterable[Profile]) -> set[int]:
    """ids of recipes that count as a replica of the service: they serve every size; all recipes where none does."""
    wanted = busy_buckets(service) or list(service.workload.rates_per_s)
    mine = [p for p in profiles if p.service == service.name]
    whole = {id(p) for p in mine if all(serves(p, b) for b in wanted)}
    return whole or {id(p) for p in mine}


def zones_wanted(service: ServiceSpec) -> int:
    """Least number of zones with a whole replica; a service without traffic spreads no more than it keeps warm."""
    demands = service.constraints
    return demands.min_zones if service.workload.rate_per_s > 0 else min(demands.min_zones, demands.min_replicas)


def energy_usd_per_hour(option: Option, objective: Objective) -> float:
    """$/h of one replica's energy at full load, where energy is priced."""
    priced = option.group.owned or objective.energy_everywhere
    return option.pool.power_w * objective.usd_per_joule * SECONDS_PER_HOUR if priced else 0.0


def listed_usd_per_hour(option: Option, objective: Objective) -> float:
    """$/h of one replica: its GPUs at the price of their group, and its energy where that is priced."""
    return option.group.usd_per_gpu_hour * option.pool.gpus_per_replica + energy_usd_per_hour(option, objective)
