"""What noisy samples of a rate surely say: between what its mean lies, and whether it rises. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_LEAST = 8


@dataclass(frozen=True, slots=True)
class Line:
    """What rates come to over time: `mean` at `middle_s`, and by how much they surely change each second."""

    middle_s: float
    mean: float
    slope: float

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


def line(rates: Sequence[tuple[float, float]], since_s: float, certain_z: float) -> Line | None:
    """Rates since a time by least squares, level where a slope may be noise; None where too few are known."""
    known = [(at_s - since_s, rate) for at_s, rate in rates if at_s > since_s]
    if len(known) < _LEAST:
        return None
    middle_s, mean = (sum(row[i] for row in known) / len(known) for i in (0, 1))
    spread = sum((at_s - middle_s) ** 2 for at_s, _ in known)
    slope = sum((at_s - middle_s) * (rate - mean) for at_s, rate in known) / spread if spread else 0.0
    off = [rate - mean - slope * (at_s - middle_s) for at_s, rate in known]
    error = math.sqrt(sum(one * one for one in off) / (len(known) - 2) / spread * _alike(off)) if spread else 0.0
    return Line(middle_s + since_s, mean, slope if abs(slope) > certain_z * error else 0.0)


def _alike(off: Sequence[float]) -> float:
    """How many samples say as much as one of its own would, from their distances to what was expected (AR(1))."""
    power = sum(one * one for one in off)
    ratio = min(max(sum(a * b for a, b in pairwise(off)) / power, 0.0), 0.9) if power else 0.0
    return (1 + ratio) / (1 - ratio)
