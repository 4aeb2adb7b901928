"""Caps change under load without the domain ever drawing more than its budget."""

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.caps import Capped, grants


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
    lost = Capped("a", 700.0, 100.0, 400.0, fresh=False)
    assert grants([lost, Capped("b", 700.0, 300.0, 250.0)], 1000.0) == {"a": 400.0, "b": 300.0}


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
