"""Whether what a leader made is what the plans ask for: every owned object by kind and name, and its replicas."""

from collections.abc import Iterable, Mapping
from typing import Any

from controller.hardware import group_of, groups_of, node_gpus
from controller.kube.discovery import discover
from controller.manifests.service import around, table_name
from controller.manifests.workload import kinds, workload
from controller.plans import allocations
from controller.specs import at_rate, service
from planner.service import ServiceSpec
from tests.controller.live import Site

_OWNED = (
    "deployments", "statefulsets", "services", "configmaps", "poddisruptionbudgets", "httproutes",
    "resourceclaimtemplates", "plans",
)  # fmt: skip


def differences(site: Site, names: Iterable[str]) -> list[str]:
    """What is there and no plan asks for, and what is missing, in words; nothing where all is as it should be."""
    wanted, there = _wanted(site, names), _there(site)
    extra = [f"{key} is left, and no plan asks for it" for key in sorted(there.keys() - wanted.keys())]
    missing = [f"{key} is missing" for key in sorted(wanted.keys() - there.keys())]
    other = [
        f"{key} has {there[key]} replicas for {count}"
        for key, count in sorted(wanted.items())
        if key in there and there[key] != count
    ]
    return [*extra, *missing, *other]


def _there(site: Site) -> dict[str, int | None]:
    """Everything that a GPUService owns, with its replicas where it has any."""
    served = discover(site.api)
    found: dict[str, int | None] = {}
    for plural in _OWNED:
        if (resource := served.get(plural)) is None:
            continue
        for obj in site.api.request("GET", resource.root)["items"]:
            owners = {one["kind"] for one in obj["metadata"].get("ownerReferences") or ()}
            if "GPUService" in owners:
                found[f"{resource.kind} {obj['metadata']['name']}"] = (obj.get("spec") or {}).get("replicas")
    return found


def _wanted(site: Site, names: Iterable[str]) -> dict[str, int | None]:
    """The same by the specs and plans of services."""
    served = discover(site.api)
    nodes = site.api.request("GET", "/api/v1/nodes")["items"]
    groups = groups_of(site.api.request("GET", served.need("clusterinventories").root)["items"])
    most: dict[str, int] = {}
    for node in nodes:
        if group := group_of(node, groups):
            most[group] = max(most.get(group, 0), node_gpus(node))
    found: dict[str, int | None] = {}
    for name in names:
        obj, plan = site.get(name), site.get(name, plural="plans")["spec"]
        spec = service(obj)
        assert isinstance(spec, ServiceSpec), spec
        rates = at_rate(spec, (plan.get("planned") or {}).get("ratePerSecond")).workload.rates_per_s
        made = kinds(obj, allocations(plan["allocations"]), rates, groups, most)
        found |= _keys(around(obj, made, served))
        found |= _keys(workload(one, one.replicas, obj, served) for one in made if one.replicas)
        found |= {f"ConfigMap {table_name(name)}": None, f"Plan {name}": None}
    return found


def _keys(objects: Iterable[Mapping[str, Any]]) -> dict[str, int | None]:
    return {f"{one['kind']} {one['metadata']['name']}": one["spec"].get("replicas") for one in objects}
