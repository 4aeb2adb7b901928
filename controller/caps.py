"""Power caps of many GPUs changed at once, with their sum under the budget at every instant: lower before raise. Pure.

A cap that was granted may be in force or on its way, so until its node confirms a lower one a GPU counts with the
highest of what it was last granted, what it reports, and what it is granted now. A raise is granted only where the sum
of all these, the raise counted, stays within the budget; so it comes after the cuts that pay for it were confirmed.
A GPU that is not heard of keeps counting: its lease ends in the safe limit, which is then what it counts with.

What each is to have is shared out first. Where the budget cannot give everyone what is asked, a GPU on which nothing
runs gets the least limit that its driver takes, and the others what their replicas need by the plan, and a share of
what is left. A least limit may be several times what a GPU draws at rest: where needs and least limits together are
above the budget, what GPUs at rest draw is reserved for them instead, whatever their limits, and that is told. To take
the watts from replicas would slow them for GPUs that draw none.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_STEP_W = 5.0  # shares are rounded down to it, so that equal ones stay equal
_NO_W = 1e-6


@dataclass(frozen=True, slots=True)
class Capped:
    """One GPU of a power domain, in watts.

    `wanted_w`: what it would have with watts in plenty: the cap of the plan, or all. `granted_w`: the highest cap
    granted whose lease may still run (None: none was). `reported_w`: the limit that its node last read back. `safe_w`:
    where it falls to when leases end. `fresh`: whether its node was heard of within the lease.
    `least_w`: the least limit that its driver takes. `needs_w`: what its replica draws at full load as planned (None:
    all that is wanted). `rests`: nothing runs on it, so that it draws `idle_w` whatever its limit.
    """

    gpu: str
    wanted_w: float
    reported_w: float
    safe_w: float
    granted_w: float | None = None
    fresh: bool = True
    least_w: float = 0.0
    needs_w: float | None = None
    idle_w: float = 0.0
    rests: bool = False

    @property
    def counts_w(self) -> float:
        """The most that it may draw before anything else is granted."""
        if not self.fresh and self.granted_w is None:
            return max(self.safe_w, self.reported_w)
        return max(self.reported_w, self.granted_w or 0.0)

    @property
    def low_w(self) -> float:
        """The least limit that it can have."""
        return min(self.least_w, self.wanted_w)

    @property
    def floor_w(self) -> float:
        """The limit below which its replica would be slower than planned."""
        return self.wanted_w if self.needs_w is None else min(max(self.needs_w, self.low_w), self.wanted_w)


@dataclass(frozen=True, slots=True)
class Shares:
    """What each GPU of a domain is to have at last. `short`: why these limits are above the budget, in words.

    `reserved`: GPUs at rest count with what they draw at rest, not with their limits. `beyond`: even so more may be
    drawn than the budget, since drivers take no lower limits.
    """

    limits_w: Mapping[str, float] = field(default_factory=dict)
    reserved: bool = False
    short: str = ""
    beyond: bool = False


def shared(gpus: Sequence[Capped], budget_w: float) -> Shares:
    """Share out a budget. No limit is below the least of its GPU, nor above what is wanted."""
    wanted = {one.gpu: one.wanted_w for one in gpus}
    if sum(wanted.values()) <= budget_w:
        return Shares(wanted)
    resting, used = [one for one in gpus if one.rests], [one for one in gpus if not one.rests]
    limits = {one.gpu: one.low_w for one in resting}
    least_w, rest_w = sum(limits.values()), sum(min(one.idle_w, one.low_w) for one in resting)
    lows, floors, tops = ([getattr(one, f"{what}_w") for one in used] for what in ("low", "floor", "wanted"))
    reserved = sum(floors) + least_w > budget_w
    left_w = budget_w - (rest_w if reserved else least_w)
    found = _between(lows, floors, left_w) if sum(floors) > left_w else _between(floors, tops, left_w)
    limits |= {one.gpu: watts for one, watts in zip(used, found, strict=True)}
    if sum(limits.values()) <= budget_w + _NO_W:
        return Shares(limits)
    words = [f"the limits of its GPUs come to {sum(limits.values()):.0f} W, the budget is {budget_w:.0f} W"]
    if resting:
        words += [
            f"{len(resting)} GPUs on which nothing runs have limits of {least_w:.0f} W, the least there are, and the "
            f"{rest_w:.0f} W that they draw at rest are reserved instead"
        ]
    if sum(found) > left_w + _NO_W:
        words += [
            f"the {len(used)} in use cannot be limited below {sum(lows):.0f} W: more may be drawn than the budget"
        ]
    return Shares(limits, reserved, "; ".join(words), sum(found) > left_w + _NO_W)


def _between(lows: Sequence[float], highs: Sequence[float], left_w: float) -> list[float]:
    """For each as great a part of the way from low to high as the sum may go; all low where even these are too much."""
    way_w = sum(highs) - sum(lows)
    part = min(max((left_w - sum(lows)) / way_w, 0.0), 1.0) if way_w > 0 else 1.0
    if part >= 1:
        return list(highs)
    steps = (math.floor((low + part * (high - low)) / _STEP_W) * _STEP_W for low, high in zip(lows, highs, strict=True))
    return [max(low, watts) for low, watts in zip(lows, steps, strict=True)]


def grants(gpus: Sequence[Capped], budget_w: float, shares: Shares | None = None) -> Mapping[str, float]:
    """The cap to send to each GPU now. Where the sum is over the budget, nothing is raised until cuts are confirmed.

    Raises go to those that lack the smallest share of what is wanted last: who is furthest below comes first.
    """
    shares = shares or shared(gpus, budget_w)
    limits = shares.limits_w
    counted = {one.gpu: one.counts_w for one in gpus}
    room_w = budget_w - drawn_w(gpus, shares)
    sent = {one.gpu: min(limits[one.gpu], counted[one.gpu]) for one in gpus}
    for one in sorted(gpus, key=lambda g: (counted[g.gpu] / max(limits[g.gpu], _NO_W), g.gpu)):
        more_w = limits[one.gpu] - counted[one.gpu]
        if one.fresh and 0 < more_w <= room_w:
            sent[one.gpu] = limits[one.gpu]
            room_w -= more_w
    return sent


def drawn_w(gpus: Sequence[Capped], shares: Shares) -> float:
    """What all of them may draw before anything else is granted."""
    return sum(min(one.idle_w, one.counts_w) if shares.reserved and one.rests else one.counts_w for one in gpus)
