"""Solving the fleet program under limits: how long to look, and when to stop."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from planner.highs import INFINITY, Floats, LinearModel, Outcome, Solution, solve

DEFAULT_NODES = 5_000
_FIRST_NODES = 20
_LEAST_S = 0.05  # a solve with less time than this answers nothing
_SMALL_COLUMNS = 1_000  # below it a solve at the root is quicker than two
_RELAXED_RATIO = 0.5  # of the time that is left, at most, for a first plan
_USED = 1e-9


class TimeUp(Exception):
    """The time for an answer is over before there is anything to answer with."""


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
    """The best solution within the limits: a short look first, since most programs are solved at their root.

    INFEASIBLE is said of the presolved program; who reports it should have seen that something must give.
    """
    first = solved(model, search, min(search.nodes, _FIRST_NODES), search.gap_ratio, start, verify=False)
    if first.outcome in (Outcome.OPTIMAL, Outcome.INFEASIBLE) or search.over():
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


def solved(
    model: LinearModel,
    search: Search,
    nodes: int,
    gap_ratio: float,
    start: Floats | None = None,
    verify: bool = True,
    polish: bool = False,
) -> Solution:
    """One solve; of a larger program from a plan over the counts that its linear relaxation uses.

    That plan is mostly the best there is and found in a fraction of the time. With it in hand the search needs no
    heuristics of its own, only the proof. `polish`: look for better ones all the same, where no proof is to be had.
    """
    if start is None and model.integer is not None and len(model.cost) > _SMALL_COLUMNS:
        relaxed = solve(replace(model, integer=None), time_limit_s=search.seconds(_RELAXED_RATIO))
        if relaxed.outcome is Outcome.INFEASIBLE:
            return relaxed
        if relaxed.outcome is Outcome.OPTIMAL:
            start = some.x if (some := over_used(model, relaxed.x, search, gap_ratio)) else None
    return solve(
        model,
        gap_ratio=gap_ratio,
        nodes=nodes,
        time_limit_s=search.seconds(),
        start=start,
        verify=verify,
        strict=search.strict,
        polish=polish or start is None,
    )


def over_used(model: LinearModel, used: Floats, search: Search, gap_ratio: float) -> Solution | None:
    """A solution over the counts that are used, the others at zero; None where a short look finds none.

    What it proves holds for these counts only, so its bound says nothing.
    """
    if model.integer is None:
        return None
    unused = model.integer & (used <= _USED) & (model.lower <= 0)
    found = solve(
        replace(model, upper=np.where(unused, 0.0, model.upper)),
        gap_ratio=gap_ratio,
        nodes=_FIRST_NODES,
        time_limit_s=search.seconds(_RELAXED_RATIO),
        verify=False,
        strict=search.strict,
        polish=False,
    )
    return replace(found, bound=-INFINITY) if found.outcome in (Outcome.OPTIMAL, Outcome.FEASIBLE) else None


def better(one: Solution, other: Solution) -> Solution:
    """The cheaper of two solutions of one program, with the greater of their bounds."""
    if Outcome.INFEASIBLE in (one.outcome, other.outcome):
        found = [s for s in (one, other) if s.outcome in (Outcome.OPTIMAL, Outcome.FEASIBLE)]
        return found[0] if found else other
    best = one if one.objective < other.objective else other
    return replace(best, bound=min(best.objective, max(one.bound, other.bound)))
