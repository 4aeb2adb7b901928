"""Quotas and the like that keep pods of StatefulSets and LeaderWorkerSets from being made are found in events."""

from collections.abc import Mapping
from typing import Any

from controller import names
from controller.kube.rest import ApiError
from controller.kube.unmade import Unmade
from controller.when import seconds

MADE, NOW_S = "2026-01-01T00:00:00Z", seconds("2026-01-01T00:10:00Z")
SAID = (
    'create Pod chat-serve-1234-1-1 in StatefulSet chat-serve-1234-1 failed error: pods "chat-serve-1234-1-1" is '
    "forbidden: exceeded quota: q, requested: requests.nvidia.com/gpu=8, used: requests.nvidia.com/gpu=24, "
    "limited: requests.nvidia.com/gpu=24"
)


def a_workload(kind: str, replicas: int, size: int = 2) -> dict[str, Any]:
    meta = {"name": "chat-serve-1234", "namespace": "team-a", "creationTimestamp": MADE}
    return {
        "kind": kind,
        "metadata": {**meta, "annotations": {names.SIZE: str(size)}},
        "spec": {"replicas": replicas},
    }


def an_event(about: str, message: str = SAID, at: str = "2026-01-01T00:09:00Z") -> dict[str, Any]:
    return {"involvedObject": {"kind": "StatefulSet", "name": about}, "message": message, "lastTimestamp": at}


class Server:
    """An API server with events, that counts how often it is asked."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self.events, self.asked, self.down = list(events), 0, False

    def request(self, method: str, path: str, body: object = None, **more: Any) -> Mapping[str, Any]:
        assert (method, path) == ("GET", "/api/v1/namespaces/team-a/events")
        assert "reason=FailedCreate" in more["query"]["fieldSelector"]
        self.asked += 1
        if self.down:
            raise ApiError(503, "ServiceUnavailable", "down")
        return {"items": self.events}


def unmade(server: Server) -> Unmade:
    return Unmade(server)  # type: ignore[arg-type]


def test_a_quota_that_stops_workers_of_a_leader_worker_set_is_named() -> None:
    found = unmade(Server(an_event("chat-serve-1234-1"))).of(a_workload("LeaderWorkerSet", 2), 3, NOW_S)
    assert found is not None
    assert (found.reason, found.of) == ("QuotaExceeded", "LeaderWorkerSet chat-serve-1234")
    assert found.text == "quota q is spent: needs 8 nvidia.com/gpu, 24 of 24 used"


def test_events_about_others_and_old_ones_are_not_believed() -> None:
    other = an_event("chat-serve-12345")
    near = an_event("chat-serve-1234-blue-1")
    old = an_event("chat-serve-1234", at="2025-12-31T23:00:00Z")
    for kind in ("StatefulSet", "LeaderWorkerSet"):
        assert unmade(Server(other, near, old)).of(a_workload(kind, 4), 1, NOW_S) is None
    assert unmade(Server(an_event("chat-serve-1234-1"))).of(a_workload("StatefulSet", 4), 1, NOW_S) is None


def test_nothing_is_asked_while_no_pod_is_missing_or_the_workload_is_new() -> None:
    server = Server(an_event("chat-serve-1234"))
    known = unmade(server)
    assert known.of(a_workload("StatefulSet", 4), 4, NOW_S) is None
    assert known.of(a_workload("StatefulSet", 4), 0, seconds(MADE) + 1.0) is None
    assert known.of(a_workload("Deployment", 4), 0, NOW_S) is None
    assert server.asked == 0


def test_an_answer_holds_for_a_while_and_a_server_in_trouble_changes_none() -> None:
    server = Server(an_event("chat-serve-1234"))
    known = unmade(server)
    for _ in range(100):
        assert known.of(a_workload("StatefulSet", 4), 3, NOW_S) is not None
    assert server.asked == 1
    server.down = True
    assert known.of(a_workload("StatefulSet", 4), 3, NOW_S + 30.0) is not None
    assert server.asked == 2
