"""From objects of a cluster to a decision, and the same decision again from its snapshot."""

import json
from typing import Any

import pytest

from controller.decision import decide, decision_id, snapshot
from controller.hardware import Offer, groups_of, held_by_node, nodes_of, offer
from controller.plan_child import PlanChild, PlanningFailed
from controller.plans import allocations, by_service, read, rows
from controller.specs import service
from planner.errors import BadInput
from planner.service import ServiceSpec
from tests.controller.objects import H100, L4, a_node, a_pod, a_service, an_inventory


def product(label: str) -> str | None:
    return {H100: "H100-SXM", L4: "L4"}.get(label)


def offered(nodes: list[dict[str, Any]], **taken: int) -> Offer:
    return offer([an_inventory()], [], nodes, taken, {}, product)


def test_nodes_with_other_counts_of_free_gpus_are_groups_of_their_own() -> None:
    nodes = [a_node("n1"), a_node("n2"), a_node("n3"), a_node("s1", "small", 4, L4)]
    made = offered(nodes, n2=3)
    groups = {
        g["name"]: (g["gpu"], g["gpusPerNode"], g["nodes"], g["zone"]) for g in made.document["spec"]["nodeGroups"]
    }
    assert groups == {
        "h100": ("H100-SXM", 8, 2, "a"), "h100.free5": ("H100-SXM", 5, 1, "a"), "l4": ("L4", 4, 1, "a"),
    }  # fmt: skip
    assert made.group_of["h100.free5"] == "h100"
    assert made.names["n2"] == "h100.free5"


@pytest.mark.parametrize(
    "closed",
    [
        {"unschedulable": True},
        {"taints": [{"key": "muster.dev/gpu-fault", "effect": "NoSchedule"}]},
    ],
)
def test_a_node_that_is_out_is_not_planned_on_and_keeps_what_it_holds(closed: dict[str, Any]) -> None:
    nodes = [a_node("n1"), a_node("n2", **closed)]
    assert [g["nodes"] for g in offered(nodes).document["spec"]["nodeGroups"]] == [1]
    held = held_by_node([a_pod("p", node="n2", gpus=4)])
    seen = nodes_of(nodes, groups_of([an_inventory()]), held)
    assert [(one.name, one.held, one.free) for one in seen] == [("n1", 0, 8), ("n2", 4, 0)]


def test_a_domain_has_left_what_others_do_not_draw() -> None:
    group = {"name": "h100", "nodeSelector": {"pool": "big"}, "pricePerHour": "$2.50", "powerDomain": "rack"}
    domain = {"metadata": {"name": "rack"}, "spec": {"budget": "12kW"}}
    made = offer([an_inventory(group)], [domain], [a_node("n1")], {}, {"rack": 4500.0}, product)
    assert made.document["spec"]["powerDomains"] == [{"name": "rack", "budget": "7500W"}]


def test_a_snapshot_decides_alike_here_in_a_child_and_offline() -> None:
    made = offered([a_node("n1"), a_node("n2"), a_node("s1", "small", 4, L4)], n2=3)
    taken = snapshot([(a_service(), None, (1.0, 1.0)), (a_service("code"), 20.0, (1.0, 1.0))], made.document, {})
    here = decide(taken)
    assert here.status == "optimal"
    offline = decide(json.loads(json.dumps(taken)))
    child = PlanChild()
    there = read(child.decide(taken))
    child.stop()
    assert here == offline == there
    assert decision_id(taken) == decision_id(json.loads(json.dumps(taken)))


def test_a_decision_depends_on_the_rate_and_not_on_how_engines_run() -> None:
    made = offered([a_node("n1")])
    base = decision_id(snapshot([(a_service(), 8.0, (1.0, 1.0))], made.document, {}))
    assert decision_id(snapshot([(a_service(), 9.0, (1.0, 1.0))], made.document, {})) != base
    assert decision_id(snapshot([(a_service(serving={"image": "x:1"}), 8.0, (1.0, 1.0))], made.document, {})) == base


def test_allocations_survive_a_plan_object_and_parts_of_a_group_are_joined() -> None:
    # The nodes' free GPUs differ, and no part alone carries the service.
    made = offered([a_node("n1", gpus=2), a_node("n2", gpus=1)])
    plan = decide(snapshot([(a_service(), 100.0, (1.0, 1.0))], made.document, {}))
    split = [one for one in plan.allocations if one.replicas]
    (mine,) = by_service(plan, made.group_of).values()
    assert {one.node_group for one in mine} == {"h100"}
    assert sum(one.replicas for one in mine) == sum(one.replicas for one in split)
    assert allocations(json.loads(json.dumps(rows(mine)))) == mine
    for bucket in mine[0].shares:
        assert sum(one.shares[bucket] for one in mine) == pytest.approx(1.0)


def test_a_bad_spec_is_refused_by_field_value_and_range_also_where_the_server_prunes_cel() -> None:
    bad = a_service(
        slos=[{"name": "a", "ttft": "1s", "share": 0.5}, {"name": "b", "percentile": "p95"}], qualityFloor=2
    )
    said = service(bad)
    assert isinstance(said, list)
    text = "\n".join(said)
    assert "spec.qualityFloor: got 2, allowed: at most 1" in text
    assert "spec.slos[1]" in text
    assert "at least one of ttft, tpot, e2e" in text


def test_a_model_is_a_name_and_never_a_file_of_the_controllers(tmp_path: Any) -> None:
    (tmp_path / "config.json").write_text("{}", "utf-8")
    said = service(a_service(model=str(tmp_path / "config.json")))
    assert isinstance(said, list)
    assert "spec.model" in said[0]


def test_a_rate_that_was_observed_scales_all_sizes() -> None:
    found = service(a_service(), 24.0)
    assert isinstance(found, ServiceSpec)
    assert found.workload.rate_per_s == pytest.approx(24.0)
    assert found.name == "team-a/chat"


def test_a_snapshot_that_is_none_fails_in_words() -> None:
    with pytest.raises(BadInput, match="format"):
        decide({"format": 99})
    child = PlanChild()
    with pytest.raises(PlanningFailed, match="format"):
        child.decide({"format": 99})
    child.stop()
    quick = PlanChild(longest_s=0.05)
    with pytest.raises(PlanningFailed, match="exit code"):
        quick.decide(snapshot([(a_service(), None, (1.0, 1.0))], offered([a_node("n1")]).document, {}))
