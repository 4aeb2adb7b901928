"""`decide` against a second opinion that tries every plan; and ways out of infeasible problems, made and planned again.

Problems are drawn by seed (`fleet_problems`) and answered by enumeration (`fleet_oracle`), or made and solved by hand.
"""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from planner.decide import decide
from planner.hardware import Commitment, NodeGroup
from planner.plan import Change, Infeasible, Plan
from planner.search import Search
from tests.planner.factories import LARGE, SMALL, group, profile, service
from tests.planner.fleet_oracle import Oracle
from tests.planner.fleet_problems import Problem, changed, crowded, drawn, problem, rationed

# Seeds beyond the first that once told on the program: services at rest beside services that do not fit, nothing to
# do at all, least zones as sites of their own, figures that carried the solver's tolerance.
TELLING = (161, 188, 272, 295, 301, 309, 407, 600, 611, 703, 742, 869, 909, 1049, 1061, 1063, 1188)
EXACT_USD = 1e-7  # a figure that is arithmetic on whole counts
SAME_USD = 1e-6


def settled(asked: Problem) -> Plan:
    return decide(asked.services, asked.profiles, asked.inventory, asked.objective, asked.current, Search())


def after(asked: Problem, *changes: Change) -> Problem:
    for change in changes:
        asked = changed(asked, change)
    return asked


def bills(plan: Plan) -> dict[str, float]:
    """What each service is billed."""
    names = dict.fromkeys(a.service for a in plan.allocations)
    return {name: sum(a.usd_per_hour for a in plan.allocations if a.service == name) for name in names}


def replicas(plan: Plan) -> dict[tuple[str, str], int]:
    """Replicas by service and node group."""
    return {(a.service, a.node_group): a.replicas for a in plan.allocations}


def assert_agreed(asked: Problem) -> Plan:
    """The plan is optimal and sound and costs what it says, or there is none: as enumeration finds."""
    oracle, plan = Oracle(asked), settled(asked)
    best = oracle.cheapest()
    if best is None:
        assert plan.status == "infeasible", f"no plan is sound, not {plan.allocations}"
        return plan
    assert plan.status == "optimal", f"{best} is sound: {plan.infeasible}"
    assert plan.usd_per_hour is not None
    counts = oracle.counts_of(plan)
    assert oracle.sound(counts), f"{dict(zip([o.key for o in oracle.offers], counts, strict=True))} is not sound"
    assert oracle.cost(counts) == pytest.approx(best[0], rel=0, abs=SAME_USD), f"{best[1]} costs less"
    assert plan.usd_per_hour == pytest.approx(oracle.running(counts), rel=0, abs=EXACT_USD)
    assert plan.bound_usd_per_hour == pytest.approx(plan.usd_per_hour, rel=0, abs=SAME_USD)
    return plan


def assert_costs(asked: Problem, usd_per_hour: float) -> Plan:
    """What is calculated by hand, enumerated and planned."""
    plan = assert_agreed(asked)
    assert plan.usd_per_hour == pytest.approx(usd_per_hour)
    return plan


def assert_way_out(asked: Problem) -> Infeasible:
    """The answer names constraints and figures, and with its changes made there is a plan."""
    plan = settled(asked)
    why = plan.infeasible
    assert why is not None, f"{plan.status}, not infeasible"
    assert why.constraints, why
    assert any(letter.isdigit() for letter in why.relaxation), why
    assert "none needed" not in why.relaxation, why
    assert why.changes, why
    loosened = after(asked, *why.changes)
    answer, oracle = settled(loosened), Oracle(loosened)
    assert answer.status in ("optimal", "feasible"), f"still {answer.status} after {why.changes}: {answer.infeasible}"
    assert oracle.sound(oracle.counts_of(answer))
    return why


def impossible(draw: Callable[[int], Problem], start: int) -> Problem:
    """The first problem from a seed on that has no sound plan."""
    problems = (draw(seed) for seed in itertools.count(start))
    return next(p for p in problems if Oracle(p).cheapest() is None)


@pytest.mark.parametrize("seed", [*range(150), *TELLING])
def test_the_plan_is_the_one_that_enumeration_finds(seed: int) -> None:
    assert_agreed(drawn(seed))


@pytest.mark.parametrize("seed", range(40))
def test_the_plan_is_the_one_that_enumeration_finds_where_replicas_stand_in_the_way(seed: int) -> None:
    assert_agreed(crowded(seed))


@pytest.mark.parametrize("seed", range(60))
def test_the_plan_is_the_one_that_enumeration_finds_where_tenants_have_quotas(seed: int) -> None:
    assert_agreed(rationed(seed))


@pytest.mark.parametrize("start", range(0, 90, 3))
def test_a_way_out_leads_out_where_tenants_have_quotas(start: int) -> None:
    assert_way_out(impossible(rationed, start))


