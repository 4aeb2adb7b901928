"""A fifth of the fleet of `tests.benchmarks.node_health`: rate, order, the brake and the time to the taint."""

from tests.benchmarks.node_health import run
from tests.controller.plane.nodes import Nodes
from tests.controller.plane.plane import Plane


def test_two_hundred_agents_report_and_eighty_nodes_fail_at_once(plane: Plane, nodes: Nodes) -> None:
    assert all(run(plane, nodes, 200, 5.0, 20, least=0.8))  # the rate depends on what else the host does
