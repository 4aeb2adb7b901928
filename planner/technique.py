"""The extension point of the performance model: a technique changes the demand of a case.

One file of `planner.techniques` holds one technique and ends in `TECHNIQUE = <its class>`; the file's name, with
`-` for `_`, is its name. Techniques compose as a fold over the base cost, ordered by stage and nothing else:
two of the same stage must commute (a test holds every file to that).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from enum import IntEnum
from functools import reduce
from typing import ClassVar

from planner.base import base_cost
from planner.cost import Case, Cost


class Stage(IntEnum):
    """When a technique is applied: formats first, then who holds what, then where it lies, then when it runs."""

    PRECISION = 1
    SHARDING = 2
    PLACEMENT = 3
    SCHEDULE = 4


class Technique(ABC):
    """One way to change what a case demands.

    `recovery_ratio`: accuracy kept against the 16-bit model, as published; 1 for what computes the same numbers.
    `searched`: whether a plan may use it unasked; else only where a service names it.
    """

    stage: ClassVar[Stage]
    recovery_ratio: ClassVar[float] = 1.0
    searched: ClassVar[bool] = True

    @abstractmethod
    def apply(self, cost: Cost, case: Case) -> Cost:
        """The cost of the case with this technique on."""

    def objection(self, case: Case) -> str | None:
        """Why it cannot be used here, in words for the user."""
        return None

    def flags(self, engine: str) -> Mapping[str, str]:
        """What the serving engine must be told: flag without dashes -> value ("" for a switch)."""
        return {}


def cost_of(case: Case, techniques: Iterable[Technique], base: Cost | None = None) -> Cost:
    """The cost of a case with techniques, applied by stage. Raises MissingFigure where the GPU lacks a needed peak.

    `base`: the case's cost without any technique, where it is known already.
    """
    ordered = sorted(techniques, key=lambda technique: technique.stage)
    start = base_cost(case) if base is None else base
    return reduce(lambda cost, technique: technique.apply(cost, case), ordered, start)
