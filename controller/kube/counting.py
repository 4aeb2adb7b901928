"""What is counted of a whole fleet, counted again only where objects changed. Pure but for what it remembers.

Of thousands of pods a few change between two looks. Caches replace an object that changed and leave the others as they
are, so lists of the same objects compare equal at once, and what was counted of them still holds.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from controller import names
from controller.cluster import Node, Running, Weights
from controller.hardware import Held, held_by_service, nodes_of, total_held
from controller.kube.view import kind_of, running
from controller.manifests.service import weights_of
from controller.specs import service_of

Object = Mapping[str, Any]
Key = tuple[str, str]
"""Namespace and name."""


class Counting:
    """Thread-safe. Gives what the functions of `controller.hardware` and `controller.kube.view` would."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: tuple[frozenset[str], frozenset[str]] = frozenset(), frozenset()
        self._pods: Sequence[Object] = ()
        self._by_kind: dict[Key, list[Object]] = {}
        self._held: dict[Key, tuple[list[Object], Held]] = {}
        self._running: dict[Key, tuple[Object, list[Object], Running]] = {}
        self._nodes: tuple[Sequence[Object], Mapping[str, Object], tuple[Node, ...]] = ((), {}, ())
        self._tables: dict[str, tuple[Object, Weights]] = {}

    def runs(
        self, workloads: Sequence[Object], pods: Sequence[Object], now_s: float,
        out: frozenset[str] = frozenset(), lost: frozenset[str] = frozenset(),
    ) -> list[Running]:  # fmt: skip
        """Every kind that has a workload. `out`: nodes with faults; `lost`: those that do not answer."""
        with self._lock:
            self._group(pods)
            if (out, lost) != self._left:
                self._left, self._running = (out, lost), {}
            kept: dict[Key, tuple[Object, list[Object], Running]] = {}
            found = []
            for one in sorted(workloads, key=_key):
                key = _key(one)
                mine, last = self._by_kind.get(key, []), self._running.get(key)
                if last is not None and not last[2].moving and last[0] == one and last[1] == mine:
                    kept[key] = last  # while replicas move, the time counts too
                elif (now := _running(one, mine, now_s, out, lost)) is not None:
                    kept[key] = one, mine, now
                if key in kept:
                    found.append(kept[key][2])
            self._running = kept
            return found

    def held(self, pods: Sequence[Object]) -> Held:
        """GPUs that pods hold, by service and node."""
        with self._lock:
            self._group(pods)
            kept: dict[Key, tuple[list[Object], Held]] = {}
            found: dict[str, dict[str, int]] = {}
            for key, mine in self._by_kind.items():
                last = self._held.get(key)
                if last is None or last[0] != mine:
                    last = mine, held_by_service(mine)
                kept[key] = last
                for service, nodes in last[1].items():
                    to = found.setdefault(service, {})
                    for node, gpus in nodes.items():
                        to[node] = to.get(node, 0) + gpus
            self._held = kept
            return found

    def loose(self, pods: Sequence[Object], namespace: str) -> Sequence[Object]:
        """A namespace's pods that are of no kind."""
        with self._lock:
            self._group(pods)
            return tuple(self._by_kind.get((namespace, ""), ()))

    def nodes(self, nodes: Sequence[Object], groups: Mapping[str, Object], held: Held) -> tuple[Node, ...]:
        """The nodes that belong to a group, with what is held of them."""
        total = total_held(held)
        with self._lock:
            seen = self._nodes[2]
            if self._nodes[0] != nodes or self._nodes[1] != groups:
                seen = nodes_of(nodes, groups, total)
            seen = tuple(
                one if one.held == total.get(one.name, 0) else replace(one, held=total.get(one.name, 0)) for one in seen
            )
            self._nodes = list(nodes), groups, seen
            return seen

    def tables(self, configmaps: Sequence[Object]) -> dict[str, Weights]:
        """Service -> the weights that its router has."""
        with self._lock:
            kept: dict[str, tuple[Object, Weights]] = {}
            for one in configmaps:
                if service := service_of(one):
                    last = self._tables.get(service)
                    kept[service] = last if last is not None and last[0] == one else (one, weights_of(one))
            self._tables = kept
            return {service: weights for service, (_, weights) in kept.items()}

    def _group(self, pods: Sequence[Object]) -> None:
        """Tell the pods of each kind."""
        if pods == self._pods:
            return
        found: dict[Key, list[Object]] = {}
        for pod in pods:
            found.setdefault(_kind_key(pod), []).append(pod)
        self._pods, self._by_kind = list(pods), found


def runs(
    workloads: Sequence[Object], pods: Sequence[Object], now_s: float,
    out: frozenset[str] = frozenset(), lost: frozenset[str] = frozenset(),
) -> list[Running]:  # fmt: skip
    """Every kind that has a workload. `out`: nodes with faults; `lost`: those that do not answer."""
    return Counting().runs(workloads, pods, now_s, out, lost)


def _key(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def _kind_key(pod: Object) -> tuple[str, str]:
    """Namespace and name of a pod's kind; a pod of none has an empty name."""
    meta = pod["metadata"]
    return meta["namespace"], (meta.get("labels") or {}).get(names.KIND, "")


def _running(
    workload: Object, pods: Sequence[Object], now_s: float, out: frozenset[str], lost: frozenset[str]
) -> Running | None:
    return None if kind_of(workload) is None else running(workload, pods, now_s, out, lost)
