"""How fast and at what power kernels run under a power limit: idle power, energy of the work, a clock that gives way.

Kernels run one after another. At a share `clock` (0 to 1) of the highest clock, a kernel that takes `time_s` at full
clock takes time_s x clock^-core, and the energy of its arithmetic and caches falls as clock^exponent, as voltage falls
with the clock; the energy of HBM does not. The GPU lowers the clock until mean power meets the limit.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LOWEST_CLOCK = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """Kernels of each step, arrays (steps, kernels): seconds and joules at full clock, and how time follows the clock.

    `core`: 0 where HBM or a launch is waited for, more where the multiprocessors' clock sets the pace.
    """

    time_s: Array
    core_j: Array
    hbm_j: Array
    core: Array


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """Where the clock comes to rest, for each step."""

    clock: Array
    time_s: Array
    power_w: Array


def settle(work: Work, idle_w: float, exponent: float, limit_w: float) -> Settled:
    """Time and mean power of each step under a limit; a limit that the lowest clock exceeds is exceeded."""
    low, high = np.full(len(work.time_s), LOWEST_CLOCK), np.ones(len(work.time_s))
    clock = np.where(_at(high, work, idle_w, exponent)[1] <= limit_w, high, low)
    for _ in range(30):
        middle = (low + high) / 2
        below = _at(middle, work, idle_w, exponent)[1] <= limit_w
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    clock = np.where(clock < 1.0, low, clock)
    time_s, power_w = _at(clock, work, idle_w, exponent)
    return Settled(clock, time_s, power_w)


def _at(clock: Array, work: Work, idle_w: float, exponent: float) -> tuple[Array, Array]:
    """Seconds and mean watts of each step at a clock."""
    time_s = (work.time_s * clock[:, None] ** -work.core).sum(axis=1)
    joules = work.core_j.sum(axis=1) * clock**exponent + work.hbm_j.sum(axis=1)
    return time_s, idle_w + joules / time_s
