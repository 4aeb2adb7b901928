"""Options of the fleet program: which recipe of which service may run in which node group, and at what cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from planner.hardware import Inventory, NodeGroup
from planner.plan import PoolProfile, Profile
from planner.service import ServiceSpec

SECONDS_PER_HOUR = 3600.0
Key = tuple[str, str, str, str]


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
    """One pool of one recipe of one service in one node group. `key` names it across plans."""

    service: str
    profile: Profile
    pool: PoolProfile
    group: NodeGroup

    @property
    def key(self) -> Key:
        """(service, recipe, pool, node group)."""
        return (self.service, str(self.profile.recipe), self.pool.pool, self.group.name)

    @property
    def most(self) -> int:
        """Replicas that the group can hold; a replica stays within one node."""
        return self.group.gpus_per_node // self.pool.gpus_per_replica * self.group.nodes


def options_of(service: ServiceSpec, profiles: Sequence[Profile], inventory: Inventory) -> list[Option]:
    """Every place where every recipe of the service may run."""
    out: list[Option] = []
    for profile in profiles:
        for group in inventory.node_groups:
            if group.gpu.name != profile.recipe.gpu:
                continue
            if profile.recipe.power_cap_w is not None and group.power_domain is None:
                continue  # a cap is an answer to a power budget; without one it only slows
            placed = [Option(service.name, profile, pool, group) for pool in profile.pools]
            if all(option.most > 0 for option in placed):
                out.extend(placed)
    return out


def energy_usd_per_hour(option: Option, objective: Objective) -> float:
    """$/h of one replica's energy at full load, where energy is priced."""
    priced = option.group.owned or objective.energy_everywhere
    return option.pool.power_w * objective.usd_per_joule * SECONDS_PER_HOUR if priced else 0.0


def billed_usd_per_hour(option: Option, objective: Objective) -> float:
    """$/h of one replica: its GPUs at the price of their group, and its energy where that is priced."""
    return option.group.usd_per_gpu_hour * option.pool.gpus_per_replica + energy_usd_per_hour(option, objective)
