"""Nodes that do not answer: their replicas are replaced soon, within the brake, and taken back when they answer."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from controller.brake import Brake
from controller.cluster import Kind, Running
from controller.health import has_gpus
from controller.kube.known import Settings
from controller.kube.node_round import NodeSettings
from controller.kube.view import kind_text, running
from controller.laws import Laws
from controller.lost import Down, begun, followed, given_up
from controller.status import is_ready
from controller.when import seconds
from tests.controller.live import Site, a_controller, until
from tests.controller.objects import a_node, a_pod
from tests.controller.plane.nodes import Nodes
from tests.controller.plane.plane import Plane

LAWS = Laws(lost_s=30.0, found_s=60.0)
NOW_S = seconds("2026-01-01T00:20:00Z")


class Watch:
    """The nodes of a fleet as seconds pass: those of `down` do not answer."""

    def __init__(self, *names: str, room: int = 1) -> None:
        self.names, self.room, self.now_s = names, room, 0.0
        self.known: dict[str, Down] = {}
        self.held: dict[str, str] = {}
        self.turns = 0

    def pass_s(self, seconds_: float, *down: str, busy: tuple[str, ...] | None = None) -> set[str]:
        """Looks each 5 s; gives the nodes that are lost then."""
        for _ in range(int(seconds_ / 5.0)):
            before = self.lost
            self.now_s += 5.0
            ready = {name: name not in down for name in self.names}
            known = followed(self.known, ready, self.now_s, LAWS)
            self.known, self.held = given_up(known, self.names if busy is None else busy, self.room, self.now_s, LAWS)
            self.turns += self.lost != before
        return self.lost

    @property
    def lost(self) -> set[str]:
        return {name for name, one in self.known.items() if one.lost}


def test_a_node_is_lost_after_a_grace_and_back_after_it_was_ready_for_a_while() -> None:
    watch = Watch("a", "b")
    assert watch.pass_s(30, "a") == set()
    assert watch.pass_s(5, "a") == {"a"}
    assert watch.pass_s(55) == {"a"}
    assert watch.pass_s(10) == set()
    assert watch.known == {}


def test_a_node_that_comes_and_goes_is_lost_once_and_short_absences_are_nothing() -> None:
    watch = Watch("a")
    for _ in range(10):
        watch.pass_s(25, "a")
        watch.pass_s(5)
    assert watch.turns == 0
    for _ in range(10):
        watch.pass_s(40, "a")
        watch.pass_s(40)
    assert (watch.turns, watch.lost) == (1, {"a"})


def test_no_more_are_lost_than_the_brake_allows_and_idle_ones_take_no_room() -> None:
    watch = Watch(*"abcdef", room=2)
    assert watch.pass_s(600, *"abcde", busy=("b", "c", "d", "f")) == {"b", "c"}
    assert set(watch.held) == {"d"}
    assert watch.pass_s(60, *"acde", busy=("b", "c", "d", "f")) == {"b", "c"}  # b holds its replicas still
    assert watch.pass_s(60, *"acde", busy=("b", "c", "d", "f")) == {"c", "d"}
    del watch.known["c"]
    watch.names = ("d",)  # the others were deleted
    assert watch.pass_s(5, "d") == {"d"}


def test_a_new_leader_takes_over_what_is_lost_already() -> None:
    node, now_s = a_node("a"), NOW_S
    node["status"]["conditions"] = [
        {"type": "Ready", "status": "Unknown", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    ]
    known = followed(begun({"a": node, "b": a_node("b")}, now_s), {"a": False, "b": True}, now_s, LAWS)
    assert given_up(known, ("a", "b"), 1, now_s, LAWS)[0].keys() == {"a"}
    assert given_up(known, ("a", "b"), 1, now_s, LAWS)[0]["a"].lost


def test_nodes_without_a_word_of_being_ready_are_not() -> None:
    silent = a_node("a")
    silent["status"]["conditions"] = []
    assert [is_ready(a_node("b")), is_ready(silent), has_gpus(silent)] == [True, False, True]


def counted(workload: str, *pods: Any, told: int, lost: tuple[str, ...] = ("gone",)) -> Running:
    kind = Kind("team-a/k", "team-a/chat", "H100-SXM", "serve", "h100", 1, 1.0)
    meta = {"name": "k", "namespace": "team-a", "annotations": {"muster.dev/kind-spec": kind_text(kind)}}
    obj = {"kind": workload, "metadata": meta, "spec": {"replicas": told}}
    found = running(obj, pods, NOW_S, (), lost)
    assert found is not None
    return found


def test_a_replica_on_a_lost_node_counts_as_none_and_moves_nothing() -> None:
    one = counted("Deployment", a_pod("k-0", node="gone"), a_pod("k-1", node="here", ready=True), told=2)
    assert (one.replicas, one.ready, one.bound, one.moving, one.lost, one.stranded) == (1, 1, 1, 0, 1, 0)
    back = counted("Deployment", a_pod("k-0", node="gone", ready=True), a_pod("k-1", node="x", ready=True), told=2)
    assert (back.replicas, back.ready, back.lost, back.stranded) == (2, 2, 0, 1)  # it serves, and others beside it


def test_one_that_was_told_to_go_keeps_its_number_unless_a_deployment_has_another_for_it() -> None:
    pods = [a_pod("k-0", node="gone", leaves=True), a_pod("k-1", node="here", ready=True)]
    assert (counted("StatefulSet", *pods, told=2).replicas, counted("Deployment", *pods, told=1).replicas) == (1, 1)


@pytest.fixture
def fleet(plane: Plane, nodes: Nodes) -> Iterator[tuple[Site, Nodes]]:
    site = Site(plane)
    for index in range(3):
        nodes.add(f"gpu-{index}", 8, pool="big")
    site.inventory()
    yield site, nodes
    site.clear()


def test_a_real_clusters_node_that_stops_to_answer_is_replaced_and_taken_back(fleet: tuple[Site, Nodes]) -> None:
    site, nodes = fleet
    settings = Settings(laws=Laws(lost_s=2.0, found_s=2.0))
    brake = NodeSettings(brake=Brake(least=1))

    def ready() -> list[str]:
        """The nodes of those that serve."""
        rows = [(one["spec"].get("nodeName", ""), one["status"].get("conditions") or ()) for one in site.pods("chat")]
        return sorted(
            node for node, said in rows if any((c["type"], c["status"]) == ("Ready", "True") for c in said)
        )  # fmt: skip

    with a_controller(site, settings=settings, nodes=brake) as controller:
        site.service("chat")
        until(lambda: site.is_ready("chat"), 40)
        before, count = ready(), len(site.pods("chat"))
        nodes.answers(before[0], False)
        until(lambda: controller.known.lost == {before[0]}, 30)
        until(lambda: len(ready()) == count and before[0] not in ready(), 30, "not replaced")
        until(lambda: site.is_ready("chat"), 30)
        assert any(one["spec"].get("nodeName") == before[0] for one in site.pods("chat"))  # nobody evicts it
        nodes.answers(before[0], True)
        until(lambda: not controller.known.lost, 30)
        until(lambda: len(site.pods("chat")) == count and site.is_ready("chat"), 30, "too many stay")
        until(lambda: not any(one["metadata"].get("deletionTimestamp") for one in site.pods("chat")), 30)
        site.change("chat", {"spec": {"workload": {"ratePerSecond": 800}}})
        until(lambda: site.is_ready("chat") and len(set(ready())) > 1, 40)
        for index in range(3):
            nodes.answers(f"gpu-{index}", False)
        until(lambda: len(controller.known.lost) == 1, 30)
        time.sleep(8.0)  # a look or two later
        assert len(controller.known.lost) == 1  # all of them at once: the brake holds
