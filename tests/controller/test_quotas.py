"""ResourceQuotas: what is read of them, what planning is told, and how the rollout stays within them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.cluster import Allowance, Desired, Disruption, Hold, Kind, Node, Scale, Target
from controller.decision import decide
from controller.demand import Fleet, ask
from controller.hardware import held_by_service
from controller.kube.known import gpu_of_product
from controller.quotas import allowances, digest, foreign, left, limits, on
from controller.rollout import next_round
from planner.plan import Allocation, Plan
from tests.controller.fleet_simulation import Simulated
from tests.controller.objects import L4, a_node, a_pod, a_service, an_inventory
from tests.controller.test_rollout import fleets

Spec = dict[str, Any]


def a_quota(name: str = "gpus", gpus: object = "8", space: str = "team-a", **spec: Any) -> Spec:
    return {
        "metadata": {"name": name, "namespace": space},
        "spec": {"hard": {"requests.nvidia.com/gpu": gpus, "pods": "100"}, **spec},
    }


def in_class(operator: str, *values: str) -> Spec:
    row = {"scopeName": "PriorityClass", "operator": operator, "values": list(values)}
    return {"scopeSelector": {"matchExpressions": [row]}}


def strange(name: str, gpus: int = 1, node: str = "n1", **spec: Any) -> Spec:
    """A pod of nobody we know."""
    made = a_pod(name, kind="", node=node, gpus=gpus)
    made["metadata"]["labels"] = {}
    made["spec"] |= spec
    return made


@pytest.mark.parametrize(
    ("written", "gpus"),
    [("8", 8), (8, 8), ("0", 0), ("1k", 1000), ("8500m", 8), ("2Ki", 2048), ("1e1", 10), ("5E", 1_000_000)],
)
def test_a_quota_says_how_many_gpus_in_any_way_that_kubernetes_writes_numbers(written: object, gpus: int) -> None:
    (limit,) = limits([a_quota(gpus=written)])["team-a"]
    assert (limit.label, limit.gpus) == ("team-a/gpus", gpus)


def test_quotas_on_other_things_and_with_scopes_that_templates_decide_are_left_to_the_server() -> None:
    pods = {"metadata": {"name": "pods", "namespace": "team-a"}, "spec": {"hard": {"pods": "4"}}}
    assert limits([pods, {"metadata": {"name": "new", "namespace": "team-a"}}, a_quota(scopes=["NotBestEffort"])]) == {}


@pytest.mark.parametrize(
    ("scoped", "plain", "urgent"),
    [
        ({}, True, True),
        ({"scopes": ["NotTerminating"]}, True, True),
        ({"scopes": ["Terminating"]}, False, False),
        ({"scopes": ["PriorityClass"]}, False, True),
        (in_class("Exists"), False, True),
        (in_class("DoesNotExist"), True, False),
        (in_class("In", "muster-3", "gold"), False, True),
        (in_class("NotIn", "muster-3"), True, False),
    ],
)
def test_a_quota_is_on_the_services_whose_class_it_selects(scoped: Spec, plain: bool, urgent: bool) -> None:
    (limit,) = limits([a_quota(**scoped)])["team-a"]
    assert on(limit, a_service()) == plain
    assert on(limit, a_service(priority=3)) == urgent
    assert on(limit, a_service(serving={"priorityClass": "muster-3"})) == urgent
    assert not on(limit, a_service(namespace="team-b", priority=3))
    assert not on(limit, a_service(priority=3, serving={"deviceClass": "gpu.nvidia.com"})), "claims are no such GPUs"


def test_pods_of_no_service_take_of_a_quota_until_they_end() -> None:
    pods = [
        strange("a", 2), strange("waits", 3, node=""), {**strange("over", 4), "status": {"phase": "Succeeded"}},
        a_pod("ours", node="n1", gpus=5, labels={"muster.dev/service": "chat"}),
        {**strange("elsewhere", 6), "metadata": {"name": "x", "namespace": "team-b", "labels": {}}},
    ]  # fmt: skip
    (limit,) = limits([a_quota()])["team-a"]
    assert foreign(limit, pods) == 5
    assert left(limit, [a_service(), a_service("code"), a_service("x", "team-b")], pods, {"team-a/code": 2}) == 1
    (jobs,) = limits([a_quota(scopes=["Terminating"])])["team-a"]
    assert foreign(jobs, [*pods, strange("job", 7, activeDeadlineSeconds=60)]) == 7
    (gold,) = limits([a_quota(**in_class("In", "gold"))])["team-a"]
    assert foreign(gold, [*pods, strange("rich", 9, priorityClassName="gold")]) == 9


def test_the_digest_of_quotas_changes_with_what_they_allow_alone() -> None:
    def of(*quotas: Spec) -> str:
        return digest(limits(quotas)["team-a"])

    used = {**a_quota(), "status": {"used": {"requests.nvidia.com/gpu": "4"}}}
    assert of(a_quota(), a_quota("b")) == of(a_quota("b"), used)
    assert len({of(a_quota()), of(a_quota(gpus="9")), of(a_quota("other")), of(a_quota(scopes=["Terminating"]))}) == 4


HARDWARE = [*[a_node(f"n{i}") for i in range(2)], *[a_node(f"s{i}", "small", 4, L4) for i in range(8)]]

CHEAP = an_inventory(
    {"name": "h100", "nodeSelector": {"pool": "big"}, "pricePerHour": "$2.50"},
    {"name": "l4", "nodeSelector": {"pool": "small"}, "pricePerHour": "$0.05"},
)


def a_fleet(
    services: Sequence[Spec],
    quotas: Sequence[Spec],
    pods: Sequence[Spec] = (),
    decided: Mapping[str, Sequence[Allocation]] | None = None,
) -> Fleet:
    return Fleet(
        [CHEAP], [], HARDWARE, pods, [], decided or {}, gpu_of_product,
        held=held_by_service(pods), services=services, quotas=quotas,
    )  # fmt: skip


def planned(fleet: Fleet, *services: Spec, rate: float = 40.0, freed: Sequence[str] = ()) -> Plan:
    return decide(ask(fleet, [(f"team-a/{one['metadata']['name']}", one, rate) for one in services], freed)[0])


def gpus(plan: Plan) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in plan.allocations:
        found[one.recipe.gpu] = found.get(one.recipe.gpu, 0) + one.replicas * one.gpus_per_replica
    return found


def test_a_plan_stays_within_the_quota_of_its_namespace_by_gpus_that_do_more() -> None:
    chat = a_service()
    free = gpus(planned(a_fleet([chat], []), chat))
    assert free["L4"] > 2, "many small GPUs are cheapest"
    tight = gpus(planned(a_fleet([chat], [a_quota(gpus="2")]), chat))
    assert sum(tight.values()) <= 2
    assert tight["H100-SXM"] >= 1
    assert gpus(planned(a_fleet([chat], [a_quota(gpus="2", space="team-b")]), chat)) == free


def test_what_strangers_and_other_services_have_of_a_quota_is_not_planned_with() -> None:
    chat, code = a_service(), a_service("code")
    quota = a_quota(gpus="6")
    both = planned(a_fleet([chat, code], [quota]), chat, code)
    assert sum(gpus(both).values()) <= 6, "they share it where they are planned together"
    rest = {"team-a/code": [one for one in both.allocations if one.service == "team-a/code"]}
    theirs = sum(one.replicas * one.gpus_per_replica for one in rest["team-a/code"])
    fleet = a_fleet([chat, code], [quota], [strange("a", 6 - theirs - 1)], rest)
    assert sum(gpus(planned(fleet, chat)).values()) == 1
    full = a_fleet([chat, code], [quota], [strange("a", 6 - theirs)], rest)
    why = planned(full, chat).infeasible
    assert why is not None
    assert why.why.startswith("namespace team-a may use 6 GPUs (quota gpus), of which 6 are taken")
    assert "raise quota team-a/gpus to 7 GPUs" in why.relaxation
    assert gpus(planned(full, chat, freed=["team-a/code"])), "who gives way does not count"


def test_without_quotas_a_decision_is_what_it_was() -> None:
    chat = a_service()
    assert (
        ask(a_fleet([chat], []), [("team-a/chat", chat, 8.0)])[0]
        == ask(Fleet([CHEAP], [], HARDWARE, [], [], {}, gpu_of_product), [("team-a/chat", chat, 8.0)])[0]
    )


def kind(name: str, service: str = "team-a/chat", gpus: int = 1) -> Kind:
    return Kind(name, service, name, "serve", "g", gpus, 10.0)


OLD, NEW, OTHER = kind("old"), kind("new"), kind("other", "team-a/code")
ROOM = {"n": Node("n", "g", 16)}


def allowed(gpus: int, *exempt: str) -> tuple[Allowance, ...]:
    return (Allowance("team-a/gpus", "team-a", gpus, frozenset(exempt)),)


def goal(*targets: Target, floor: float = 0.0, unavailable: int = 0) -> Desired:
    return Desired("d", targets, {"team-a/chat": floor}, {"team-a/chat": Disruption(unavailable)}, 100)


def runs(cluster: Simulated, aim: Desired, ticks: int = 20) -> tuple[int, float]:
    """The most GPUs that were held on the way, and the least replicas that were ready."""
    most, least = 0, 10**9
    for _ in range(ticks):
        cluster.act(next_round(aim, cluster.observe()).actions)
        running = cluster.observe().running
        most = max(most, sum((one.replicas + one.leaving) * one.kind.gpus for one in running))
        cluster.tick()
        least = min(least, sum(one.ready for one in cluster.observe().running))
    return most, least


def ready(cluster: Simulated) -> dict[str, int]:
    return {one.kind.name: one.ready for one in cluster.observe().running if one.ready}


def test_a_surge_that_the_quota_has_no_room_for_is_held_and_says_so() -> None:
    cluster = Simulated(ROOM, allowances=allowed(4))
    runs(cluster, goal(Target(OLD, 4)))
    held = next_round(goal(Target(NEW, 4), floor=40.0), cluster.observe())
    assert held.actions == ()
    assert held.held == {
        "team-a/chat": Hold(
            "NoSpareCapacity",
            "4 x new wait for 1 GPUs of the ResourceQuota team-a/gpus, which has 0 left, and 40 requests/s are ready "
            "of which 40 must stay: allow maxUnavailable, or raise the quota",
        )
    }


@pytest.mark.parametrize(("gpus", "unavailable", "least"), [(4, 1, 3), (5, 0, 4), (8, 0, 4)])
def test_replicas_change_within_the_quota_one_by_one(gpus: int, unavailable: int, least: int) -> None:
    cluster = Simulated(ROOM, allowances=allowed(gpus))
    runs(cluster, goal(Target(OLD, 4)))
    most, low = runs(cluster, goal(Target(NEW, 4), floor=40.0, unavailable=unavailable), 60)
    assert ready(cluster) == {"new": 4}
    assert (most, low) == (gpus, least)


@settings(max_examples=60, deadline=None)
@given(fleets(), st.integers(1, 10))
def test_no_change_of_mind_takes_more_than_a_quota_allows(
    fleet: tuple[Simulated, list[Sequence[Target]], int], gpus: int
) -> None:
    cluster, plans, _ = fleet
    cluster.allowances = (Allowance("chat/gpus", "chat", gpus),)  # services there are in namespaces of their name
    for plan in plans:
        for _ in range(12):
            cluster.act(next_round(Desired("d", tuple(plan)), cluster.observe()).actions)
            mine = [one for one in cluster.observe().running if one.kind.service == "chat"]
            assert sum((one.replicas + one.leaving) * one.kind.gpus for one in mine) <= gpus
            cluster.tick()


def test_a_service_of_the_namespace_makes_room_for_another_and_those_elsewhere_do_not() -> None:
    far = kind("far", "team-b/chat")
    cluster = Simulated(ROOM, allowances=allowed(4))
    runs(cluster, goal(Target(OLD, 4), Target(far, 4)))
    aim = goal(Target(OLD, 2), Target(OTHER, 2), Target(far, 4), floor=20.0)
    most, _ = runs(cluster, aim)
    assert ready(cluster) == {"old": 2, "other": 2, "far": 4}
    assert most == 8


def test_who_a_quota_is_not_on_starts_beside_it() -> None:
    cluster = Simulated(ROOM, allowances=allowed(4, "team-a/code"))
    runs(cluster, goal(Target(OLD, 4)))
    live = cluster.observe()
    assert Scale(OTHER, 2, "as decided") in next_round(goal(Target(OLD, 4), Target(OTHER, 2)), live).actions
    made = allowances(
        limits([a_quota(**in_class("DoesNotExist"))]),
        [a_service(), a_service("code", priority=2)],
        lambda _: [strange("a", 3)],
    )
    assert made == (Allowance("team-a/gpus", "team-a", 5, frozenset({"team-a/code"})),)
    assert made[0].on("team-a/chat")
