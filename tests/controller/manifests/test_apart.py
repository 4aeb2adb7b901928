"""Prefill and decode in pools of their own: how their pods are reached, and what stands before them."""

from typing import Any

import pytest

from controller.manifests.pod import unservable
from controller.manifests.service import around, route
from controller.manifests.workload import Made, kinds
from planner.plan import Allocation, Recipe
from tests.controller.manifests.factories import GROUPS, H100, NEW, SMALL, an_allocation
from tests.controller.objects import a_service, routed

APART = Recipe(H100, techniques=("disaggregation",))


def pools(engine: str = "vllm") -> list[Allocation]:
    return [an_allocation(APART, 1, pool, engine=engine) for pool in ("prefill", "decode")]


def both(service: dict[str, Any], engine: str = "vllm") -> list[Made]:
    return kinds(service, pools(engine), {SMALL: 8.0}, GROUPS, {"h100": 8})


def engine_of(one: Made) -> dict[str, Any]:
    found: dict[str, Any] = one.pod.template["spec"]["containers"][0]
    return found


@pytest.mark.parametrize(("engine", "router"), [("vllm", "--vllm-pd-disaggregation"), ("sglang", "sglang_router")])
def test_two_pools_without_a_router_are_refused_with_the_router_that_they_need(engine: str, router: str) -> None:
    for one in pools(engine):
        said = unservable(a_service(engine=engine), one, 8, NEW)
        assert "disaggregation needs a router, which Muster does not run" in said
        assert router in said
        assert "annotate the service muster.dev/router" in said
        assert unservable(routed(a_service(engine=engine)), one, 8, NEW) == ""
    assert unservable(a_service(), an_allocation(Recipe(H100)), 8, NEW) == ""


def test_a_name_that_no_label_can_have_is_refused() -> None:
    said = unservable(routed(a_service(), "my router"), pools()[0], 8, NEW)
    assert said.startswith("metadata.annotations: got muster.dev/router='my router', allowed: a label's value; ")


def test_requests_come_in_by_the_router_and_never_by_a_pool() -> None:
    service = routed(a_service())
    found = around(service, both(service), NEW)
    services = {one["metadata"]["name"]: one["spec"] for one in found if one["kind"] == "Service"}
    assert services["chat"]["selector"] == {"muster.dev/router": "edge-router"}
    for one in both(service):
        assert "muster.dev/entry" not in one.pod.template["metadata"]["labels"]
    without = around(a_service(), both(a_service()), NEW)
    one_pool = around(service, kinds(service, [an_allocation(Recipe(H100))], {}, GROUPS, {"h100": 8}), NEW)
    for found in (one_pool, without):
        assert found[0]["spec"]["selector"] == {"muster.dev/service": "chat", "muster.dev/entry": "true"}


def test_a_router_finds_each_pool_under_a_name_that_no_plan_changes() -> None:
    service = routed(a_service())
    found = {one["metadata"]["name"]: one["spec"] for one in around(service, both(service), NEW)}
    for pool in ("prefill", "decode"):
        assert found[f"chat-{pool}-pods"]["clusterIP"] == "None"
        assert "publishNotReadyAddresses" not in found[f"chat-{pool}-pods"], "those that start get no requests"
        wanted = {"muster.dev/service": "chat", "muster.dev/role": pool, "muster.dev/serves": "true"}
        assert found[f"chat-{pool}-pods"]["selector"] == wanted
        (template,) = (one.pod.template for one in both(service) if one.kind.pool == pool)
        assert wanted.items() <= template["metadata"]["labels"].items()


def test_a_gateways_route_leads_to_the_router_and_to_replicas_that_need_none() -> None:
    service = routed(a_service(serving={"gateway": {"name": "edge"}}))
    prefill, _ = both(service)
    (whole,) = kinds(service, [an_allocation(Recipe(H100))], {SMALL: 8.0}, GROUPS, {"h100": 8})
    made = route(service, {SMALL: {prefill.kind.name: 0.25, whole.kind.name: 0.75}}, {SMALL: 8.0}, NEW)
    assert made is not None
    (rule,) = made["spec"]["rules"]
    assert {one["name"]: one["weight"] for one in rule["backendRefs"]} == {"chat": 250, whole.name: 750}


def test_vllms_replicas_say_their_own_address_where_caches_are_fetched() -> None:
    """Its default is localhost (vLLM, NixlConnector Usage Guide), where no other pod finds it."""
    for one in both(routed(a_service())):
        told = {each["name"]: each for each in engine_of(one)["env"]}
        assert told["VLLM_NIXL_SIDE_CHANNEL_HOST"]["valueFrom"] == {"fieldRef": {"fieldPath": "status.podIP"}}
        assert told["VLLM_NIXL_SIDE_CHANNEL_PORT"]["value"] == "5600"
    (plain,) = kinds(a_service(), [an_allocation(Recipe(H100))], {}, GROUPS, {"h100": 8})
    assert "NIXL" not in str(plain.pod)
    own = {"spec": {"containers": [{"name": "engine", "env": [{"name": "VLLM_NIXL_SIDE_CHANNEL_HOST", "value": "x"}]}]}}
    mine = both(routed(a_service(serving={"podTemplate": own})))[0]
    assert {"name": "VLLM_NIXL_SIDE_CHANNEL_HOST", "value": "x"} in engine_of(mine)["env"], "users have the last word"


def test_sglangs_replicas_say_which_pool_they_are_and_where_a_prompt_begins() -> None:
    prefill, decode = both(routed(a_service(engine="sglang")), "sglang")
    words = [" ".join(engine_of(one)["command"]) for one in (prefill, decode)]
    assert "--disaggregation-mode prefill --disaggregation-bootstrap-port 8998" in words[0]
    assert "--disaggregation-mode decode" in words[1]
    assert all("--disaggregation-transfer-backend nixl" in one for one in words)
    notes = [one.pod.template["metadata"]["annotations"].get("sglang.ai/bootstrap-port") for one in (prefill, decode)]
    assert notes == ["8998", None]
