"""Nodes of a cluster and what ClusterInventory and PowerDomain say of them, as an inventory to plan on. Pure.

How many nodes there are, and with how many GPUs, the nodes say; prices, zones and power, the inventory. Nodes of a
group that offer other numbers of GPUs (some are faulty, or held by pods that stay) become groups of their own, such as
`group.free5`, since the planner's groups are of equal nodes; `Offer.group_of` leads back.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from controller import names
from controller.cluster import Node
from controller.specs import service_of
from controller.status import is_ready
from planner.catalog import gpu
from planner.errors import UnknownName
from planner.units import POWER

Object = Mapping[str, Any]
Held = Mapping[str, Mapping[str, int]]
"""Service ("" for pods of none) -> node -> GPUs."""

GPU_RESOURCE = "nvidia.com/gpu"
PRODUCT = "nvidia.com/gpu.product"
ZONE = "topology.kubernetes.io/zone"
_NO_ZONE = "default"


@dataclass(frozen=True, slots=True)
class Offer:
    """An inventory as a document of kind ClusterInventory, and the group of the cluster behind each of its groups.

    `names`: node -> the document's group that it is in.
    """

    document: Object
    group_of: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)


def groups_of(inventories: Sequence[Object]) -> dict[str, Object]:
    """Group name -> its entry, over all inventories by name; of two groups of one name the first counts."""
    found: dict[str, Object] = {}
    for inventory in sorted(inventories, key=lambda one: one["metadata"]["name"]):
        for group in inventory["spec"]["nodeGroups"]:
            found.setdefault(group["name"], group)
    return found


def group_of(node: Object, groups: Mapping[str, Object]) -> str:
    """The first group whose selector a node's labels meet; empty for none."""
    labels = node["metadata"].get("labels") or {}
    for name, group in groups.items():
        wanted = group.get("nodeSelector")
        if all(labels.get(key) == value for key, value in wanted.items()) if wanted else _has_gpu(labels, group):
            return name
    return ""


def _has_gpu(labels: Mapping[str, str], group: Object) -> bool:
    return all(labels.get(key) in values for key, values in selected(group))


def selected(group: Object) -> list[tuple[str, tuple[str, ...]]]:
    """Labels of the nodes of a group, each with the values that it may have.

    A group that names a GPU and no labels is of all nodes whose product label says that GPU. One that names neither,
    which old API servers let pass, is of no node.
    """
    labels = group.get("nodeSelector") or {}
    if labels:
        return [(key, (value,)) for key, value in sorted(labels.items())]
    return [(PRODUCT, products(group["gpu"]) if group.get("gpu") else ())]


@cache
def products(name: str) -> tuple[str, ...]:
    """What the product label of nodes says for a GPU of the catalogue; nothing for one that is not there."""
    try:
        return tuple(sorted(alias for alias in gpu(name).aliases if " " not in alias))
    except UnknownName:
        return ()


def gpus_of(pod: Object) -> int:
    """GPUs that a pod's containers ask for."""
    containers = pod["spec"].get("containers") or ()
    return sum(int(((one.get("resources") or {}).get("limits") or {}).get(GPU_RESOURCE, 0)) for one in containers)


def holds(pod: Object) -> bool:
    """Whether a pod has GPUs of a node."""
    phase = (pod.get("status") or {}).get("phase")
    return bool(pod["spec"].get("nodeName")) and phase not in ("Succeeded", "Failed")


def held_by_node(pods: Iterable[Object]) -> dict[str, int]:
    """Node -> GPUs that pods on it hold."""
    held: dict[str, int] = {}
    for pod in pods:
        if holds(pod) and (gpus := gpus_of(pod)):
            held[pod["spec"]["nodeName"]] = held.get(pod["spec"]["nodeName"], 0) + gpus
    return held


def held_by_service(pods: Iterable[Object]) -> Held:
    """GPUs that pods hold, by service."""
    found: dict[str, list[Object]] = {}
    for pod in pods:
        found.setdefault(service_of(pod), []).append(pod)
    return {service: held_by_node(mine) for service, mine in found.items()}


def total_held(held: Held, without: Collection[str] = ()) -> dict[str, int]:
    """Node -> GPUs that all services but some hold."""
    found: dict[str, int] = {}
    for service, nodes in held.items():
        for node, gpus in nodes.items() if service not in without else ():
            found[node] = found.get(node, 0) + gpus
    return found


def is_open(node: Object) -> bool:
    """Whether a node takes new replicas: it is ready, and neither cordoned nor tainted by us."""
    spec = node.get("spec") or {}
    taints = {taint["key"] for taint in spec.get("taints") or ()}
    return is_ready(node) and not spec.get("unschedulable") and names.TAINT not in taints


def node_gpus(node: Object) -> int:
    """GPUs that a node's device plugin offers: it withdraws those that it knows to be faulty."""
    return int(((node.get("status") or {}).get("allocatable") or {}).get(GPU_RESOURCE, 0))


def node_size(node: Object) -> int:
    """GPUs that a node has, with those that its device plugin has withdrawn."""
    status = node.get("status") or {}
    return max(node_gpus(node), int((status.get("capacity") or {}).get(GPU_RESOURCE, 0)))


