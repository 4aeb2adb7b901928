"""What a workload and its pods say of its replicas."""

from typing import Any

from controller.cluster import Kind
from controller.kube.view import kind_of, kind_text, running
from controller.when import seconds
from planner.service import Bucket
from tests.controller.objects import a_pod

KIND = Kind("team-a/k", "team-a/chat", "H100-SXM fp8", "serve", "h100", 1, 9.5, {Bucket("chat", 512, 128): 0.25})
NOW_S = seconds("2026-01-01T00:10:00Z")


def a_workload(replicas: int, kind: str = "Deployment", **notes: str) -> dict[str, Any]:
    notes = {
        "muster.dev/kind-spec": kind_text(KIND),
        **{f"muster.dev/{k.replace('_', '-')}": v for k, v in notes.items()},
    }
    return {"kind": kind, "metadata": {"name": "k", "annotations": notes}, "spec": {"replicas": replicas}}


def seen(workload: dict[str, Any], *pods: dict[str, Any]) -> tuple[int, ...]:
    found = running(workload, pods, NOW_S)
    assert found is not None
    return found.replicas, found.bound, found.ready, found.leaving, found.stalled


def test_a_kind_is_read_back_from_its_workload() -> None:
    assert kind_of(a_workload(1)) == KIND
    assert running({"kind": "Deployment", "metadata": {"name": "other"}}, (), NOW_S) is None


def test_replicas_are_told_bound_ready_leaving_or_stalled() -> None:
    pods = [a_pod("a", node="n1", ready=True), a_pod("b", node="n1"), a_pod("c"), a_pod("d", node="n2", leaves=True)]
    assert seen(a_workload(3), *pods) == (3, 2, 1, 1, 0)
    assert seen(a_workload(3, ready_within_seconds="300"), *pods) == (3, 2, 1, 1, 2)


def test_a_replica_told_to_go_leaves_before_it_is_marked() -> None:
    pods = [a_pod("a", node="n1", ready=True), a_pod("b", node="n1", ready=True)]
    assert seen(a_workload(1), *pods) == (1, 1, 1, 1, 0)
    gone = a_workload(1)
    gone["metadata"]["deletionTimestamp"] = "2026-01-01T00:10:00Z"
    assert seen(gone, *pods) == (0, 0, 0, 2, 0)


def test_a_replica_over_several_pods_serves_when_its_first_does() -> None:
    two = {"pods_per_replica": "2"}
    pods = [a_pod(f"k-{i}", node=f"n{i}", gpus=8, ready=i == 0) for i in range(4)]
    assert seen(a_workload(4, "StatefulSet", **two), *pods) == (2, 2, 1, 0, 0)
    lws = "leaderworkerset.sigs.k8s.io"
    labelled = [
        a_pod(f"p{i}", node=f"n{i}", ready=i < 2,
              labels={f"{lws}/group-index": str(i % 2), f"{lws}/worker-index": str(i // 2)})
        for i in range(3)
    ]  # fmt: skip
    assert seen(a_workload(2, "LeaderWorkerSet", **two), *labelled) == (2, 1, 1, 0, 0)


def test_a_pod_that_ended_neither_serves_nor_holds() -> None:
    over = a_pod("a", node="n1")
    over["status"]["phase"] = "Failed"
    assert seen(a_workload(1), over) == (1, 0, 0, 0, 0)
