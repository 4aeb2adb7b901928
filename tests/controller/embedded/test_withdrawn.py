"""GPUs that nodes have lost are counted on by nobody, and what has no room any more is planned again."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from controller.brake import Brake
from controller.cluster import Kind, Node
from controller.hardware import node_gpus
from controller.kube.known import Known
from controller.kube.waiting import cornered
from controller.laws import Laws
from controller.manifests.workload import Made
from controller.names import KIND
from controller.trigger import Planned, Reason, Verdict
from controller.when import text
from tests.controller.embedded.a_world import NODES, a_world

GROUP = {"name": "h100", "gpu": "H100-SXM", "gpusPerNode": 2, "nodes": 2, "zone": "a", "pricePerHour": "$2.60"}
PLANNED = Planned(10.0, 1000.0, 1, "a.b", "p")


def test_a_gpu_that_its_node_has_lost_is_not_offered_until_it_is_well_again() -> None:
    world = a_world(None, GROUP, nodes=replace(NODES, brake=Brake(share_ratio=0.0, burn_in=False)))
    world.inject("h100-0", 0, "lost")
    world.inject("h100-1", 1, "xid", xid=79)
    world.step()
    world.step()
    assert [node_gpus(one) for one in world.store.items("nodes")] == [1, 1]
    assert world.loop.known.facts().gpus_per_node == {"h100": 2}  # or every replica would be of another kind
    world.inject("h100-0", 0, "clear")
    world.step()
    assert [node_gpus(one) for one in world.store.items("nodes")] == [2, 1]
    world.close()


def waits(now_s: float, *free: int, verdict: Verdict | None = None, **spec: Any) -> Reason | None:
    """Why to plan a service again whose pod of two GPUs waits since 1000 s, with so many GPUs free on each node."""
    nodes = tuple(Node(f"n{at}", "h100", gpus) for at, gpus in enumerate(free))
    limits = {"resources": {"limits": {"nvidia.com/gpu": "2"}}}
    pod = {
        "metadata": {"name": "p", "labels": {KIND: "chat-k"}, "creationTimestamp": text(1000.0)},
        "spec": {"containers": [limits], **spec},
    }
    known = SimpleNamespace(clock=lambda: now_s, settings=SimpleNamespace(laws=Laws()), nodes=lambda: nodes)
    made = SimpleNamespace(
        name="chat-k", kind=Kind("default/chat-k", "default/chat", "2xH100", "serve", "h100", 2, 5.0)
    )
    return cornered(cast(Known, known), verdict or Verdict(), PLANNED, [pod], [cast(Made, made)]).reason


def test_a_plan_for_which_no_node_has_room_any_more_is_made_anew_once_in_a_cool_down() -> None:
    due_s = 1000.0 + Laws().cool_down_s
    found = waits(due_s, 1, 1)
    assert found is not None
    assert (found.cause, found.text) == ("nodes_changed", "no node of h100 has 2 GPUs free any more")
    assert waits(due_s - 1, 1, 1) is None
    assert waits(due_s, 1, 2) is None
    assert waits(due_s, 1, 1, schedulingGates=[{"name": "queue"}]) is None
    asked = Reason("rate_up", "more comes", 20.0)
    assert waits(due_s, 1, 1, verdict=Verdict(asked)) == asked
