"""Whether a model's launches or its kernels set the pace, and the batch size at which that turns.

Total Kernel Launch and Queuing Time (Vellaisamy et al., "Characterizing and Optimizing LLM Inference Workloads on
CPU-GPU Coupled Architectures", arXiv 2504.11750): for each kernel, from the host's launch call to its start on the GPU,
summed. While the host is behind, a kernel starts as soon as it is launched, and the sum hardly grows with the batch;
once the GPU is behind, kernels queue and it soars. It has turned where a kernel waits, beyond the launch itself, for
longer than the kernel before it runs.
"""

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from telemetry.errors import BadRecord

MOST_BYTES = 1 << 30
_US = 1e-6


@dataclass(frozen=True, slots=True)
class Launches:
    """What one trace shows of its kernels. `launch_s`: the least time from a launch call to a kernel's start."""

    name: str
    kernels: int
    tklqt_s: float
    launch_s: float
    busy_s: float
    span_s: float

    @property
    def wait_s(self) -> float:
        """Mean time that a kernel waits between its launch call and its start."""
        return self.tklqt_s / self.kernels

    @property
    def kernel_s(self) -> float:
        """Mean time that a kernel runs."""
        return self.busy_s / self.kernels

    @property
    def busy_ratio(self) -> float:
        """Share of the time from the first kernel to the end of the last in which one ran."""
        return self.busy_s / self.span_s if self.span_s else 0.0


@dataclass(frozen=True, slots=True)
class Bound:
    """One trace judged."""

    launches: Launches
    bound: Literal["cpu", "gpu"]


def judge(traces: Sequence[Launches]) -> list[Bound]:
    """Each trace by itself; the unqueued launch time is the least mean wait of all, which traces of one host share."""
    unqueued_s = min(one.wait_s for one in traces)
    return [Bound(one, "gpu" if one.wait_s > unqueued_s + one.kernel_s else "cpu") for one in traces]


def turns_at(bounds: Sequence[Bound]) -> str | None:
    """Name of the first trace from which on all are bound by the GPU; None where the last one is not."""
    found = None
    for one in reversed(bounds):
        if one.bound == "cpu":
            break
        found = one.launches.name
    return found


def read(path: Path) -> Launches:
    """A trace that PyTorch's profiler exported (JSON, plain or gzipped). Raises BadRecord and OSError."""
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            with gzip.open(path) as file:
                raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise BadRecord(f"{path}: more than {MOST_BYTES:,} bytes; profile fewer steps")
        found = json.loads(raw)
    except (ValueError, EOFError, zlib.error, RecursionError, gzip.BadGzipFile) as error:
        raise BadRecord(f"{path}: no JSON trace of PyTorch's profiler: {error}") from None
    events = found.get("traceEvents") if isinstance(found, dict) else found
    if not isinstance(events, list):
        raise BadRecord(f"{path}: got no list 'traceEvents', as PyTorch's profiler writes it")
    try:
        return launches(path.name.split(".")[0], [event for event in events if isinstance(event, dict)])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BadRecord(f"{path}: {error}") from None


def launches(name: str, events: Sequence[Mapping[str, object]]) -> Launches:
    """Sums over the kernels of a trace whose launch is in it too. Raises ValueError where there is none."""
    called_us: dict[object, float] = {}
    kernels: list[tuple[object, float, float]] = []
    for event in events:
        arguments = event.get("args")
        if event.get("ph") != "X" or not isinstance(arguments, dict) or "correlation" not in arguments:
            continue
        start_us = float(event["ts"])  # type: ignore[arg-type]
        if event.get("cat") == "kernel":
            kernels.append((arguments["correlation"], start_us, float(event["dur"])))  # type: ignore[arg-type]
        elif event.get("cat") in ("cuda_runtime", "cuda_driver") and "aunch" in str(event.get("name")):
            called_us[arguments["correlation"]] = start_us
    matched = [(called_us[key], start, length) for key, start, length in kernels if key in called_us]
    if not matched:
        raise ValueError("no kernel together with its launch in it; profile CPU and CUDA activities")
    waits = [start - called for called, start, _ in matched]
    span_us = max(start + length for _, start, length in matched) - min(start for _, start, _ in matched)
    return Launches(
        name, len(matched), sum(waits) * _US, min(waits) * _US, sum(x[2] for x in matched) * _US, span_us * _US
    )
