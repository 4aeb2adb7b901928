"""What noisy samples of a rate surely say: between what its mean lies, and whether it rises. Pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from controller.laws import Laws

_LEAST = 8


@dataclass(frozen=True, slots=True)
class Line:
    """What rates come to over time: `mean` at `middle_s`, and by how much they surely change each second.

    `noise`: standard deviation of samples from it, as much as those are worth that say nothing of each other.
    """

    middle_s: float
    mean: float
    slope: float
    noise: float

    def at(self, at_s: float) -> float:
        """The rate at a time."""
        return self.mean + self.slope * (at_s - self.middle_s)


def mean_between(rates: Sequence[float], z: float) -> tuple[float, float]:
    """The mean's lower and upper end, with as many samples as neighbours that are alike are worth."""
    count = len(rates)
    mean = sum(rates) / count
    off = [rate - mean for rate in rates]
    variance = sum(one * one for one in off) / (count - 1)
    margin = z * math.sqrt(variance / max(count / _alike(off), 1.0))
    return mean - margin, mean + margin


def mean_below(rates: Sequence[tuple[float, float]], since_s: float, limit: float, z: float) -> float | None:
    """The mean since a time where it surely is below a limit; None where it is not."""
    known = [rate for at_s, rate in rates if at_s > since_s]
    if len(known) < _LEAST or mean_between(known, z)[1] >= limit:
        return None
    return sum(known) / len(known)


def line(rates: Sequence[tuple[float, float]], certain_z: float) -> Line | None:
    """Rates by least squares, level where a slope may be noise; None where they are too few."""
    if len(rates) < _LEAST:
        return None
    first_s = rates[0][0]
    known = [(at_s - first_s, rate) for at_s, rate in rates]
    middle_s, mean = (sum(row[i] for row in known) / len(known) for i in (0, 1))
    spread = sum((at_s - middle_s) ** 2 for at_s, _ in known)
    slope = sum((at_s - middle_s) * (rate - mean) for at_s, rate in known) / spread if spread else 0.0
    off = [rate - mean - slope * (at_s - middle_s) for at_s, rate in known]
    noise = math.sqrt(sum(one * one for one in off) / (len(known) - 2) * _alike(off))
    sure = bool(spread) and abs(slope) > certain_z * noise / math.sqrt(spread)
    return Line(middle_s + first_s, mean, slope if sure else 0.0, noise)


def outlook(
    rates: Sequence[tuple[float, float]], window_s: float, now_s: float, at_s: float, certain_z: float
) -> float:
    """What rates will be at a time, which over the last `window_s` were higher than was looked for.

    Somebody looks at the last window until it is high once. So it is believed where what came before surely does not
    explain it; where that does, all together say how high it really is.
    """
    short = [rate for then_s, rate in rates if then_s > now_s - window_s]
    mean = sum(short) / len(short)
    long, before = line(rates, certain_z), line([row for row in rates if row[0] <= now_s - window_s], certain_z)
    if long is None or before is None:
        return mean
    new = mean - before.at(now_s - window_s / 2) > certain_z * before.noise / math.sqrt(len(short))
    if not new:
        return long.at(at_s)
    last = short[-max(len(short) // 3, 1) :]  # it may have come in the middle of the window
    return max(mean, sum(last) / len(last)) + max(long.slope, 0.0) * (at_s - now_s)


def towards(ahead: float, mean: float, lead_s: float) -> str:
    """What follows the words for a mean, where something else is looked for."""
    if ahead > 1.01 * mean:
        return f", and rises to {ahead:.3g} in {lead_s:.0f} s"
    return f"; planning for {ahead:.3g}" if ahead < 0.99 * mean else ""


def _alike(off: Sequence[float]) -> float:
    """How many samples say as much as one of its own would, from their distances to what was expected (AR(1))."""
    power = sum(one * one for one in off)
    ratio = min(max(sum(a * b for a, b in pairwise(off)) / power, 0.0), 0.9) if power else 0.0
    return (1 + ratio) / (1 - ratio)


class Told(Protocol):
    """Whether an objective was met at one time; None: nothing was said."""

    @property
    def at_s(self) -> float: ...

    @property
    def slo_met(self) -> bool | None: ...


def still_late(told: Iterable[Told], short_s: float, now_s: float, laws: Laws) -> bool:
    """Whether a backlog may be served of when replicas were last missing, which says nothing of what comes.

    That is for a window after it, and for longer where the objective was not met since, but not for ever: what is
    missed for much longer is missed for another reason.
    """
    met = any(one.slo_met for one in told if short_s < one.at_s <= now_s)
    return now_s - short_s < laws.slo_window_s + (0.0 if met else laws.lead_s)
