"""HTTPRoutes follow the table of weights, whatever was refused or edited meanwhile."""

from collections.abc import Iterator
from typing import Any

import pytest

from controller.embedded.paths import RESOURCES
from controller.embedded.world import World
from controller.kube.discovery import Resource
from controller.kube.rest import MERGE, ApiError
from tests.controller.embedded.a_world import SERVICES, a_world, ready, run, submit

GATEWAY = {"gateway": {"name": "edge", "namespace": "infra"}}
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """An embedded cluster that serves HTTPRoutes."""
    routes = Resource("httproutes", "gateway.networking.k8s.io/v1", "HTTPRoute", True)
    monkeypatch.setitem(RESOURCES, "httproutes", routes)
    made = a_world()
    yield made
    made.close()


def backends(world: World, name: str) -> dict[str, int]:
    """Where its HTTPRoute sends requests; nothing where there is none."""
    found = [one for one in world.store.items("httproutes") if one["metadata"]["name"] == name]
    return {to["name"]: to["weight"] for one in found for to in one["spec"]["rules"][0]["backendRefs"]}


def running(world: World) -> set[str]:
    return {one["metadata"]["name"] for one in world.store.items("deployments") if one["spec"]["replicas"]}


def refusing(world: World, status: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have writes of HTTPRoutes refused while the list that this gives has anything in it."""
    left, request = [status], world.api.request

    def refused(method: str, path: str, body: object = None, **more: Any) -> Any:
        if left and method != "GET" and "/httproutes" in path:
            raise ApiError(left[0], "Refused", "a webhook says no")
        return request(method, path, body, **more)

    monkeypatch.setattr(world.loop._applier._api, "request", refused)
    return left


@pytest.mark.parametrize("status", [409, 403, 500])
def test_nothing_is_stopped_that_a_route_still_points_at(
    world: World, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(world, "chat", 10.0, serving=GATEWAY)
    submit(world, "other", 10.0)
    run(world, 3000, lambda: ready(world, "chat") and ready(world, "other") and bool(backends(world, "chat")))
    before = backends(world, "chat")
    left = refusing(world, status, monkeypatch)
    image = {"spec": {"serving": {"image": "vllm/vllm-openai:v9"}}}  # other replicas follow
    for name in ("chat", "other"):
        world.api.request("PATCH", f"{SERVICES}/{name}", image, content_type=MERGE)
    run(world, 2000)
    assert ready(world, "other")  # one service's route holds up no other
    assert backends(world, "chat") == before
    assert before.keys() <= running(world)
    left.clear()
    run(world, 2000, lambda: not before.keys() & running(world))
    assert backends(world, "chat").keys() <= running(world)
    assert not before.keys() & backends(world, "chat").keys()


def test_a_gateway_of_a_settled_service_comes_changes_and_goes(world: World) -> None:
    submit(world, "chat", 10.0)
    run(world, 3000, lambda: ready(world, "chat"))
    run(world, 60)
    assert not backends(world, "chat")

    def edit(serving: object) -> None:
        world.api.request("PATCH", f"{SERVICES}/chat", {"spec": {"serving": serving}}, content_type=MERGE)

    edit(GATEWAY)
    run(world, 300, lambda: bool(backends(world, "chat")))
    assert backends(world, "chat").keys() <= running(world)

    def hosts() -> list[str]:
        (one,) = world.store.items("httproutes")
        found: list[str] = one["spec"].get("hostnames") or []
        return found

    edit({"gateway": {"hostnames": ["chat.example.com"]}})
    run(world, 300, lambda: hosts() == ["chat.example.com"])
    edit({"gateway": {"hostnames": None}})
    run(world, 300, lambda: not hosts())
    world.api.request("DELETE", "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes/chat")
    run(world, 300, lambda: bool(backends(world, "chat")))
    edit(None)
    run(world, 300, lambda: not world.store.items("httproutes"))
    assert ready(world, "chat")
