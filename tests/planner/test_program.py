"""The fleet program: each constraint by hand, the whole against enumeration, every plan by its own arithmetic."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from planner.check import violations
from planner.decide import decide
from planner.hardware import Commitment, Inventory, PowerDomain
from planner.options import Objective
from planner.plan import Plan, Profile
from planner.search import Search
from planner.service import Bucket, ServiceSpec
from tests.planner.factories import LARGE, SMALL, group, inventory, profile, service


def decided(
    services: Sequence[ServiceSpec],
    profiles: Sequence[Profile],
    hardware: Inventory,
    objective: Objective | None = None,
    current: Mapping[tuple[str, str, str, str], int] | None = None,
) -> Plan:
    return decide(services, profiles, hardware, objective or Objective(), current or {}, Search())


def replicas(plan: Plan) -> dict[str, int]:
    """Replicas by node group."""
    out: dict[str, int] = {}
    for a in plan.allocations:
        out[a.node_group] = out.get(a.node_group, 0) + a.replicas
    return out


def test_one_type_needs_its_load_rounded_up() -> None:
    # 8 req/s x 0.1 + 2 req/s x 0.5 = 1.8 replicas.
    plan = decided([service()], [profile()], inventory())

    assert plan.status == "optimal"
    assert replicas(plan) == {"a": 2}
    assert plan.usd_per_hour == pytest.approx(2.0)
    assert plan.bound_usd_per_hour == pytest.approx(2.0)


def test_a_cheap_gpu_takes_the_sizes_it_can_serve() -> None:
    cheap = profile(gpu_name="G2", load={SMALL: 0.2})  # cannot serve LARGE; 8 x 0.2 = 1.6 replicas at $0.2
    plan = decided([service()], [profile(), cheap], inventory(group("a"), group("b", "G2", usd=0.2)))

    assert replicas(plan) == {"a": 1, "b": 2}
    assert plan.usd_per_hour == pytest.approx(1.4)


def test_node_groups_of_one_type_share_the_weights_by_replicas() -> None:
    heavy = service(rates={SMALL: 60.0})  # 6 replicas, 4 of them in the cheaper group
    plan = decided([heavy], [profile()], inventory(group("a", usd=1.0, gpus_per_node=4, nodes=1), group("b", usd=2.0)))

    assert replicas(plan) == {"a": 4, "b": 2}
    shares = {a.node_group: a.shares[SMALL] for a in plan.allocations}
    assert shares == pytest.approx({"a": 4 / 6, "b": 2 / 6})


def test_a_power_budget_moves_replicas_to_the_frugal_type() -> None:
    groups = inventory(
        group("a", usd=1.0, domain="rack"),
        group("b", "G2", usd=3.0, domain="rack"),
        domains=(PowerDomain("rack", 500.0),),
    )
    frugal = profile(gpu_name="G2", power_w=150.0)
    plan = decided([service()], [profile(), frugal], groups)  # 2 x 300 W is too much; 300 + 150 fits

    assert replicas(plan) == {"a": 1, "b": 1}
    assert plan.power_w == pytest.approx(450.0)


def test_a_power_budget_holds_the_gpus_at_rest_too() -> None:
    # 2 x 300 W and 2 x 50 W of the others; a watt less, and one replica goes to b at 30 $/h.
    def planned(budget_w: float) -> Plan:
        rack = group("a", domain="rack", gpus_per_node=4, nodes=1, idle_w=50.0)
        hardware = inventory(rack, group("b", usd=30.0), domains=(PowerDomain("rack", budget_w),))
        return decided([service()], [profile()], hardware)

    assert replicas(planned(700.0)) == {"a": 2}
    assert replicas(planned(699.0)) == {"a": 1, "b": 1}
    assert replicas(planned(449.0)) == {"b": 2}


def test_a_budget_that_does_not_hold_its_gpus_at_rest_keeps_nobody_from_others() -> None:
    rack = group("a", domain="rack", gpus_per_node=4, nodes=1, idle_w=50.0)
    hardware = inventory(rack, group("b", usd=30.0), domains=(PowerDomain("rack", 100.0),))
    assert replicas(decided([service()], [profile()], hardware)) == {"b": 2}


@pytest.mark.parametrize("budget_w", [100.0, 500.0])
def test_the_way_out_of_a_small_power_budget_counts_what_gpus_draw_at_rest(budget_w: float) -> None:
    rack = group("a", domain="rack", gpus_per_node=4, nodes=1, idle_w=50.0)
    plan = decided([service()], [profile()], inventory(rack, domains=(PowerDomain("rack", budget_w),)))
    assert plan.infeasible is not None
    assert plan.infeasible.relaxation == f"raise the power budget of rack from {budget_w:.0f} W to 700 W"
    assert plan.infeasible.constraints == (f"the power budget of rack ({budget_w:.0f} W)",)


def test_more_nodes_behind_a_tight_breaker_cost_their_watts_at_rest() -> None:
    # Three replicas of 300 W take two nodes of two GPUs, one of which stays at rest with 50 W.
    rack = group("a", domain="rack", gpus_per_node=2, nodes=1, idle_w=50.0)
    asked = service(rates={SMALL: 12.0, LARGE: 3.0})
    plan = decided([asked], [profile()], inventory(rack, domains=(PowerDomain("rack", 600.0),)))
    assert plan.infeasible is not None
    assert plan.infeasible.relaxation == (
        "raise the nodes of a from 1 to 2 and raise the power budget of rack from 600 W to 950 W"
    )


def test_the_checker_counts_gpus_at_rest() -> None:
    rack = group("a", domain="rack", gpus_per_node=4, nodes=1, idle_w=50.0)
    hardware = inventory(rack, domains=(PowerDomain("rack", 700.0),))
    plan = decided([service()], [profile()], hardware)
    assert violations(plan, [service()], hardware, [profile()]) == []
    tight = inventory(rack, domains=(PowerDomain("rack", 699.0),))
    assert violations(plan, [service()], tight, [profile()]) == [
        "rack: 600 W planned and 100 W of the other GPUs at rest, 699 W allowed"
    ]


def test_the_checker_leaves_counts_to_simulation_where_it_is_told_so_and_nothing_else() -> None:
    """One replica where 1.8 are busy: too few by the bounds; a size that it cannot serve stays wrong."""
    hardware = inventory()
    plan = decided([service()], [profile()], hardware)
    few = replace(plan, allocations=tuple(replace(one, replicas=1) for one in plan.allocations))
    assert violations(few, [service()], hardware, [profile()]) == [
        "chat: G1 needs 1.800000 replicas and has 1 after the loss to survive"
    ]
    assert violations(few, [service()], hardware, [profile()], {"chat"}) == []
    [wrong] = violations(few, [service()], hardware, [profile(load={SMALL: 0.1})], {"chat"})
    assert "G1 is given" in wrong
    assert "which it cannot serve" in wrong


def test_surviving_one_replica_costs_one_replica() -> None:
    plan = decided([service(survive_replicas=1)], [profile()], inventory())

    assert replicas(plan) == {"a": 3}  # 1.8 are busy, one more may go


def test_surviving_a_node_costs_what_a_node_holds() -> None:
    # 1.8 busy replicas. On one node of 2: n - ceil(n / 2) >= 1.8 -> n = 4. On 8 nodes: n - ceil(n / 8) >= 1.8 -> n = 3.
    narrow = decided([service(survive_nodes=1)], [profile()], inventory(group("a", nodes=2)))
    wide = decided([service(survive_nodes=1)], [profile()], inventory(group("a", nodes=8)))

    assert replicas(narrow) == {"a": 4}
    assert replicas(wide) == {"a": 3}


def test_two_zones_are_both_used_when_asked_for() -> None:
    groups = inventory(group("a", zone="z1"), group("b", zone="z2", usd=1.5))
    plan = decided([service(min_zones=2)], [profile()], groups)

    assert replicas(plan) == {"a": 1, "b": 1}


def test_a_zone_share_limits_what_one_zone_carries() -> None:
    groups = inventory(group("a", zone="z1"), group("b", zone="z2", usd=1.5))
    heavy = service(rates={SMALL: 100.0}, max_zone_share=0.6)  # 10 replicas, at most 6 in one zone
    plan = decided([heavy], [profile()], groups)

    assert replicas(plan) == {"a": 6, "b": 4}


def test_a_spot_share_limits_what_spot_carries() -> None:
    groups = inventory(group("a", usd=2.0), group("b", usd=0.5, spot=True))
    heavy = service(rates={SMALL: 100.0}, max_spot_share=0.3)
    plan = decided([heavy], [profile()], groups)

    assert replicas(plan) == {"a": 7, "b": 3}


def test_committed_gpus_are_used_before_cheaper_looking_ones() -> None:
    groups = inventory(group("a", usd=3.0, commitment=Commitment(2, 2.0)), group("b", usd=1.0))
    plan = decided([service()], [profile()], groups)

    assert replicas(plan) == {"a": 2}  # paid for anyway; two of b would cost $2 more


def test_commitments_are_part_of_the_bill_whether_used_or_not() -> None:
    groups = inventory(group("a", usd=3.0, commitment=Commitment(2, 2.0)))
    used = decided([service()], [profile()], groups)  # 2 replicas, both committed
    idle = decided([service(rates={SMALL: 4.0})], [profile()], groups)  # 1 replica
    beyond = decided([service(rates={SMALL: 30.0})], [profile()], groups)  # 3 replicas

    assert used.usd_per_hour == idle.usd_per_hour == pytest.approx(4.0)
    assert beyond.usd_per_hour == beyond.bound_usd_per_hour == pytest.approx(7.0)
    assert [a.usd_per_hour for a in beyond.allocations] == pytest.approx([7.0])  # 2 at $2, 1 at $3
    assert [a.usd_per_hour for a in idle.allocations] == pytest.approx([2.0])
    assert beyond.one_type == {}  # not asked for


def test_a_replica_of_four_gpus_stays_within_a_node_of_six() -> None:
    # 4 nodes of 6 GPUs hold 4 replicas of 4, not the 6 that 24 GPUs would suggest.
    wide = profile(load={SMALL: 0.1}, gpus=4)
    groups = inventory(group("a", gpus_per_node=6))
    fits = decided([service(rates={SMALL: 40.0})], [wide], groups)
    too_many = decided([service(rates={SMALL: 41.0})], [wide], groups)

    assert replicas(fits) == {"a": 4}
    assert too_many.infeasible is not None
    assert too_many.infeasible.constraints == ("the nodes of a (4)",)


def test_min_and_max_replicas_hold() -> None:
    least = decided([service(min_replicas=5)], [profile()], inventory())
    slow = profile(gpu_name="G2", load={SMALL: 0.2, LARGE: 1.0})
    both = inventory(group("a", usd=3.0), group("b", "G2", usd=1.0))
    most = decided([service(max_replicas=2)], [profile(), slow], both)  # 4 slow ones would cost less than 2 fast ones

    assert replicas(least) == {"a": 5}
    assert replicas(most) == {"a": 2}


def test_no_traffic_and_no_least_replicas_scales_to_zero() -> None:
    plan = decided([service(rates={SMALL: 0.0})], [profile()], inventory())

    assert plan.status == "optimal"
    assert plan.allocations == ()
    assert plan.usd_per_hour == 0


def test_energy_of_owned_nodes_decides_between_equals() -> None:
    groups = inventory(group("a", usd=0.0, owned=True), group("b", "G2", usd=0.0, owned=True))
    objective = Objective(usd_per_joule=0.36 / 3.6e6)
    plan = decided([service()], [profile(), profile(gpu_name="G2", power_w=200.0)], groups, objective)

    assert replicas(plan) == {"b": 2}
    assert plan.usd_per_hour == pytest.approx(2 * 0.2 * 0.36)  # 2 replicas x 0.2 kW x $0.36/kWh


def test_the_price_of_change_keeps_what_runs() -> None:
    groups = inventory(group("a", usd=1.0), group("b", "G2", usd=0.9))
    both = [profile(), profile(gpu_name="G2")]
    now = {("chat", "G1", "serve", "a"): 2}
    keep = decided([service()], both, groups, Objective(start_usd=1.0), now)
    move = decided([service()], both, groups, Objective(start_usd=0.05), now)

    assert replicas(keep) == {"a": 2}  # $0.20/h saved does not pay for two starts at $1 within an hour
    assert replicas(move) == {"b": 2}


def test_services_compete_for_the_same_gpus() -> None:
    groups = inventory(group("a", gpus_per_node=2, nodes=1, usd=1.0), group("b", "G2", usd=5.0))
    pair = [service("one"), service("two")]
    offers = [profile("one"), profile("one", "G2"), profile("two"), profile("two", "G2", {SMALL: 0.05, LARGE: 0.25})]
    plan = decided(pair, offers, groups)  # two gets by with one G2 (0.9 busy), so one keeps both G1

    assert {(a.service, a.node_group): a.replicas for a in plan.allocations} == {("one", "a"): 2, ("two", "b"): 1}


def test_an_infeasible_problem_names_the_conflict_and_the_way_out() -> None:
    groups = inventory(group("a", gpus_per_node=1, nodes=1))
    plan = decided([service()], [profile()], groups)

    assert plan.status == "infeasible"
    assert plan.infeasible is not None
    assert plan.infeasible.constraints == ("the nodes of a (1)",)
    assert plan.infeasible.relaxation == "raise the nodes of a from 1 to 2"


def test_a_budget_that_is_too_small_is_named_with_what_it_lacks() -> None:
    plan = decided([service(usd_per_hour=1.5)], [profile()], inventory())

    assert plan.infeasible is not None
    assert plan.infeasible.constraints == ("budget of chat",)
    assert plan.infeasible.relaxation == "raise the budget of chat to $2.00/h"


def test_what_has_least_priority_is_named_as_a_thing_to_leave_out() -> None:
    groups = inventory(group("a", gpus_per_node=2, nodes=1))
    pair = [replace(service("main"), priority=5), service("extra")]  # each needs 2 GPUs
    plan = decided(pair, [profile("main"), profile("extra")], groups)

    assert plan.infeasible is not None
    assert plan.infeasible.relaxation == "raise the nodes of a from 1 to 2; or leave out extra (lowest priority)"


def test_the_best_fleet_of_each_type_is_priced() -> None:
    cheap = profile(gpu_name="G2", load={SMALL: 0.2})  # cannot serve LARGE
    groups = inventory(group("a"), group("b", "G2", usd=0.2))
    plan = decide([service()], [profile(), cheap], groups, Objective(), {}, Search(), compare=True)

    assert plan.one_type == {"G1": pytest.approx(2.0)}


def test_a_recipe_that_finds_no_place_serves_nothing() -> None:
    capped = replace(profile(), recipe=replace(profile().recipe, power_cap_w=200.0))  # no group has a power domain
    plan = decided([service()], [capped], inventory())

    assert plan.status == "infeasible"
    assert decided([service(rates={SMALL: 0.0})], [capped], inventory()).status == "optimal"


def test_sizes_with_hardly_any_traffic_are_carried_too() -> None:
    tiny = {Bucket("std", 2**i, 2**j): 1e-9 for i in range(4, 9) for j in range(4, 9)}
    only = profile(gpu_name="G2", load=dict.fromkeys(tiny, 0.1))  # G1 serves none of them
    rates = {SMALL: 8.0, LARGE: 2.0, **tiny}
    plan = decided([service(rates=rates)], [profile(), only], inventory(group("a"), group("b", "G2")))

    assert replicas(plan) == {"a": 2, "b": 1}


def test_sizes_that_nothing_serves_are_named() -> None:
    plan = decided([service()], [profile(load={SMALL: 0.1})], inventory())

    assert plan.infeasible is not None
    assert "20.00%" in plan.infeasible.why
    assert "4096+512 tokens" in plan.infeasible.why


def cheapest_by_enumeration(rates: Mapping[Bucket, float], offers: Sequence[Profile], prices: Sequence[float]) -> float:
    """Try all counts up to 4 of each of two types; of two sizes, one is split in steps and the other fills up."""
    best = math.inf
    a, b = (p.pools[0].load for p in offers)
    for counts in itertools.product(range(5), repeat=2):
        cost = float(np.dot(counts, prices))
        if cost >= best:
            continue
        for share in np.linspace(0, 1, 201):  # of SMALL on a; then as much LARGE on a as fits
            used_a = rates[SMALL] * a[SMALL] * share
            used_b = rates[SMALL] * b[SMALL] * (1 - share)
            if used_a > counts[0] + 1e-9 or used_b > counts[1] + 1e-9:
                continue
            large = min(1.0, (counts[0] - used_a) / (rates[LARGE] * a[LARGE]))
            if rates[LARGE] * b[LARGE] * (1 - large) <= counts[1] - used_b + 1e-9:
                best = cost
                break
    return best


@pytest.mark.parametrize("seed", range(40))
def test_the_optimum_equals_enumeration_on_tiny_problems(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rates = {SMALL: float(rng.integers(1, 8)), LARGE: float(rng.integers(1, 4))}
    # Loads in steps of 1/200 of the rates keep the grid of the enumeration exact.
    offers = [
        profile(gpu_name=name, load={SMALL: float(rng.integers(1, 5)) / 10, LARGE: float(rng.integers(1, 10)) / 10})
        for name in ("G1", "G2")
    ]
    prices = [float(rng.integers(1, 9)), float(rng.integers(1, 9))]
    hardware = inventory(
        *(group(n, g, gpus_per_node=4, nodes=1, usd=p) for n, g, p in zip("ab", ("G1", "G2"), prices, strict=True))
    )

    plan = decided([service(rates=rates)], offers, hardware)

    expected = cheapest_by_enumeration(rates, offers, prices)
    if math.isinf(expected):
        assert plan.status == "infeasible"
    else:
        assert plan.usd_per_hour == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(30))
def test_random_plans_add_up(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    buckets = [Bucket("std", 2**i, 2**j) for i in range(7, 11) for j in range(6, 9)]
    groups = [
        group(
            f"g{k}",
            f"G{k % 3}",
            gpus_per_node=int(rng.choice([4, 6, 8])),
            nodes=int(rng.integers(1, 6)),
            zone=f"z{k % 2}",
            usd=float(rng.uniform(0.5, 4)),
            spot=k == 4,
            domain="rack",
        )
        for k in range(5)
    ]
    hardware = inventory(*groups, domains=(PowerDomain("rack", 30e3),))
    services, offers = [], []
    for s in range(3):
        rates = {b: float(r) for b, r in zip(buckets, rng.gamma(1, 1, len(buckets)), strict=True)}
        two_zones: dict[str, object] = {"min_zones": 2, "max_zone_share": 0.7}
        asked = ({"survive_replicas": 1}, two_zones, {"survive_nodes": 1})[s]
        services.append(service(f"s{s}", rates, max_spot_share=0.5, **asked))
        for k in range(3):
            load = {b: float(rng.uniform(0.02, 0.4)) for b in buckets if rng.random() < 0.9}
            offers.append(profile(f"s{s}", f"G{k}", load, gpus=int(rng.choice([1, 2, 4]))))

    plan = decided(services, offers, hardware)

    assert plan.status in ("optimal", "feasible", "infeasible")
    if plan.allocations:
        assert violations(plan, services, hardware, offers) == []
        assert plan.gap_ratio is not None
        assert plan.gap_ratio <= 1e-4