def nodes_of(nodes: Iterable[Object], groups: Mapping[str, Object], held: Mapping[str, int]) -> tuple[Node, ...]:
    """The nodes that belong to a group, as the rollout sees them."""
    found = []
    for node in nodes:
        name = node["metadata"]["name"]
        if group := group_of(node, groups):
            found.append(Node(name, group, node_gpus(node), held.get(name, 0), is_open(node)))
    return tuple(sorted(found, key=lambda one: one.name))


def free_of(node: Node, taken: Mapping[str, int], without: Collection[str]) -> int:
    """GPUs of a node that may be planned on: it is open, not `without`, and has some that are not `taken`."""
    return max(node.gpus - taken.get(node.name, 0), 0) if node.open and node.name not in without else 0


def offer(
    inventories: Sequence[Object],
    domains: Sequence[Object],
    nodes: Sequence[Object],
    taken: Mapping[str, int],
    drawn_w: Mapping[str, float],
    gpu_of_product: Callable[[str], str | None],
    without: Collection[str] = (),
    seen: Sequence[Node] | None = None,
) -> Offer:
    """What may be planned on: open nodes but `without`, less GPUs `taken` by node and watts `drawn_w` by power domain.

    `seen`: the nodes by `nodes_of`, where somebody has them.

    A group whose GPU type is stated neither by the inventory nor by a product label that is known is left out.
    """
    groups = groups_of(inventories)
    counted: dict[tuple[str, int], list[Object]] = {}
    found = {node["metadata"]["name"]: node for node in nodes}
    for one in nodes_of(nodes, groups, {}) if seen is None else seen:
        if free := free_of(one, taken, without):
            counted.setdefault((one.group, free), []).append(found[one.name])
    rows: list[dict[str, Any]] = []
    backs: dict[str, str] = {}
    where: dict[str, str] = {}
    largest = {group: max(free for other, free in counted if other == group) for group, _ in counted}
    for (group, free), members in sorted(counted.items()):
        first = free == largest[group]
        title = group if first else f"{group}.free{free}"
        row = _row(groups[group], title, free, members, gpu_of_product, first)
        if row is not None:
            rows.append(row)
            backs[title] = group
            where |= {one["metadata"]["name"]: title for one in members}
    zones = {row["zone"] for row in rows}
    used = {row["powerDomain"] for row in rows if "powerDomain" in row}
    stock = _stock(nodes_of(nodes, groups, {}) if seen is None else seen, taken, without, backs)
    spec: dict[str, Any] = {
        "nodeGroups": rows,
        "links": [
            link for one in inventories for link in one["spec"].get("links") or () if set(link["between"]) <= zones
        ],
        "powerDomains": [
            {"name": one["metadata"]["name"], "budget": _left(one, drawn_w)}
            for one in sorted(domains, key=lambda one: str(one["metadata"]["name"]))
            if one["metadata"]["name"] in used
        ],
    }
    known = {domain["name"] for domain in spec["powerDomains"]}
    for row in rows:
        if row.get("powerDomain") not in known:
            row.pop("powerDomain", None)  # nobody states its budget yet
    prices = [one["spec"]["energyPrice"] for one in inventories if one["spec"].get("energyPrice")]
    spec |= {"energyPrice": prices[0]} if prices else {}
    spec |= {"stock": stock} if any(one["freeGpus"] < one["gpus"] for one in stock) else {}
    head = {"apiVersion": names.API_VERSION, "kind": "ClusterInventory", "metadata": {"name": "cluster"}}
    return Offer({**head, "spec": spec}, backs, where)


def _stock(
    nodes: Sequence[Node], taken: Mapping[str, int], without: Collection[str], group_of: Mapping[str, str]
) -> list[dict[str, Any]]:
    """What there is of each group in all, and what of it is free."""
    found: dict[str, dict[str, Any]] = {}
    for one in sorted(nodes, key=lambda node: node.group):
        row = found.setdefault(one.group, {"name": one.group, "nodes": 0, "gpus": 0, "freeGpus": 0, "parts": []})
        row["nodes"] += 1
        row["gpus"] += one.gpus
        row["freeGpus"] += free_of(one, taken, without)
        row["parts"] = sorted(part for part, group in group_of.items() if group == one.group)
    return list(found.values())


def _left(domain: Object, drawn_w: Mapping[str, float]) -> str:
    """What a domain may still draw, as people write it."""
    budget_w = POWER.parse(domain["spec"]["budget"])
    return f"{max(budget_w - drawn_w.get(domain['metadata']['name'], 0.0), 1.0):.6g}W"


def _row(
    group: Object,
    title: str,
    free: int,
    members: Sequence[Object],
    gpu_of_product: Callable[[str], str | None],
    whole: bool,
) -> dict[str, Any] | None:
    """A group of the planner's; commitments go with the nodes that are whole."""
    labels = members[0]["metadata"].get("labels") or {}
    name = gpu_of_product(group.get("gpu") or labels.get(PRODUCT, ""))
    if name is None:
        return None
    kept = ("pricePerHour", "owned", "spot", "powerDomain", "networkBandwidth")
    row = {key: group[key] for key in kept if key in group}
    if whole and "commitment" in group:
        row["commitment"] = {
            **group["commitment"],
            "gpus": min(group["commitment"]["gpus"], free * len(members)),
        }
    zone = group.get("zone") or labels.get(ZONE, _NO_ZONE)
    return {"name": title, "gpu": name, "gpusPerNode": free, "nodes": len(members), "zone": zone, **row}
