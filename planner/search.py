"""Solving the fleet program under limits: how long to look, and when to stop."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from planner.highs import Floats, LinearModel, Outcome, Solution, solve

DEFAULT_NODES = 5_000
_FIRST_NODES = 20
_LEAST_S = 0.05  # a solve with less time than this answers nothing


@dataclass(frozen=True, slots=True)
class Search:
    """How long to look. Without `left_s` (seconds until the answer is due) the answer is the same on every machine.

    `strict`: with the tightest tolerances of the solver, which cost time.
    """

    gap_ratio: float = 0.0
    nodes: int = DEFAULT_NODES
    left_s: Callable[[], float] | None = None
    strict: bool = False

    def seconds(self, ratio: float = 1.0) -> float | None:
        """A part of the time that is left; None without a limit."""
        return None if self.left_s is None else max(0.0, self.left_s() * ratio)

    def over(self) -> bool:
        """Whether the time is up."""
        return self.left_s is not None and self.left_s() < _LEAST_S

    def within(self, ratio: float) -> "Search":
        """The same search, with a part of the time that is left now."""
        if self.left_s is None:
            return self
        kept, left_s = self.left_s() * (1 - ratio), self.left_s
        return replace(self, left_s=lambda: left_s() - kept)


def find(model: LinearModel, search: Search, start: Floats | None = None) -> Solution:
    """The best solution within the limits: a short look first, since most programs are solved at their root."""
    first = solve(
        model,
        gap_ratio=search.gap_ratio,
        nodes=min(search.nodes, _FIRST_NODES),
        time_limit_s=search.seconds(),
        start=start,
        verify=False,
        strict=search.strict,
    )
    if first.outcome is Outcome.OPTIMAL or search.over():
        return first
    known = first.x if first.outcome is Outcome.FEASIBLE else start
    more = solve(
        model,
        gap_ratio=search.gap_ratio,
        nodes=search.nodes,
        time_limit_s=search.seconds(),
        start=known,
        strict=search.strict,
    )
    return better(first, more)


def better(one: Solution, other: Solution) -> Solution:
    """The cheaper of two solutions of one program, with the greater of their bounds."""
    if Outcome.INFEASIBLE in (one.outcome, other.outcome):
        found = [s for s in (one, other) if s.outcome in (Outcome.OPTIMAL, Outcome.FEASIBLE)]
        return found[0] if found else other
    best = one if one.objective < other.objective else other
    return replace(best, bound=min(best.objective, max(one.bound, other.bound)))
