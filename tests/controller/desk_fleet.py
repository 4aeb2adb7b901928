"""A desk over a fleet in memory: nodes of one power domain, their agents' reports, and one capped service on all."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import orjson

from controller.identity import Identities
from controller.kube.applier import Leader
from controller.kube.cache import World
from controller.kube.caches import Caches
from controller.kube.desk import KubernetesDesk
from controller.kube.discovery import Served
from controller.kube.informer import Counts
from controller.kube.known import Known, Settings
from controller.kube.node_round import NodeRound, NodeSettings
from controller.kube.rest import Requests
from controller.manifests.workload import kinds, workload
from controller.plans import rows
from controller.reports import Report, parse
from planner.plan import Recipe
from tests.controller.manifests.factories import OLD, SMALL, an_allocation
from tests.controller.objects import a_node, a_pod, a_service, an_inventory

GROUP = {"name": "h100", "nodeSelector": {"pool": "big"}, "pricePerHour": "$2.50", "powerDomain": "hall"}
FULL_W, CAP_W = 700.0, 500.0


class Shelf:
    """Objects of one resource."""

    def __init__(self, objects: Sequence[Any] = ()) -> None:
        self.objects = list(objects)
        self.counts = Counts()

    def items(self) -> list[Any]:
        return self.objects


class Store:
    """What informers would hold."""

    def __init__(self, **objects: Sequence[Any]) -> None:
        self.informers: Mapping[str, Any] = {plural: Shelf(found) for plural, found in objects.items()}

    def get(self, plural: str, namespace: str, name: str) -> Any:
        return None

    def of(self, service: str, *plurals: str) -> list[Any]:
        return []

    def world(self) -> World:
        return World({plural: shelf.items() for plural, shelf in self.informers.items()})


class Hall:
    """The desk, its clock, and what agents say of limits: `limits_w` by GPU.

    `serves`: nodes with a replica on each GPU (None: all); `tells`: whether agents know of pods.
    """

    def __init__(
        self,
        nodes: int,
        gpus: int,
        budget: str,
        cap_w: float | None = CAP_W,
        serves: Sequence[str] | None = None,
        tells: bool = False,
    ) -> None:
        self.now_s, self.sequence = 1000.0, 0
        self.nodes = [f"n{i}" for i in range(nodes)]
        self.gpus_of = {node: [f"{node}-{i}" for i in range(gpus)] for node in self.nodes}
        self.limits_w = {gpu: FULL_W for mine in self.gpus_of.values() for gpu in mine}
        service = a_service()
        one = an_allocation(replace(Recipe("H100-SXM"), power_cap_w=cap_w), replicas=nodes * gpus)
        (made,) = kinds(service, [one], {SMALL: 8.0}, {"h100": GROUP}, {"h100": gpus})
        runs = {**workload(made, one.replicas, service, OLD)}
        runs["metadata"] = {**runs["metadata"], "uid": "w", "resourceVersion": "1"}
        labels = {"muster.dev/service": "chat", "muster.dev/kind": made.name}
        self.serves, self.tells = self.nodes if serves is None else serves, tells
        pods = [
            a_pod(f"p-{node}-{i}", node=node, ready=True, labels=labels) for node in self.serves for i in range(gpus)
        ]
        meta = {"name": "chat", "namespace": "team-a", "uid": "p", "resourceVersion": "1"}
        plan = {"metadata": meta, "spec": {"service": "chat", "allocations": rows([one])}}
        domain = {"metadata": {"name": "hall"}, "spec": {"budget": budget}}
        store = Store(
            nodes=[a_node(node, gpus=gpus) for node in self.nodes], pods=pods, deployments=[runs], plans=[plan],
            powerdomains=[domain], clusterinventories=[an_inventory(GROUP)],
        )  # fmt: skip
        known = Known(cast(Caches, store), cast(Served, None), lambda: self.now_s, Settings())
        nobody: Any = None
        rounds = NodeRound(
            known, cast(Requests, nobody), cast(Served, nobody), cast(Leader, nobody), NodeSettings(), lambda: None,
            lambda *_: None,
        )  # fmt: skip
        self.desk = KubernetesDesk(known, rounds, cast(Identities, nobody), lambda: True, lambda: True)

    def report(self, node: str) -> Report:
        """A node's next report."""
        self.sequence += 1
        gpus = [
            {
                "gpu": i, "uuid": uuid, "model": "NVIDIA H100 80GB HBM3",
                "values": {"power_limit_enforced_w": self.limits_w[uuid], "power_w": 70.0},
                "pods": [["team-a", f"p-{node}-{i}", "engine"]] if self.tells and node in self.serves else [],
            }
            for i, uuid in enumerate(self.gpus_of[node])
        ]  # fmt: skip
        body = {"schema": 1, "node": node, "boot_id": "b", "sent_s": self.now_s, "sequence": self.sequence}
        return parse(orjson.dumps({**body, "gpus": gpus}))

    def tell(self, node: str) -> dict[str, float]:
        """A report and its reply, as the server does it: watts by GPU."""
        read = self.report(node)
        self.desk.hear(read, node)
        return {str(row["uuid"]): float(cast(float, row["watts"])) for row in self.desk.caps(read)}
