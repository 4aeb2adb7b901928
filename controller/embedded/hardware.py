"""Nodes, an inventory and power domains made from an inventory as people write it for `muster plan`."""

from collections.abc import Iterator, Mapping
from typing import Any

from controller.embedded.api import EmbeddedApi
from controller.embedded.paths import SERVED
from controller.hardware import GPU_RESOURCE, PRODUCT, ZONE
from controller.names import API_VERSION, GROUP
from controller.when import text
from planner.catalog import gpu
from planner.hardware import GPUType, Inventory, NodeGroup

Object = Mapping[str, Any]
POOL = f"{GROUP}/pool"  # label on a node: the group that it was made for
_INVENTORY = "fleet"


def furnish(api: EmbeddedApi, inventory: Inventory, document: Object, now_s: float) -> None:
    """Make what an inventory names, unless the cluster has nodes already. `document` is the inventory as written.

    A quota on some services of a namespace alone has no like in a cluster, and is left out.
    """
    if api.store.items("nodes"):
        return
    with api.store.together():
        for group in inventory.node_groups:
            for node in nodes(group, now_s):
                _make(api, "nodes", node)
        _make(api, "clusterinventories", _inventory(document))
        for domain in inventory.power_domains:
            spec = {"budget": f"{domain.budget_w:g}W"}
            _make(api, "powerdomains", {"metadata": {"name": domain.name}, "spec": spec})
        for quota in (one for one in inventory.quotas if one.services is None):
            meta = {"name": quota.name, "namespace": quota.namespace}
            hard = {f"requests.{GPU_RESOURCE}": str(max(quota.gpus - quota.held_gpus, 0))}
            _make(api, "resourcequotas", {"metadata": meta, "spec": {"hard": hard}})


def nodes(group: NodeGroup, now_s: float) -> Iterator[dict[str, Any]]:
    """The nodes of a group, ready from the start."""
    for index in range(group.nodes):
        name = f"{group.name}-{index}"
        offered = {GPU_RESOURCE: str(group.gpus_per_node)}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastTransitionTime": text(now_s)}
        yield {
            "metadata": {
                "name": name,
                "labels": {
                    POOL: group.name,
                    PRODUCT: product(group.gpu),
                    ZONE: group.zone,
                    "kubernetes.io/hostname": name,
                },
            },
            "spec": {},
            "status": {"capacity": offered, "allocatable": offered, "conditions": [ready]},
        }


def product(known: GPUType) -> str:
    """The label by which a device plugin would call this GPU."""
    return next((alias for alias in known.aliases if " " not in alias and gpu(alias) == known), known.name)


def _inventory(document: Object) -> dict[str, Any]:
    """The inventory as a cluster has it: groups by label, counts left to the nodes."""
    kept = {
        key: value for key, value in document["spec"].items() if key not in ("powerDomains", "quotas", "nodeGroups")
    }
    groups = []
    for row in document["spec"]["nodeGroups"]:
        plain = {key: value for key, value in row.items() if key not in ("nodes", "gpusPerNode")}
        groups.append({**plain, "nodeSelector": {POOL: row["name"]}})
    return {
        "apiVersion": API_VERSION,
        "kind": "ClusterInventory",
        "metadata": {"name": _INVENTORY},
        "spec": {**kept, "nodeGroups": groups},
    }


def _make(api: EmbeddedApi, plural: str, obj: Mapping[str, Any]) -> None:
    api.request("POST", SERVED.need(plural).path(), obj)
