"""What budgets leave for planning: what others draw is taken off once, and GPUs at rest count once."""

from pathlib import Path
from typing import Any

import pytest

from controller.cluster import Kind, Running
from controller.demand import Fleet, ask
from controller.kube.known import gpu_of_product
from controller.wants import Want, of_gpus, wants
from planner.plan import Recipe
from planner.power import rest_w
from planner.spec.fields import Context
from planner.spec.load import CATALOG, parse
from tests.controller.manifests.factories import an_allocation
from tests.controller.objects import a_node, a_pod, a_service, an_inventory

HALL = {"name": "h100", "nodeSelector": {"pool": "big"}, "pricePerHour": "$2.50", "powerDomain": "hall"}
REST_W = 72.0


def left_w(fleet: Fleet) -> tuple[float, float]:
    """What the planner may give to a service, with all its GPUs at rest counted: the budget, and that rest."""
    _, made = ask(fleet, [("team-a/new", a_service("new"), None)])
    found, problems = parse(dict(made.document), Context(CATALOG, Path("/nonexistent")))
    assert not problems
    [domain] = found.power_domains  # type: ignore[union-attr]
    return domain.budget_w, rest_w(found, "hall")  # type: ignore[arg-type]


def a_hall(nodes: list[Any], pods: list[Any], **more: Any) -> Fleet:
    domain = {"metadata": {"name": "hall"}, "spec": {"budget": "10kW"}}
    running, decided = more.pop("running", ()), more.pop("decided", {})
    return Fleet([an_inventory(HALL)], [domain], nodes, pods, running, decided, gpu_of_product, **more)


def test_gpus_that_are_offered_are_left_to_the_planner() -> None:
    assert left_w(a_hall([a_node("a"), a_node("b")], [])) == (10_000.0, 16 * REST_W)


def test_gpus_on_nodes_that_are_out_count_at_rest() -> None:
    fleet = a_hall([a_node("a"), a_node("b")], [], without=frozenset(("b",)))
    assert left_w(fleet) == (10_000.0 - 8 * REST_W, 8 * REST_W)


def test_gpus_that_the_new_plan_leaves_count_at_rest_wherever_they_are() -> None:
    own = [a_pod("p", node="b", gpus=8, labels={"muster.dev/service": "new"})]
    assert left_w(a_hall([a_node("a"), a_node("b")], own)) == (10_000.0, 16 * REST_W)
    out = a_hall([a_node("a"), a_node("b")], own, without=frozenset(("b",)))
    assert left_w(out) == (10_000.0 - 8 * REST_W, 8 * REST_W)


@pytest.mark.parametrize("placed", [True, False])
def test_what_others_are_to_draw_is_taken_off_and_their_gpus_rest_no_more(placed: bool) -> None:
    other = an_allocation(Recipe("H100-SXM", tp=8), node_group="h100", replicas=1)
    pods = [a_pod("p", node="a", gpus=8, labels={"muster.dev/service": "other"})] if placed else []
    kind = Kind("team-a/k", "team-a/other", str(other.recipe), other.pool, "h100", 8, 1.0)
    running = [Running(kind, 1, bound=1)] if placed else []
    fleet = a_hall([a_node("a"), a_node("b")], pods, running=running, decided={"team-a/other": [other]})
    assert left_w(fleet) == (10_000.0 - other.power_w, 8 * REST_W)


def test_a_gpu_is_known_to_rest_only_where_nobody_can_be_on_it() -> None:
    one, two = Want(None, 500.0, 1), Want(350.0, 300.0, 2)
    pods = {("a", "one"): one, ("a", "two"): two}
    every = [[("a", "one")], [("a", "two")], [("a", "two")], []]
    assert of_gpus(pods, every) == [one, two, two, None]
    either = Want(None, 500.0, 3)  # enough for both, and no cap since one has none
    assert of_gpus(pods, [[("a", "one")], [], [], []]) == [one, either, either, either]
    assert of_gpus({}, [[], []]) == [None, None]


def test_pods_of_nobodys_plan_hold_their_gpus_and_need_nothing_that_is_known() -> None:
    found = wants([], [], [a_pod("p", node="a", gpus=2, labels={})])
    [[want]] = [list(mine.values()) for mine in found.values()]
    assert (want.gpus, want.needs_w, want.cap_w, want.ours) == (2, 0.0, None, False)
