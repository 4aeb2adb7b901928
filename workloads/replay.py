"""CUDA graphs of kernels: captured once, timed over a few replays, or replayed for a second while power is read."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import torch

from workloads.meter import Meter, Reading


@dataclass(frozen=True, slots=True)
class Burst:
    """Seconds of one operation: the median replay, and the spread (largest - smallest over the median)."""

    time_s: float
    spread_ratio: float
    sm_hz: float


@dataclass(frozen=True, slots=True)
class Sustained:
    """The same after the clocks have settled, with what the GPU drew."""

    time_s: float
    spread_ratio: float
    reading: Reading


def capture(run: Callable[[int], object], operations: int) -> torch.cuda.CUDAGraph:
    """A graph of `run(0)`, `run(1)` ... on the current stream, which must not be the default one."""
    run(0)
    torch.cuda.current_stream().synchronize()
    graph = torch.cuda.CUDAGraph()
    graph.capture_begin()
    try:
        for i in range(operations):
            run(i)
    finally:
        graph.capture_end()
    graph.replay()
    torch.cuda.current_stream().synchronize()
    return graph


def burst(graph: torch.cuda.CUDAGraph, operations: int, meter: Meter, replays: int = 5) -> Burst:
    """A few replays, queued together so that the host is never waited for."""
    marks = [_mark() for _ in range(replays + 1)]
    graph.replay()
    marks[0].record()
    for mark in marks[1:]:
        graph.replay()
        mark.record()
    sm_hz = meter.sm_hz()
    marks[-1].synchronize()
    each = [a.elapsed_time(b) / 1e3 / operations for a, b in pairwise(marks)]
    return Burst(median(each), (max(each) - min(each)) / median(each), sm_hz)


def sustained(
    graph: torch.cuda.CUDAGraph, operations: int, replay_s: float, meter: Meter, settle_s: float, window_s: float
) -> Sustained:
    """Replays for `settle_s`, then for `window_s` in which time and power count."""
    per_turn = max(1, round(0.02 / max(replay_s, 1e-6)))
    waiting: deque[tuple[Any, Any]] = deque()
    each: list[float] = []
    start: tuple[float, float] | None = None
    began = time.perf_counter()
    while start is None or time.perf_counter() - start[0] < window_s:
        first, last = _mark(), _mark()
        first.record()
        for _ in range(per_turn):
            graph.replay()
        last.record()
        waiting.append((first, last))
        if len(waiting) > 2:  # enough is queued to keep the GPU busy
            a, b = waiting.popleft()
            b.synchronize()
            if start is not None:
                each.append(a.elapsed_time(b) / 1e3 / (per_turn * operations))
            elif time.perf_counter() - began >= settle_s:
                start = meter.energy_j()
    end = meter.energy_j()
    torch.cuda.current_stream().synchronize()
    middle = median(each) if each else waiting[-1][0].elapsed_time(waiting[-1][1]) / 1e3 / (per_turn * operations)
    spread = (max(each) - min(each)) / middle if each else 0.0
    return Sustained(middle, spread, meter.between(start, end))


def _mark() -> Any:
    event: Any = torch.cuda.Event  # whose types are partly missing
    return event(enable_timing=True)
