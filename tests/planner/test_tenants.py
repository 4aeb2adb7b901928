"""Quotas of namespaces: what the services of one may have between them, in the program, the check and the words."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from planner.check import violations
from planner.decide import decide
from planner.hardware import NodeGroup, Quota
from planner.options import Objective
from planner.plan import Plan, Profile
from planner.search import Search
from planner.service import ServiceSpec
from tests.planner.factories import SMALL, group, inventory, profile, service


def in_space(space: str, name: str, rate: float, **constraints: object) -> ServiceSpec:
    return replace(service(name, {SMALL: rate}, **constraints), namespace=space)


def slow(name: str) -> Profile:
    return profile(name, "G1", {SMALL: 0.5})  # 2 requests/s a GPU


def quick(name: str) -> Profile:
    return profile(name, "G2", {SMALL: 0.1})  # 10 requests/s a GPU


def decided(
    services: Sequence[ServiceSpec], quotas: Sequence[Quota], profiles: Sequence[Profile] = (), *groups: NodeGroup
) -> Plan:
    """On slow GPUs for $1 and quick ones for $9: request for request, the slow ones are cheaper."""
    offers = profiles or [made(s.name) for s in services for made in (slow, quick)]
    hardware = replace(inventory(*groups or (group("slow"), group("quick", "G2", usd=9.0))), quotas=tuple(quotas))
    return decide(services, offers, hardware, Objective(), {}, Search())


def gpus(plan: Plan) -> dict[tuple[str, str], int]:
    return {(a.service, a.node_group): a.replicas * a.gpus_per_replica for a in plan.allocations if a.replicas}


def test_a_quota_that_binds_moves_a_service_to_quicker_gpus() -> None:
    chat = in_space("team-a", "chat", 10.0)

    assert gpus(decided([chat], [])) == {("chat", "slow"): 5}
    assert gpus(decided([chat], [Quota("gpus", "team-a", 5)])) == {("chat", "slow"): 5}
    assert gpus(decided([chat], [Quota("gpus", "team-a", 4)])) == {("chat", "quick"): 1}  # any 4 need a quick one


def test_the_services_of_a_namespace_share_its_quota_and_those_of_others_do_not() -> None:
    services = [in_space("team-a", "chat", 10.0), in_space("team-a", "code", 10.0), in_space("team-b", "mail", 10.0)]
    plan = decided(services, [Quota("gpus", "team-a", 6)])

    assert plan.status == "optimal"
    assert gpus(plan) in (  # 5 slow and 1 quick are 6, and it is the same to whom the quick one goes
        {("chat", "slow"): 5, ("code", "quick"): 1, ("mail", "slow"): 5},
        {("chat", "quick"): 1, ("code", "slow"): 5, ("mail", "slow"): 5},
    )
    assert plan.usd_per_hour == pytest.approx(5 + 9 + 5)


def test_many_services_of_one_namespace_stay_within_it_at_the_least_cost() -> None:
    """20 services that need 5 slow GPUs or a quick one: 40 GPUs are 5 x 5 + 15 x 1, which nobody finds one by one."""
    services = [in_space("team-a", f"s{i}", 10.0) for i in range(20)]
    plan = decided(services, [Quota("gpus", "team-a", 40)])

    assert sum(gpus(plan).values()) <= 40
    assert plan.status == "optimal"
    assert plan.usd_per_hour == pytest.approx(5 * 5 + 15 * 9)


def test_of_several_quotas_the_least_binds_and_what_others_hold_counts() -> None:
    chat = in_space("team-a", "chat", 10.0)

    assert gpus(decided([chat], [Quota("wide", "team-a", 50), Quota("tight", "team-a", 4)])) == {("chat", "quick"): 1}
    assert gpus(decided([chat], [Quota("gpus", "team-a", 9, held_gpus=5)])) == {("chat", "quick"): 1}
    assert gpus(decided([chat], [Quota("gpus", "team-a", 10, held_gpus=5)])) == {("chat", "slow"): 5}


def test_a_quota_on_some_services_binds_no_others() -> None:
    services = [in_space("team-a", "chat", 10.0), in_space("team-a", "code", 10.0)]
    plan = decided(services, [Quota("urgent", "team-a", 1, services=("code",))])

    assert gpus(plan) == {("chat", "slow"): 5, ("code", "quick"): 1}


def test_what_no_quota_of_a_namespace_allows_is_refused_with_the_least_that_does() -> None:
    services = [in_space("team-a", "chat", 50.0), in_space("team-a", "code", 30.0), in_space("team-b", "mail", 10.0)]
    plan = decided(services, [Quota("gpus", "team-a", 6)])

    assert plan.status == "infeasible"
    why = plan.infeasible
    assert why is not None
    assert why.why == "namespace team-a may use 6 GPUs (quota gpus), its services need at least 8"
    assert why.constraints == ("quota team-a/gpus (6 GPUs)",)
    assert why.relaxation == "raise quota team-a/gpus to 8 GPUs"
    assert [(c.kind, c.target, c.value) for c in why.changes] == [("quota", "team-a/gpus", 8.0)]
    assert decided(services, [Quota("gpus", "team-a", 8)]).status == "optimal"


def test_the_way_out_counts_what_others_hold_also_where_they_hold_more_than_all() -> None:
    chat = in_space("team-a", "chat", 50.0)
    for allowed, held in ((12, 8), (6, 8)):
        plan = decided([chat], [Quota("gpus", "team-a", allowed, held_gpus=held)])
        assert plan.infeasible is not None
        assert f"may use {allowed} GPUs (quota gpus), of which 8 are taken" in plan.infeasible.why
        assert "at least 5" in plan.infeasible.why
        assert "raise quota team-a/gpus to 13 GPUs" in plan.infeasible.relaxation
        assert decided([chat], [Quota("gpus", "team-a", 13, held_gpus=held)]).status == "optimal"


def test_a_service_without_traffic_needs_nothing_of_a_quota_that_is_spent() -> None:
    idle = in_space("team-a", "chat", 0.0)
    for held in (4, 6):
        plan = decided([idle], [Quota("gpus", "team-a", 4, held_gpus=held)])
        assert (plan.status, gpus(plan)) == ("optimal", {})


def test_a_quota_and_nodes_that_conflict_are_named_together() -> None:
    """4 quick GPUs carry 40 of 50 requests/s, and the other 10 take 5 slow ones."""
    chat = in_space("team-a", "chat", 50.0)
    few = group("quick", "G2", gpus_per_node=4, nodes=1, usd=9.0)
    plan = decided([chat], [Quota("gpus", "team-a", 5)], [slow("chat"), quick("chat")], group("slow"), few)

    assert plan.infeasible is not None
    assert plan.infeasible.why == "namespace team-a may use 5 GPUs (quota gpus), its services need at least 9"
    assert decided([chat], [Quota("gpus", "team-a", 9)], [slow("chat"), quick("chat")], group("slow"), few).allocations


def test_a_reserve_for_losses_counts_against_the_quota() -> None:
    chat = in_space("team-a", "chat", 10.0, survive_replicas=1)

    assert gpus(decided([chat], [Quota("gpus", "team-a", 6)])) == {("chat", "slow"): 6}
    assert gpus(decided([chat], [Quota("gpus", "team-a", 5)])) == {("chat", "quick"): 2}


def test_the_check_tells_a_plan_that_takes_more_than_a_quota_allows() -> None:
    services = [in_space("team-a", "chat", 10.0), in_space("team-b", "code", 10.0)]
    offers = [made(s.name) for s in services for made in (slow, quick)]
    plan = decided(services, [])
    groups = (group("slow"), group("quick", "G2", usd=9.0))

    def said(*quotas: Quota) -> list[str]:
        return violations(plan, services, replace(inventory(*groups), quotas=quotas), offers)

    assert said(Quota("gpus", "team-a", 5), Quota("gpus", "team-b", 9, held_gpus=4)) == []
    assert said(Quota("gpus", "team-a", 4)) == ["team-a: 5 GPUs, quota gpus allows 4"]
    assert said(Quota("gpus", "team-b", 9, held_gpus=5)) == [
        "team-b: 5 GPUs beside 5 that are held, quota gpus allows 9"
    ]
    assert said(Quota("gpus", "team-a", 4, services=("code",))) == []
