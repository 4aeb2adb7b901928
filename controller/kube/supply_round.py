"""What the leader says of hardware: one round writes statuses of inventories and domains, and caps on nodes."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from controller import names
from controller.grants import Grants
from controller.kube.applier import Applier
from controller.kube.known import Known, gpu_of_product
from controller.kube.node_round import NodeRound
from controller.reports import Gpu, Kept
from controller.status import condition
from controller.supply import domain_status, fed_by, inventory_status
from planner.catalog import gpu as catalogue

Object = Mapping[str, Any]
_SETTLED_S = 2.0  # after a report its caps are surely worked out
_WITHIN = "WithinBudget"
Tell = Callable[[Object, str, str], None]
_LIMIT = "power_limit_enforced_w"


def tell_supply(known: Known, applier: Applier, kept: Mapping[str, Kept], grants: Grants, tell: Tell) -> None:
    """One round; `kept`: what agents told last, by node. A budget that limits cannot keep is told of when it begins."""
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
            made = domain_status(one, limits_w, fed, now_s, grants.shares.get(one["metadata"]["name"]))
            old, new = condition(one, _WITHIN), condition({"status": made}, _WITHIN)
            applier.status(one, made)
            if new["status"] == "False" and old.get("reason") != new["reason"]:
                tell(one, "PowerLimitsOverBudget", new["message"])


def tell_caps(known: Known, rounds: NodeRound, grants: Grants, tell: Tell) -> None:
    """Note on each node the caps that its GPUs were last granted, in watts: one for all, or each in its order."""
    caps_w, now_s = grants.sent(), known.clock()
    kept = dict(rounds.kept)
    for node in known.items("nodes"):
        name = node["metadata"]["name"]
        mine = [caps_w.get(f"{name}/{gpu.uuid}") for gpu in kept[name].report.gpus] if name in kept else []
        watts = [f"{one:g}" for one in mine if one is not None]
        alike = len(set(watts)) == 1
        said = (watts[0] if alike else ",".join(watts)) if watts else None
        before = (node["metadata"].get("annotations") or {}).get(names.POWER_LIMIT)
        early = name not in kept or now_s - kept[name].came_s < _SETTLED_S
        if said == before or (said is None and early):  # who was hardly heard of yet keeps what was noted
            continue
        rounds.note(node, {names.POWER_LIMIT: said})
        if name in kept and (words := cap_words(before, said, min(map(_full_w, kept[name].report.gpus), default=0.0))):
            tell(node, "PowerCapApplied", words)


def cap_words(before: str | None, now: str | None, full_w: float) -> str:
    """What to say where caps changed: a limit at which a GPU may draw all that it can is none. Empty: nothing."""
    was, caps_w = ([float(one) for one in (said or "").split(",") if one] for said in (before, now))
    if any(one < full_w for one in caps_w):
        return f"each GPU may draw {now} W" if len(caps_w) == 1 else f"GPUs may draw {', '.join(str(now).split(','))} W"
    return "lifted: each GPU may draw all that it can" if any(one < full_w for one in was) else ""


def _full_w(one: Gpu) -> float:
    """What a GPU may draw without a cap; whatever is granted to one that nobody knows is a cap."""
    known = gpu_of_product(one.model)
    return math.inf if known is None else catalogue(known).tdp_w
