"""Replicas leave a faulty node when others serve for them; a node that was out is proved by a Job before it returns."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from controller.brake import Brake
from controller.health import BURN_IN
from controller.kube.burn_in import BurnIn
from controller.kube.node_round import NodeSettings
from controller.names import TAINT
from controller.server import Listen
from tests.controller.agents import XID, Agent, an_agent, healthy, is_out, space_of_agents
from tests.controller.live import Site, a_controller, until
from tests.controller.plane.nodes import Fate, Nodes, usual
from tests.controller.plane.plane import Plane
from tests.controller.test_live_moves import Least

JOBS = "/apis/batch/v1/namespaces/muster-system/jobs"
QUICKLY = Brake(probation_s=1.0, stale_s=60.0)


@pytest.fixture(scope="module")
def site(plane: Plane) -> Site:
    made = Site(plane)
    space_of_agents(made)
    return made


@pytest.fixture
def fleet(site: Site, nodes: Nodes) -> Iterator[Nodes]:
    for index in range(2):
        nodes.add(f"gpu-{index}", 1, pool="big")
    site.inventory()
    yield nodes
    site.clear()


def told(site: Site, reason: str) -> list[str]:
    """The notes of events of a reason."""
    found = site.api.request("GET", "/api/v1/events", query={"fieldSelector": f"reason={reason}"})
    return [one["message"] for one in found["items"]]


def jobs(site: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = site.api.request("GET", JOBS)["items"]
    return found


def test_the_only_replica_on_a_faulty_node_stays_until_another_serves(site: Site, fleet: Nodes) -> None:
    slow = 6.0
    with a_controller(site, listen=Listen(port=0), nodes=NodeSettings(QUICKLY)) as controller:
        site.service("only")
        until(lambda: site.is_ready("only"), 40)
        (pod,) = site.pods("only")
        node = pod["spec"]["nodeName"]
        fleet.fate = lambda pod: Fate(ready_s=slow)
        least = Least(site, "only")
        Agent(controller, node, an_agent(site, node)).tell(XID)
        until(lambda: is_out(site, node), 5)
        until(lambda: len(site.pods("only")) == 2, 10, "another replica is started beside it")
        until(lambda: controller.rounds.blocked, 10, "the budget refuses the eviction while the other starts")
        until(lambda: "disruption budget" in str(controller.rounds.blocked), 10, str(controller.rounds.blocked))
        until(lambda: "disruption budget" in site.condition("only", "Degraded")[2], 10)
        assert "muster_evictions_blocked 1" in controller.desk.metrics()
        until(lambda: any(f"on {node}" in words for words in told(site, "DrainBlocked")), 10)
        until(lambda: all(p["spec"].get("nodeName") not in ("", node) for p in site.pods("only")), 30)
        until(lambda: site.is_ready("only") and len(site.pods("only")) == 1, 30)
        assert least.end() >= 1
        until(lambda: not controller.rounds.blocked, 10)


def test_without_room_for_another_the_only_replica_stays_and_that_is_told(site: Site, fleet: Nodes) -> None:
    fleet.vanish("gpu-1")
    with a_controller(site, listen=Listen(port=0), nodes=NodeSettings(QUICKLY)) as controller:
        site.service("stays")
        until(lambda: site.is_ready("stays"), 40)
        Agent(controller, "gpu-0", an_agent(site, "gpu-0")).tell(XID)
        until(lambda: is_out(site, "gpu-0"), 5)
        until(lambda: controller.rounds.blocked, 10)
        time.sleep(2.0)
        (pod,) = site.pods("stays")
        assert pod["spec"]["nodeName"] == "gpu-0"
        assert "deletionTimestamp" not in pod["metadata"]


@pytest.mark.parametrize("passes", [True, False])
def test_a_node_comes_back_when_its_burn_in_passes_and_stays_out_when_it_fails(
    site: Site, fleet: Nodes, passes: bool
) -> None:
    how = NodeSettings(QUICKLY, BurnIn("registry.example/burn-in:1", ("burn",)))

    def fate(pod: Any) -> Fate:
        if "burn-in" not in pod["metadata"]["name"]:
            return usual(pod)
        return Fate(completes_s=1.0) if passes else Fate(ready_s=1.0, fails="Error")

    fleet.fate = fate
    with a_controller(site, listen=Listen(port=0), nodes=how) as controller:
        until(controller.desk.leads)
        agent = Agent(controller, "gpu-0", an_agent(site, "gpu-0"))
        agent.tell(XID)
        until(lambda: is_out(site, "gpu-0"), 5)
        time.sleep(2.0)
        assert jobs(site) == []  # not while the fault lasts
        agent.tell()
        (job,) = until(lambda: jobs(site), 20)
        spec = job["spec"]["template"]["spec"]
        assert spec["nodeName"] == "gpu-0"
        assert {"operator": "Exists"} in spec["tolerations"], f"tolerates {TAINT} too"
        assert spec["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "1"}
        assert is_out(site, "gpu-0")
        if passes:
            until(lambda: not is_out(site, "gpu-0"), 20)
            until(lambda: jobs(site) == [], 10, "the Job goes when the node comes back")
            until(lambda: told(site, "BurnInPassed") and healthy(site, "gpu-0") == "True", 20)
            return
        until(lambda: told(site, "BurnInFailed"), 20)
        until(lambda: "burn-in failed" in controller.rounds.held.get("gpu-0", ""), 10)
        time.sleep(2.0)
        node = site.api.request("GET", "/api/v1/nodes/gpu-0")
        assert node["metadata"]["annotations"][BURN_IN] == "failed"
        assert is_out(site, "gpu-0")
        assert len(jobs(site)) == 1  # its log is for whoever looks
        note = {"metadata": {"annotations": {"muster.dev/approved": "yes"}}}
        site.api.request("PATCH", "/api/v1/nodes/gpu-0", note, content_type="application/merge-patch+json")
        until(lambda: not is_out(site, "gpu-0") and jobs(site) == [], 20)
