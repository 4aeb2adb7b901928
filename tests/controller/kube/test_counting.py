"""What is counted again only where objects changed equals what is counted from nothing."""

import random
from typing import Any

from controller.cluster import Kind
from controller.hardware import groups_of, held_by_node, total_held
from controller.kube.counting import Counting, runs
from controller.kube.view import kind_text
from controller.when import seconds
from tests.controller.objects import a_node, a_pod, an_inventory

START_S = seconds("2026-01-01T00:00:00Z")
GROUPS = groups_of([an_inventory()])


def a_workload(name: str, replicas: int) -> dict[str, Any]:
    kind = Kind(f"team-a/{name}", f"team-a/{name}", "L4 fp8", "serve", "l4", 1, 5.0)
    notes = {"muster.dev/kind-spec": kind_text(kind), "muster.dev/ready-within-seconds": "60"}
    return {
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "team-a", "annotations": notes},
        "spec": {"replicas": replicas},
    }


def pod_of(draw: random.Random, name: str) -> dict[str, Any]:
    """A pod of some kind, placed or not, at some point of its life; some are nobody's."""
    kind = draw.choice(["a", "b", "c", ""])
    made = a_pod(
        name, kind, draw.choice(["n1", "n2", ""]), draw.choice([1, 2]), draw.random() < 0.5, draw.random() < 0.1
    )
    labels = {"muster.dev/kind": kind, "muster.dev/service": kind} if kind else {}
    made["metadata"]["labels"] = labels
    return made


def test_after_each_of_many_changes_all_counts_are_those_of_a_fresh_count() -> None:
    draw, kept = random.Random(7), Counting()
    nodes = [a_node("n1", "small"), a_node("n2", "small"), a_node("other", "none")]
    workloads = {name: a_workload(name, 3) for name in "abc"}
    pods = {f"p{index}": pod_of(draw, f"p{index}") for index in range(12)}
    for step in range(300):
        name = draw.choice([*pods, f"new{step}"])
        if draw.random() < 0.3:
            pods.pop(name, None)
        else:
            pods[name] = pod_of(draw, name)
        if draw.random() < 0.2:
            kind = draw.choice("abc")
            workloads[kind] = a_workload(kind, draw.randint(0, 4))
        if draw.random() < 0.1:
            nodes[0] = a_node("n1", draw.choice(["small", "big", "none"]), draw.choice([4, 8]))
        now_s, here = START_S + step, list(pods.values())
        found = list(workloads.values())
        assert kept.runs(found, here, now_s) == runs(found, here, now_s)
        held = kept.held(here)
        assert total_held(held) == held_by_node(here)
        assert total_held(held, {"team-a/a"}) == held_by_node(
            pod for pod in here if pod["metadata"]["labels"].get("muster.dev/service") != "a"
        )
        assert kept.nodes(nodes, GROUPS, held) == Counting().nodes(list(nodes), GROUPS, held)


def test_a_replica_that_does_not_come_stalls_although_nothing_changes() -> None:
    kept, late = Counting(), [a_pod("p", "a", "n1")]
    assert [one.stalled for one in kept.runs([a_workload("a", 1)], late, START_S + 59)] == [0]
    assert [one.stalled for one in kept.runs([a_workload("a", 1)], late, START_S + 61)] == [1]
