"""Counts of replicas by what simulation shows: the sums, and plans that hold for less and are sound."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from planner.check import violations
from planner.hardware import Commitment, Inventory, PowerDomain
from planner.plan import Allocation, Plan, Profile, Recipe
from planner.planning import plan
from planner.profile import profiles
from planner.service import Constraints, ServiceSpec
from planner.show_plan import plan_report
from planner.simulation.bench import MOST_STRAIN, Bench, strain
from planner.simulation.run import simulate
from planner.simulation.show import verified_report
from planner.simulation.sizing import (
    Kind,
    beyond_bounds,
    cheapest_counts,
    kinds_of,
    learnt,
    proved,
    resized,
    seen_to_carry,
    sized,
)
from planner.simulation.verify import Verified, trials, verified
from planner.spec.load import load_inventory, load_services
from tests.planner.factories import LARGE, SMALL, group, inventory, prediction, profile, service

EXAMPLES = Path("deploy/examples")


def test_the_cheapest_counts_that_carry_the_load_come_first() -> None:
    """At $5 for 0.3 of the load and $2 for 0.1: $17 is 3 and 1 (1.0), $19 is 1 and 7 (1.0) or more; at most 7 of b."""
    kinds = [a_kind("a", 5.0), a_kind("b", 2.0, limit=7)]
    assert cheapest_counts(kinds, [0.3, 0.1], 20.0) == [(3, 1), (2, 4), (1, 7), (4, 0)]
    assert cheapest_counts(kinds, [0.3, 0.1], 17.0) == [(3, 1)]
    assert cheapest_counts(kinds, [0.3, 0.1], 16.9) == []


def test_kinds_that_are_too_few_are_not_counted_through() -> None:
    kinds = [a_kind(name, 1.0 + place, limit=60) for place, name in enumerate("abcde")]
    assert cheapest_counts(kinds, [0.003] * 5, 2000.0) == []  # 300 replicas carry nine tenths


def test_kinds_share_every_size_as_they_carry_it_and_cost_what_their_replicas_do() -> None:
    spec, kinds = service(), [a_kind("a", 5.0, most=0.4), a_kind("b", 2.0, most=0.1), a_kind("c", 1.0)]
    made = resized(spec, a_plan(*(one.of for one in kinds)), kinds, [0.3, 0.1, 0.1], [2, 4, 0])
    assert [(one.node_group, one.replicas, one.usd_per_hour) for one in made.allocations] == [("a", 2, 10), ("b", 4, 8)]
    assert made.usd_per_hour == pytest.approx(18.0)
    assert made.power_w == pytest.approx(6 * 300.0)
    for bucket in (SMALL, LARGE):
        assert [one.shares[bucket] for one in made.allocations] == pytest.approx([0.6, 0.4])
    assert [one.busy_ratio for one in made.allocations] == pytest.approx([0.6 / 0.8, 1.0])


def test_a_try_tells_what_replicas_carry_beyond_the_planner_s_bound_too() -> None:
    """Strain grows with the square of load: at 1.2 times as much as may be, a replica carries 1 / 1.2^0.5 of it.

    One with room is thought to carry a quarter more, whatever its bound (0.1).
    """
    spec, kinds = service(), [a_kind("a", 5.0, most=0.4), a_kind("b", 2.0, most=0.1), a_kind("c", 1.0, most=0.2)]
    carries = [0.3, 0.1, 0.2]
    made = resized(spec, a_plan(*(one.of for one in kinds)), kinds, carries, [2, 4, 0]).allocations
    found = learnt(spec, made, kinds, carries, [1.2 * MOST_STRAIN, 0.5], 1.3 * MOST_STRAIN, [0.0] * 3)
    assert found == pytest.approx([0.3 / 1.2**0.5, 1.25 * 0.1, 0.2])
    less = learnt(spec, made, kinds, carries, [1.2 * MOST_STRAIN, 0.5], MOST_STRAIN, [0.0] * 3)
    assert less[0] == pytest.approx(0.3)  # harder than its own limit, but all requests together hold
    assert learnt(spec, made, kinds, carries, [1.0, 0.5], float("inf"), [0.0] * 3)[:2] == pytest.approx([0.24, 0.08])


def test_what_replicas_were_seen_to_carry_bounds_how_far_a_failure_takes_them_back() -> None:
    """One carried 0.27 in time and not 0.3: the next try is at (0.27 x 0.3)^0.5; b was seen to carry what it has."""
    spec, kinds = service(), [a_kind("a", 5.0), a_kind("b", 2.0)]
    made = resized(spec, a_plan(*(one.of for one in kinds)), kinds, [0.3, 0.1], [2, 4]).allocations
    seen = seen_to_carry(spec, made, kinds, [0.27, 0.05], [30.0, 0.5], 30.0)
    assert seen == pytest.approx([0.27, 0.1])
    found = learnt(spec, made, kinds, [0.3, 0.1], [30.0, 0.5], 30.0, seen)
    assert found == pytest.approx([(0.27 * 0.3) ** 0.5, 0.125])
    assert seen_to_carry(spec, made, kinds, [0.3, 0.1], [30.0, 30.0], 30.0) == [0.0, 0.0]  # it did not hold again


def test_kinds_carry_what_the_planner_says_and_promises_and_sizes_that_one_cannot_serve_leave_none() -> None:
    """10 requests/s keep 8 x 0.1 + 2 x 0.5 = 1.8 replicas busy."""
    hardware, known = inventory(group("a"), group("b", gpus_per_node=4, nodes=2)), [profile()]
    mine = [an_allocation(name, 1.0, replicas=2) for name in ("a", "b")]
    assert [(one.most, one.limit) for one in kinds_of(service(), mine, hardware, known)] == [
        (1 / 1.8, 32),
        (1 / 1.8, 8),
    ]
    assert kinds_of(service(survive_replicas=1), mine, hardware, known) == []
    assert kinds_of(service(), mine, hardware, [profile(load={SMALL: 0.1})]) == []
    assert kinds_of(service(), [replace(one, usd_per_hour=0.0) for one in mine], hardware, known) == []


def test_a_plan_with_too_much_headroom_is_made_cheaper_holds_and_is_sound() -> None:
    spec, hardware = a_chat(), two_types()
    fluid, roomy = a_plan_for(spec, hardware, 1.0), a_plan_for(spec, hardware, 1.5)
    made = sized(a_bench(spec, hardware), roomy, fluid.usd_per_hour or 0.0)
    assert made is not None
    assert (made.plan.usd_per_hour or 0) <= (fluid.usd_per_hour or 0) < 0.8 * (roomy.usd_per_hour or 0)
    assert made.plan.usd_per_hour == pytest.approx(sum(one.usd_per_hour for one in made.plan.allocations))
    assert strain(made.outcomes) <= MOST_STRAIN
    assert violations(made.plan, [spec], hardware, offered(spec, hardware), {spec.name}) == []
    assert made.beyond  # what it costs less is what simulation shows replicas to carry beyond the planner's bounds
    assert made.plan.bound_usd_per_hour == 0.0


def test_replicas_carry_beyond_the_planner_s_bounds_where_simulation_shows_it_and_the_report_says_so() -> None:
    """By bounds that let a replica carry two thirds of what the planner's do, the plan's counts are too few."""
    spec, hardware = a_chat(), two_types()
    strict = [dearer(one, 1.5) for one in offered(spec, hardware)]
    roomy = a_plan_for(spec, hardware, 1.5)
    made = sized(replace(a_bench(spec, hardware), profiled=lambda _: strict), roomy, 0.0)
    assert made is not None
    assert (made.plan.usd_per_hour or 0.0) < 0.8 * (roomy.usd_per_hour or 0.0)
    assert strain(made.outcomes) <= MOST_STRAIN
    assert made.beyond == beyond_bounds([spec], made.plan.allocations, strict)
    assert max(made.beyond.values()) > 1.0
    assert len(violations(made.plan, [spec], hardware, strict)) == len(made.beyond)
    assert violations(made.plan, [spec], hardware, strict, {spec.name}) == []
    verdict = str(verified_report(Verified(made.plan, 1.0, True, 1.0, made.outcomes, sized=True, beyond=made.beyond)))
    assert all(f"{kind} {ratio:.2f} times" in verdict for kind, ratio in made.beyond.items())


def test_a_kind_is_beyond_its_bound_by_what_its_shares_keep_busy() -> None:
    """10 requests/s keep 1.8 replicas busy, half of them 0.9; by bounds that ask for 1.5 times as many 1.35."""
    mine = [an_allocation("a", 1.0, replicas=1), an_allocation("b", 1.0, replicas=2)]
    assert beyond_bounds([service()], mine, [profile()]) == {}
    found = beyond_bounds([service()], mine, [dearer(profile(), 1.5)])
    assert found == {"G1 serve in a": pytest.approx(1.35)}


def test_a_plan_that_costs_less_than_any_within_the_planner_s_bounds_is_not_called_optimal() -> None:
    plan = replace(a_plan(an_allocation("a", 5.0)), usd_per_hour=5.0)
    assert (proved(plan, 5.0).status, proved(plan, 5.0).gap_ratio) == ("optimal", 0.0)
    assert proved(plan, 4.0).status == "feasible"
    assert proved(plan, 4.0).gap_ratio == pytest.approx(0.2)
    cheaper = proved(plan, 6.0)
    assert (cheaper.status, cheaper.bound_usd_per_hour, cheaper.gap_ratio) == ("feasible", 0.0, 1.0)
    told = str(verified_report(Verified(cheaper, 1.0, True, 6.0, (), sized=True, beyond={"a": 1.2})))
    assert "$5.00/h: $1.00/h (16.7%) less than the fluid optimum, $6.00/h" in told
    assert "nothing is proved of what costs less" in told


def test_the_report_says_the_dollars_of_the_plan_and_at_which_rate_they_are_proved() -> None:
    plan = replace(a_plan(an_allocation("a", 6.17)), usd_per_hour=6.17)
    told = str(verified_report(Verified(plan, 1.03, True, 6.16, ())))
    assert "for $6.17/h: $0.01/h (0.2%) more than the fluid optimum, $6.16/h" in told
    assert "proved at 1.03 times the rate" in told
    same = str(verified_report(Verified(replace(plan, usd_per_hour=6.165), 1.0, True, 6.165 - 1e-9, (), sized=True)))
    assert "at the cost of the fluid optimum, $6.17/h" in same or "at the cost of the fluid optimum, $6.16/h" in same
    assert "$6.17" not in same or "$6.16" not in same


@pytest.mark.parametrize("limit", ["gpus", "watts"])
def test_limits_of_the_inventory_stay_kept(limit: str) -> None:
    """Three H100s and an L40S without them; two H100s are left, or watts for two."""
    spec, hardware = a_chat(), two_types()
    first, second = hardware.node_groups
    if limit == "gpus":
        hardware = replace(hardware, node_groups=(replace(first, gpus_per_node=2, nodes=1), second))
    else:
        small = replace(first, gpus_per_node=4, nodes=1, power_domain="rack")
        hardware = replace(hardware, node_groups=(small, second), power_domains=(PowerDomain("rack", 1200.0),))
    roomy = a_plan_for(spec, hardware, 1.3)
    assert roomy.status == "optimal"
    made = sized(a_bench(spec, hardware), roomy, 0.0)
    assert made is not None
    assert violations(made.plan, [spec], hardware, offered(spec, hardware)) == []
    assert [(one.node_group, one.replicas) for one in made.plan.allocations] == [("h100", 2), ("l40s", 5)]


def test_a_verified_plan_has_other_counts_where_the_first_that_holds_has_too_much_headroom() -> None:
    """A planner that plans for too little at first, and then for far too much."""
    spec, hardware = a_chat(), two_types()
    little, much = (a_plan_for(spec, hardware, factor) for factor in (0.7, 1.5))
    plans = iter([little])
    made = verified(replace(a_bench(spec, hardware), make=lambda _: next(plans, much)))
    assert isinstance(made, Verified)
    assert made.held
    assert made.sized
    assert made.usd_per_hour < 0.8 * (much.usd_per_hour or 0)
    assert made.fluid_usd_per_hour == little.usd_per_hour
    assert violations(made.plan, [spec], hardware, offered(spec, hardware), {spec.name}) == []
    others = simulate([spec], made.plan.allocations, hardware, trials([spec], None, seed=5)[0])
    assert all(one.met and not one.account.refused for one in others)
    assert "Counts of replicas were changed" in str(verified_report(made))
    report = str(plan_report(made.plan, [spec], hardware, simulated=True, sized=True))
    assert "Stopped" not in report  # no limit ended anything
    assert "one-type" not in report  # those prices were of another load


def test_plans_stay_as_they_are_where_commitments_are_paid_for_or_nothing_is_known_of_recipes() -> None:
    spec, hardware = a_chat(), two_types()
    first, second = hardware.node_groups
    held = replace(hardware, node_groups=(replace(first, commitment=Commitment(2, 1.0)), second))
    assert sized(a_bench(spec, held), a_plan_for(spec, held, 1.5), 0.0) is None
    bench = replace(a_bench(spec, hardware), profiled=None)
    assert sized(bench, a_plan_for(spec, hardware, 1.5), 0.0) is None


def dearer(of: Profile, factor: float) -> Profile:
    """A recipe of which so many times as many replicas are thought to be needed."""
    pools = (replace(one, load={bucket: factor * load for bucket, load in one.load.items()}) for one in of.pools)
    return replace(of, pools=tuple(pools))


def a_kind(name: str, usd: float, most: float = 1.0, limit: int = 20) -> Kind:
    return Kind(an_allocation(name, usd), usd, most, limit)


def an_allocation(name: str, usd: float, replicas: int = 1) -> Allocation:
    shares, cost = dict.fromkeys((SMALL, LARGE), 0.5), replicas * usd
    return Allocation("chat", "m", "serve", name, "z1", Recipe("G1"), replicas, 1, cost, 300.0, prediction(), shares)


def a_plan(*allocations: Allocation) -> Plan:
    return Plan("optimal", 0.0, 0.0, 0.0, 0.0, 0.0, allocations)


def a_chat() -> ServiceSpec:
    """The example's two classes of users, 80 requests/s, with no promise but latency."""
    [spec] = load_services(EXAMPLES / "chat.yaml")
    return replace(spec, constraints=Constraints())


