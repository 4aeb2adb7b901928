"""Caps change under load without the domain ever drawing more than its budget."""

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.caps import Capped, drawn_w, grants, shared


@dataclass
class Rack:
    """GPUs whose nodes take a while to set what they are sent; both directions may be late, in order."""

    limit_w: dict[str, float]
    delay: dict[str, int]
    sent: dict[str, list[float]] = field(default_factory=dict)
    granted: dict[str, float] = field(default_factory=dict)
    seen_w: dict[str, float] = field(default_factory=dict)

    def round(self, wanted: dict[str, float], budget_w: float) -> None:
        """The controller sends, time passes, nodes set what they got and report it."""
        gpus = [Capped(g, w, self.seen_w.get(g, self.limit_w[g]), 0.0, self.granted.get(g)) for g, w in wanted.items()]
        for gpu, watts in grants(gpus, budget_w).items():
            self.sent.setdefault(gpu, []).append(watts)
            self.granted[gpu] = max(watts, self.granted.get(gpu, 0.0))
        for gpu, queue in self.sent.items():
            if len(queue) > self.delay[gpu]:
                self.limit_w[gpu] = queue.pop(0)
                self.seen_w[gpu] = self.limit_w[gpu]
                self.granted[gpu] = max(queue, default=self.limit_w[gpu])


def test_a_raise_waits_until_the_cut_that_pays_for_it_is_confirmed() -> None:
    cut, rise = Capped("a", 300.0, 700.0, 250.0), Capped("b", 700.0, 300.0, 250.0)
    assert grants([cut, rise], 1000.0) == {"a": 300.0, "b": 300.0}
    assert grants([replace(cut, reported_w=300.0, granted_w=300.0), rise], 1000.0) == {"a": 300.0, "b": 700.0}


def test_a_cut_on_its_way_still_counts_with_what_was_granted_before() -> None:
    late = Capped("a", 300.0, 300.0, 250.0, granted_w=700.0)
    assert grants([late, Capped("b", 700.0, 300.0, 250.0)], 1000.0)["b"] == 300.0


def test_a_gpu_that_is_not_heard_of_is_not_raised_and_counts_with_its_safe_limit_at_least() -> None:
    lost = Capped("a", 400.0, 100.0, 500.0, fresh=False)
    assert grants([lost, Capped("b", 600.0, 300.0, 250.0)], 1000.0) == {"a": 400.0, "b": 300.0}


def test_over_budget_everything_that_may_be_cut_is_cut_and_nothing_raised() -> None:
    assert grants([Capped("a", 400.0, 700.0, 250.0), Capped("b", 500.0, 400.0, 250.0)], 900.0) == {
        "a": 400.0,
        "b": 400.0,
    }


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_the_sum_is_within_the_budget_at_every_instant_and_ends_where_it_was_to(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 12))
    names = [f"g{i}" for i in range(count)]
    watts = st.integers(100, 700).map(float)
    rack = Rack({g: data.draw(watts) for g in names}, {g: data.draw(st.integers(0, 3)) for g in names})
    goals = [{g: data.draw(watts) for g in names} for _ in range(data.draw(st.integers(1, 3)))]
    budget_w = max(sum(rack.limit_w.values()), *(sum(goal.values()) for goal in goals))
    for goal in goals:
        for _ in range(count * 6):
            rack.round(goal, budget_w)
            assert sum(rack.limit_w.values()) <= budget_w + 1e-6
        assert rack.limit_w == goal


def test_eight_thousand_gpus_are_turned_over_in_a_few_rounds_within_the_budget() -> None:
    names = [f"g{i}" for i in range(8000)]
    before = {g: 300.0 if i % 2 else 700.0 for i, g in enumerate(names)}
    after = {g: 700.0 if i % 2 else 300.0 for i, g in enumerate(names)}
    rack = Rack(dict(before), {g: i % 3 for i, g in enumerate(names)})
    rounds = 0
    while rack.limit_w != after and rounds < 20:
        rounds += 1
        rack.round(after, 4_000_000.0)
        assert sum(rack.limit_w.values()) <= 4_000_000.0
    assert rounds <= 12


def h100(name: str, needs_w: float | None = None, wanted_w: float = 700.0) -> Capped:
    """One that takes limits from 200 W and draws 72 W at rest; without needs nothing runs on it."""
    rests = needs_w is None
    return Capped(name, wanted_w, 700.0, 700.0, least_w=200.0, needs_w=needs_w or 0.0, idle_w=72.0, rests=rests)


def test_gpus_that_nobody_planned_on_get_their_least_limit_where_not_all_can_have_all() -> None:
    gpus = [h100("used", 400.0), h100("a"), h100("b")]
    assert shared(gpus, 2100.0).limits_w == {"used": 700.0, "a": 700.0, "b": 700.0}
    assert shared(gpus, 2000.0).limits_w == {"used": 700.0, "a": 200.0, "b": 200.0}


