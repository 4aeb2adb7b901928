"""Why there is no plan, where there is nothing to plan on, and as a Plan object says it. Pure."""

from collections.abc import Mapping
from typing import Any

from controller.hardware import Offer
from planner.hardware import Stock
from planner.plan import Infeasible
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


def as_object(why: Infeasible) -> Mapping[str, Any]:
    """The same as a Plan object says it."""
    return {
        "why": why.why,
        "constraints": list(why.constraints)[:64],
        "relaxation": why.relaxation,
        "changes": [{"kind": c.kind, "target": c.target, "value": c.value} for c in why.changes],
    }
