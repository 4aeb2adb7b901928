"""The cheapest whole fleet for one workload under caps, a fleet size and a budget, as `planner.allocate` states it.

Beside capacity, every cell needs one GPU that serves it (`_cover`): implied for whole counts, but the linear program
cannot see it where a cell's load is smaller than its tolerance.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from planner.branch import Limits, cheapest
from planner.errors import BadInput, SolverFault, UnknownName
from planner.instance import Instance
from planner.transport import Floats, Ints, Mixture, SideRows, Transport

_SLACK = 1e-6  # a budget of exactly the plan's cost is enough, whatever the last bit says
_CHECKED = 1e-6  # every answer is checked to this before it is given


@dataclass(frozen=True, slots=True)
class FleetLimits:
    """What the fleet may not exceed; None or absent = no limit."""

    caps: Mapping[str, int] = field(default_factory=dict)
    max_gpus: int | None = None
    usd_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """What there is to choose from: of each option its load by cell (`planner.transport`), $/h, GPUs and cap."""

    load: Floats
    usd_per_hour: Floats
    gpus: Floats
    caps: Floats
    max_gpus: float = math.inf
    budget_usd_per_hour: float = math.inf

    def rows(self, with_budget: bool) -> list[tuple[Floats, float]]:
        """The limits that are rows: figures per option, and the most that they may sum to."""
        rows = [(self.gpus, self.max_gpus), (self.usd_per_hour, self.budget_usd_per_hour if with_budget else math.inf)]
        return [(row, most + _SLACK) for row, most in rows if math.isfinite(most)]

    def only(self, use: Ints) -> "Offer":
        """The offer of some of the options."""
        return replace(
            self,
            load=self.load[use],
            usd_per_hour=self.usd_per_hour[use],
            gpus=self.gpus[use],
            caps=self.caps[use],
        )


@dataclass(frozen=True, slots=True)
class Fleet:
    """`counts` None = nothing found; `bound` = inf then says that nothing exists.

    `how` counts carry the workload speaks of some of the options, `use`.
    """

    counts: Floats | None
    bound: float
    nodes: int = 0
    how: Mixture | None = None
    use: Ints | None = None


def gpus_of(name: str) -> int:
    """GPUs behind one name: "2xL4" is two."""
    match = re.match(r"(\d{1,4})x", name)
    return int(match[1]) if match and int(match[1]) > 0 else 1


def checked_limits(instance: Instance, limits: FleetLimits) -> FleetLimits:
    """Raise for a cap on an unknown GPU or a negative limit."""
    for gpu, cap in limits.caps.items():
        if gpu not in instance.gpus:
            raise UnknownName("GPU in --cap", gpu, instance.gpus)
        if cap < 0:
            raise BadInput(f"--cap {gpu}: got {cap}, allowed: 0 or more")
    if limits.max_gpus is not None and limits.max_gpus < 0:
        raise BadInput(f"--max-gpus: got {limits.max_gpus}, allowed: 0 or more")
    if limits.usd_per_hour is not None and not 0 <= limits.usd_per_hour < math.inf:
        raise BadInput(f"--budget: got {limits.usd_per_hour}, allowed: 0 or more dollars per hour")
    return limits


def _cover(load: Floats) -> SideRows:
    """Of the options that serve a cell there is at least one; a row for each smallest such set of options."""
    sets = np.unique(np.isfinite(load), axis=1).T
    kept = np.zeros((0, len(load)), dtype=np.bool_)
    for options in sets[np.argsort(sets.sum(axis=1), kind="stable")]:
        if (kept & ~options).any(axis=1).all():  # none of the kept sets lies within this one
            kept = np.vstack([kept, options])
    return SideRows(-kept.astype(np.float64), np.full(len(kept), -1.0))


def offer(instance: Instance, limits: FleetLimits) -> Offer:
    """An instance and its limits as arrays."""
    return Offer(
        load=instance.load(),
        usd_per_hour=instance.usd_per_hour,
        gpus=np.array([float(gpus_of(gpu)) for gpu in instance.gpus]),
        caps=np.array([float(limits.caps.get(gpu, np.inf)) for gpu in instance.gpus]),
        max_gpus=math.inf if limits.max_gpus is None else limits.max_gpus,
        budget_usd_per_hour=math.inf if limits.usd_per_hour is None else limits.usd_per_hour,
    )


def dominated(what: Offer, aim: Floats) -> NDArray[np.bool_]:
    """True for an option that another, unlimited one replaces one for one: slower nowhere, no dearer, no more GPUs."""
    figures = np.stack([aim, what.usd_per_hour, what.gpus])
    out = np.zeros(len(aim), dtype=np.bool_)
    for g in range(len(aim)):
        better = (figures <= figures[:, g : g + 1]).all(axis=0) & np.isinf(what.caps) & ~out
        better[g] = False
        better[better] = (what.load[better] <= what.load[g]).all(axis=1)
        out[g] = better.any()
    return out


def solve(what: Offer, search: Limits, aim: Floats | None = None, *, any_will_do: bool = False) -> Fleet:
    """The fleet that costs least, or the one of least `aim` (a figure per option); `bound` is of that.

    Of the cost the budget is no row but a cutoff: the cheapest fleet within the other limits keeps it, or none does.
    """
    exact = replace(search, gap_ratio=0.0, gap_usd=0.0)
    goal = what.usd_per_hour if aim is None else aim
    use = np.flatnonzero(~dominated(what, goal) & (what.caps > 0))
    part, goal = what.only(use), goal[use]
    if not np.isfinite(part.load).any(axis=0).all():
        return Fleet(None, math.inf)
    cutoff = math.inf if aim is not None else part.budget_usd_per_hour + _SLACK
    rows, known = _cover(part.load), tuple[tuple[Floats, Mixture], ...]()
    for row, most in part.rows(with_budget=aim is not None):
        # Each limit as an aim first: without that, to prove that no fleet keeps it takes long.
        transport, enough = Transport(part.load, row, rows), replace(exact, enough=most)
        first = cheapest(transport, row, upper=part.caps, cutoff=most, limits=enough, known=known)
        if first.bound > most:
            return Fleet(None, math.inf, first.nodes)
        rows, known = _with(rows, row, most), (*known, *first.seen)
    transport = Transport(part.load, goal, rows)
    limits = replace(exact, enough=cutoff) if any_will_do else exact if math.isfinite(cutoff) else search
    found = cheapest(transport, goal, upper=part.caps, cutoff=cutoff, limits=limits, known=known)
    if found.bound > cutoff:
        return Fleet(None, math.inf, found.nodes)
    if found.counts is None or found.cost > cutoff:
        return Fleet(None, found.bound, found.nodes)
    counts = np.zeros(len(what.caps))
    counts[use] = found.counts
    return Fleet(counts, found.bound, found.nodes, found.how, use)


def shares(what: Offer, fleet: Fleet) -> Floats:
    """The part of each cell that each option carries, (options, cells), checked; SolverFault if it is not right."""
    assert fleet.counts is not None
    assert fleet.how is not None
    out = np.zeros_like(what.load)
    out[fleet.use] = fleet.how.shares()
    used = np.where(out > 0, what.load, 0.0) * out
    if np.abs(out.sum(axis=0) - 1).max() > _CHECKED or (used.sum(axis=1) > fleet.counts * (1 + _CHECKED)).any():
        raise SolverFault("the shares found overload a GPU or lose requests")
    return out


def _with(rows: SideRows, row: Floats, limit: float) -> SideRows:
    return SideRows(np.vstack([rows.matrix, row]), np.append(rows.limits, limit))
