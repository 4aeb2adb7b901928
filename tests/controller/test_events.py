"""Events: one write a minute for each object and reason, bounded memory, and a failing server breaks nothing."""

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes.client.configuration import Configuration

from controller.events import REASONS, Events, UnknownReason, of_change
from controller.kube.discovery import Resource, Served, discover
from controller.kube.rest import Api, connect
from tests.controller.loopback import sends, serving
from tests.controller.plane.plane import Plane

SERVED = Served({"events": Resource("events", "events.k8s.io/v1", "Event", True)})


class Time:
    """A clock that a test turns."""

    now_s = 1000.0

    def clock(self) -> float:
        return self.now_s

    def wall(self) -> datetime:
        return datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=self.now_s)


def an_api(url: str) -> Api:
    def configure() -> Configuration:
        found = Configuration()
        found.host = url
        return found

    return Api(configure)


def events(api: Api, at: Time, served: Served = SERVED, most: int = 100) -> Events:
    return Events(api, served, "muster-0", clock=at.clock, wall=at.wall, most=most)


def service(name: str = "chat") -> dict[str, Any]:
    meta = {"name": name, "namespace": "default", "uid": f"uid-{name}", "resourceVersion": "1"}
    return {"apiVersion": "muster.dev/v1alpha1", "kind": "GPUService", "metadata": meta}


def written(api: Api, name: str, space: str = "default") -> list[dict[str, Any]]:
    found = api.request("GET", f"/apis/events.k8s.io/v1/namespaces/{space}/events")["items"]
    mine = [one for one in found if one["regarding"]["name"] == name]
    return sorted(mine, key=lambda one: str(one["eventTime"]))


def test_what_is_told_again_is_one_event_with_a_series_written_once_a_minute(plane: Plane) -> None:
    api, at = connect(plane.kubeconfig()), Time()
    told = events(api, at, discover(api))
    for _ in range(60):  # a minute, told each second
        told.tell(service("again"), "RebalanceHeld", "no spare GPU")
        told.flush()
        at.now_s += 1
    assert told.writes == 1
    told.flush()
    assert (told.writes, told.failed) == (2, 0)
    (event,) = written(api, "again")
    assert (event["reason"], event["type"], event["note"]) == ("RebalanceHeld", "Warning", "no spare GPU")
    assert event["series"]["count"] == 60
    at.now_s += 600
    told.flush()
    assert told.writes == 2, "nothing new was told"


def test_other_words_wait_for_the_minute_and_the_latest_are_written(plane: Plane) -> None:
    api, at = connect(plane.kubeconfig()), Time()
    told = events(api, at, discover(api))
    for number in range(5):
        told.tell(service("words"), "PlanSolved", f"decision d-{number}")
        told.tell(service("words"), "MoveStarted", "chat-k: 1 to 2")
        told.flush()
    assert {one["note"] for one in written(api, "words")} == {"decision d-0", "chat-k: 1 to 2"}
    at.now_s += 60
    told.flush()
    notes = [one["note"] for one in written(api, "words")]
    assert sorted(notes) == ["chat-k: 1 to 2", "decision d-0", "decision d-4"]


def test_an_event_that_was_swept_away_is_made_anew_and_kubectl_shows_it(plane: Plane) -> None:
    api, at = connect(plane.kubeconfig()), Time()
    told = events(api, at, discover(api))
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "swept", "uid": "u"}}
    told.tell(node, "NodeQuarantined", "Xid 79 on GPU 3")
    told.flush()
    (first,) = written(api, "swept", "kube-system")
    api.request("DELETE", f"/apis/events.k8s.io/v1/namespaces/kube-system/events/{first['metadata']['name']}")
    told.tell(node, "NodeQuarantined", "Xid 79 on GPU 3")
    at.now_s += 61
    told.flush()
    (second,) = written(api, "swept", "kube-system")
    assert second["metadata"]["name"] != first["metadata"]["name"]
    shown = plane.kubectl("get", "events", "-n", "kube-system", "--field-selector", "reason=NodeQuarantined").stdout
    assert "Xid 79 on GPU 3" in shown
    assert "node/swept" in shown


@pytest.mark.parametrize(("status", "tries"), [(403, 1), (422, 1), (429, 2), (503, 2)])
def test_a_refusal_is_given_up_and_a_busy_server_is_asked_a_minute_later(status: int, tries: int) -> None:
    at = Time()
    with serving(sends(b"{}", status)) as url:
        told = events(an_api(url.removesuffix("/metrics")), at)
        told.tell(service(), "PlanSolved", "decision d-1")
        for _ in range(10):
            told.flush()
        assert told.writes == 1
        at.now_s += 61
        told.flush()
        assert (told.writes, told.failed) == (tries, tries)


def test_of_decisions_none_is_left_out_and_none_waits_for_the_minute() -> None:
    at, sent = Time(), list[str]()

    class Server:
        def request(self, method: str, path: str, body: Any = None, **_: Any) -> dict[str, Any]:
            sent.append(body["note"])
            return {}

    told = Events(Server(), SERVED, "muster-0", clock=at.clock, wall=at.wall)
    for second in range(3):
        at.now_s += 5.0
        told.tell(service(), "Replanned", f"plan {second}")
        if second:
            told.flush()
    assert sent == ["plan 0", "plan 1", "plan 2"]


