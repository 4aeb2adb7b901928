"""A service's life on a real control plane: created, planned, applied, ready, changed, deleted."""

from collections.abc import Iterator

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


def test_a_service_is_planned_applied_ready_changed_and_leaves_nothing(site: Site, fleet: Nodes) -> None:
    with a_controller(site):
        site.service(
            "chat", workload={"ratePerSecond": 60, "buckets": [{"inputTokens": 512, "outputTokens": 128, "share": 1}]}
        )
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
