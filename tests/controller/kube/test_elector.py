"""Candidates for one Lease on a real API server: one leads at a time, also behind a frozen network."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from controller.kube.applier import Applier, NotLeading
from controller.kube.discovery import Served, discover
from controller.kube.elector import Elector
from controller.kube.lease import Terms
from controller.kube.rest import Api, ApiError, connect
from controller.names import EPOCH
from tests.controller.plane.plane import Plane
from tests.controller.plane.proxy import Proxy

TERMS = Terms(lease_s=3, renew_s=2.0, retry_s=0.3)


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


class Candidate:
    """An elector and what it was told."""

    def __init__(self, api: Api, served: Served, lease: str, name: str) -> None:
        self.led: list[int] = []
        self.lost_s: list[float] = []
        self.elector = Elector(
            api, served.need("leases"), "default", lease, name,
            terms=TERMS, on_led=self.led.append, on_lost=lambda: self.lost_s.append(time.monotonic()),
        )  # fmt: skip
        self.elector.start()


def until(true: Callable[[], object], seconds: float = 10.0) -> float:
    began_s = time.monotonic()
    while not true():
        assert time.monotonic() - began_s < seconds, "waited in vain"
        time.sleep(0.01)
    return time.monotonic() - began_s


def test_one_leads_and_the_next_takes_over_at_once_when_it_stops(api: Api, served: Served) -> None:
    first = Candidate(api, served, "handed", "a")
    until(first.elector.may_write)
    second = Candidate(api, served, "handed", "b")
    time.sleep(1.0)
    assert not second.elector.may_write()
    first.elector.stop()
    assert until(second.elector.may_write) < 2.0
    assert (first.led, second.led) == ([1], [2])
    second.elector.stop()


def test_behind_a_frozen_network_the_old_leader_stops_first_and_its_writes_are_refused(
    plane: Plane, proxy: Proxy, api: Api, served: Served
) -> None:
    far = connect(plane.kubeconfig(url=proxy.url))
    old = Candidate(far, served, "frozen", "a")
    until(old.elector.may_write)
    writer = Applier(far, served, old.elector)
    live = writer.apply(a_map("0"), None)
    new = Candidate(api, served, "frozen", "b")
    failed: list[BaseException] = []

    def write_for_ever() -> None:
        count = 0
        while True:
            count += 1
            try:
                writer.apply(a_map(str(count)), live)
            except NotLeading as error:
                failed.append(error)
                return
            except ApiError:
                continue

    proxy.frozen = True
    threading.Thread(target=write_for_ever, daemon=True).start()
    took_s = until(new.elector.may_write)
    assert old.lost_s, "the old leader had not stopped when the new one began"
    assert took_s < TERMS.lease_s + 2
    assert [type(one) for one in failed] == [NotLeading]
    heir = Applier(api, served, new.elector)
    stamped = heir.stamp(api.request("GET", "/api/v1/namespaces/default/configmaps/fenced"))
    proxy.frozen = False  # what the old leader had sent arrives now
    time.sleep(1.0)
    now = api.request("GET", "/api/v1/namespaces/default/configmaps/fenced")
    assert now["metadata"]["resourceVersion"] == stamped["metadata"]["resourceVersion"]
    assert now["metadata"]["annotations"][EPOCH] == str(new.elector.epoch)
    new.elector.stop()
    old.elector.stop()


def a_map(value: str) -> dict[str, Any]:
    meta = {"name": "fenced", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"value": value}}
