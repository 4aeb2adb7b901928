"""Reports of agents over HTTP with tokens of pods, faults, the brake, and what becomes of nodes and services."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from controller.brake import Brake
from controller.health import RETURNS
from controller.kube.node_round import NodeSettings
from controller.names import POWER_LIMIT, TAINT
from controller.server import Listen
from tests.controller.agents import XID, Agent, an_agent, healthy, is_out, space_of_agents
from tests.controller.live import Site, a_controller, until
from tests.controller.plane.nodes import Nodes
from tests.controller.plane.plane import Plane

SETTINGS = NodeSettings(brake=Brake(probation_s=2.0, stale_s=30.0), drain=True)


@pytest.fixture(scope="module")
def site(plane: Plane) -> Site:
    made = Site(plane)
    space_of_agents(made)
    return made


@pytest.fixture
def fleet(site: Site, nodes: Nodes) -> Iterator[Nodes]:
    for index in range(4):
        nodes.add(f"gpu-{index}", 8, pool="big")
    site.inventory()
    yield nodes
    site.clear()


def reporting(site: Site, **options: Any) -> Any:
    return a_controller(site, listen=Listen(port=0), nodes=SETTINGS, **options)


def test_only_an_agent_reports_and_only_for_its_own_node(site: Site, fleet: Nodes) -> None:
    with reporting(site) as controller:
        until(controller.desk.leads)
        mine = Agent(controller, "gpu-0", an_agent(site, "gpu-0"))
        assert mine.tell()[0] == 200
        assert mine.tell(sequence=1)[0] == 409
        code, said = mine.tell(XID, node="gpu-1")
        assert (code, "gpu-0" in said["error"]) == (403, True)
        assert not is_out(site, "gpu-1")
        for token, status in (("", 401), ("nonsense", 401), (site.plane.token("admin"), 401)):
            code, said = Agent(controller, "gpu-0", token).tell()
            assert code == status, said
            assert token == "" or token not in said["error"]
        assert Agent(controller, "gpu-2", an_agent(site, "gpu-2", "other")).tell()[0] == 401


def test_a_fault_takes_its_node_out_and_its_replicas_elsewhere(site: Site, fleet: Nodes) -> None:
    with reporting(site) as controller:
        site.service("chat")
        until(lambda: site.is_ready("chat"), 40)
        node = site.pods("chat")[0]["spec"]["nodeName"]
        agent = Agent(controller, node, an_agent(site, node))
        assert agent.tell()[0] == 200
        until(lambda: healthy(site, node) == "True")
        agent.tell(XID)
        until(lambda: is_out(site, node), 5)
        until(lambda: healthy(site, node) == "False")
        until(lambda: site.is_ready("chat") and all(p["spec"]["nodeName"] != node for p in site.pods("chat")), 40)
        agent.tell()  # well again: after probation it comes back, once
        until(lambda: not is_out(site, node), 15)
        until(lambda: healthy(site, node) == "True")
        notes = site.api.request("GET", f"/api/v1/nodes/{node}")["metadata"]["annotations"]
        assert len(notes[RETURNS].split(",")) == 1


def test_the_brake_holds_what_is_too_much_until_a_person_says_so(site: Site, fleet: Nodes) -> None:
    with reporting(site) as controller:
        until(controller.desk.leads)
        agents = [Agent(controller, f"gpu-{i}", an_agent(site, f"gpu-{i}")) for i in range(4)]
        for agent in agents:
            agent.tell(XID)
        until(lambda: sum(is_out(site, f"gpu-{i}") for i in range(4)) == 1)
        until(lambda: len(controller.rounds.held) >= 3)
        time.sleep(1.0)
        assert sum(is_out(site, f"gpu-{i}") for i in range(4)) == 1
        (held, *_) = (f"gpu-{i}" for i in range(4) if not is_out(site, f"gpu-{i}"))
        assert "without a person's approval" in controller.rounds.held[held]
        assert healthy(site, held) == "False"
        note = {"metadata": {"annotations": {"muster.dev/approved": "yes"}}}
        site.api.request("PATCH", f"/api/v1/nodes/{held}", note, content_type="application/merge-patch+json")
        until(lambda: is_out(site, held))


def test_from_a_report_to_the_taint_in_a_watch(site: Site, fleet: Nodes) -> None:
    brake = NodeSettings(brake=Brake(least=100, probation_s=0.0, most_returns=1000), drain=False)
    with a_controller(site, listen=Listen(port=0), nodes=brake) as controller:
        until(controller.desk.leads)
        agent = Agent(controller, "gpu-0", an_agent(site, "gpu-0"))
        seen = threading.Event()
        taken_s: list[float] = []

        def watch() -> None:
            for line in stream:
                node = json.loads(line)["object"] if line else {}
                if TAINT in {one["key"] for one in (node.get("spec") or {}).get("taints") or ()}:
                    seen.set()

        stream = site.api.stream("/api/v1/nodes", {"watch": "true", "fieldSelector": "metadata.name=gpu-0"}, 60.0)
        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        for _ in range(20):
            agent.tell()
            until(lambda: not is_out(site, "gpu-0"), 10)
            seen.clear()
            began_s = time.monotonic()
            agent.tell(XID)
            assert seen.wait(5)
            taken_s.append(time.monotonic() - began_s)
        stream.end()
        taken_s.sort()
        sys.stderr.write(f"report to taint: p50 {taken_s[10] * 1e3:.0f} ms, most {taken_s[-1] * 1e3:.0f} ms\n")
        assert taken_s[10] < 0.3


def test_caps_that_were_granted_are_shown_on_their_nodes(site: Site, fleet: Nodes) -> None:
    group = {"name": "h100", "nodeSelector": {"pool": "big"}, "pricePerHour": "$2.50", "powerDomain": "hall"}
    head = {"apiVersion": "muster.dev/v1alpha1", "kind": "PowerDomain", "metadata": {"name": "hall"}}
    domains = "/apis/muster.dev/v1alpha1/powerdomains"
    site.api.request("POST", domains, {**head, "spec": {"budget": "40kW"}})
    site.inventory(group)
    try:
        with reporting(site) as controller:
            until(controller.desk.leads)
            agents = [Agent(controller, f"gpu-{i}", an_agent(site, f"gpu-{i}")) for i in range(4)]

            def shown() -> list[str | None]:
                nodes = [site.api.request("GET", f"/api/v1/nodes/gpu-{i}") for i in range(4)]
                return [(one["metadata"].get("annotations") or {}).get(POWER_LIMIT) for one in nodes]

            until(lambda: [agent.tell()[0] for agent in agents] and shown() == ["700"] * 4, 30)
            until(lambda: site.api.request("GET", f"{domains}/hall")["status"]["cappedW"] == 4 * 8 * 700, 20)
    finally:
        site.remove(f"{domains}/hall")
