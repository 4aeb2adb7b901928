"""A namespace with a quota on a real control plane: nothing that is planned or moved is ever refused by it."""

from collections.abc import Iterator
from typing import Any

import pytest

from controller.kube.known import Settings
from controller.kube.rest import MERGE
from controller.laws import Laws
from tests.controller.live import Site, a_controller, until
from tests.controller.objects import L4
from tests.controller.plane.nodes import Nodes
from tests.controller.plane.plane import Plane

SPACE = "rationed"
CORE = f"/api/v1/namespaces/{SPACE}"
CHEAP = (
    {"name": "h100", "nodeSelector": {"pool": "big"}, "pricePerHour": "$2.50"},
    {"name": "l4", "nodeSelector": {"pool": "small"}, "pricePerHour": "$0.05"},
)


@pytest.fixture
def site(plane: Plane, nodes: Nodes) -> Iterator[Site]:
    """One node of eight H100, and L4 of which many are cheaper."""
    made = Site(plane)
    made.space(SPACE)
    nodes.add("big", 8, pool="big")
    for index in range(4):
        nodes.add(f"small-{index}", 4, L4, pool="small")
    made.inventory(*CHEAP)
    yield made
    made.clear()
    made.remove(f"{CORE}/resourcequotas/gpus")


def load(rate: float) -> dict[str, Any]:
    return {"ratePerSecond": rate, "buckets": [{"inputTokens": 512, "outputTokens": 128, "share": 1}]}


def allow(site: Site, gpus: int) -> None:
    hard = {"spec": {"hard": {"requests.nvidia.com/gpu": str(gpus)}}}
    site.post(f"{CORE}/resourcequotas", {"metadata": {"name": "gpus"}, **hard})
    site.api.request("PATCH", f"{CORE}/resourcequotas/gpus", hard, content_type=MERGE)
    until(lambda: _hard(site) == str(gpus), 20, "the quota controller did not see it")


def _hard(site: Site) -> str:
    status = site.api.request("GET", f"{CORE}/resourcequotas/gpus").get("status") or {}
    return str((status.get("hard") or {}).get("requests.nvidia.com/gpu"))


def used(site: Site) -> int:
    return int(site.api.request("GET", f"{CORE}/resourcequotas/gpus")["status"]["used"]["requests.nvidia.com/gpu"])


def refused(site: Site) -> list[str]:
    """What the API server would not make for its quota."""
    query = {"fieldSelector": "reason=FailedCreate"}
    return [one["message"] for one in site.api.request("GET", f"{CORE}/events", query=query)["items"]]


def groups(site: Site, name: str) -> set[str]:
    return {one["nodeGroup"] for one in site.get(name, SPACE, "plans")["spec"]["allocations"]}


def test_a_plan_stays_within_the_quota_and_grows_when_it_is_raised(site: Site) -> None:
    allow(site, 2)
    with a_controller(site, settings=Settings(Laws(cool_down_s=1.0))):
        site.service("chat", SPACE, workload=load(40))
        until(lambda: site.is_ready("chat", SPACE), 60, "never ready")
        tight = site.get("chat", SPACE)["status"]
        assert tight["gpus"] <= 2
        assert "h100" in groups(site, "chat")
        site.service("code", SPACE, workload=load(400))
        until(lambda: site.condition("code", "Planned", SPACE)[1] == "Infeasible", 40)
        assert f"namespace {SPACE} may use 2 GPUs (quota gpus)" in site.condition("code", "Planned", SPACE)[2]
        allow(site, 16)
        until(lambda: site.is_ready("code", SPACE), 60, "not planned when there was more to plan with")
        until(lambda: site.get("chat", SPACE)["status"]["gpus"] + site.get("code", SPACE)["status"]["gpus"] > 2, 60)
        assert site.get("code", SPACE, "plans")["spec"]["planned"]["cause"] == "quota_changed"
        until(lambda: site.is_ready("chat", SPACE), 60)
        assert used(site) <= 16
        assert site.get("chat", SPACE)["status"]["usdPerHour"] <= tight["usdPerHour"]
    assert refused(site) == []


def test_what_a_stranger_takes_of_a_quota_is_left_to_it(site: Site) -> None:
    allow(site, 3)
    limits = {"resources": {"limits": {"nvidia.com/gpu": "2"}}}
    pod = {"metadata": {"name": "notebook"}, "spec": {"containers": [{"name": "c", "image": "i", **limits}]}}
    site.post(f"{CORE}/pods", pod)
    with a_controller(site, settings=Settings(Laws(cool_down_s=1.0))):
        site.service("chat", SPACE, workload=load(40))
        until(lambda: site.is_ready("chat", SPACE), 60, "never ready")
        assert site.get("chat", SPACE)["status"]["gpus"] == 1
        assert used(site) == 3
        site.remove(f"{CORE}/pods/notebook")
    assert refused(site) == []


def test_a_move_that_the_quota_has_no_room_for_is_held_until_it_has(site: Site) -> None:
    allow(site, 16)
    with a_controller(site):
        site.service("chat", SPACE, workload=load(40), serving={"image": "engine:1"})
        until(lambda: site.is_ready("chat", SPACE), 60, "never ready")
        count, pods = site.get("chat", SPACE)["status"]["gpus"], len(site.pods("chat", SPACE))
        allow(site, count)
        site.change("chat", {"spec": {"serving": {"image": "engine:2"}}}, SPACE)
        until(lambda: site.condition("chat", "RebalanceHeld", SPACE)[:2] == ("True", "NoSpareCapacity"), 30)
        said = site.condition("chat", "RebalanceHeld", SPACE)[2]
        assert f"of the ResourceQuota {SPACE}/gpus, which has 0 left" in said
        assert "raise the quota" in said
        assert images(site) == {"engine:1"}
        more = count // pods  # room for one replica beside those that serve
        allow(site, count + more)
        until(lambda: images(site) == {"engine:2"} and site.is_ready("chat", SPACE), 60)
        assert used(site) <= count + more
    assert refused(site) == []


def images(site: Site) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for pod in site.pods("chat", SPACE)}