def two_types() -> Inventory:
    """H100s and L40S at prices near what they carry."""
    hardware = load_inventory(EXAMPLES / "cluster.yaml")
    by_gpu = {one.gpu.name: one for one in hardware.node_groups}
    one = replace(by_gpu["L40S"], name="l40s")
    other = replace(one, name="h100", gpu=by_gpu["H100-SXM"].gpu, usd_per_gpu_hour=6.88)
    return replace(hardware, node_groups=(other, one), power_domains=(), links=())


def for_means(spec: ServiceSpec, factor: float = 1.0) -> ServiceSpec:
    rates = {bucket: factor * rate for bucket, rate in spec.workload.rates_per_s.items()}
    slos = tuple(replace(one, percentile=0.5) for one in spec.slos)
    return replace(spec, workload=replace(spec.workload, rates_per_s=rates), slos=slos)


def a_plan_for(spec: ServiceSpec, hardware: Inventory, factor: float) -> Plan:
    return plan([for_means(spec, factor)], hardware, compare=False)


def offered(spec: ServiceSpec, hardware: Inventory) -> Sequence[Profile]:
    return profiles(for_means(spec), hardware)[0]


def a_bench(spec: ServiceSpec, hardware: Inventory) -> Bench:
    def make(asked: Sequence[ServiceSpec]) -> Plan:
        return plan(asked, hardware, compare=False)

    return Bench([spec], hardware, make, trials([spec], None), profiled=lambda one: offered(one, hardware))
