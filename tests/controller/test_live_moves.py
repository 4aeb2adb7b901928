"""Moves on a real control plane: made before the old is broken, held where that cannot be, turned back half way."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from controller.kube.known import Settings
from controller.kube.rest import ApiError
from controller.laws import Laws
from controller.trigger import Sample
from tests.controller.live import Site, a_controller, until
from tests.controller.objects import L4
from tests.controller.plane.kubelet import waiting
from tests.controller.plane.nodes import Fate, Nodes
from tests.controller.plane.plane import Plane

HPA = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers"


@pytest.fixture(scope="module")
def site(plane: Plane) -> Site:
    return Site(plane)


@pytest.fixture
def fleet(site: Site, nodes: Nodes) -> Iterator[Nodes]:
    yield nodes
    site.clear()


class Least:
    """The fewest pods of a service that were ready at any event of a watch."""

    def __init__(self, site: Site, service: str) -> None:
        self.count = 10**9
        self._ready: dict[str, bool] = {}
        query = {"watch": "true", "labelSelector": f"muster.dev/service={service}"}
        self._stream = site.api.stream("/api/v1/namespaces/default/pods", query, 600.0)
        for pod in site.pods(service):
            self._ready[pod["metadata"]["name"]] = self._is(pod)
        threading.Thread(target=self._watch, daemon=True).start()

    @staticmethod
    def _is(pod: dict[str, Any]) -> bool:
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or ())
        return ready and not pod["metadata"].get("deletionTimestamp")

    def _watch(self) -> None:
        try:
            for line in self._stream:
                if line:
                    event = orjson.loads(line)
                    name = event["object"]["metadata"]["name"]
                    self._ready[name] = event["type"] != "DELETED" and self._is(event["object"])
                    self.count = min(self.count, sum(self._ready.values()))
        except ApiError:
            return

    def end(self) -> int:
        self._stream.end()
        return self.count


def load(rate: float) -> dict[str, Any]:
    return {"ratePerSecond": rate, "buckets": [{"inputTokens": 512, "outputTokens": 128, "share": 1}]}


def images(site: Site, name: str) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for pod in site.pods(name)}


def test_with_a_spare_nothing_ready_is_ever_missing(site: Site, fleet: Nodes) -> None:
    fleet.add("n0", 4, pool="big")
    site.inventory()
    with a_controller(site):
        site.service("kept", workload=load(150), serving={"image": "engine:1"})
        until(lambda: site.is_ready("kept"), 40)
        count = len(site.pods("kept"))
        assert 2 <= count < 4
        fleet.fate = lambda pod: Fate(ready_s=0.3)
        least = Least(site, "kept")
        site.change("kept", {"spec": {"serving": {"image": "engine:2"}}})
        until(lambda: images(site, "kept") == {"engine:2"} and site.is_ready("kept"), 40)
        assert least.end() >= count


def test_without_a_spare_a_move_is_held_and_says_so_until_one_may_be_missing(site: Site, fleet: Nodes) -> None:
    fleet.add("n0", 2, pool="big")
    site.inventory()
    with a_controller(site):
        site.service("full", workload=load(100), serving={"image": "engine:1"})
        until(lambda: site.is_ready("full"), 40)
        assert len(site.pods("full")) == 2
        site.change("full", {"spec": {"serving": {"image": "engine:2"}}})
        until(lambda: site.condition("full", "RebalanceHeld")[:2] == ("True", "NoSpareCapacity"), 20)
        assert "maxUnavailable" in site.condition("full", "RebalanceHeld")[2]
        assert images(site, "full") == {"engine:1"}
        assert "NoSpareCapacity" in site.plane.kubectl("get", "gpuservices").stdout
        least = Least(site, "full")
        site.change("full", {"spec": {"serving": {"maxUnavailable": 1}}})
        until(lambda: images(site, "full") == {"engine:2"} and site.is_ready("full"), 40)
        assert least.end() >= 1


def test_a_move_that_is_taken_back_half_way_keeps_what_must_stay(site: Site, fleet: Nodes) -> None:
    fleet.add("n0", 4, pool="big")
    site.inventory()
    with a_controller(site):
        site.service("turned", workload=load(150), serving={"image": "engine:1", "maxUnavailable": 1})
        until(lambda: site.is_ready("turned"), 40)
        count = len(site.pods("turned"))
        fleet.fate = lambda pod: Fate(ready_s=0.5)
        least = Least(site, "turned")
        for _ in range(3):
            site.change("turned", {"spec": {"serving": {"image": "engine:2"}}})
            until(lambda: "engine:2" in images(site, "turned"), 40)
            site.change("turned", {"spec": {"serving": {"image": "engine:1"}}})
            until(lambda: images(site, "turned") == {"engine:1"} and site.is_ready("turned"), 40)
        assert least.end() >= count - 1


def test_an_image_that_cannot_be_pulled_takes_nothing_away(site: Site, fleet: Nodes) -> None:
    fleet.add("n0", 4, pool="big")
    site.inventory()
    with a_controller(site):
        site.service("careful", workload=load(150), serving={"image": "engine:1"})
        until(lambda: site.is_ready("careful"), 40)
        count = len(site.pods("careful"))
        fleet.fate = lambda pod: Fate(status=waiting(pod, "ImagePullBackOff", "no such image"))
        least = Least(site, "careful")
        site.change("careful", {"spec": {"serving": {"image": "engine:broken"}}})
        until(lambda: site.condition("careful", "Degraded")[0] == "True", 20)
        assert site.condition("careful", "Degraded")[1] == "ImagePullFailed"
        assert least.end() >= count


def test_an_autoscaler_that_sets_our_replicas_is_named(site: Site, fleet: Nodes) -> None:
    fleet.add("n0", 4, pool="big")
    site.inventory()
    with a_controller(site):
        site.service("owned", workload=load(50))
        until(lambda: site.is_ready("owned"), 40)
        (deployment,) = [one.rpartition("/")[2] for one in site.left("owned") if one.startswith("deployments/")]
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment}
        spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 9, "targetCPUUtilizationPercentage": 50}
        site.api.request("POST", HPA, {"metadata": {"name": "rival"}, "spec": spec})
        try:
            until(lambda: "rival targets" in site.condition("owned", "RebalanceHeld")[2], 20)
            assert site.condition("owned", "RebalanceHeld")[1] == "RivalAutoscaler"
        finally:
            site.remove(f"{HPA}/rival")


def groups(l4_price: str) -> list[dict[str, Any]]:
    return [
        {"name": "h100", "nodeSelector": {"pool": "big"}, "pricePerHour": "$2.50"},
        {"name": "l4", "nodeSelector": {"pool": "small"}, "pricePerHour": l4_price},
    ]


def test_a_plan_that_serves_worse_than_the_one_before_is_gone_back_from(site: Site, fleet: Nodes) -> None:
    fleet.add("n0", 8, pool="big")
    fleet.add("s0", 4, L4, pool="small")
    site.inventory(*groups("$5.00"))
    settings = Settings(laws=Laws(slo_window_s=4.0, cool_down_s=1.0))
    with a_controller(site, settings=settings, prometheus="http://127.0.0.1:9", listen_every_s=3600.0) as controller:

        def hear(met: bool) -> None:
            controller.known.hear("default/back", Sample(controller.known.clock(), 8.0, met))

        site.service("back")
        until(lambda: site.is_ready("back"), 40)
        first = site.get("back", plural="plans")["spec"]["decisionId"]
        for _ in range(6):
            hear(True)
            time.sleep(0.3)
        site.inventory(*groups("$0.10"))
        until(lambda: site.get("back", plural="plans")["spec"].get("previous"), 20)

        def back() -> bool:
            hear(False)
            time.sleep(0.3)
            return bool(site.get("back", plural="plans")["spec"]["decisionId"] == first)

        until(back, 30)
        assert "went back" in site.get("back", plural="plans")["spec"]["planned"]["reason"]
        until(lambda: {pod["spec"].get("nodeName") for pod in site.pods("back")} == {"n0"}, 40)
        time.sleep(3.0)
        now = site.get("back", plural="plans")["spec"]
        assert now["decisionId"] == first, now["planned"]
