"""Why there is no plan is said in the groups that the inventory names, with what is free of them and what there is."""

from typing import Any

import pytest

from controller.decision import decide, snapshot
from controller.hardware import Offer, offer
from controller.ways_out import nothing
from planner.plan import Infeasible
from tests.controller.objects import L4, a_node, a_service, an_inventory
from tests.controller.test_decision import product


def what_is_free(**taken: int) -> Offer:
    nodes = [a_node(f"s{i}", "small", 4, L4) for i in range(3)]
    return offer([an_inventory()], [], nodes, taken, {}, product)


def why(made: Offer, rate_per_s: float = 8.0, **spec: Any) -> Infeasible:
    found = decide(snapshot([(a_service(**spec), rate_per_s, (1.0, 1.0))], made.document, {})).infeasible
    assert found is not None
    return found


def test_a_group_of_which_others_hold_some_is_told_by_its_own_name() -> None:
    found = why(what_is_free(s0=1, s1=4), 60.0)
    assert ".free" not in f"{found.why} {found.constraints} {found.relaxation} {found.changes}"
    assert "the nodes of l4 (7 of 12 GPUs free)" in found.why
    assert found.constraints == ("the nodes of l4 (7 of 12 GPUs free)",)
    (change,) = found.changes
    more = round(change.value) - 3
    assert (change.kind, change.target) == ("nodes", "l4")
    assert f"add {more} node" in found.relaxation
    assert "to l4 (3 there, 7 of 12 GPUs free)" in found.relaxation


def test_sizes_that_no_free_gpu_serves_are_told_with_what_is_free_and_what_there_is() -> None:
    found = why(what_is_free(s0=3), slos=[{"name": "chat", "tpot": "2ms"}])
    assert "no free GPU serves 100.00% of the requests" in found.why
    assert found.why.endswith("free are 9 of 12 GPUs in l4")
    assert "no GPU in the inventory serves" in why(what_is_free(), slos=[{"name": "chat", "tpot": "2ms"}]).why


def test_a_cluster_of_which_everything_is_held_is_not_told_to_label_its_nodes() -> None:
    found = nothing(what_is_free(s0=4, s1=4, s2=4))
    assert found.why == "no GPU is free; free are 0 of 12 GPUs in l4"
    assert "label nodes" in nothing(offer([an_inventory()], [], [], {}, {}, product)).relaxation


def grown(nodes: int, **taken: int) -> Offer:
    """The same with more nodes that nobody uses."""
    made = [*(f"s{i}" for i in range(3)), *(f"new{i}" for i in range(nodes))]
    return offer([an_inventory()], [], [a_node(name, "small", 4, L4) for name in made], taken, {}, product)


@pytest.mark.parametrize(
    "taken", [{"s0": 3, "s1": 3, "s2": 3}, {"s0": 1, "s1": 2, "s2": 3}, {"s0": 4, "s1": 4, "s2": 1}]
)
def test_nodes_to_add_are_whole_and_with_them_there_is_a_plan(taken: dict[str, int]) -> None:
    rate_per_s = 200.0
    found = why(what_is_free(**taken), rate_per_s)
    (change,) = found.changes
    nodes = round(change.value) - 3
    assert f"add {nodes} nodes to l4 (3 there, {12 - sum(taken.values())} of 12 GPUs free)" in found.relaxation
    asked = [(a_service(), rate_per_s, (1.0, 1.0))]
    assert decide(snapshot(asked, grown(nodes, **taken).document, {})).status in ("optimal", "feasible")
    fewer = decide(snapshot(asked, grown(nodes // 2, **taken).document, {}))
    assert fewer.status == "infeasible"  # GPUs of new nodes are counted, and not nodes with as few as are free
