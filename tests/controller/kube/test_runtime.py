"""The cache and the writer against a real API server that is cut off, frozen, killed and made to forget."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller import names
from controller.kube.applier import Applier, NotLeading
from controller.kube.backoff import Backoff
from controller.kube.discovery import Served, discover
from controller.kube.informer import Informer
from controller.kube.rest import Api, ApiError, connect
from planner.errors import BadInput
from tests.controller.plane.audit import mark, writes
from tests.controller.plane.plane import Plane
from tests.controller.plane.proxy import Proxy

MAPS = "/api/v1/namespaces/{}/configmaps"


@pytest.fixture(scope="module")
def api(plane: Plane) -> Api:
    return connect(plane.kubeconfig())


@pytest.fixture(scope="module")
def served(api: Api) -> Served:
    return discover(api)


@pytest.fixture
def proxy(plane: Plane) -> Iterator[Proxy]:
    made = Proxy(plane.ports["apiserver"]).start()
    yield made
    made.frozen = False
    made.stop()


@pytest.fixture
def space(api: Api, request: pytest.FixtureRequest) -> str:
    name = "t" + str(abs(hash(request.node.nodeid)) % 10**9)
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    return name


class Led:
    """Someone who leads until told otherwise."""

    epoch: int | None = 1
    leads = True

    def may_write(self) -> bool:
        return self.leads


def a_map(name: str, space: str, **data: str) -> dict[str, Any]:
    meta = {"name": name, "namespace": space, "labels": {"test": space}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def made(api: Api, space: str, *names: str) -> None:
    for name in names:
        api.request("POST", MAPS.format(space), a_map(name, space))


def a_cache(plane: Plane, served: Served, space: str, url: str | None = None, silent_s: float = 2.0) -> Informer:
    api = connect(plane.kubeconfig(url=url))
    quick = Backoff(first_s=0.02, most_s=0.5)
    return Informer(api, served.need("configmaps"), selector=f"test={space}", silent_s=silent_s, backoff=quick)


def names_of(cache: Informer) -> list[str]:
    return sorted(obj["metadata"]["name"] for obj in cache.items())


def soon_equal(cache: Informer, api: Api, space: str, seconds: float = 5.0) -> float:
    """How long until the cache is what a fresh list says; fails after `seconds`."""
    began_s = time.monotonic()
    while True:
        fresh = api.request("GET", MAPS.format(space), query={"labelSelector": f"test={space}"})["items"]
        want = {obj["metadata"]["name"]: obj["metadata"]["resourceVersion"] for obj in fresh}
        have = {obj["metadata"]["name"]: obj["metadata"]["resourceVersion"] for obj in cache.items()}
        if want == have:
            return time.monotonic() - began_s
        assert time.monotonic() - began_s < seconds, (want, have, cache.counts)
        time.sleep(0.02)


def changed(api: Api, space: str) -> None:
    """Delete a, change b, make d."""
    api.request("DELETE", MAPS.format(space) + "/a")
    api.request("PUT", MAPS.format(space) + "/b", a_map("b", space, new="yes"))
    made(api, space, "d")


def test_only_what_is_served_is_found(served: Served) -> None:
    assert served.need("poddisruptionbudgets").version == "policy/v1beta1"
    assert served.get("leaderworkersets") is None
    assert served.need("nodes").path("", "n1", "status") == "/api/v1/nodes/n1/status"
    assert served.need("jobs").path("ns", "j") == "/apis/batch/v1/namespaces/ns/jobs/j"


@pytest.mark.parametrize("trouble", ["cut", "stranded", "frozen", "refused", "slow"])
def test_a_cache_is_right_again_soon_after(
    plane: Plane, proxy: Proxy, api: Api, served: Served, space: str, trouble: str
) -> None:
    made(api, space, "a", "b", "c")
    cache = a_cache(plane, served, space, proxy.url)
    told: list[tuple[str, str]] = []
    cache.on_change(
        lambda old, new: told.append(
            (
                "gone" if new is None else "new" if old is None else "changed",
                str((new or old or {})["metadata"]["name"]),
            )
        )
    )
    cache.start()
    assert cache.wait(10)
    soon_equal(cache, api, space)
    told.clear()
    if trouble == "stranded":
        proxy.strand()
    elif trouble == "frozen":
        proxy.frozen = True
    elif trouble == "slow":
        proxy.bytes_per_s = 4000.0
    else:
        proxy.closed = trouble == "refused"
        proxy.cut()
    changed(api, space)
    time.sleep(0.5)
    proxy.frozen = proxy.closed = False
    soon_equal(cache, api, space)
    end_s = time.monotonic() + 2
    while sorted(told) != [("changed", "b"), ("gone", "a"), ("new", "d")]:
        assert time.monotonic() < end_s, told
        time.sleep(0.02)
    cache.stop()


def test_a_deletion_is_told_though_the_server_forgot_it(
    plane: Plane, proxy: Proxy, api: Api, served: Served, space: str
) -> None:
    made(api, space, "a", "b", "c")
    cache = a_cache(plane, served, space, proxy.url)
    gone = []
    cache.on_change(lambda old, new: gone.append(old["metadata"]["name"]) if old is not None and new is None else None)
    cache.start()
    assert cache.wait(10)
    proxy.closed = True  # what comes now is missed
    proxy.cut()
    changed(api, space)
    plane.kill("apiserver")
    plane.compact()
    plane.run("apiserver")
    assert names_of(cache) == ["a", "b", "c"]
    proxy.closed = False
    soon_equal(cache, api, space)
    assert gone == ["a"]
    assert cache.counts.relists == 2
    cache.stop()


def test_objects_of_a_list_say_what_they_are_as_those_of_a_watch_do(
    plane: Plane, api: Api, served: Served, space: str
) -> None:
    made(api, space, "listed")
    cache = a_cache(plane, served, space)
    cache.start()
    assert cache.wait(10)
    made(api, space, "watched")
    soon_equal(cache, api, space)
    assert {(one["apiVersion"], one["kind"]) for one in cache.items()} == {("v1", "ConfigMap")}
    cache.stop()


def test_a_watch_of_nothing_but_bookmarks_goes_on(plane: Plane, api: Api, served: Served, space: str) -> None:
    cache = a_cache(plane, served, space, None, silent_s=0.3)
    cache.start()
    assert cache.wait(10)
    time.sleep(2)
    made(api, space, "late")
    soon_equal(cache, api, space)
    assert cache.counts.relists == 1
    assert cache.counts.restarts["Silent"] >= 3
    cache.stop()


def test_only_what_differs_is_written(plane: Plane, api: Api, served: Served, space: str) -> None:
    writer = Applier(api, served, Led())
    start = mark(plane.audit_log)
    live = writer.apply(a_map("m", space, key="1"), None)
    live = writer.apply(a_map("m", space, key="1"), live)
    live = writer.apply(a_map("m", space, key="2"), live)
    live = writer.apply(a_map("m", space, other="2"), live)  # what is no longer wanted goes
    assert live["data"] == {"other": "2"}
    verbs = [write.verb for write in writes(plane.audit_log, start) if write.name == "m"]
    assert verbs == ["create", "patch", "patch", "patch"]  # made and adopted, then changed twice


def test_a_write_decided_on_an_old_sight_is_refused(api: Api, served: Served, space: str) -> None:
    old, new = Led(), Led()
    new.epoch = 2
    before, after = Applier(api, served, old), Applier(api, served, new)
    seen = before.apply(a_map("m", space, key="1"), None)
    after.stamp(seen)
    with pytest.raises(ApiError) as refused:
        before.apply(a_map("m", space, key="stale"), seen)
    assert refused.value.status == 409
    with pytest.raises(ApiError) as refused:
        before.create(a_map("m", space, key="stale"))
    assert refused.value.status == 409
    with pytest.raises(ApiError) as refused:
        before.delete(seen)
    assert refused.value.status == 409
    now = api.request("GET", MAPS.format(space) + "/m")
    assert (now["data"], now["metadata"]["annotations"][names.EPOCH]) == ({"key": "1"}, "2")
    old.leads = False
    with pytest.raises(NotLeading):
        before.apply(a_map("m", space, key="x"), now)


def test_a_rotated_token_is_read_again(plane: Plane, tmp_path: Path) -> None:
    config = json.loads(plane.kubeconfig().read_text("utf-8"))
    config["users"][0]["user"] = {"token": "expired"}
    path = tmp_path / "config"
    path.write_text(json.dumps(config), "utf-8")
    api = connect(path)
    with pytest.raises(ApiError) as refused:
        api.request("GET", "/api/v1/nodes")
    assert refused.value.status == 401
    assert "expired" not in str(refused.value)
    config["users"][0]["user"] = {"token": plane.token("admin")}
    path.write_text(json.dumps(config), "utf-8")
    time.sleep(1.1)
    assert api.request("GET", "/api/v1/nodes")["kind"] == "NodeList"


def test_no_configuration_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="kubeconfig"):
        connect(tmp_path / "none")


def test_many_threads_share_one_api(api: Api, served: Served, space: str) -> None:
    failed: list[BaseException] = []

    def work(index: int) -> None:
        try:
            for turn in range(10):
                made(api, space, f"m{index}-{turn}")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(16)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not failed
    assert len(api.request("GET", MAPS.format(space))["items"]) >= 160
