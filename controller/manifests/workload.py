"""The workload of a kind of replicas: a Deployment, or where a replica spans nodes a LeaderWorkerSet or a StatefulSet.

A kind never restarts in place: whatever would restart its pods is another kind with another name. So `replicas` is all
that changes, and the rollout changes it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from controller import names
from controller.cluster import Kind
from controller.kube.discovery import Served
from controller.kube.view import kind_text
from controller.manifests.passthrough import ENGINE, PORT
from controller.manifests.pod import LEAST_START_S, PROBE_S, QUEUE, Pod, pod
from controller.plans import merged, owner, rate_of
from controller.specs import key_of
from planner.plan import Allocation
from planner.service import Bucket

Object = Mapping[str, Any]
PEERS = "-peers"  # of the name by which pods of a replica find each other
_MOST_NAME = 46  # that, and what a pod adds to it, stay within 63 characters
_LATE_S = 600  # after which the API server itself calls a Deployment stuck


@dataclass(frozen=True, slots=True)
class Made:
    """A kind that a plan asks for, how many replicas of it, and what a replica is."""

    kind: Kind
    replicas: int
    pod: Pod

    @property
    def name(self) -> str:
        """The name of its workload."""
        return self.kind.name.rpartition("/")[2]


def kinds(
    service: Object,
    allocations: Sequence[Allocation],
    rates_per_s: Mapping[Bucket, float],
    groups: Mapping[str, Object],
    gpus_per_node: Mapping[str, int],
) -> list[Made]:
    """The kinds of a service's plan. `rates_per_s`: what was planned for; `gpus_per_node`: by node group.

    An allocation in a group that is gone has no kind: nobody could say where it runs.
    """
    found = []
    for one in merged(allocations):
        if one.node_group in groups:
            of_node = gpus_per_node.get(one.node_group) or one.gpus_per_replica
            found.append(_made(service, one, rates_per_s, pod(service, one, groups[one.node_group], of_node)))
    return found


def _made(service: Object, one: Allocation, rates_per_s: Mapping[Bucket, float], made: Pod) -> Made:
    meta = service["metadata"]
    first = _waiting(made.template, LEAST_START_S)
    what = [str(one.recipe), one.pool, one.node_group, made.size, first, made.worker]
    mark = sha256(orjson.dumps(what, option=orjson.OPT_SORT_KEYS)).hexdigest()[:8]
    name = f"{meta['name'][: _MOST_NAME - len(one.pool) - 10]}-{one.pool}-{mark}"
    busy = one.replicas * one.busy_ratio
    kind = Kind(
        name=f"{meta['namespace']}/{name}",
        service=key_of(service),
        recipe=str(one.recipe),
        pool=one.pool,
        node_group=one.node_group,
        gpus=one.gpus_per_replica,
        per_s=rate_of(one.shares, rates_per_s) / busy if busy else 0.0,
        shares={bucket: share / one.replicas for bucket, share in one.shares.items()} if one.replicas else {},
    )
    return Made(kind, one.replicas, made)


def pool_of(kind: str) -> str:
    """The pool of a kind, by its name; empty for what is no kind's."""
    parts = kind.rsplit("-", 2)
    return parts[1] if len(parts) == 3 else ""


def workload(made: Made, replicas: int, service: Object, served: Served) -> Object:
    """The object that runs so many replicas of a kind."""
    size = made.pod.size
    if size == 1:
        return _deployment(made, replicas, service)
    if (resource := served.get("leaderworkersets")) is not None:
        return _leader_worker_set(made, replicas, service, resource.version)
    return _stateful_set(made, replicas, service)


def templates(workload: Object) -> list[Object]:
    """The pod templates of a workload as the cluster has it."""
    spec = workload.get("spec") or {}
    group = spec.get("leaderWorkerTemplate") or {}
    found = (spec.get("template"), group.get("leaderTemplate"), group.get("workerTemplate"))
    return [one for one in found if one is not None]


def _head(made: Made, service: Object, version: str, kind: str) -> dict[str, Any]:
    labels = {**_labels(made, service), "app.kubernetes.io/component": made.kind.pool, names.ROLE: made.kind.pool}
    if queue := (service["spec"].get("serving") or {}).get("queue"):
        labels[QUEUE] = queue  # Kueue takes workloads by it; on their pods alone it would take each pod by itself
    notes = {
        names.KIND_SPEC: kind_text(made.kind),
        names.RECIPE: made.kind.recipe,
        names.DEADLINE: f"{made.pod.deadline_s:g}",
    }
    if made.pod.size > 1:
        notes[names.SIZE] = str(made.pod.size)
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {
            "name": made.name,
            "namespace": service["metadata"]["namespace"],
            "labels": labels,
            "annotations": notes,
            "ownerReferences": [owner(service)],
        },
    }


