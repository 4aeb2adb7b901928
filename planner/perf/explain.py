"""Where a step's time goes (each operation's seconds, what binds it, what it moves), and where a GPU's bytes go."""

from dataclasses import dataclass

import numpy as np

from planner.calibration import ENGINES, EngineCosts
from planner.cost import Case, Cost, Op
from planner.perf.memory import Budget, Running, budget
from planner.roofline import resources_s, seconds, step_time
from planner.technique import sharded


@dataclass(frozen=True, slots=True)
class Line:
    """One kind of operation of one step. `bound`: the resource that takes longest."""

    operation: str
    time_s: float
    share_ratio: float
    bound: str
    flops: float
    hbm_bytes: float
    link_bytes: float


@dataclass(frozen=True, slots=True)
class Breakdown:
    """One phase: its lines, the host's share, and the whole; `rides`: the phase whose steps it shares, "" for none."""

    phase: str
    lines: tuple[Line, ...]
    host_s: float
    total_s: float
    tokens: float
    rides: str = ""


def explain(case: Case, engine: str = "vllm", cost: Cost | None = None) -> tuple[Breakdown, ...]:
    """The phases of a case (one point, no grid), operations of the same kind in all layers added up."""
    made = sharded(case) if cost is None else cost
    return tuple(_phase(name, case, made, ENGINES[engine]) for name in made.phases)


def memory(case: Case, engine: str = "vllm", weight_format: str = "", kv_format: str = "bf16") -> Budget | str:
    """Where the bytes of one GPU go under an engine and what KV fits, or in words why nothing does."""
    name, version = ("vllm", (0, 2)) if engine == "vllm-2023" else (engine, ())
    sequences = max(int(np.max(case.batch)), Running().sequences)
    running = Running(name, version, case.tp, case.pp, 1, 0, 0, weight_format, kv_format, sequences)
    return budget(case.model, case.gpu, running)


def _phase(name: str, case: Case, cost: Cost, engine: EngineCosts) -> Breakdown:
    phase = cost.phases[name]
    total_s = float(np.max(step_time(phase, case.gpu, engine).total_s))
    ops = [op for op in phase.ops if op.name != "host"]
    kinds = list(dict.fromkeys(op.name for op in ops))
    lines = [_line(kind, [op for op in ops if op.name == kind], case, engine, total_s) for kind in kinds]
    gpu_s = sum(line.time_s for line in lines)
    return Breakdown(name, tuple(lines), total_s - gpu_s, total_s, float(np.max(phase.tokens)), phase.rides or "")


def _line(kind: str, ops: list[Op], case: Case, engine: EngineCosts, total_s: float) -> Line:
    time_s = sum(float(np.max(seconds(op, case.gpu, engine))) for op in ops)
    busy: dict[str, float] = {}
    for op in ops:
        for resource, amount_s in resources_s(op, case.gpu, engine).items():
            busy[resource] = busy.get(resource, 0.0) + float(np.max(amount_s))
    moved = {"hbm": 0.0, "link": 0.0}
    for op in ops:
        for at, amount in op.traffic.items():
            if at.item not in ("collectives", "hops"):
                moved["hbm" if at.place == "hbm" else "link"] += float(np.max(amount))
    bound = max(busy, key=lambda resource: busy[resource]) if any(busy.values()) else "-"
    flops = sum(float(np.max(op.flops)) for op in ops)
    return Line(kind, time_s, time_s / total_s, bound, flops, moved["hbm"], moved["link"])
