"""What all services share of a cluster at one moment: hardware, prices, quotas, and nodes that are out. Pure.

It is made anew when nodes, inventories or quotas change.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller import names
from controller.demand import Fleet, budgets, hardware, prices
from controller.hardware import group_of, groups_of, node_gpus, node_size
from controller.quotas import Limit, limits

Object = Mapping[str, Any]


OF_ALL = ("nodes", "clusterinventories", "powerdomains", "resourcequotas")  # what plans depend on besides services


@dataclass(frozen=True, slots=True)
class Facts:
    """`groups`: by name, as the inventory has them; `gpus_per_node`: the most that a node of a group has.

    `quotas`: by namespace. `out`: nodes with faults, and those that are lost.

    `offered`, `counted`: digests of the groups, without and with how many GPUs they offer. `power`: of budgets.
    """

    groups: Mapping[str, Object]
    gpus_per_node: Mapping[str, int]
    out: frozenset[str]
    prices: str
    offered: str
    counted: str
    power: str
    quotas: Mapping[str, Sequence[Limit]]


def facts(
    inventories: Sequence[Object],
    nodes: Sequence[Object],
    domains: Sequence[Object],
    quotas: Sequence[Object],
    gpu_of_product: Callable[[str], str | None],
    lost: frozenset[str] = frozenset(),
) -> Facts:
    """From the objects. `lost`: nodes that do not answer."""
    groups = groups_of(inventories)
    most: dict[str, int] = {}
    for node in nodes:
        if group := group_of(node, groups):
            most[group] = max(most.get(group, 0), node_size(node))  # a fault makes no other kinds
    fed = {group.get("powerDomain") for group in groups.values()}  # by others nothing hangs on
    fleet = Fleet(inventories, (), nodes, (), (), {}, gpu_of_product)
    return Facts(
        groups=groups,
        gpus_per_node=most,
        out=frozenset(node["metadata"]["name"] for node in nodes if is_out(node)) | lost,
        prices=prices(inventories),
        offered=hardware(fleet, counts=False),
        counted=hardware(fleet, counts=True),
        power=budgets([one for one in domains if one["metadata"]["name"] in fed]),
        quotas=limits(quotas),
    )


def is_out(node: Object) -> bool:
    """Whether a node carries our taint."""
    return names.TAINT in {taint["key"] for taint in (node.get("spec") or {}).get("taints") or ()}


def matters(plural: str, old: Object | None, new: Object | None) -> bool:
    """Whether a change of something that all plans depend on can change one: heartbeats of nodes cannot."""
    if plural == "nodes":
        return _looked_at(old) != _looked_at(new)
    if plural == "resourcequotas":  # which have no generation
        return (old or {}).get("spec") != (new or {}).get("spec")
    return wanted(old, new)


def _looked_at(node: Object | None) -> object:
    if node is None:
        return None
    ready = [c["status"] for c in (node.get("status") or {}).get("conditions") or () if c["type"] == "Ready"]
    taints = sorted(taint["key"] for taint in (node.get("spec") or {}).get("taints") or ())
    spec = node.get("spec") or {}
    return node["metadata"].get("labels"), spec.get("unschedulable"), taints, ready, node_gpus(node)


def wanted(old: Object | None, new: Object | None) -> bool:
    """Whether somebody wants something else; what is said of an object changes nothing."""
    return old is None or new is None or apart_from_status(old) != apart_from_status(new)


def respecified(old: Object | None, new: Object | None) -> bool:
    """Whether another spec is all that is wanted: nobody deletes it, or says anything to Muster by an annotation."""
    if old is None or new is None:
        return False
    metas = [one["metadata"] for one in (old, new)]
    said, generations = [_said(meta) for meta in metas], [meta.get("generation") for meta in metas]
    return said[0] == said[1] and bool(generations[0] != generations[1])


def _said(meta: Object) -> tuple[object, object]:
    ours = {key: text for key, text in (meta.get("annotations") or {}).items() if key.startswith(f"{names.GROUP}/")}
    return ours, meta.get("deletionTimestamp")


def apart_from_status(obj: Object) -> object:
    """What of an object changes when somebody wants something else of it."""
    meta = obj["metadata"]
    return meta.get("generation"), meta.get("annotations"), meta.get("deletionTimestamp")
