"""What the leader says of inventories and power domains: one round writes the statuses that differ."""

from collections.abc import Mapping

from controller.kube.applier import Applier
from controller.kube.known import Known
from controller.reports import Kept
from controller.supply import domain_status, fed_by, inventory_status

_LIMIT = "power_limit_enforced_w"


def tell_supply(known: Known, applier: Applier, kept: Mapping[str, Kept]) -> None:
    """One round; `kept`: what agents told last, by node."""
    now_s, nodes = known.clock(), known.items("nodes")
    inventories, domains = known.items("clusterinventories"), known.items("powerdomains")
    if not (inventories or domains):
        return
    names = [one["metadata"]["name"] for one in domains]
    for one in inventories:
        applier.status(one, inventory_status(one, inventories, names, nodes, now_s))
    if domains:
        limits_w = {
            name: sum(gpu.values.get(_LIMIT, 0.0) for gpu in one.report.gpus) for name, one in dict(kept).items()
        }
        fed = fed_by(nodes, inventories)
        for one in domains:
            applier.status(one, domain_status(one, limits_w, fed, now_s))
