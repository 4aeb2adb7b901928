"""The extension point of the performance model: a technique changes the demand of a case.

One file of `planner.techniques` holds one technique and ends in `TECHNIQUE = <its class>`; the file's name, with
`-` for `_`, is its name. Techniques compose as a fold over the cost of the model on one GPU, ordered by stage and
nothing else: two of the same stage must commute (a test holds every file to that).

Who holds what comes first, so that the sharded cost depends on a case alone and need be made only once for all formats
and schedules; formats then narrow one GPU's share.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import reduce
from typing import ClassVar, Literal

from planner.base import base_cost
from planner.cost import ONE_GPU, Case, Cost
from planner.plan import Recipe
from planner.techniques import techniques


class Stage(IntEnum):
    """When a technique is applied: who holds what first, then in which format, where it lies, and when it runs."""

    SHARDING = 1
    PRECISION = 2
    PLACEMENT = 3
    SCHEDULE = 4


class Technique(ABC):
    """One way to change what a case demands.

    `searched`: whether a plan may use it unasked; else only where a service names it. What it keeps of the 16-bit
    model's accuracy is said by `planner.catalog.recovery`: all of it, where quality.yaml has no rows for it.
    `quantised`: whether an engine must be given a checkpoint that somebody quantised, instead of the model's own.
    """

    stage: ClassVar[Stage]
    searched: ClassVar[bool] = True
    quantised: ClassVar[bool] = False

    @abstractmethod
    def apply(self, cost: Cost, case: Case) -> Cost:
        """The cost of the case with this technique on."""

    def objection(self, case: Case) -> str | None:
        """Why it cannot be used here, in words for the user."""
        return None

    def flags(self, engine: str) -> Mapping[str, str] | None:
        """What the serving engine must be told: flag without dashes -> value ("" for a switch).

        Empty where the engine does it untold; None where no release of it can: then no plan uses it there.
        """
        return {}


@dataclass(frozen=True)
class Parallelism(Technique):
    """A technique that spreads a replica over GPUs, turned on by the degree of a case that bears its name, above 1."""

    ways: int = 2
    stage: ClassVar[Stage] = Stage.SHARDING
    degree: ClassVar[Literal["tp", "pp", "ep", "dp", "cp"]]


def parallelisms(case: Case | Recipe) -> list[Parallelism]:
    """What the degrees of a case or a recipe call for."""
    kinds = [made for made in techniques().values() if issubclass(made, Parallelism)]
    return [made(ways) for made in kinds if (ways := getattr(case, made.degree)) > 1]


def sharded(case: Case) -> Cost:
    """What the busiest GPU of a replica does, with the case's degrees and no other technique."""
    base = base_cost(replace(case, **ONE_GPU._asdict()))
    return reduce(lambda cost, technique: technique.apply(cost, case), parallelisms(case), base)


def cost_of(case: Case, techniques: Iterable[Technique], base: Cost | None = None) -> Cost:
    """The cost of a case with techniques, applied by stage. Raises MissingFigure where the GPU lacks a needed peak.

    `base`: `sharded(case)`, where it is known already.
    """
    ordered = sorted(techniques, key=lambda technique: technique.stage)
    start = sharded(case) if base is None else base
    return reduce(lambda cost, technique: technique.apply(cost, case), ordered, start)


def flags_of(case: Case | Recipe, techniques: Iterable[Technique], engine: str) -> dict[str, str]:
    """What an engine must be told to run a case with techniques; later ones have the last word on a flag of two.

    SGLang counts the ranks of data-parallel attention among the GPUs of its tensor-parallel group.
    """
    told: dict[str, str] = {}
    for technique in [*parallelisms(case), *techniques]:
        told.update(technique.flags(engine) or {})
    if engine == "sglang" and case.dp > 1:
        told["tensor-parallel-size"] = str(case.tp * case.dp)
    return told
