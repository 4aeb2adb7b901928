"""A service's life on a real control plane: created, planned, applied, ready, changed, deleted."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.controller.live import Site, a_controller, until
from tests.controller.objects import L4
from tests.controller.plane.nodes import Nodes
from tests.controller.plane.plane import Plane


@pytest.fixture(scope="module")
def site(plane: Plane) -> Site:
    return Site(plane)


@pytest.fixture
def fleet(site: Site, nodes: Nodes) -> Iterator[Nodes]:
    """Two nodes of eight H100 and two of four L4."""
    for index in range(2):
        nodes.add(f"big-{index}", 8, pool="big")
        nodes.add(f"small-{index}", 4, L4, pool="small")
    site.inventory()
    yield nodes
    site.clear()


def load(rate: float) -> dict[str, Any]:
    return {"ratePerSecond": rate, "buckets": [{"inputTokens": 512, "outputTokens": 128, "share": 1}]}


def test_a_service_is_planned_applied_ready_changed_and_leaves_nothing(site: Site, fleet: Nodes) -> None:
    with a_controller(site):
        site.service("chat", workload=load(60))
        until(lambda: site.is_ready("chat"), 40, "never ready")
        before = site.get("chat")["status"]
        assert before["readyReplicas"] == before["desiredReplicas"] >= 1
        assert all(one["status"]["phase"] == "Running" for one in site.pods("chat"))
        site.change("chat", {"spec": {"workload": {"ratePerSecond": 240}}})
        until(lambda: site.is_ready("chat"), 40, "never ready again")
        after = site.get("chat")["status"]
        assert after["readyReplicas"] > before["readyReplicas"]
        site.delete("chat")
        until(lambda: not site.left("chat"), 40, "something is left")


def held(site: Site, name: str) -> str:
    value, _, message = site.condition(name, "RebalanceHeld")
    return message if value == "True" else ""


def test_a_spec_that_is_wrong_or_cannot_be_met_says_why_and_harms_no_other(site: Site, fleet: Nodes) -> None:
    with a_controller(site):
        site.service("good")
        until(lambda: site.is_ready("good"), 40)
        site.service("wrong", constraints={"techniques": [], "minReplicas": 3, "maxReplicas": 2})
        _, reason, message = until(lambda: (c := site.condition("wrong", "Planned"))[0] == "False" and c, 20)
        assert (reason, "minReplicas" in message, "at most maxReplicas" in message) == ("InvalidSpec", True, True)
        site.service("huge", workload=load(100_000))
        _, reason, message = until(lambda: (c := site.condition("huge", "Planned"))[0] == "False" and c, 40)
        assert reason == "Infeasible"
        assert "more nodes" in message or "nodes" in message
        listed = site.plane.kubectl("get", "gpuservices").stdout
        assert "InvalidSpec" in listed
        assert "Infeasible" in listed
        assert site.is_ready("good")
        site.change("wrong", {"spec": {"constraints": {"minReplicas": 1}}})
        until(lambda: site.is_ready("wrong"), 40)


def test_a_plan_waits_for_a_person_where_the_service_says_so(site: Site, fleet: Nodes) -> None:
    with a_controller(site):
        site.service("careful", approval="Manual")
        until(lambda: site.condition("careful", "Planned")[1] == "AwaitingApproval", 40)
        assert not site.pods("careful")
        config = ["--kubeconfig", str(site.plane.kubeconfig())]
        shown = muster("approve", "careful", *config)
        assert shown.returncode == 3
        assert "-> " in shown.stdout
        decision = site.get("careful", plural="plans")["spec"]["proposal"]["decisionId"]
        assert decision in shown.stdout
        assert muster("approve", "careful", "--decision", "other", *config).returncode == 2
        assert muster("approve", "careful", "--decision", decision, *config).returncode == 0
        until(lambda: site.is_ready("careful"), 40)
        site.change("careful", {"spec": {"workload": load(240)}})
        until(lambda: site.condition("careful", "Planned")[1] == "AwaitingApproval", 40)
        assert site.get("careful")["status"]["readyReplicas"] == len(site.pods("careful"))


def test_a_paused_service_stays_as_it_is(site: Site, fleet: Nodes) -> None:
    with a_controller(site):
        site.service("still")
        until(lambda: site.is_ready("still"), 40)
        before, cost = len(site.pods("still")), site.get("still")["status"]["usdPerHour"]
        note = {"metadata": {"annotations": {"muster.dev/paused": "true"}}, "spec": {"workload": load(400)}}
        site.change("still", note)
        until(lambda: "paused" in held(site, "still"), 10)
        time.sleep(2.0)
        assert len(site.pods("still")) == before
        site.change("still", {"metadata": {"annotations": {"muster.dev/paused": None}}})
        until(lambda: site.is_ready("still"), 40)
        assert site.get("still")["status"]["usdPerHour"] > cost


def test_what_is_more_important_takes_the_places_of_the_less_important(site: Site, nodes: Nodes) -> None:
    nodes.add("only", 2, pool="big")
    site.inventory()
    with a_controller(site):
        site.service("low", workload=load(100))
        until(lambda: site.is_ready("low"), 40)
        assert len(site.pods("low")) == 2
        site.service("high", workload=load(100), priority=10)
        until(lambda: site.is_ready("high"), 40)
        until(lambda: site.condition("low", "Ready")[1] == "Infeasible", 20)
    site.clear()


def test_a_snapshot_replays_the_decision_of_the_controller(site: Site, fleet: Nodes, tmp_path: Path) -> None:
    with a_controller(site, snapshots=tmp_path):
        site.service("chat", workload=load(200))
        until(lambda: site.is_ready("chat"), 40)
        plan = site.get("chat", plural="plans")["spec"]
    file = tmp_path / f"{plan['decisionId']}.json"
    again = muster("replay", str(file), "--json")
    assert again.returncode == 0, again.stderr
    rows = json.loads(again.stdout)["spec"]["allocations"]
    assert {**rows[0]["predicted"]} | plan["allocations"][0]["predicted"] == rows[0]["predicted"]
    assert sum(row["replicas"] for row in rows) == sum(row["replicas"] for row in plan["allocations"])
    file.write_text(file.read_text("utf-8").replace('"nodes":200', '"nodes":201'), "utf-8")
    assert muster("replay", str(file)).returncode == 3


def muster(*words: str) -> "subprocess.CompletedProcess[str]":
    """A command as a person types it, with nobody at the keyboard."""
    command = [sys.executable, "-m", "planner.main", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def test_what_happened_is_told_as_events(site: Site, fleet: Nodes) -> None:
    def told() -> set[str]:
        listed = site.api.request("GET", "/apis/events.k8s.io/v1/namespaces/default/events")["items"]
        return {one["reason"] for one in listed if one["regarding"]["name"] == "told"}

    with a_controller(site):
        site.service("told")
        until(lambda: site.is_ready("told"), 40)
        until(lambda: "PlanSolved" in told(), 10)
        assert "PlanSolved" in site.plane.kubectl("describe", "gpuservice", "told").stdout


def test_a_template_that_somebody_changed_by_hand_is_set_back(site: Site, fleet: Nodes) -> None:
    with a_controller(site) as controller:
        image = "registry.example/vllm:1"
        half = {"spec": {"containers": [{"name": "engine", "resources": {"requests": {"cpu": "0.5"}}}]}}
        site.service("kept", serving={"image": image, "podTemplate": half})
        until(lambda: site.is_ready("kept"), 40)
        (name,) = [one.rpartition("/")[2] for one in site.left("kept") if one.startswith("deployments/")]
        path = f"/apis/apps/v1/namespaces/default/deployments/{name}"

        def images() -> list[str]:
            spec = site.api.request("GET", path)["spec"]["template"]["spec"]
            return [one["image"] for one in spec["containers"]]

        other = {"spec": {"template": {"spec": {"containers": [{"name": "engine", "image": "mine:1"}]}}}}
        site.api.request("PATCH", path, other, content_type="application/strategic-merge-patch+json")
        until(lambda: images() == [image], 20)
        until(
            lambda: (
                site.is_ready("kept") and {p["spec"]["containers"][0]["image"] for p in site.pods("kept")} == {image}
            ),
            20,
        )
        time.sleep(2.5)
        writes = controller.applier.writes
        time.sleep(5.0)  # two ticks; the server writes 0.5 CPU in its own way
        assert controller.applier.writes == writes