def test_telling_never_waits_nor_fails_without_a_server() -> None:
    told = Events(an_api("http://127.0.0.1:1"), SERVED, "muster-0")
    stop = threading.Event()
    thread = threading.Thread(target=told.run, args=(stop, 0.01), daemon=True)
    thread.start()
    for number in range(1000):
        told.tell(service(f"s{number}"), "ReplicaFailed", "pod x: OOMKilled")
    end_s = time.monotonic() + 10
    while not told.failed and time.monotonic() < end_s:
        time.sleep(0.01)
    stop.set()
    thread.join(10)
    assert told.failed
    assert not thread.is_alive()
    lacking = Events(an_api("http://127.0.0.1:1"), Served({}), "muster-0")
    lacking.tell(service(), "PlanSolved", "d")
    lacking.flush()
    assert (lacking.failed, lacking.writes) == (1, 0)


def test_memory_is_bounded_and_the_oldest_is_forgotten() -> None:
    told = events(an_api("http://127.0.0.1:1"), Time(), most=10)
    for number in range(25):
        told.tell(service(f"s{number}"), "PlanSolved", "d")
    assert (len(told), told.forgotten) == (10, 15)


def test_a_reason_that_is_not_in_the_list_is_refused_and_names_are_one_word() -> None:
    told = events(an_api("http://127.0.0.1:1"), Time())
    with pytest.raises(UnknownReason, match="got reason 'Oops', allowed: one of SpecRefused"):
        told.tell(service(), "Oops", "x")
    assert all(reason.isalnum() and reason[0].isupper() for reason in REASONS)
    assert set(REASONS.values()) == {"Normal", "Warning"}


def row(kind: str, status: str, reason: str, message: str = "m") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def test_a_change_of_status_is_told_once_and_other_words_of_it_are_not() -> None:
    solved = {"plan": "d-1", "conditions": [row("Planned", "True", "Solved"), row("Degraded", "False", "NoFault")]}
    assert of_change(None, solved) == [("PlanSolved", "m")]
    assert of_change(solved, solved) == []
    assert of_change(solved, {**solved, "plan": "d-2"}) == [("PlanSolved", "m")]
    fault = {**solved, "conditions": [row("Planned", "True", "Solved"), row("Degraded", "True", "HardwareFault", "a")]}
    assert of_change(solved, fault) == [("GPUFaultDetected", "a")]
    worded = {**fault, "conditions": [row("Planned", "True", "Solved"), row("Degraded", "True", "HardwareFault", "b")]}
    assert of_change(fault, worded) == []
    crash = {**fault, "conditions": [row("Planned", "True", "Solved"), row("Degraded", "True", "OutOfMemory", "c")]}
    assert of_change(fault, crash) == [("ReplicaFailed", "c")]
    held = {"plan": "d-1", "conditions": [row("RebalanceHeld", "True", "Paused", "p")]}
    assert of_change(solved, held) == [("RebalanceHeld", "p")]


def a_move(applied: str, applied_s: int, ready: str, ready_s: int, slo: str = "") -> dict[str, Any]:
    rows = [row("Applied", applied, "UpToDate" if applied == "True" else "Applying", "objects as planned")]
    rows.append(row("Ready", ready, "Serving" if ready == "True" else "Starting", "2 of 2 replicas serve"))
    for one, at_s in zip(rows, (applied_s, ready_s), strict=True):
        one["lastTransitionTime"] = f"2026-01-01T00:00:{at_s:02}Z"
    return {"plan": "d-1", "slo": slo, "conditions": rows}


def test_a_move_is_complete_when_what_is_planned_serves() -> None:
    begun, told, done = a_move("False", 1, "False", 1), a_move("True", 5, "False", 1), a_move("True", 5, "True", 9)
    assert of_change(None, begun) == [("MoveStarted", "objects as planned")]
    assert of_change(begun, told) == [], "its replicas start still"
    assert of_change(told, done) == [("MoveCompleted", "objects as planned; 2 of 2 replicas serve")]
    assert of_change(done, done) == []
    assert [name for name, _ in of_change(a_move("False", 4, "True", 1), a_move("True", 5, "True", 1))] == [
        "MoveCompleted"
    ], "with spare replicas it serves throughout"
    assert of_change(a_move("True", 5, "False", 20), a_move("True", 5, "True", 25)) == [], "replicas failed: no move"


def test_objectives_that_hold_again_are_told() -> None:
    missed, met = a_move("True", 1, "True", 1, "Missed"), a_move("True", 1, "True", 1, "Met")
    assert of_change(missed, met) == [("SLOMet", "latency objectives hold again")]
    assert of_change(met, met) == []
    assert of_change(missed, a_move("True", 1, "True", 1, "")) == [], "nothing was heard"