def test_replicas_get_what_they_need_and_an_equal_part_of_what_is_left() -> None:
    gpus = [h100("much", 500.0), h100("little", 300.0), h100("rests")]
    found = shared(gpus, 1150.0)  # 950 W for both; 150 of the 600 W that they would have on top of their needs
    assert found.limits_w == {"much": 550.0, "little": 400.0, "rests": 200.0}
    assert found.short == ""


def test_watts_at_rest_are_reserved_where_least_limits_and_needs_are_above_the_budget() -> None:
    gpus = [h100("used", 600.0), *(h100(f"g{i}") for i in range(10))]
    found = shared(gpus, 1400.0)  # 2000 W of least limits, 720 W at rest
    assert found.limits_w["used"] == 680.0
    assert found.reserved
    assert not found.beyond
    assert drawn_w([replace(one, reported_w=found.limits_w[one.gpu]) for one in gpus], found) == 1400.0
    # A budget in which all least limits fit leaves the replica what it needs, too: its neighbours draw 72 W each.
    assert shared(gpus, 2300.0).limits_w["used"] == 700.0


def test_a_budget_below_what_hardware_can_be_held_to_says_so() -> None:
    found = shared([h100("used", 600.0), h100("rests")], 250.0)
    assert found.limits_w == {"used": 200.0, "rests": 200.0}
    assert found.beyond
    assert "more may be drawn than the budget" in found.short


def test_a_replica_is_raised_beside_gpus_at_rest_whose_limits_alone_are_above_the_budget() -> None:
    gpus = [replace(h100("used", 600.0), reported_w=200.0), *(h100(f"g{i}") for i in range(10))]
    assert grants(gpus, 1400.0) == {"used": 680.0, **{f"g{i}": 200.0 for i in range(10)}}


@st.composite
def some_gpus(draw: st.DrawFn) -> list[Capped]:
    made = []
    for index in range(draw(st.integers(1, 12))):
        least_w, top_w = draw(st.integers(50, 300)), draw(st.integers(300, 1000))
        wanted_w, needs_w = draw(st.integers(100, top_w)), draw(st.integers(0, top_w))
        reported_w, idle_w = draw(st.integers(least_w, top_w)), draw(st.integers(10, 150))
        one = Capped(f"g{index}", float(wanted_w), float(reported_w), float(top_w), rests=draw(st.booleans()))
        made.append(replace(one, least_w=float(least_w), needs_w=float(needs_w), idle_w=float(idle_w)))
    return made


@settings(max_examples=500, deadline=None)
@given(some_gpus(), st.integers(10, 10_000))
def test_limits_keep_the_budget_wherever_hardware_and_plans_can_and_what_is_drawn_wherever_hardware_can(
    gpus: list[Capped], budget_w: float
) -> None:
    found = shared(gpus, budget_w)
    limits = found.limits_w
    assert all(one.low_w <= limits[one.gpu] <= one.wanted_w for one in gpus)
    used, resting = [one for one in gpus if not one.rests], [one for one in gpus if one.rests]
    least_w = sum(one.low_w for one in resting)
    rest_w = sum(min(one.idle_w, one.low_w) for one in resting)
    if sum(one.floor_w for one in used) + least_w <= budget_w:
        assert sum(limits.values()) <= budget_w + 1e-6
        assert all(limits[one.gpu] >= one.floor_w for one in used)
    assert bool(found.short) == (sum(limits.values()) > budget_w + 1e-6)
    may_draw_w = sum(limits[one.gpu] for one in used) + rest_w
    if sum(one.low_w for one in used) + rest_w <= budget_w:
        assert may_draw_w <= budget_w + 1e-6
        assert not found.beyond
    elif found.beyond:
        assert all(limits[one.gpu] == one.low_w for one in gpus)
    if sum(one.floor_w for one in used) + rest_w <= budget_w:  # as planned: no replica is slower for GPUs at rest
        assert all(limits[one.gpu] >= one.floor_w for one in used)


@settings(max_examples=200, deadline=None)
@given(some_gpus(), st.integers(10, 10_000))
def test_what_may_be_drawn_never_rises_above_the_budget_on_the_way_to_the_shares(
    gpus: list[Capped], budget_w: float
) -> None:
    found = shared(gpus, budget_w)
    now = {one.gpu: one for one in gpus}
    before_w = drawn_w(gpus, found)
    for _ in range(2 * len(gpus)):
        for gpu, watts in grants(list(now.values()), budget_w).items():
            now[gpu] = replace(now[gpu], reported_w=watts)
        drawn = drawn_w(list(now.values()), found)
        assert drawn <= max(budget_w, before_w) + 1e-6
        before_w = drawn
    assert {gpu: one.reported_w for gpu, one in now.items()} == found.limits_w or found.beyond
