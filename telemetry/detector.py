"""The extension point of fault detection: one file of `telemetry.detectors` holds one detector, or a table of equal
ones.

A file ends in `DETECTOR = Detector(...)` or `DETECTORS = (...)`. A detector looks; it keeps nothing, decides nothing:
the state machine (`telemetry.machine`) does that after the detector's rule.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Literal

from telemetry.fault import Action, Look, Rule, Severity
from telemetry.sample import Tier
from telemetry.view import View

Looks = Mapping[str, Look]  # part of the GPU ("" = all of it, "link 3") -> what was seen there


@dataclass(frozen=True, slots=True)
class Detector:
    """`look` is asked after each reading of `tier`, at most once in `every_s` seconds.

    It answers with a look for each part that it can judge now; a part that it does not name is not judged.
    """

    name: str
    severity: Severity
    action: Action
    tier: Tier | Literal["xid"]
    rule: Rule
    look: Callable[[View], Looks]
    help: str
    every_s: float = 0.0


def elsewhere(_: View) -> Looks:
    """The look of a detector that is not asked after readings: `telemetry.watch.Watch.see` is told what was seen."""
    return {}


@cache
def detectors() -> tuple[Detector, ...]:
    """Every detector of the package, in order of file."""
    package = import_module("telemetry.detectors")
    found: list[Detector] = []
    for info in sorted(iter_modules(package.__path__), key=lambda one: one.name):
        module = import_module(f"telemetry.detectors.{info.name}")
        found += getattr(module, "DETECTORS", ()) or (module.DETECTOR,)
    return tuple(found)


def whole(hit: bool, value: float, words: str) -> Looks:
    """A look at the GPU as a whole."""
    return {"": Look(hit, value, words)}
