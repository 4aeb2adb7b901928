"""Workloads and their pods as the rollout sees them: kinds, and how many replicas run, serve, leave or stall. Pure.

A workload carries its kind in an annotation, so that what runs is known without any plan: after a restart, and for
kinds that no plan names any more.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import orjson

from controller import names
from controller.cluster import Kind, Running
from controller.hardware import holds
from controller.status import is_ready
from controller.when import seconds
from planner.service import Bucket

Object = Mapping[str, Any]
GROUP_INDEX = "leaderworkerset.sigs.k8s.io/group-index"
WORKER_INDEX = "leaderworkerset.sigs.k8s.io/worker-index"
_DEADLINE_S = 3600.0


def kind_text(kind: Kind) -> str:
    """A kind as its annotation."""
    shares = [[*bucket, share] for bucket, share in sorted(kind.shares.items())]
    row = [kind.name, kind.service, kind.recipe, kind.pool, kind.node_group, kind.gpus, kind.per_s, shares]
    return orjson.dumps(row).decode()


def kind_of(workload: Object) -> Kind | None:
    """The kind of a workload; None for one that is not ours."""
    text = (workload["metadata"].get("annotations") or {}).get(names.KIND_SPEC)
    if text is None:
        return None
    name, service, recipe, pool, node_group, gpus, per_s, rows = orjson.loads(text)
    shares = {Bucket(row[0], row[1], row[2]): row[3] for row in rows}
    return Kind(name, service, recipe, pool, node_group, gpus, per_s, shares)


def running(
    workload: Object, pods: Sequence[Object], now_s: float, out: Collection[str] = (), lost: Collection[str] = ()
) -> Running | None:
    """How far a workload is; `pods` are those with its label. None: it is not ours.

    `out`: nodes with faults; `lost`: nodes that do not answer. What serves no more there is left out of all counts.
    """
    kind = kind_of(workload)
    if kind is None:
        return None
    notes = workload["metadata"].get("annotations") or {}
    size, deadline_s = int(notes.get(names.SIZE, 1)), float(notes.get(names.DEADLINE, _DEADLINE_S))
    told = int((workload.get("spec") or {}).get("replicas", 1))
    told = told // size if workload["kind"] == "StatefulSet" else told
    if workload["metadata"].get("deletionTimestamp"):
        told = 0
    replicas: dict[str, list[Object]] = {}
    for pod in pods:
        replicas.setdefault(_replica(pod, size), []).append(pod)
    gone = {name for name, group in replicas.items() if lost and _is_lost(group, lost, workload["kind"])}
    told = max(told - len(gone), 0)
    replicas = {name: group for name, group in replicas.items() if name not in gone}
    staying = [group for group in replicas.values() if not any(map(_leaves, group)) and not all(map(_over, group))]
    leaving = sum(any(map(_leaves, group)) and any(map(holds, group)) for group in replicas.values())
    serving = [group for group in staying if len(group) >= size and _serves(group)]
    ready = len(serving)
    left = frozenset((*out, *lost))
    stranded = sum(any(pod["spec"].get("nodeName") in left for pod in group) for group in serving) if left else 0
    bound = sum(len(group) >= size and all(map(holds, group)) for group in staying)
    late = sum(not _serves(group) and _age_s(group, now_s) > deadline_s for group in staying)
    excess = max(len(staying) - told, 0)  # told to go, and not marked yet
    ready = min(ready, told)
    late, stranded = min(late, told - ready), min(stranded, ready)
    return Running(kind, told, min(bound, told), ready, leaving + excess, late, stranded, len(gone))


def _is_lost(pods: Sequence[Object], lost: Collection[str], kind: str) -> bool:
    """Whether a replica is on a node that is lost and serves no more.

    A Deployment has another for one that is told to go; elsewhere it keeps its number until it is gone.
    """
    if not any(pod["spec"].get("nodeName") in lost for pod in pods) or all(map(_over, pods)):
        return False
    if any(map(_leaves, pods)):
        return kind != "Deployment"
    return not _serves(pods)


def _replica(pod: Object, size: int) -> str:
    """Which replica a pod is of."""
    meta = pod["metadata"]
    if size == 1:
        return str(meta["name"])
    if (group := (meta.get("labels") or {}).get(GROUP_INDEX)) is not None:
        return str(group)
    ordinal = meta["name"].rpartition("-")[2]
    return str(int(ordinal) // size) if ordinal.isdecimal() else str(meta["name"])


def _serves(pods: Sequence[Object]) -> bool:
    """Whether a replica answers requests: its first pod does so when all of them work."""
    return is_ready(min(pods, key=_place))


def _place(pod: Object) -> tuple[int, str]:
    """Where a pod stands in its replica."""
    meta = pod["metadata"]
    index = (meta.get("labels") or {}).get(WORKER_INDEX, meta["name"].rpartition("-")[2])
    return (int(index) if index.isdecimal() else 0), meta["name"]


def _leaves(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def _over(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _age_s(pods: Iterable[Object], now_s: float) -> float:
    return max(now_s - seconds(pod["metadata"]["creationTimestamp"]) for pod in pods)