@pytest.mark.parametrize("start", range(0, 360, 4))
def test_a_way_out_leads_out(start: int) -> None:
    assert_way_out(impossible(drawn, start))


@pytest.mark.parametrize("start", range(0, 60, 3))
def test_a_way_out_leads_out_where_replicas_stand_in_the_way(start: int) -> None:
    assert_way_out(impossible(crowded, start))


@pytest.mark.parametrize("start", range(0, 360, 6))
def test_no_change_of_a_way_out_is_needless(start: int) -> None:
    asked = impossible(drawn, start)
    why = settled(asked).infeasible
    assert why is not None

    for change in why.changes:
        others = [c for c in why.changes if c is not change]
        assert settled(after(asked, *others)).status == "infeasible", f"{change} of {why.changes} is not needed"


@pytest.mark.parametrize("seed", range(500, 540))
def test_a_cheaper_price_or_another_node_makes_no_plan_dearer(seed: int) -> None:
    asked = replace(drawn(seed), current={})
    now = settled(asked).usd_per_hour
    for better in _bettered(asked):
        then = settled(better).usd_per_hour
        assert now is None or (then is not None and then <= now + SAME_USD)


def _bettered(asked: Problem) -> list[Problem]:
    """Each group in turn cheaper, and with one node more."""

    def put(new: NodeGroup) -> Problem:
        groups = tuple(new if g.name == new.name else g for g in asked.inventory.node_groups)
        return replace(asked, inventory=replace(asked.inventory, node_groups=groups))

    groups = asked.inventory.node_groups
    cheaper = [put(replace(g, usd_per_gpu_hour=g.usd_per_gpu_hour * 0.6)) for g in groups]
    return cheaper + [put(replace(g, nodes=g.nodes + 1)) for g in groups]


# 12 requests/s keep 2 small replicas busy: 2 on each of two nodes survive a node. One big replica fills a node.
SMALL_AND_BIG = [service("small", {SMALL: 12.0}, survive_nodes=1), service("big", {SMALL: 0.05})]
THEIR_RECIPES = [profile("small", load={SMALL: 1 / 6}), profile("big", load={SMALL: 1.0}, gpus=8)]


def test_a_replica_that_fills_a_node_leaves_no_second_node_to_survive_on() -> None:
    asked = problem(SMALL_AND_BIG, THEIR_RECIPES, group("a", nodes=2, usd=4.0))

    assert_agreed(asked)
    assert_way_out(asked)


def test_a_third_node_or_a_second_group_lets_a_service_survive_beside_a_big_replica() -> None:
    third = problem(SMALL_AND_BIG, THEIR_RECIPES, group("a", nodes=3, usd=4.0))
    second = problem(SMALL_AND_BIG, THEIR_RECIPES, group("a", nodes=2, usd=4.0), group("b", nodes=1, usd=5.0))

    assert_costs(third, 8 * 4.0 + 4 * 4.0)
    plan = assert_costs(second, 8 * 4.0 + 2 * 4.0 + 2 * 5.0)
    assert replicas(plan) == {("small", "a"): 2, ("small", "b"): 2, ("big", "a"): 1}


def six_gpus(budget: float, committed: Commitment) -> Problem:
    """5.5 replicas are busy, on GPUs of $4."""
    asked = service(rates={SMALL: 55.0}, usd_per_hour=budget)
    return problem([asked], [profile(load={SMALL: 0.1})], group("a", nodes=2, usd=4.0, commitment=committed))


def test_a_budget_counts_committed_gpus_at_their_own_price() -> None:
    plan = assert_costs(six_gpus(9.0, Commitment(16, 1.0)), 16.0)

    assert bills(plan) == {"chat": pytest.approx(6.0)}  # 6 GPUs at $1, not at $4
    assert assert_way_out(six_gpus(5.0, Commitment(16, 1.0))).changes == (Change("budget", "chat", 6.0),)


def test_a_budget_counts_gpus_at_list_price_where_a_commitment_is_dearer() -> None:
    plan = assert_costs(six_gpus(30.0, Commitment(16, 6.0)), 96.0)

    assert bills(plan) == {"chat": pytest.approx(24.0)}  # 6 GPUs at $4, not at $6
    assert assert_way_out(six_gpus(23.0, Commitment(16, 6.0))).changes == (Change("budget", "chat", 24.0),)


def two_on_one_commitment(one_usd: float | None, two_usd: float | None) -> Problem:
    """6 GPUs each, of which 8 together are committed at $1 and the rest costs $4."""
    services = [
        service("one", {SMALL: 55.0}, usd_per_hour=one_usd),
        service("two", {SMALL: 55.0}, usd_per_hour=two_usd),
    ]
    offers = [profile(name, load={SMALL: 0.1}) for name in ("one", "two")]
    return problem(services, offers, group("a", nodes=2, usd=4.0, commitment=Commitment(8, 1.0)))


