"""Kubernetes behind the protocol of `controller.cluster`: observe from the caches, act through the applier."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from controller import names
from controller.cluster import Action, Allowance, Live, Route, Scale, Weights
from controller.facts import is_out
from controller.hardware import groups_of
from controller.kube.applier import Applier
from controller.kube.cache import World
from controller.kube.caches import Caches
from controller.kube.counting import Counting
from controller.kube.discovery import Served
from controller.kube.taken import Taken
from controller.manifests.service import route, table
from controller.manifests.workload import Made, workload
from planner.service import Bucket

Object = Mapping[str, Any]


_OVERLAY_S = 30.0  # no cache is that late: whoever deleted it meanwhile is believed


class KubernetesCluster:
    """Workloads, pods and tables of weights. `made`: the kinds that plans ask for, by name, with how to run them.

    `lost`: nodes that do not answer. `rates`: a service's planned requests/s by bucket, for weights that know no sizes.
    `allowances`: what quotas leave to the services of their namespaces. `clock` is Unix time.
    """

    def __init__(
        self,
        cache: Caches,
        served: Served,
        applier: Applier,
        taken: Taken,
        clock: Callable[[], float],
        allowances: Callable[[], Sequence[Allowance]] = tuple,
    ) -> None:
        self._allowances = allowances
        self._cache, self._served, self._applier, self._taken, self._clock = cache, served, applier, taken, clock
        self._written: dict[str, tuple[Object, float]] = {}
        self._counting = Counting()
        self._lost: Mapping[str, int] = {}  # by kind: replicas that are left out of what was observed
        self.lost: frozenset[str] = frozenset()
        self.made: Mapping[str, Made] = {}
        self.rates: Mapping[str, Mapping[Bucket, float]] = {}

    def observe(self) -> Live:
        """What runs now, what was just written included.

        Caches come after the server, each in its time. Whoever stops a replica of one kind and then looks at a cache
        that still has it would stop one of another kind too, and both would be missing.
        """
        world = self._cache.world()
        found = live(world, self._clock(), self._newest(world.workloads), self._counting, self.lost, self._allowances())
        self._lost = {one.kind.name: one.lost for one in found.running if one.lost}
        return found

    def workloads(self) -> list[Object]:
        """Workloads as the caches have them, or as they were last written where that is newer."""
        return self._newest(self._cache.world().workloads)

    def _newest(self, seen: Sequence[Object]) -> list[Object]:
        found = {_key(one): one for one in seen}
        for key, (written, at_s) in list(self._written.items()):
            there = found.get(key)
            if (there is not None and _version(there) >= _version(written)) or time.monotonic() - at_s > _OVERLAY_S:
                del self._written[key]
            else:
                found[key] = written
        return list(found.values())

    def _wrote(self, obj: Object) -> None:
        self._written[_key(obj)] = obj, time.monotonic()

    def act(self, actions: Sequence[Action]) -> None:
        """Do them in their order. Raises ApiError: 409 where something changed since it was seen."""
        for action in actions:
            if isinstance(action, Scale):
                self._scale(action)
            else:
                self._route(action)

    def _scale(self, action: Scale) -> None:
        space, _, name = action.kind.name.partition("/")
        found = self.workload(space, name)
        if found is None:
            made, owner = self.made.get(action.kind.name), self._service(action.kind.service)
            if action.replicas and made is not None and owner is not None:
                self._create(action.kind.service, workload(made, action.replicas, owner, self._served))
        elif action.replicas == 0 and not (found.get("spec") or {}).get("replicas"):
            self._applier.delete(found)
            self._written.pop(_key(found), None)
        else:
            size = int(found["metadata"]["annotations"].get(names.SIZE, 1)) if found["kind"] == "StatefulSet" else 1
            count = action.replicas and action.replicas + self._lost.get(action.kind.name, 0)
            self._wrote(self._applier.scale(found, count * size))

    def _create(self, key: str, wanted: Object) -> None:
        made = self._taken.write(key, wanted, lambda: self._applier.create_ours(wanted))
        if made is not None:
            self._wrote(made)

    def _route(self, action: Route) -> None:
        """The table comes last: rounds compare with it, and write again what did not get so far."""
        owner = self._service(action.service)
        if owner is not None:
            self.keep_route(action.service, action.weights)
            self._apply(action.service, table(owner, action.weights))

    def keep_route(self, key: str, weights: Weights | None) -> None:
        """Have a service's HTTPRoute be as its table, and none where it has no Gateway. None: there is no table yet."""
        owner = self._service(key)
        if owner is None:
            return
        if (owner["spec"].get("serving") or {}).get("gateway") is None:
            for one in self._cache.of(key, "httproutes"):
                if not one["metadata"].get("deletionTimestamp"):
                    self._applier.delete(one)
        elif weights is not None and (made := route(owner, weights, self.rates.get(key, {}), self._served)) is not None:
            self._apply(key, made)

    def _apply(self, key: str, wanted: Object) -> None:
        meta, plural = wanted["metadata"], self._served.of(wanted).plural
        live = self._cache.get(plural, meta["namespace"], meta["name"])
        self._taken.write(key, wanted, lambda: self._applier.apply(wanted, live))

    def workload(self, space: str, name: str) -> Object | None:
        """A workload of any kind as last seen."""
        for plural in ("deployments", "statefulsets", "leaderworkersets"):
            if (found := self._cache.get(plural, space, name)) is not None:
                return found
        return None

    def _service(self, key: str) -> Object | None:
        """A service that things may be made for: not one that is being deleted, whose things are taken away."""
        space, _, name = key.partition("/")
        found = self._cache.get("gpuservices", space, name)
        return None if found is None or found["metadata"].get("deletionTimestamp") else found


def live(
    world: World,
    now_s: float,
    workloads: Sequence[Object],
    counting: Counting,
    lost: frozenset[str] = frozenset(),
    allowances: Sequence[Allowance] = (),
) -> Live:
    """The cluster at one moment, from what was seen of it; `workloads` where more is known of them."""
    pods = world["pods"]
    out = frozenset(one["metadata"]["name"] for one in world["nodes"] if is_out(one))
    nodes = counting.nodes(world["nodes"], groups_of(world["clusterinventories"]), counting.held(pods))
    runs = counting.runs(workloads, pods, now_s, out, lost)
    return Live(tuple(runs), nodes, counting.tables(world["configmaps"]), tuple(allowances))


def _key(obj: Object) -> str:
    return f"{obj['kind']}/{obj['metadata']['namespace']}/{obj['metadata']['name']}"


def _version(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])
