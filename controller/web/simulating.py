"""A plan's replicas served with simulated requests, before or while it is in force: asked for here, run in a child."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from pydantic import TypeAdapter

from controller.hardware import offer
from controller.kube.known import gpu_of_product
from controller.plan_child import PlanningFailed
from controller.web.child import Child
from controller.web.one_by_one import Late, OneByOne
from controller.web.site import Site

Object = Mapping[str, Any]
LONGEST_S = 60.0  # while others are served included
_MOST_WAITING = 4
MOST_REQUESTS = 200_000


@dataclass(frozen=True, slots=True)
class Asked:
    """Requests of a service at a rate (None: as planned), Poisson, for so long, to the replicas of one outcome."""

    key: str
    decision: str
    rate_per_s: float
    duration_s: float
    seed: int


@dataclass(frozen=True, slots=True)
class LatencySeen:
    """One latency of a class of requests: simulated percentiles beside the objective (None: not asked for)."""

    metric: str  # ttft_s, tpot_s, e2e_s
    objective_s: float | None
    p50_s: float
    p95_s: float
    p99_s: float


@dataclass(frozen=True, slots=True)
class ClassSeen:
    """One class of requests. `met_ratio`: those within all their objectives; `asked_ratio`: as many are to be."""

    slo_class: str
    requests: int
    met_ratio: float
    asked_ratio: float
    latencies: tuple[LatencySeen, ...]


@dataclass(frozen=True, slots=True)
class Simulated:
    """What came of it. Requests of the first `warm_s` are served and not counted in ratios and percentiles.

    submitted = finished + refused + left; `met`: whether every class met its objectives often enough.
    """

    key: str
    decision: str
    rate_per_s: float
    duration_s: float
    warm_s: float
    seed: int
    submitted: int
    finished: int
    refused: int
    left: int
    preemptions: int
    met: bool
    goodput_per_s: float
    power_w: float
    classes: tuple[ClassSeen, ...]


class Simulates(Protocol):
    """Runs a simulation."""

    def simulate(self, site: Site, asked: Asked, service: Object, allocations: list[Object]) -> Simulated:
        """What came of it; raises PlanningFailed for what cannot be simulated, in words, Busy where too many ask."""

    def stop(self) -> None:
        """End for good."""


class ChildSimulator:
    """In a child process, one at a time."""

    def __init__(self, longest_s: float = LONGEST_S) -> None:
        self._longest_s = longest_s
        self._child = Child("controller.web.simulate_child", longest_s)
        self._runs = OneByOne(_MOST_WAITING, "simulation")

    def simulate(self, site: Site, asked: Asked, service: Object, allocations: list[Object]) -> Simulated:
        """What came of it; raises PlanningFailed, Busy."""
        question = {"asked": asked, "service": service, "allocations": allocations, "hardware": _hardware(site)}
        line = None
        with self._runs.question() as began_s, suppress(Late):
            line = self._runs.do(lambda: self._child.ask(orjson.dumps(question)), began_s + self._longest_s)
        if line is None:
            raise PlanningFailed(f"the simulation ended, or took longer than the allowed {self._longest_s:g} s")
        said = orjson.loads(line)
        if "error" in said:
            raise PlanningFailed(said["error"])
        return TypeAdapter(Simulated).validate_python(said["simulated"])

    def stop(self) -> None:
        """End the process."""
        self._runs.stop()
        self._child.stop()


def _hardware(site: Site) -> Object:
    """The cluster's GPU types and networks, with nodes that are out or full."""
    nodes = [{**one, "spec": {}} for one in site.known.items("nodes")]
    return offer(site.known.items("clusterinventories"), (), nodes, {}, {}, gpu_of_product).document
