"""Why there is no plan, in the groups that a cluster's inventory names: planning sees what is free of them. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from controller.hardware import Offer
from planner.hardware import Stock
from planner.plan import Change, Infeasible
from planner.words import free_of

_UNKNOWN = Infeasible(
    "no open node belongs to a group of a ClusterInventory whose GPU type is known",
    (),
    "label nodes, or add a group to a ClusterInventory",
)


def nothing(made: Offer) -> Infeasible:
    """Why there is nothing to plan on."""
    stock = [
        Stock(one["name"], one["nodes"], one["gpus"], one["freeGpus"]) for one in made.document["spec"].get("stock", ())
    ]
    if not stock or any(one.free_gpus for one in stock):
        return _UNKNOWN
    return Infeasible(
        f"no GPU is free; {free_of(stock)}", ("free GPUs",), "add a node, or have other services need less"
    )


def in_groups(why: Infeasible, made: Offer) -> Infeasible:
    """Changes of nodes as those of the cluster's groups: how many nodes each then has in all."""
    spec = made.document["spec"]
    rows, stock = ({one["name"]: one["nodes"] for one in spec.get(key, ())} for key in ("nodeGroups", "stock"))
    changes: dict[tuple[str, str], Change] = {}
    for one in why.changes:
        group = made.group_of.get(one.target, "") if one.kind == "nodes" else ""
        if group not in stock:
            changes[one.kind, one.target] = one
            continue
        there = changes.get(("nodes", group), Change("nodes", group, float(stock[group])))
        changes["nodes", group] = replace(there, value=there.value + one.value - rows[one.target])
    return replace(why, changes=tuple(changes.values()))


def as_object(why: Infeasible) -> Mapping[str, Any]:
    """The same as a Plan object says it."""
    return {
        "why": why.why,
        "constraints": list(why.constraints)[:64],
        "relaxation": why.relaxation,
        "changes": [{"kind": c.kind, "target": c.target, "value": c.value} for c in why.changes],
    }
