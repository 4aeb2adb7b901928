"""Surge, then drain: capacity never sinks below the floor, and every decision is reached where there is room."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.capacity import capacity_per_s
from controller.cluster import Desired, Disruption, Hold, Kind, Live, Node, Route, Running, Scale, Target
from controller.rollout import next_round
from planner.service import Bucket
from tests.controller.fleet_simulation import Simulated

SMALL = Bucket("interactive", 128, 64)


def kind(
    name: str, service: str = "chat", *, gpus: int = 1, per_s: float = 10.0, group: str = "g", pool: str = "serve"
) -> Kind:
    return Kind(name, service, name, pool, group, gpus, per_s, {SMALL: 1.0})


def nodes(*gpus: int, group: str = "g") -> dict[str, Node]:
    return {f"{group}{i}": Node(f"{group}{i}", group, count) for i, count in enumerate(gpus)}


def desired(
    *targets: Target,
    floor: Mapping[str, float] | None = None,
    bears: Mapping[str, Disruption] | None = None,
    most_moving: int = 100,
) -> Desired:
    return Desired("d1", targets, floor or {}, bears or {}, most_moving)


def settled(cluster: Simulated, *targets: Target) -> Simulated:
    """The cluster once the targets serve."""
    for _ in range(50):
        cluster.act(next_round(desired(*targets), cluster.observe()).actions)
        cluster.tick()
    assert {t.kind.name: t.replicas for t in targets if t.replicas} == ready(cluster.observe())
    return cluster


def ready(live: Live) -> dict[str, int]:
    return {one.kind.name: one.ready for one in live.running if one.ready}


def carried(live: Live, service: str = "chat") -> float:
    return capacity_per_s((one.kind, one.ready) for one in live.running if one.kind.service == service)


OLD, NEW = kind("old"), kind("new")


def test_a_first_plan_starts_everything_and_routes_when_it_serves() -> None:
    cluster = Simulated(nodes(4))
    first = next_round(desired(Target(NEW, 2)), cluster.observe())
    assert first.actions == (Scale(NEW, 2, "as decided"),)
    cluster.act(first.actions)
    assert next_round(desired(Target(NEW, 2)), cluster.observe()).actions == ()  # nothing serves yet, nothing to do
    cluster.tick()
    cluster.tick()
    later = next_round(desired(Target(NEW, 2)), cluster.observe())
    assert later.actions == (Route("chat", {SMALL: {"new": 1.0}}),)
    assert later.done == {"chat"}


def test_nothing_is_done_where_all_is_as_decided() -> None:
    cluster = settled(Simulated(nodes(4)), Target(NEW, 2))
    quiet = next_round(desired(Target(NEW, 2)), cluster.observe())
    assert not quiet.actions
    assert not quiet.held
    assert quiet.done == {"chat"}


def test_with_room_for_all_the_old_replicas_stop_only_when_all_new_ones_serve() -> None:
    cluster = settled(Simulated(nodes(4)), Target(OLD, 2))
    goal = desired(Target(NEW, 2), floor={"chat": 20.0})
    cluster.act(next_round(goal, cluster.observe()).actions)
    assert ready(cluster.observe()) == {"old": 2}
    cluster.tick()
    cluster.tick()
    last = next_round(goal, cluster.observe())
    assert last.actions == (
        Route("chat", {SMALL: {"new": 1.0}}),
        Scale(OLD, 0, "all that was decided serves"),
    )


def test_with_one_spare_gpu_replicas_change_one_by_one_above_the_floor() -> None:
    cluster = settled(Simulated(nodes(5)), Target(OLD, 4))
    goal = desired(Target(NEW, 4), floor={"chat": 40.0})
    low = _least_while(cluster, goal)
    assert low == 40.0
    assert ready(cluster.observe()) == {"new": 4}


def test_without_a_spare_gpu_the_service_is_held_and_told_why() -> None:
    cluster = settled(Simulated(nodes(4)), Target(OLD, 4))
    held = next_round(desired(Target(NEW, 4), floor={"chat": 40.0}), cluster.observe())
    assert held.actions == ()
    assert held.held == {
        "chat": Hold(
            "NoSpareCapacity",
            "4 x new wait for 1 free GPUs in one node of g; the most that a node has is 0, and 40 requests/s "
            "are ready of which 40 must stay: allow maxUnavailable, or add a node",
        )
    }


def test_who_waits_for_the_moves_of_others_alone_is_told_that_the_budget_of_the_fleet_is_spent() -> None:
    other = kind("other", "later")
    cluster = Simulated(nodes(8))
    goal = desired(Target(NEW, 3), Target(other, 1), most_moving=2)
    first = next_round(goal, cluster.observe())
    assert {name: hold.reason for name, hold in first.held.items()} == {"later": "FleetBudgetSpent"}
    assert "2 replicas" in first.held["later"].text
    cluster.act(first.actions)
    assert next_round(goal, cluster.observe()).held == first.held  # said alike while nothing changes
    for _ in range(10):
        cluster.tick()
        last = next_round(goal, cluster.observe())
        cluster.act(last.actions)
    assert not last.held
    assert last.done == {"chat", "later"}


def test_max_unavailable_lets_a_full_fleet_change_and_forgives_no_more() -> None:
    cluster = settled(Simulated(nodes(4)), Target(OLD, 4))
    goal = desired(Target(NEW, 4), floor={"chat": 40.0}, bears={"chat": Disruption(max_unavailable=1)})
    assert _least_while(cluster, goal) == 30.0
    assert ready(cluster.observe()) == {"new": 4}


def test_a_revert_half_way_goes_back_without_sinking_below_the_floor() -> None:
    cluster = settled(Simulated(nodes(5)), Target(OLD, 4))
    there, back = (desired(Target(k, 4), floor={"chat": 40.0}) for k in (NEW, OLD))
    for _ in range(7):
        cluster.act(next_round(there, cluster.observe()).actions)
        cluster.tick()
        assert carried(cluster.observe()) >= 40.0
    assert 0 < ready(cluster.observe())["new"] < 4
    assert _least_while(cluster, back) == 40.0
    assert ready(cluster.observe()) == {"old": 4}


def test_what_does_not_serve_stops_at_once() -> None:
    live = Live((Running(OLD, 3, bound=2, ready=1),), tuple(nodes(4).values()))
    assert next_round(desired(floor={"chat": 10.0}), live).actions[-1].replicas < 3  # type: ignore[union-attr]


def test_no_more_replicas_move_than_the_fleet_allows() -> None:
    cluster = Simulated(nodes(8, 8))
    goal = desired(Target(NEW, 6), Target(kind("b", "batch"), 6), most_moving=4)
    for _ in range(12):
        cluster.act(next_round(goal, cluster.observe()).actions)
        assert sum(one.moving for one in cluster.observe().running) <= 4
        cluster.tick()
    assert ready(cluster.observe()) == {"new": 6, "b": 6}


def test_stalled_replicas_of_one_service_do_not_stop_the_others() -> None:
    broken = Running(kind("bad", "broken"), 4, bound=4, ready=0, stalled=4)
    live = Live((broken,), tuple(nodes(8).values()))
    goal = desired(Target(broken.kind, 4), Target(NEW, 2), most_moving=2)
    assert Scale(NEW, 2, "as decided") in next_round(goal, live).actions


def test_a_higher_priority_starts_first_where_there_is_not_room_for_both() -> None:
    low, high = kind("low", "batch"), kind("high", "chat")
    goal = desired(Target(low, 2), Target(high, 2), bears={"chat": Disruption(priority=10)})
    done = next_round(goal, Simulated(nodes(2)).observe())
    assert [a.kind.name for a in done.actions if isinstance(a, Scale)] == ["high"]


def test_a_replica_over_two_nodes_waits_for_two_empty_ones() -> None:
    large = kind("large", gpus=16)
    half = Live((), tuple(replace(node, held=held) for node, held in zip(nodes(8, 8).values(), (0, 1), strict=True)))
    assert next_round(desired(Target(large, 1)), half).held
    assert next_round(desired(Target(large, 1)), Live((), tuple(nodes(8, 8).values()))).actions


def test_a_prefill_pool_without_its_decode_pool_carries_nothing() -> None:
    prefill = replace(kind("p", pool="prefill"), recipe="r")
    decode = replace(kind("d", pool="decode", per_s=4.0), recipe="r")
    assert capacity_per_s([(prefill, 2)]) == 0.0
    assert capacity_per_s([(prefill, 2), (decode, 3)]) == 12.0


def _least_while(cluster: Simulated, goal: Desired, rounds: int = 60) -> float:
    """The least that was ready in any tick on the way."""
    low = carried(cluster.observe())
    for _ in range(rounds):
        cluster.act(next_round(goal, cluster.observe()).actions)
        low = min(low, carried(cluster.observe()))
        cluster.tick()
        low = min(low, carried(cluster.observe()))
    return low


@st.composite
def fleets(draw: st.DrawFn) -> tuple[Simulated, list[Sequence[Target]], int]:
    """Nodes, some decisions that each fit beside one spare replica of every kind, and the largest replica."""
    sizes = st.sampled_from((1, 2, 4))
    kinds = [
        kind(
            f"k{i}", draw(st.sampled_from(("chat", "code"))), gpus=draw(sizes), per_s=draw(st.sampled_from((5.0, 10.0)))
        )
        for i in range(draw(st.integers(2, 4)))
    ]
    plans = [
        [Target(one, draw(st.integers(0, 3))) for one in kinds if draw(st.booleans())]
        for _ in range(draw(st.integers(2, 4)))
    ]
    most = max((sum(t.replicas * t.kind.gpus for t in plan) for plan in plans), default=0)
    spare = draw(st.integers(0, 3))
    count = -(-most // 4) + spare
    cluster = Simulated(nodes(*[4] * max(count, 1)), draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    return cluster, list(plans), spare


@settings(max_examples=100, deadline=None)
@given(fleets(), st.data())
def test_no_change_of_mind_sinks_capacity_below_the_floor(
    fleet: tuple[Simulated, list[Sequence[Target]], int], data: st.DataObject
) -> None:
    cluster, plans, _ = fleet
    bears = {name: Disruption(max_unavailable=data.draw(st.integers(0, 1))) for name in ("chat", "code")}
    before: dict[str, float] = {"chat": 0.0, "code": 0.0}
    for plan in plans:
        now = {name: carried(cluster.observe(), name) for name in before}
        floor = {name: min(before[name], now[name]) for name in before}
        goal = desired(*plan, floor=floor, bears=bears)
        target = {n: capacity_per_s((t.kind, t.replicas) for t in plan if t.kind.service == n) for n in before}
        forgiven = {n: bears[n].max_unavailable * 10.0 for n in before}
        for _ in range(data.draw(st.integers(1, 40))):
            cluster.act(next_round(goal, cluster.observe()).actions)
            live = cluster.observe()
            for name in before:
                reached = all(ready(live).get(t.kind.name, 0) >= t.replicas for t in plan if t.kind.service == name)
                assert carried(live, name) >= (target[name] if reached else floor[name] - forgiven[name])
            cluster.tick()
        before = target


@settings(max_examples=60, deadline=None)
@given(fleets())
def test_a_decision_with_room_for_both_plans_is_reached(fleet: tuple[Simulated, list[Sequence[Target]], int]) -> None:
    cluster, plans, _ = fleet
    cluster.nodes |= nodes(*[4] * 12, group="g")
    for plan in plans:
        for _ in range(40):
            cluster.act(next_round(desired(*plan), cluster.observe()).actions)
            cluster.tick()
        assert ready(cluster.observe()) == {t.kind.name: t.replicas for t in plan if t.replicas}
        last = next_round(desired(*plan), cluster.observe())
        assert (last.actions, last.held) == ((), {})
