"""Requests that an API server and the embedded one must answer alike: each with what is looked at in the answer."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from controller.kube.rest import APPLY, JSON, MERGE, STRATEGIC, ApiError
from tests.controller.objects import a_service

SPACE = "talk"
SERVICES = f"/apis/muster.dev/v1alpha1/namespaces/{SPACE}/gpuservices"
MAPS = f"/api/v1/namespaces/{SPACE}/configmaps"


class Asks(Protocol):
    """Whatever answers requests."""

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = JSON,
        timeout_s: float = 10.0,
    ) -> dict[str, Any]: ...


def a_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def plain(name: str, **spec: Any) -> dict[str, Any]:
    made = a_service(name, SPACE, **spec)
    return {**made, "metadata": {"name": name}}


def conversation(api: Asks) -> list[object]:
    """What came of each request: the reason of a refusal, or what an answer shows."""
    found: list[object] = []

    def ask(
        show: Callable[[dict[str, Any]], object],
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, str] | None = None,
        content_type: str = JSON,
    ) -> dict[str, Any]:
        try:
            answer = api.request(method, path, body, query=query, content_type=content_type)
        except ApiError as error:
            found.append((method, path.rpartition("/")[2], error.status, error.reason))
            return {}
        found.append((method, path.rpartition("/")[2], show(answer)))
        return answer

    def data(obj: dict[str, Any]) -> object:
        return obj.get("data") or {}

    def said(obj: dict[str, Any]) -> object:
        meta = obj["metadata"]
        return meta["generation"], obj["spec"].get("priority"), obj.get("status"), sorted(meta.get("finalizers", ()))

    mine = {"fieldManager": "one", "force": "true"}
    other = {"fieldManager": "two", "force": "true"}
    ask(data, "GET", f"{MAPS}/a")
    first = ask(data, "POST", MAPS, a_map("a", x="1"))
    ask(data, "POST", MAPS, a_map("a", x="2"))
    ask(data, "PATCH", f"{MAPS}/a", {"data": {"x": None, "y": "3"}}, content_type=MERGE)
    stale = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "data": {"z": "1"}}
    ask(data, "PATCH", f"{MAPS}/a", stale, content_type=MERGE)
    ask(data, "PATCH", f"{MAPS}/b", a_map("b", x="1", y="2"), mine, APPLY)
    ask(data, "PATCH", f"{MAPS}/b", a_map("b", z="1"), other, APPLY)
    ask(data, "PATCH", f"{MAPS}/b", a_map("b", x="1"), mine, APPLY)  # what it no longer wants goes
    ask(data, "PUT", f"{MAPS}/b", {**a_map("b", only="this")})
    ask(
        lambda obj: sorted(one["metadata"]["name"] for one in obj["items"]), "GET", MAPS, None, {"labelSelector": "k=v"}
    )
    ask(lambda obj: obj.get("kind"), "DELETE", f"{MAPS}/nothing")
    gone = {"preconditions": {"uid": "another"}}
    ask(data, "DELETE", f"{MAPS}/b", gone)

    made = ask(said, "POST", SERVICES, plain("s"))
    ask(said, "POST", SERVICES, plain("t", priority="high"))
    ask(said, "POST", SERVICES, plain("t", qualityFloor=2))
    ask(said, "POST", SERVICES, {**plain("t"), "kind": "Plan"})
    bare = plain("u")
    bare["spec"] = {key: bare["spec"][key] for key in ("model", "workload", "slos")}
    ask(lambda obj: sorted(obj["spec"]), "POST", SERVICES, bare)
    ask(said, "PATCH", f"{SERVICES}/s", {"spec": {"priority": 7}, "status": {"why": "x"}}, content_type=MERGE)
    ask(said, "PATCH", f"{SERVICES}/s/status", {"spec": {"priority": 9}, "status": {"why": "y"}}, content_type=MERGE)
    ask(said, "PATCH", f"{SERVICES}/s", {"metadata": {"labels": {"a": "b"}}}, content_type=MERGE)
    ask(said, "PATCH", f"{SERVICES}/s", {"metadata": {"finalizers": ["x.y/z"]}}, content_type=MERGE)
    ask(said, "PUT", f"{SERVICES}/s", {**plain("s", priority=3), "metadata": {**made["metadata"]}})
    ask(said, "PATCH", f"{SERVICES}/nothing/status", {"status": {}}, content_type=MERGE)
    ask(said, "PATCH", f"{SERVICES}/s", {"metadata": {"name": "other"}}, content_type=MERGE)
    owner = {"apiVersion": "muster.dev/v1alpha1", "kind": "GPUService", "name": "s", "uid": made["metadata"]["uid"]}
    child = a_map("child")
    child["metadata"]["ownerReferences"] = [owner]
    ask(data, "POST", MAPS, child)
    ask(lambda obj: "deletionTimestamp" in obj["metadata"], "DELETE", f"{SERVICES}/s")
    ask(lambda obj: "deletionTimestamp" in obj["metadata"], "GET", f"{SERVICES}/s")
    ask(lambda obj: obj["metadata"].get("finalizers"), "PATCH", f"{SERVICES}/s", _let_go(), content_type=MERGE)
    ask(said, "GET", f"{SERVICES}/s")

    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "talker"}}
    ask(lambda obj: obj["metadata"]["name"], "POST", "/api/v1/nodes", node)
    rows = {"status": {"conditions": [{"type": kind, "status": "True", "reason": "r"} for kind in ("Here", "There")]}}
    again = {"status": {"conditions": [{"type": "Here", "status": "False"}]}}

    def conditions(obj: dict[str, Any]) -> object:
        rows = obj["status"]["conditions"]
        return sorted((row["type"], row["status"]) for row in rows if row["type"] in ("Here", "There"))

    ask(conditions, "PATCH", "/api/v1/nodes/talker/status", rows, content_type=STRATEGIC)
    ask(conditions, "PATCH", "/api/v1/nodes/talker/status", again, content_type=STRATEGIC)
    ask(lambda obj: None, "DELETE", "/api/v1/nodes/talker")
    ask(data, "GET", "/api/v1/nonsense")
    return found


def _let_go() -> dict[str, Any]:
    return {"metadata": {"finalizers": None}}
