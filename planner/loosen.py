"""A problem with some of its constraints set to new values."""

from collections.abc import Sequence
from dataclasses import replace

from planner.hardware import Inventory
from planner.plan import Change
from planner.service import Constraints, ServiceSpec
from planner.tenants import label


def loosened(
    services: Sequence[ServiceSpec], inventory: Inventory, changes: Sequence[Change]
) -> tuple[list[ServiceSpec], Inventory]:
    """Services and inventory after the changes."""
    groups = {c.target: round(c.value) for c in changes if c.kind == "nodes"}
    domains = {c.target: c.value for c in changes if c.kind == "power"}
    quotas = {c.target: round(c.value) for c in changes if c.kind == "quota"}
    hardware = replace(
        inventory,
        node_groups=tuple(replace(g, nodes=groups.get(g.name, g.nodes)) for g in inventory.node_groups),
        power_domains=tuple(replace(d, budget_w=domains.get(d.name, d.budget_w)) for d in inventory.power_domains),
        quotas=tuple(replace(q, gpus=quotas.get(label(q), q.gpus)) for q in inventory.quotas),
    )
    mine = {s.name: [c for c in changes if c.target == s.name] for s in services}
    return [replace(s, constraints=_set(s.constraints, mine[s.name])) for s in services], hardware


def _set(demands: Constraints, changes: Sequence[Change]) -> Constraints:
    for change in changes:
        match change.kind:
            case "budget":
                demands = replace(demands, usd_per_hour=change.value)
            case "max_replicas":
                demands = replace(demands, max_replicas=round(change.value))
            case "min_replicas":
                demands = replace(demands, min_replicas=round(change.value))
            case "min_zones":
                demands = replace(demands, min_zones=round(change.value))
            case "max_zone_share":
                demands = replace(demands, max_zone_share=change.value)
            case "max_spot_share":
                demands = replace(demands, max_spot_share=change.value)
            case "survive_replicas":
                demands = replace(demands, survive_replicas=round(change.value))
            case "survive_nodes":
                demands = replace(demands, survive_nodes=round(change.value))
            case "nodes" | "power" | "quota":
                pass  # of the inventory, even if a service has its name
    return demands
