"""Rounds over nodes on a cluster in memory: one refusal stops no other, clocks that jump and silence move nothing."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import pytest

from controller.brake import Brake
from controller.health import BURN_IN, OUT_SINCE
from controller.kube.applier import Leader
from controller.kube.discovery import Served
from controller.kube.known import Known, Settings
from controller.kube.node_round import NodeRound, NodeSettings, _tested
from controller.kube.rest import Api, ApiError
from controller.names import TAINT
from controller.reports import Kept, parse
from controller.when import steady
from tests.controller.objects import a_node
from tests.controller.test_reports import XID, sent

BRAKE = Brake(share_ratio=1.0, probation_s=900.0, stale_s=60.0)


class Fleet:
    """Nodes that patches change as a server does; a name in `refuses` is refused. Counts what is written."""

    epoch = 1

    def __init__(self, count: int) -> None:
        self.wall_s, self.passed_s, self.writes = 1_000_000.0, 0.0, 0
        self.nodes = {f"n{i}": a_node(f"n{i}") for i in range(count)}
        self.refuses: set[str] = set()
        self.unseen: dict[str, Any] = {}
        self.clock = steady(lambda: self.wall_s, lambda: self.passed_s)
        self.sequence = 0
        self.asked = 0
        self.events: list[tuple[str, str]] = []
        self.settings, self.lost = Settings(), frozenset[str]()
        settings = NodeSettings(brake=BRAKE, drain=False)
        self.rounds = NodeRound(
            cast(Known, self), cast(Api, self), cast(Served, self), cast(Leader, self), settings, self._soon,
            lambda about, reason, _: self.events.append((about["metadata"]["name"], reason)),
        )  # fmt: skip

    def _soon(self) -> None:
        self.asked += 1

    def lose(self, lost: frozenset[str]) -> None:
        self.lost = lost

    def items(self, plural: str) -> list[Any]:
        return list(self.nodes.values()) if plural == "nodes" else []

    def overrun(self, kept: Iterable[Kept]) -> None:
        self.over = [one.report.node for one in kept if one.report.overruns]

    def service_of_pod(self, space: str, pod: str) -> str:
        return ""

    def may_write(self) -> bool:
        return True

    def request(self, method: str, path: str, body: Any = None, **_: Any) -> Mapping[str, Any]:
        name = path.split("/")[4]
        if method == "GET":
            found: Mapping[str, Any] = self.live(name)
            return found
        if name in self.refuses:
            raise ApiError(403, "Forbidden", f"{method} {path}: a webhook denied it")
        node = self.live(name)
        if body["metadata"]["resourceVersion"] != node["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", f"{method} {path}: it changed")
        self.writes += 1
        meta, notes = node["metadata"], {**(node["metadata"].get("annotations") or {})}
        notes |= body.get("metadata", {}).get("annotations", {})
        notes = {key: value for key, value in notes.items() if value is not None}
        spec = {key: value for key, value in {**node["spec"], **body.get("spec", {})}.items() if value is not None}
        version = str(int(meta["resourceVersion"]) + 1)
        status = {**node["status"]}
        for row in body.get("status", {}).get("conditions", ()):
            others = [one for one in status["conditions"] if one["type"] != row["type"]]
            status["conditions"] = [*others, row]
        node = {**node, "metadata": {**meta, "annotations": notes, "resourceVersion": version}}
        self.unseen.pop(name, None)
        self.nodes[name] = {**node, "spec": spec, "status": status}
        stored: Mapping[str, Any] = self.nodes[name]
        return stored

    def live(self, name: str) -> Any:
        """A node as the server has it."""
        return self.unseen.get(name, self.nodes[name])

    def changes(self, name: str, **notes: str) -> None:
        """Somebody annotates a node, and the cache does not show it yet."""
        meta = self.live(name)["metadata"]
        meta = {**meta, "resourceVersion": str(int(meta["resourceVersion"]) + 1)}
        meta["annotations"] = {**(meta.get("annotations") or {}), **notes}
        self.unseen[name] = {**self.live(name), "metadata": meta}

    def tell(self, name: str, *faults: object) -> None:
        self.sequence += 1
        body = sent(self.sequence, node=name, at_s=self.wall_s, faults=list(faults))
        self.rounds.hear(parse(body), name, self.clock())

    def out(self) -> set[str]:
        return {
            name
            for name, node in self.nodes.items()
            if node["spec"].get("unschedulable") and TAINT in {one["key"] for one in node["spec"].get("taints", ())}
        }


def test_a_fault_asks_for_a_round_and_a_second_round_writes_nothing() -> None:
    fleet = Fleet(3)
    for name in fleet.nodes:
        fleet.tell(name)
    before = fleet.asked
    fleet.tell("n1", XID)
    assert fleet.asked == before + 1
    fleet.tell("n1", XID)
    assert fleet.asked == before + 1
    fleet.rounds.run()
    assert fleet.out() == {"n1"}
    written = fleet.writes
    fleet.rounds.run()
    assert fleet.writes == written


def test_a_node_that_cannot_be_written_holds_up_no_other_and_is_tried_again() -> None:
    fleet = Fleet(4)
    for name in fleet.nodes:
        fleet.tell(name, XID)
    fleet.refuses = {"n0"}
    with pytest.raises(ApiError, match="webhook"):
        fleet.rounds.run()
    assert fleet.out() == {"n1", "n2", "n3"}
    assert all(any(c["type"] == "GPUHealthy" for c in fleet.nodes[n]["status"]["conditions"]) for n in fleet.out())
    assert ("n0", "NodeQuarantined") not in fleet.events
    fleet.refuses = set()
    fleet.rounds.run()
    assert fleet.out() == {"n0", "n1", "n2", "n3"}


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_clock_that_jumps_takes_nothing_out_and_gives_nothing_back_early(jump_s: float) -> None:
    fleet = Fleet(2)
    fleet.tell("n0", XID)
    fleet.tell("n1")
    fleet.rounds.run()
    fleet.passed_s += 10.0
    fleet.tell("n0")
    fleet.wall_s += jump_s
    for _ in range(17):
        fleet.passed_s += 50.0
        fleet.tell("n0")
        fleet.tell("n1")
        fleet.rounds.run()
        assert fleet.out() == {"n0"}
    assert "on probation" in fleet.rounds.held["n0"]
    fleet.passed_s += 55.0
    fleet.tell("n0")
    fleet.rounds.run()
    assert fleet.out() == set()


def test_silence_is_held_and_told_and_moves_nothing() -> None:
    fleet = Fleet(2)
    fleet.tell("n0", XID)
    fleet.tell("n1")
    fleet.rounds.run()
    since = fleet.nodes["n0"]["metadata"]["annotations"][OUT_SINCE]
    fleet.passed_s += 7200.0
    fleet.rounds.run()
    written = fleet.writes
    for _ in range(5):
        fleet.passed_s += 600.0
        fleet.rounds.run()
    assert fleet.writes == written
    assert fleet.out() == {"n0"}
    assert fleet.nodes["n0"]["metadata"]["annotations"][OUT_SINCE] == since
    assert "not heard of" in fleet.rounds.held["n1"]


def test_a_node_whose_fault_comes_and_goes_is_quarantined_once() -> None:
    fleet = Fleet(1)
    turns = 0
    for step in range(200):
        fleet.passed_s += 20.0
        fleet.tell("n0", *([XID] if step % 5 == 0 else []))
        before = fleet.out()
        fleet.rounds.run()
        turns += fleet.out() != before
    assert (turns, fleet.out()) == (1, {"n0"})


def test_every_patch_names_a_version_and_is_made_again_for_a_node_that_changed() -> None:
    fleet = Fleet(2)
    for name in fleet.nodes:
        fleet.tell(name, XID)
        fleet.changes(name, of="another")
    fleet.rounds.run()
    assert fleet.out() == {"n0", "n1"}
    told = [one["type"] for one in fleet.nodes["n0"]["status"]["conditions"]]
    assert "GPUHealthy" in told
    assert fleet.nodes["n0"]["metadata"]["annotations"]["of"] == "another"
    fleet.changes("n1", of="a third")
    fleet.rounds.note(fleet.nodes["n1"], {"cap": "300"})
    notes = fleet.nodes["n1"]["metadata"]["annotations"]
    assert (notes["cap"], notes["of"]) == ("300", "a third")


def test_a_burn_in_of_an_earlier_time_is_noted_on_no_node() -> None:
    first, again = a_node("n"), a_node("n")
    first["metadata"]["annotations"] = {OUT_SINCE: "2026-01-01T00:00:00Z", BURN_IN: "running"}
    again["metadata"]["annotations"] = {OUT_SINCE: "2026-01-02T00:00:00Z"}
    assert _tested(first, "passed", again) is None
    assert _tested(first, "passed", first) == {"metadata": {"annotations": {BURN_IN: "passed"}}}


def test_nothing_is_kept_of_nodes_that_are_gone() -> None:
    fleet = Fleet(3)
    for name in fleet.nodes:
        fleet.tell(name, XID)
    fleet.rounds.run()
    del fleet.nodes["n0"], fleet.nodes["n1"]
    fleet.rounds.run()
    kept = (fleet.rounds.kept, fleet.rounds._over, fleet.rounds._written)
    assert [set(one) for one in kept] == [{"n2"}] * 3