def _labels(made: Made, service: Object) -> dict[str, str]:
    return {**names.labels(service["metadata"]["name"]), names.KIND: made.name}


def _labelled(template: Object, made: Made) -> dict[str, Any]:
    meta = template["metadata"]
    return {**template, "metadata": {**meta, "labels": {**meta["labels"], names.KIND: made.name}}}


def _first(made: Made) -> dict[str, Any]:
    """The template of the pods that serve."""
    return _waiting(_labelled(made.pod.template, made), made.pod.deadline_s)


def _deployment(made: Made, replicas: int, service: Object) -> Object:
    return {
        **_head(made, service, "apps/v1", "Deployment"),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 1,
            "progressDeadlineSeconds": int(made.pod.deadline_s) + _LATE_S,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "selector": {"matchLabels": {names.KIND: made.name}},
            "template": _first(made),
        },
    }


def _leader_worker_set(made: Made, replicas: int, service: Object, version: str) -> Object:
    assert made.pod.worker is not None
    find = 'RANK="$LWS_WORKER_INDEX"; LEADER="$LWS_LEADER_ADDRESS"'
    first, rest = (find + (f'; HEADLESS="{flag}"' if _asks(made.pod) else "") for flag in ("", "--headless"))
    return {
        **_head(made, service, version, "LeaderWorkerSet"),
        "spec": {
            "replicas": replicas,
            "startupPolicy": "LeaderCreated",
            "rolloutStrategy": {
                "type": "RollingUpdate",
                "rollingUpdateConfiguration": {"maxSurge": 0, "maxUnavailable": 1},
            },
            "leaderWorkerTemplate": {
                "size": made.pod.size,
                "restartPolicy": "RecreateGroupOnPodRestart",
                "leaderTemplate": _before(_first(made), first),
                "workerTemplate": _before(_labelled(made.pod.worker, made), rest),
            },
        },
    }


def _stateful_set(made: Made, replicas: int, service: Object) -> Object:
    """Consecutive ordinals make a replica; scaling down takes away the highest, which is a whole replica."""
    size, name = made.pod.size, made.name
    find = f'ORDINAL="${{HOSTNAME##*-}}"; RANK=$((ORDINAL % {size})); LEADER="{name}-$((ORDINAL - RANK)).{name}{PEERS}"'
    if _asks(made.pod):
        find += '; HEADLESS=""; [ "$RANK" = 0 ] || HEADLESS="--headless"'
    template = _before(_first(made), find)
    ask = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{PORT}/health', timeout=4)"
    script = f'[ $(( ${{HOSTNAME##*-}} % {size} )) -gt 0 ] || exec python3 -c "{ask}"'
    template = _engine(template, lambda one: _asking(one, ["/bin/sh", "-c", script]))
    return {
        **_head(made, service, "apps/v1", "StatefulSet"),
        "spec": {
            "replicas": replicas * size,
            "revisionHistoryLimit": 1,
            "podManagementPolicy": "Parallel",  # the first pod waits for the others
            "serviceName": name + PEERS,
            "updateStrategy": {"type": "OnDelete"},
            "selector": {"matchLabels": {names.KIND: name}},
            "template": template,
        },
    }


def _asks(made: Pod) -> bool:
    """Whether the engine's command tells followers not to serve."""
    return "$HEADLESS" in str(made.template)


def _before(template: Object, script: str) -> dict[str, Any]:
    """The engine's command after a line of shell."""
    return _engine(template, lambda one: {**one, "command": [*one["command"][:-1], f"{script}; {one['command'][-1]}"]})


def _waiting(template: Object, deadline_s: float) -> dict[str, Any]:
    """The engine is started again when it does not answer by a deadline; what users said of that stays."""
    failures = math.ceil(deadline_s / PROBE_S)

    def waits(one: Object) -> Object:
        probe = one["startupProbe"]
        return {**one, "startupProbe": {**probe, "failureThreshold": probe.get("failureThreshold", failures)}}

    return _engine(template, waits)


def _engine(template: Object, change: Callable[[Object], Object]) -> dict[str, Any]:
    """A template with the engine's container changed; those that users added stay as they are."""
    spec = template["spec"]
    containers = [change(one) if one["name"] == ENGINE else one for one in spec["containers"]]
    return {**template, "spec": {**spec, "containers": containers}}


def _asking(container: Object, command: Sequence[str]) -> Object:
    """Probes that start and restart pods by a command, since only a replica's first pod answers HTTP.

    The others are never ready, and so get no requests; the first is when all of them work.
    """
    probes = {
        key: {**{k: v for k, v in container[key].items() if k != "httpGet"}, "exec": {"command": list(command)}}
        for key in ("startupProbe", "livenessProbe")
        if key in container
    }
    return {**container, **probes}
