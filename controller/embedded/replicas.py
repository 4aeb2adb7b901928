"""Replicas of the embedded cluster as the simulator serves them: which pods make one, and how it runs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller import names
from controller.embedded.scheduler import indices
from controller.kube.known import Known
from controller.kube.view import kind_of
from controller.plans import allocations
from controller.status import is_ready
from planner.plan import Allocation, uncapped
from telemetry.pods import Holder

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica by its first pod. `gpus`: node -> the GPUs that it holds there. `name` is unique in the cluster."""

    name: str
    kind: str
    service: str
    recipe: str
    pool: str
    node_group: str
    ready: bool
    leaving: bool
    gpus: Mapping[str, tuple[int, ...]]


def replicas(workloads: Sequence[Object], pods: Sequence[Object]) -> list[Replica]:
    """Every replica of which all pods have a node."""
    by_kind: dict[str, list[Object]] = {}
    for pod in pods:
        mark = (pod["metadata"].get("labels") or {}).get(names.KIND)
        if mark is not None and pod["spec"].get("nodeName"):
            by_kind.setdefault(f"{pod['metadata']['namespace']}/{mark}", []).append(pod)
    found = []
    for workload in workloads:
        kind = kind_of(workload)
        if kind is None:
            continue
        size = int((workload["metadata"].get("annotations") or {}).get(names.SIZE, 1))
        for group in _grouped(by_kind.get(kind.name, ()), size):
            if len(group) < size:
                continue
            gpus: dict[str, tuple[int, ...]] = {}
            for pod in group:
                gpus[pod["spec"]["nodeName"]] = (*gpus.get(pod["spec"]["nodeName"], ()), *indices(pod))
            first = group[0]["metadata"]
            leaving = any(pod["metadata"].get("deletionTimestamp") for pod in group)
            name, ready = f"{first['namespace']}/{first['name']}/{first['uid']}", all(map(is_ready, group))
            where = (kind.name, kind.service, kind.recipe, kind.pool, kind.node_group)
            found.append(Replica(name, *where, ready, leaving, gpus))
    return found


def holders(pods: Sequence[Object], uuid: Callable[[str, int], str]) -> dict[str, dict[int, tuple[Holder, ...]]]:
    """Who holds GPUs, as a kubelet tells an agent: node -> GPU -> its holder."""
    found: dict[str, dict[int, tuple[Holder, ...]]] = {}
    for pod in pods:
        meta, node = pod["metadata"], pod["spec"].get("nodeName") or ""
        for gpu in indices(pod) if node else ():
            of = Holder(uuid(node, gpu), meta["namespace"], meta["name"], pod["spec"]["containers"][0]["name"])
            found.setdefault(node, {})[gpu] = (of,)
    return found


def _grouped(pods: Iterable[Object], size: int) -> list[list[Object]]:
    """The pods of each replica, the first one first."""
    ordered = sorted(pods, key=lambda pod: (len(pod["metadata"]["name"]), pod["metadata"]["name"]))
    if size == 1:
        return [[pod] for pod in ordered]
    groups: dict[int, list[Object]] = {}
    for pod in ordered:
        groups.setdefault(int(pod["metadata"]["name"].rpartition("-")[2]) // size, []).append(pod)
    return list(groups.values())


def allocation_of(known: Known, one: Replica, past: Iterable[Object] = ()) -> Allocation | None:
    """The allocation that a replica was made for: of its service's plan, or of one that was in force before."""
    plan = known.plan(one.service)
    specs = [] if plan is None else [plan["spec"], plan["spec"].get("previous"), plan["spec"].get("proposal")]
    for spec in [*specs, *(old["spec"] for old in past)]:
        for found in allocations((spec or {}).get("allocations") or ()):
            if (str(uncapped(found.recipe)), found.pool, found.node_group) == (one.recipe, one.pool, one.node_group):
                return found
    return None