def test_committed_gpus_go_to_the_services_that_have_a_budget() -> None:
    halves = assert_costs(two_on_one_commitment(12.0, 12.0), 8 * 1.0 + 4 * 4.0)
    first = assert_costs(two_on_one_commitment(6.0, None), 8 * 1.0 + 4 * 4.0)

    assert bills(halves) == {"one": pytest.approx(12.0), "two": pytest.approx(12.0)}  # 4 at $1, 2 at $4
    assert bills(first) == {"one": pytest.approx(6.0), "two": pytest.approx(18.0)}  # 6 at $1; 2 at $1, 4 at $4
    assert_agreed(two_on_one_commitment(12.0, 11.0))  # $24 of bills do not fit into $23
    assert_way_out(two_on_one_commitment(12.0, 11.0))


def test_a_second_zone_is_a_replica_there_that_serves_every_size() -> None:
    # 6.6 of the dear replicas are busy. The cheapest of zone b serves short prompts only: it is no second zone.
    asked = service(rates={LARGE: 54.0, SMALL: 6.0}, min_replicas=6, min_zones=2)
    offers = [
        profile(load={LARGE: 0.12, SMALL: 0.02}),
        profile(gpu_name="G2", load={LARGE: 4.0, SMALL: 0.5}),
        profile(gpu_name="G3", load={SMALL: 0.3}, gpus=2),
    ]
    groups = (
        group("dear", zone="a", usd=4.0, nodes=1),
        group("cheap", "G2", zone="b", usd=0.3, gpus_per_node=4, nodes=2),
        group("cheapest", "G3", zone="b", usd=0.1, gpus_per_node=4, nodes=1),
    )
    plan = assert_costs(problem([asked], offers, *groups), 7 * 4.0 + 0.3)

    assert replicas(plan) == {("chat", "dear"): 7, ("chat", "cheap"): 1}


def test_only_replicas_that_serve_every_size_count_towards_the_least() -> None:
    # Without the least, one replica of a and two of b are cheaper; they are one whole replica, not three.
    offers = [profile(), profile(gpu_name="G2", load={SMALL: 0.2})]
    groups = (group("a", nodes=1), group("b", "G2", nodes=1, usd=0.2))

    assert_costs(problem([service()], offers, *groups), 1.4)
    assert_costs(problem([service(min_replicas=3)], offers, *groups), 3.0)


def test_a_zone_share_is_a_share_of_requests() -> None:
    # 7 of 10 requests/s fit one fast replica; 3 keep 1.5 slow ones busy.
    asked = service(rates={SMALL: 10.0}, max_zone_share=0.7)
    offers = [profile(load={SMALL: 0.1}), profile(gpu_name="G2", load={SMALL: 0.5})]
    groups = (group("a", zone="z1", usd=2.0, nodes=1), group("b", "G2", zone="z2", nodes=1))
    plan = assert_costs(problem([asked], offers, *groups), 2.0 + 2 * 1.0)

    assert sum(a.shares[SMALL] for a in plan.allocations if a.zone == "z1") <= 0.7 + SAME_USD


def test_surviving_more_replicas_than_there_are_gpus_names_what_to_change() -> None:
    asked = problem(
        [service(rates={SMALL: 1.0}, survive_replicas=2)], [profile()], group("a", gpus_per_node=2, nodes=1)
    )

    assert_agreed(asked)
    assert_way_out(asked)


def test_a_node_of_a_million_takes_one_replica_with_it() -> None:
    huge = problem([service(survive_nodes=1)], [profile()], group("a", gpus_per_node=7, nodes=1_000_000))
    plan = settled(huge)

    assert plan.status == "optimal"
    assert replicas(plan) == {("chat", "a"): 3}  # 1.8 are busy; three on three nodes lose one


def test_a_thousand_zones_for_more_requests_than_there_are_gpus_are_infeasible() -> None:
    asked = service(rates={SMALL: 1e9}, min_zones=1000, max_zone_share=0.5)
    plan = settled(problem([asked], [profile(load={SMALL: 0.1})], group("a"), group("b", zone="z2")))

    assert plan.status == "infeasible"
    assert plan.infeasible is not None
    assert plan.infeasible.constraints


def test_halves_in_two_zones_are_proved_optimal() -> None:
    asked = service(rates={SMALL: 100.0}, min_zones=2, max_zone_share=0.5)
    groups = (group("a"), group("b", zone="z2", usd=1.5), group("c", zone="z2", usd=3.0))
    plan = settled(problem([asked], [profile(load={SMALL: 0.1})], *groups))

    assert plan.status == "optimal"
    assert replicas(plan) == {("chat", "a"): 5, ("chat", "b"): 5}
