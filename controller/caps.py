"""Power caps of many GPUs changed at once, with their sum under the budget at every instant: lower before raise. Pure.

A cap that was granted may be in force or on its way, so until its node confirms a lower one a GPU counts with the
highest of what it was last granted, what it reports, and what it is granted now. A raise is granted only where the sum
of all these, the raise counted, stays within the budget; so it comes after the cuts that pay for it were confirmed.
A GPU that is not heard of keeps counting: its lease ends in the safe limit, which is then what it counts with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Capped:
    """One GPU of a power domain, in watts.

    `wanted_w`: what the plan gives it. `granted_w`: the highest cap granted whose lease may still run (None: none was).
    `reported_w`: the limit that its node last read back. `safe_w`: where it falls to when leases end.
    `fresh`: whether its node was heard of within the lease.
    """

    gpu: str
    wanted_w: float
    reported_w: float
    safe_w: float
    granted_w: float | None = None
    fresh: bool = True

    @property
    def counts_w(self) -> float:
        """The most that it may draw before anything else is granted."""
        if not self.fresh and self.granted_w is None:
            return max(self.safe_w, self.reported_w)
        return max(self.reported_w, self.granted_w or 0.0)


def grants(gpus: Sequence[Capped], budget_w: float) -> Mapping[str, float]:
    """The cap to send to each GPU now. Where the sum is over the budget, nothing is raised until cuts are confirmed.

    Raises go to those that lack the smallest share of what is wanted last: who is furthest below comes first.
    """
    counted = {one.gpu: one.counts_w for one in gpus}
    room_w = budget_w - sum(counted.values())
    sent = {one.gpu: min(one.wanted_w, counted[one.gpu]) for one in gpus}
    for one in sorted(gpus, key=lambda g: (counted[g.gpu] / g.wanted_w, g.gpu)):
        more_w = one.wanted_w - counted[one.gpu]
        if one.fresh and 0 < more_w <= room_w:
            sent[one.gpu] = one.wanted_w
            room_w -= more_w
    return sent
