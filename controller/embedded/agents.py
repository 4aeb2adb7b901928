"""The agents of simulated nodes: readings are made here, everything after that is the agent's own code.

Each node's readings go through `telemetry.agent.Agent` with its detectors and state machine, and its report is written,
read and taken as one that came over the network.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.hardware import PRODUCT, node_gpus
from controller.reports import Report, parse
from planner.catalog import gpu as catalogue
from planner.errors import UnknownName
from planner.hardware import GPUType
from telemetry.agent import Agent
from telemetry.report import Reply, reply
from telemetry.sample import TIERS, Driver, Gpu, Reading, Xid
from telemetry.settings import Settings
from telemetry.tell import report
from telemetry.wire import Hello
from telemetry.xid_policy import catalogue as xid_catalogue

Object = Mapping[str, Any]

CLOCK_HZ = 1.5e9  # of every simulated GPU at full speed: detectors look at how it changes, not at what it is
_AMBIENT_C, _HOT_C = 28.0, 50.0  # a simulated GPU at its rated power is so much warmer than the air
_WARM_EVERY = 2  # readings of what changes fast for each of all
_BUSY_RATIO = 0.02  # NVML calls a GPU busy in which any kernel ran


@dataclass(frozen=True, slots=True)
class Load:
    """What a GPU does: power drawn, share of time in which it computes, share of its KV cache in use."""

    power_w: float
    busy_ratio: float = 0.0
    memory_ratio: float = 0.0


@dataclass(frozen=True, slots=True)
class Ailment:
    """What is wrong with a GPU. `kind`: xid, lost, slow; `factor`: the share of its speed that is left."""

    kind: str
    xid: int = 0
    factor: float = 1.0

    @property
    def stops(self) -> bool:
        """Whether nothing runs on the GPU until somebody mends it."""
        return self.kind == "lost" or (self.kind == "xid" and meaning(self.xid) in ("fatal_gpu", "fatal_node"))

    @property
    def gone(self) -> bool:
        """Whether the driver has lost the GPU, as after Xid 79: it fell off the bus."""
        return self.kind == "lost" or self.xid == _OFF_THE_BUS


_OFF_THE_BUS = 79


def meaning(code: int) -> str:
    """What the agent's table makes of an Xid."""
    found = xid_catalogue().get(code)
    return found.meaning if found is not None else "app"


@dataclass
class SimulatedAgent:
    """One node's. `caps`: the limits that were granted, in force until another comes."""

    node: str
    gpus: tuple[Gpu, ...]
    type: GPUType
    agent: Agent
    sequence: int = 0
    energy_j: list[float] = field(default_factory=list)
    heard: list[Ailment | None] = field(default_factory=list)
    read_s: float = 0.0
    reads: int = 0
    caps_w: dict[str, float] = field(default_factory=dict)

    def limit_w(self, gpu: Gpu) -> float:
        """A GPU's power limit in force. Its driver takes none below the least it accepts, nor above the rated power."""
        least_w = self.type.min_cap_w or 0.0
        return min(max(self.caps_w.get(gpu.uuid, self.type.tdp_w), least_w), self.type.tdp_w)

    @property
    def limits_w(self) -> tuple[float | None, ...]:
        """The limits in force by GPU; None for one that may draw all that it can."""
        found = (self.limit_w(one) for one in self.gpus)
        return tuple(limit_w if limit_w < self.type.tdp_w else None for limit_w in found)

    def read(self, loads: Sequence[Load], ills: Sequence[Ailment | None], now_s: float) -> None:
        """Read every GPU once."""
        passed_s = now_s - self.read_s if self.read_s else 0.0
        self.read_s = now_s
        for one, load, ill in zip(self.gpus, loads, ills, strict=True):
            at = one.index
            was = self.heard[at]
            if ill is None and was is not None:
                self.energy_j[at] = 0.0  # it was reset or replaced, so its counter begins anew
            if ill is not None and ill.xid and ill != was:
                self.agent.hear(Xid(at, ill.xid, now_s, "nvml"))
            self.heard[at] = ill
            self.energy_j[at] += load.power_w * passed_s
            lost = "it has fallen off the bus" if ill is not None and ill.gone else ""
            values = {} if lost else self._values(one, load, ill)
            for tier in TIERS[: 2 if self.reads % _WARM_EVERY == 0 else 1]:
                self.agent.hear(Reading(at, tier, now_s, values, lost=lost))
        self.agent.judge(self.agent.heard.overruns.looks(now_s, self.gpus, self.agent.samples), now_s)
        self.reads += 1

    def serve(self, gpu: int, service: str, latencies_s: Sequence[float]) -> None:
        """A replica's engine tells of requests that ended."""
        for latency_s in latencies_s:
            self.agent.heard.overruns.request(service, gpu, latency_s)

    def _values(self, one: Gpu, load: Load, ill: Ailment | None) -> dict[str, float]:
        hot = load.power_w / self.type.tdp_w
        return {
            "power_w": load.power_w,
            "power_limit_enforced_w": self.limit_w(one),
            "energy_j": self.energy_j[one.index],
            "temperature_c": _AMBIENT_C + _HOT_C * hot,
            "utilization_ratio": 1.0 if load.busy_ratio > _BUSY_RATIO else 0.0,
            "sm_active_ratio": load.busy_ratio,
            "sm_clock_hz": CLOCK_HZ * (1.0 if ill is None or ill.kind != "slow" else ill.factor),
            "clock_event_mask": 0.0,
            "performance_state": 0.0,
            "memory_total_bytes": self.type.hbm_bytes,
            "memory_used_bytes": self.type.hbm_bytes * load.memory_ratio,
        }

    def report(self, now_s: float) -> Report:
        """The node's report, as the controller reads it."""
        self.sequence = max(self.sequence + 1, math.floor(now_s * 1000))
        return parse(report(self.agent, self.sequence, now_s).encoded())

    def take(self, body: bytes, now_s: float) -> None:
        """The controller's answer."""
        answer: Reply = reply(body)
        self.caps_w = {one.uuid: one.watts for one in answer.caps}
        self.agent.take(answer, now_s)


def agent_of(node: Object, now_s: float, uuid: Callable[[str, int], str]) -> SimulatedAgent | None:
    """The agent of a node; None for one whose GPU nobody knows."""
    name, label = node["metadata"]["name"], (node["metadata"].get("labels") or {}).get(PRODUCT, "")
    try:
        known = catalogue(label)
    except UnknownName:
        return None
    gpus = tuple(Gpu(index, uuid(name, index), label) for index in range(node_gpus(node)))
    agent = Agent(Settings(node=name, hot_s=60.0, version="simulated"), f"boot-{name}", now_s)
    agent.hear(Hello(Driver("simulated"), gpus, now_s))
    made = SimulatedAgent(name, gpus, known, agent)
    made.energy_j, made.heard = [0.0] * len(gpus), [None] * len(gpus)
    return made


def uuid_of(node: str, index: int) -> str:
    """What a simulated GPU is called, the same at every start."""
    return f"GPU-{node}-{index}"
