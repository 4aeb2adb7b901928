"""`kubectl get` says of inventories and power domains whether they are understood and what they come to."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from controller.caps import Capped, shared
from controller.crds.reasons import REASONS
from controller.hardware import offer
from controller.kube.known import gpu_of_product
from controller.kube.supply_round import cap_words
from controller.manifests.pod import pod
from controller.supply import domain_status, fed_by, inventory_status
from planner.plan import Recipe
from tests.controller.live import Site, a_controller, until
from tests.controller.manifests.factories import an_allocation
from tests.controller.objects import H100, L4, a_node, a_service, an_inventory
from tests.controller.plane.nodes import Nodes
from tests.controller.plane.plane import Plane

BIG = {"name": "h100", "nodeSelector": {"pool": "big"}, "owned": False, "spot": False, "powerDomain": "hall"}
API = "/apis/muster.dev/v1alpha1"


def accepted(status: Any) -> tuple[str, str, str]:
    assert all(row["reason"] in REASONS for row in status["conditions"])
    row = next(row for row in status["conditions"] if row["type"] == "Accepted")
    return row["status"], row["reason"], row["message"]


def test_an_inventory_says_how_many_nodes_its_groups_have() -> None:
    mine = an_inventory(BIG)
    said = inventory_status(mine, [mine], ["hall"], [a_node("a"), a_node("b"), a_node("c", "other")], 0.0)
    assert accepted(said) == ("True", "Valid", "h100: 2 nodes")


def test_a_group_of_a_gpu_without_labels_is_of_all_nodes_with_that_product_label() -> None:
    every = {"name": "all", "gpu": "H100-SXM", "owned": False, "spot": False}
    mine = an_inventory(every)
    nodes = [a_node("a"), a_node("b", "other"), a_node("c", product=L4)]
    assert accepted(inventory_status(mine, [mine], [], nodes, 0.0)) == ("True", "Valid", "all: 2 nodes")
    made = offer([mine], [], nodes, {}, {}, gpu_of_product).document["spec"]["nodeGroups"]
    assert [(row["gpu"], row["nodes"]) for row in made] == [("H100-SXM", 2)]
    spec = pod(a_service(), an_allocation(Recipe("H100-SXM"), node_group="all"), every, 8).template["spec"]
    (required,) = spec["affinity"]["nodeAffinity"].values()
    (row,) = required["nodeSelectorTerms"][0]["matchExpressions"]
    assert (row["key"], row["operator"]) == ("nvidia.com/gpu.product", "In")
    assert H100 in row["values"]
    assert L4 not in row["values"]


@pytest.mark.parametrize("more", [{}, {"nodeSelector": {}}])
def test_a_group_of_neither_labels_nor_a_gpu_is_of_no_node_and_says_so(more: dict[str, Any]) -> None:
    mine = an_inventory({"name": "none", "owned": False, "spot": False, **more})
    status, _, text = accepted(inventory_status(mine, [mine], [], [a_node("a")], 0.0))
    assert (status, "spec.nodeGroups[0].nodeSelector: got neither" in text) == ("False", True)
    assert offer([mine], [], [a_node("a")], {}, {}, gpu_of_product).document["spec"]["nodeGroups"] == []


def test_a_group_of_a_gpu_that_nobody_knows_says_so_and_is_not_planned_on() -> None:
    mine = an_inventory({**BIG, "gpu": "H1000"})
    status, _, text = accepted(inventory_status(mine, [mine], ["hall"], [a_node("a")], 0.0))
    assert (status, "spec.nodeGroups[0].gpu: " in text, "H1000" in text) == ("False", True, True)
    assert offer([mine], [], [a_node("a")], {}, {}, gpu_of_product).document["spec"]["nodeGroups"] == []


def test_what_is_wrong_with_an_inventory_names_field_value_and_what_is_allowed() -> None:
    wrong = {**BIG, "owned": True, "pricePerHour": "$2.40"}
    first, second = an_inventory(BIG, name="a"), an_inventory(wrong, name="b")
    status, reason, text = accepted(inventory_status(second, [first, second], ["row"], [], 0.0))
    assert (status, reason) == ("False", "InvalidSpec")
    for words in (
        "spec.nodeGroups[0].pricePerHour: allowed: either owned: true or pricePerHour",
        "spec.nodeGroups[0].powerDomain: got hall, allowed: a PowerDomain of the cluster: row",
        "spec.nodeGroups[0].name: got h100 again",
    ):
        assert words in text


def test_a_domain_says_what_it_feeds_and_the_sum_of_its_caps_and_keeps_the_time_of_its_state() -> None:
    domain: Any = {"metadata": {"name": "hall", "generation": 3}, "spec": {"budget": "20kW"}}
    fed = fed_by([a_node("a"), a_node("b")], [an_inventory(BIG)])
    said = domain_status(domain, {"a": 8 * 500.0}, fed, 0.0)
    assert (said["cappedW"], said["gpus"], said["observedGeneration"]) == (4000, 16, 3)
    assert accepted(said)[2] == "feeds 2 nodes, of which 1 tell nothing"
    assert domain_status({**domain, "status": said}, {"a": 4000.0}, fed, 99.0) == said


def test_a_domain_says_whether_the_limits_of_its_gpus_keep_its_budget_and_why_not() -> None:
    domain: Any = {"metadata": {"name": "hall", "generation": 3}, "spec": {"budget": "900W"}}
    resting = [Capped(f"g{i}", 700.0, 700.0, 700.0, least_w=200.0, idle_w=72.0, rests=True) for i in range(5)]

    def within(budget_w: float, *others: Capped) -> tuple[str, str, str]:
        said = domain_status(domain, {}, {}, 0.0, shared([*resting, *others], budget_w))
        row = next(row for row in said["conditions"] if row["type"] == "WithinBudget")
        assert row["reason"] in REASONS
        return row["status"], row["reason"], row["message"]

    assert within(1000.0)[:2] == ("True", "LimitsFit")
    assert within(900.0) == (
        "False",
        "LimitsAboveBudget",
        "the limits of its GPUs come to 1000 W, the budget is 900 W; 5 GPUs on which nothing runs have limits of "
        "1000 W, the least there are, and the 360 W that they draw at rest are reserved instead",
    )
    used = Capped("used", 700.0, 700.0, 700.0, least_w=200.0, needs_w=400.0)
    status, reason, words = within(500.0, used)
    assert (status, reason) == ("False", "BudgetTooSmall")
    assert "the 1 in use cannot be limited below 200 W" in words
    assert domain_status(domain, {}, {}, 0.0)["conditions"][-1]["status"] == "Unknown"


@pytest.fixture
def site(plane: Plane, nodes: Nodes) -> Iterator[Site]:
    made = Site(plane)
    for index in range(2):
        nodes.add(f"big-{index}", 8, pool="big")
    yield made
    made.clear()
    made.remove(f"{API}/powerdomains/hall")


def test_kubectl_shows_them_on_a_real_server_and_nothing_is_written_while_nothing_changes(site: Site) -> None:
    site.inventory({key: BIG[key] for key in ("name", "nodeSelector", "powerDomain")})
    with a_controller(site) as controller:
        until(lambda: "False" in str(site.api.request("GET", f"{API}/clusterinventories/fleet").get("status")), 20)
        head = {"apiVersion": "muster.dev/v1alpha1", "kind": "PowerDomain", "metadata": {"name": "hall"}}
        site.api.request("POST", f"{API}/powerdomains", {**head, "spec": {"budget": "20kW"}})
        until(lambda: "h100: 2 nodes" in str(site.api.request("GET", f"{API}/clusterinventories/fleet")["status"]), 20)
        until(lambda: "Valid" in site.plane.kubectl("get", "powerdomains").stdout, 20)
        row = site.plane.kubectl("get", "powerdomains").stdout.splitlines()[1].split()
        assert row[:5] == ["hall", "20kW", "0", "16", "Valid"]
        writes = controller.applier.writes
        time.sleep(5.0)  # two ticks
        assert controller.applier.writes == writes


def test_only_limits_below_what_a_gpu_may_draw_are_told_as_caps_and_once_that_they_are_lifted() -> None:
    assert cap_words(None, "700", 700.0) == ""
    assert cap_words("700", "500", 700.0) == "each GPU may draw 500 W"
    assert cap_words("500", "500,700", 700.0) == "GPUs may draw 500, 700 W"
    assert cap_words("500,700", "700", 700.0) == cap_words("500", None, 700.0)
    assert cap_words("500", "700", 700.0) == "lifted: each GPU may draw all that it can"
    assert cap_words("700", None, 700.0) == ""
