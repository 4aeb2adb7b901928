"""What noisy samples of a rate surely say: between what its mean lies, and whether it rises. Pure."""

import math
from collections.abc import Sequence
from itertools import pairwise

_LEAST = 8


def mean_between(rates: Sequence[float], z: float) -> tuple[float, float]:
    """The mean's lower and upper end, with as many samples as neighbours that are alike are worth."""
    count = len(rates)
    mean = sum(rates) / count
    off = [rate - mean for rate in rates]
    variance = sum(one * one for one in off) / (count - 1)
    if not variance:
        return mean, mean
    alike = sum(a * b for a, b in pairwise(off)) / sum(one * one for one in off)
    alike = min(max(alike, 0.0), 0.9)
    margin = z * math.sqrt(variance / max(count * (1 - alike) / (1 + alike), 1.0))
    return mean - margin, mean + margin


def slope(rates: Sequence[tuple[float, float]], since_s: float, certain_z: float) -> float:
    """By how much a rate surely changes each second since a time, by least squares; 0 where that may be noise."""
    known = [(at_s - since_s, rate) for at_s, rate in rates if at_s > since_s]
    if len(known) < _LEAST:
        return 0.0
    middle_s, mean = (sum(row[i] for row in known) / len(known) for i in (0, 1))
    spread = sum((at_s - middle_s) ** 2 for at_s, _ in known)
    if not spread:
        return 0.0
    slope = sum((at_s - middle_s) * (rate - mean) for at_s, rate in known) / spread
    left = sum((rate - mean - slope * (at_s - middle_s)) ** 2 for at_s, rate in known)
    error = math.sqrt(left / (len(known) - 2) / spread)
    return slope if abs(slope) > certain_z * error else 0.0
