"""Which replicas are evicted from nodes that are out, what the others wait for; those of several pods go whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from controller.cluster import Hold, Kind, Running
from controller.kube.applier import Leader
from controller.kube.cache import pod as kept_of
from controller.kube.drain import drained
from controller.kube.known import Known
from controller.kube.rest import ApiError
from controller.manifests.service import around
from controller.manifests.workload import kinds
from controller.pods import trouble
from controller.when import seconds
from planner.plan import Recipe
from tests.controller.manifests.factories import DEEPSEEK, GROUPS, NEW, OLD, SMALL, an_allocation
from tests.controller.objects import a_pod, a_service

KIND = Kind("team-a/k", "team-a/chat", "8xH100-SXM tp8", "serve", "h100", 8, 1.0)
LABELS = {"muster.dev/service": "chat"}


@dataclass
class Fleet:
    """One service with so many replicas wanted, its pods, and what the server says to evictions."""

    pods: list[Any]
    running: Running
    wanted: int = 1
    size: int = 1
    notes: dict[str, str] = field(default_factory=dict)
    refuses: dict[str, int] = field(default_factory=dict)
    held: dict[str, Hold] = field(default_factory=dict)
    evicted: list[str] = field(default_factory=list)

    def go(self) -> dict[str, str]:
        service = {"metadata": {"annotations": self.notes}}
        made = SimpleNamespace(kind=KIND, replicas=self.wanted, pod=SimpleNamespace(size=self.size))
        known = SimpleNamespace(
            items=lambda plural: self.pods, running=lambda key, out: [self.running], service=lambda key: service,
            plan=lambda key: None, made=lambda obj, plan: [made], held=self.held,
        )  # fmt: skip
        api: Any = SimpleNamespace(request=self._request)
        leader = cast(Leader, SimpleNamespace(may_write=lambda: True))
        return drained(cast(Known, known), api, OLD, leader, {"bad"})

    def _request(self, method: str, path: str, body: Mapping[str, Any], **_: Any) -> Mapping[str, Any]:
        name = path.split("/")[-2]
        assert body["apiVersion"] == "policy/v1beta1"
        if name in self.refuses:
            raise ApiError(self.refuses[name], "Refused", f"{method} {path}: no")
        assert body["deleteOptions"] == {"preconditions": {"uid": f"uid-{name}"}}
        self.evicted.append(name)
        return {}


def on(node: str, name: str, ready: bool = True) -> Any:
    return a_pod(name, node=node, ready=ready, labels=LABELS, uid=f"uid-{name}")


def test_a_replica_that_does_not_serve_goes_at_once_and_others_nodes_are_left_alone() -> None:
    fleet = Fleet([on("bad", "a", ready=False), on("good", "b")], Running(KIND, 2, 2, 1), wanted=2)
    assert (fleet.go(), fleet.evicted) == ({}, ["a"])


def test_one_that_serves_waits_until_another_was_told_to_run_beside_it() -> None:
    fleet = Fleet([on("bad", "a")], Running(KIND, 1, 1, 1, stranded=1))
    fleet.held = {"team-a/chat": Hold("NoSpareCapacity", "no node has 8 free GPUs")}
    assert fleet.go() == {"team-a/a": "serves until there is another: no node has 8 free GPUs (pod a on bad)"}
    fleet.running = Running(KIND, 2, 2, 1, stranded=1)
    assert fleet.go() == {}
    assert fleet.evicted == ["a"]  # the budget has its say, which is none here


def test_what_any_budget_or_webhook_refuses_is_told_and_stops_nobody_elses_eviction() -> None:
    pods = [on("bad", name, ready=False) for name in ("a", "b", "c", "d")]
    fleet = Fleet(pods, Running(KIND, 4, 4), wanted=4, refuses={"a": 429, "b": 500, "c": 404})
    assert sorted(fleet.go()) == ["team-a/a", "team-a/b"]
    assert fleet.evicted == ["d"]


def test_a_paused_service_keeps_what_serves() -> None:
    fleet = Fleet([on("bad", "a")], Running(KIND, 2, 2, 2, stranded=1), notes={"muster.dev/paused": ""})
    assert "muster.dev/paused" in fleet.go()["team-a/a"]


def test_a_worker_that_is_never_ready_goes_only_when_another_whole_replica_serves() -> None:
    """The first pod of a StatefulSet's replica alone is ready, so a worker's readiness says nothing."""
    pods = [on("good", "k-0"), on("bad", "k-1", ready=False), on("good", "k-2"), on("good", "k-3", ready=False)]
    fleet = Fleet(pods, Running(KIND, 2, 2, 1, stranded=1), size=2)
    assert list(fleet.go()) == ["team-a/k-1"]
    fleet.running = Running(KIND, 2, 2, 2, stranded=1)
    assert (fleet.go(), fleet.evicted) == ({}, ["k-1"])


def test_the_budget_of_a_stateful_set_counts_replicas_since_only_their_first_pods_are_ready() -> None:
    one = an_allocation(Recipe("H100-SXM", 8, 2), 3, model=DEEPSEEK)
    made = kinds(a_service(), [one], {SMALL: 8.0}, GROUPS, {"h100": 8})
    spec = {served is OLD: _budget(around(a_service(), made, served)) for served in (OLD, NEW)}
    assert spec[True]["minAvailable"] == 2
    assert "maxUnavailable" not in spec[True]
    assert spec[False]["maxUnavailable"] == 1


def _budget(objects: list[Any]) -> Any:
    return next(one["spec"] for one in objects if one["kind"] == "PodDisruptionBudget")


def test_a_sidecar_that_runs_for_good_is_no_init_container_that_is_waited_for() -> None:
    made = a_pod("a", node="n", labels=LABELS)
    made["spec"]["initContainers"] = [{"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}]
    began = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    made["status"]["initContainerStatuses"] = [{"name": "proxy", "state": began}]
    made["status"]["containerStatuses"] = [{"name": "engine", "ready": False, "restartCount": 0, "state": began}]

    found = trouble(kept_of(made), datetime.fromtimestamp(seconds("2026-01-01T00:01:00Z"), UTC))
    assert found is not None
    assert "engine" in found.text
