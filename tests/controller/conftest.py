"""What the controller's tests share: a real control plane, started once for a process, and simulated nodes."""

from collections.abc import Iterator

import pytest

from tests.controller.live import Site
from tests.controller.plane.nodes import Nodes
from tests.controller.plane.plane import Plane, programs


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A control plane without nodes; tests make their own namespaces."""
    made = Plane(tmp_path_factory.mktemp("plane"), programs())
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def nodes(plane: Plane) -> Iterator[Nodes]:
    """A simulator of nodes, empty; its nodes and their pods are gone after the test."""
    made = Nodes(plane)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def site(plane: Plane, nodes: Nodes) -> Iterator[Site]:
    """A node of eight GPUs and the inventory; all services are gone after the test."""
    made = Site(plane)
    nodes.add("big", 8, pool="big")
    made.inventory()
    yield made
    made.clear()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever uses the control plane carries its mark."""
    for item in items:
        if "plane" in getattr(item, "fixturenames", ()):
            item.add_marker("cluster")
