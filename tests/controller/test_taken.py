"""Objects of others that have the name of one of ours are left alone and told."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from controller import names
from controller.embedded.api import EmbeddedApi
from controller.embedded.loop import Alone
from controller.embedded.paths import SERVED
from controller.embedded.store import Store
from controller.embedded.world import World
from controller.kube.applier import Applier, NameTaken
from controller.kube.rest import MERGE, ApiError
from tests.controller.embedded.a_world import a_world, ready, run, status, submit
from tests.controller.live import Site, a_controller, until

MAPS = "/api/v1/namespaces/default/configmaps"
SERVICES = "/api/v1/namespaces/default/services"
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"


@pytest.fixture
def world() -> Iterator[World]:
    """An embedded cluster."""
    made = a_world()
    yield made
    made.close()


def theirs(name: str = "shop") -> dict[str, Any]:
    """A Service that a user has."""
    spec = {"selector": {"app": "shop"}, "ports": [{"name": "web", "port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def a_map(uid: str = "u1", name: str = "chat", **data: str) -> dict[str, Any]:
    owner = {"kind": "GPUService", "name": name, "uid": uid}
    meta = {"name": "m", "namespace": "default", "labels": names.labels("chat"), "ownerReferences": [owner]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def applied(world: World, name: str) -> tuple[str, str, str]:
    (row,) = [row for row in status(world, name).get("conditions") or () if row["type"] == "Applied"]
    return row["status"], row["reason"], row["message"]


def hidden(world: World, *plurals: str) -> None:
    """As caches of a cluster do, the embedded one shows only what carries our label."""
    cache = world.loop.known.cache
    get: Callable[..., Any] = cache.get

    def ours(plural: str, space: str, name: str) -> Any:
        found = get(plural, space, name)
        labels = {} if found is None else found["metadata"].get("labels") or {}
        return found if plural not in plurals or labels.get(names.MANAGED_BY) == "muster" else None

    cache.get = ours  # type: ignore[method-assign, assignment]


def test_a_service_of_a_user_stays_as_it_is_and_is_told(world: World) -> None:
    hidden(world, "services", "configmaps", "deployments")
    before = world.api.request("POST", SERVICES, theirs())
    submit(world, "shop")
    run(world, 300, lambda: applied(world, "shop")[1] == "ApplyFailed")
    state, _, words = applied(world, "shop")
    assert (state, "Service shop is there already and is not Muster's" in words) == ("False", True)
    run(world, 120)
    assert world.api.request("GET", f"{SERVICES}/shop") == before
    world.api.request("DELETE", f"{SERVICES}/shop")
    run(world, 300, lambda: ready(world, "shop") and applied(world, "shop")[0] == "True")
    assert world.api.request("GET", f"{SERVICES}/shop")["metadata"]["ownerReferences"]


def test_a_name_is_made_anew_only_where_it_is_free_or_ours() -> None:
    api = EmbeddedApi(Store(None), lambda: 1.8e9)
    writer = Applier(api, SERVED, Alone(1))
    made = writer.apply(a_map(x="1"), None)
    with pytest.raises(ApiError) as later:
        writer.apply(a_map(x="2"), None)
    assert later.value.status == 409  # ours, and not in the cache yet
    with pytest.raises(NameTaken, match="ConfigMap m"):
        writer.apply(a_map("another", "other", x="2"), None)
    with pytest.raises(NameTaken, match="ConfigMap m"):
        writer.apply(a_map("another", "other", x="2"), made)
    for live in (None, made):  # a service that was made anew waits for what it left to be collected
        with pytest.raises(ApiError) as soon:
            writer.apply(a_map("made anew", x="2"), live)
        assert soon.value.status == 409
    foreign = {"metadata": {"labels": {names.MANAGED_BY: "helm"}, "ownerReferences": None}}
    api.request("PATCH", f"{MAPS}/m", foreign, content_type=MERGE)
    with pytest.raises(NameTaken):
        writer.create_ours(a_map(x="2"))
    assert api.request("GET", f"{MAPS}/m")["data"] == {"x": "1"}


def test_what_was_made_and_not_adopted_is_adopted_at_the_next_look() -> None:
    api = EmbeddedApi(Store(None), lambda: 1.8e9)
    writer = Applier(api, SERVED, Alone(1))
    bare = writer.create(a_map(x="1"))
    note = {"metadata": {"annotations": {names.HASH: None}}}
    bare = api.request("PATCH", f"{MAPS}/m", note, content_type=MERGE)
    made = writer.apply(a_map(y="2"), bare)
    assert made["data"] == {"y": "2"}
    assert writer.apply(a_map(y="2"), made) is made


def test_on_a_real_server_a_users_objects_outlive_a_service_of_their_name(site: Site) -> None:
    before = site.api.request("POST", SERVICES, theirs())
    note = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shop-routing", "namespace": "default"}}
    site.api.request("POST", MAPS, {**note, "data": {"mine": "1"}})
    try:
        with a_controller(site):
            site.service("shop")
            until(lambda: site.condition("shop", "Applied")[1] == "ApplyFailed", 40)
            state, _, words = site.condition("shop", "Applied")
            assert (state, "is not Muster's" in words, "shop" in words) == ("False", True, True)
            until(lambda: site.get("shop")["status"]["readyReplicas"], 40)  # what can be done is done
            site.delete("shop")
            until(lambda: not site.left("shop"), 40)
        assert site.api.request("GET", f"{SERVICES}/shop")["spec"] == before["spec"]
        assert site.api.request("GET", f"{MAPS}/shop-routing")["data"] == {"mine": "1"}
    finally:
        site.remove(f"{SERVICES}/shop")
        site.remove(f"{MAPS}/shop-routing")
