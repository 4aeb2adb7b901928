"""A fifth of the fleet of `tests.benchmarks.node_health`: rate, order, the brake and the time to the taint."""

from tests.benchmarks.node_health import run
from tests.controller.plane.nodes import Nodes
from tests.controller.plane.plane import Plane
from tests.pace import pace


def test_two_hundred_agents_report_and_eighty_nodes_fail_at_once(plane: Plane, nodes: Nodes) -> None:
    rate, *others = run(plane, nodes, 200, 5.0, 20)
    assert all(others)
    assert rate or pace() > 1.0  # a host that is slow now serves fewer a second, in whatever order
