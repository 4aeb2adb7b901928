"""What the status of a ClusterInventory and of a PowerDomain says: whether it is understood, what it comes to. Pure.

As in `controller.conditions`, equal facts give an equal status, and every key is always there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from controller.caps import Shares
from controller.crds.rules import broken
from controller.hardware import group_of, groups_of, node_gpus
from controller.status import condition
from controller.when import text
from planner.catalog import gpu
from planner.errors import UnknownName

Object = Mapping[str, Any]
_MOST_MESSAGE = 1024


def inventory_status(
    inventory: Object, inventories: Sequence[Object], domains: Sequence[str], nodes: Sequence[Object], now_s: float
) -> Object:
    """Of an inventory; `inventories`: all of them, since a group's name counts once."""
    problems = [f"{one.path}: {one.message}" for one in broken("ClusterInventory", inventory)]
    known = ", ".join(sorted(domains)) or "none"
    counted = groups_of(inventories)
    for index, group in enumerate(inventory["spec"]["nodeGroups"]):
        where = f"spec.nodeGroups[{index}]"
        if group.get("gpu") and (unknown := _unknown(group["gpu"])):
            problems.append(f"{where}.gpu: {unknown}")
        fed = group.get("powerDomain", "")
        if fed and fed not in domains:
            problems.append(f"{where}.powerDomain: got {fed}, allowed: a PowerDomain of the cluster: {known}")
        if counted[group["name"]] is not group:
            problems.append(f"{where}.name: got {group['name']} again, allowed: once in all inventories")
    mine = [group["name"] for group in inventory["spec"]["nodeGroups"] if counted[group["name"]] is group]
    of = [group_of(node, counted) for node in nodes]
    said = "; ".join(f"{name}: {of.count(name)} nodes" for name in mine)
    return _status(inventory, problems, said, now_s)


def _unknown(name: str) -> str:
    """What the catalogue objects to a GPU's name; nothing to one that it has."""
    try:
        gpu(name)
    except UnknownName as error:
        return str(error)
    return ""


def domain_status(
    domain: Object,
    limits_w: Mapping[str, float],
    fed: Mapping[str, Sequence[Object]],
    now_s: float,
    shares: Shares | None = None,
) -> Object:
    """Of a domain. `limits_w`: node -> sum of its limits as last read back; `fed`: domain -> its nodes.

    `shares`: what its GPUs are to have; None where nobody has worked that out yet.
    """
    nodes = fed.get(domain["metadata"]["name"], ())
    silent = sum(node["metadata"]["name"] not in limits_w for node in nodes)
    said = f"feeds {len(nodes)} nodes" + (f", of which {silent} tell nothing" if silent else "")
    capped_w = sum(limits_w.get(node["metadata"]["name"], 0.0) for node in nodes)
    gpus = sum(map(node_gpus, nodes))
    status = _status(domain, (), said, now_s)
    within = _condition(domain, "WithinBudget", *_within(shares), now_s)
    return {**status, "conditions": [*status["conditions"], within], "cappedW": round(capped_w), "gpus": gpus}


def _within(shares: Shares | None) -> tuple[str, str, str]:
    """Whether the limits of a domain's GPUs keep its budget: status, reason and words."""
    if shares is None:
        return "Unknown", "NotReported", "no agent has reported yet"
    if not shares.short:
        return "True", "LimitsFit", "the limits that its GPUs are to have come to no more than the budget"
    return "False", "BudgetTooSmall" if shares.beyond else "LimitsAboveBudget", shares.short


def fed_by(nodes: Sequence[Object], inventories: Sequence[Object]) -> dict[str, list[Object]]:
    """Domain -> the nodes that it feeds."""
    groups, found = groups_of(inventories), dict[str, list[Object]]()
    for node in nodes:
        if (group := group_of(node, groups)) and (domain := groups[group].get("powerDomain", "")):
            found.setdefault(domain, []).append(node)
    return found


def _status(obj: Object, problems: Sequence[str], said: str, now_s: float) -> dict[str, Any]:
    state, reason = ("False", "InvalidSpec") if problems else ("True", "Valid")
    words = "; ".join(problems) or said or "no node belongs to it"
    row = _condition(obj, "Accepted", state, reason, words, now_s)
    return {"observedGeneration": row["observedGeneration"], "conditions": [row]}


def _condition(obj: Object, kind: str, state: str, reason: str, words: str, now_s: float) -> Object:
    old = condition(obj, kind)
    return {
        "type": kind,
        "status": state,
        "observedGeneration": int(obj["metadata"].get("generation") or 0),
        "lastTransitionTime": old["lastTransitionTime"] if old.get("status") == state else text(now_s),
        "reason": reason,
        "message": words[:_MOST_MESSAGE],
    }
