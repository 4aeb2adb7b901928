"""Collectives between GPUs: measured curves of time over bytes, and what bytes cost on a link that nobody measured.

A curve is one collective of one library among so many GPUs; between its points time is a line in bytes, as it is for
latency plus bytes over bandwidth, beyond the last point the last line goes on. A GPU that was not measured gets the
curve of the nearest generation, its latency kept and the rest scaled by the links' rates. All-reduce on a ring moves
2 (N - 1) / N of the message (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of
workstations", JPDC 2009), all-gather and reduce-scatter (N - 1) / N, all-to-all likewise: so other N are scaled.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.hardware import GPUType
from planner.perf.op_features import generation
from planner.perf.stored import meta_of, stored
from planner.perf.tables import Columns, numbers, words

Array = NDArray[np.float64]
KINDS = ("all_reduce", "all_gather", "reduce_scatter", "alltoall")
BACKENDS = ("nccl", "graph", "eager")
_BYTES = {"half": 2.0, "float16": 2.0, "bfloat16": 2.0, "bf16": 2.0, "fp16": 2.0, "int8": 1.0, "fp8": 1.0, "float": 4.0}
_BYTES |= {"float32": 4.0, "fp32": 4.0}
MOST_GPUS, MOST_ELEMENTS = 1024, 1e11
# Rate of a link that the catalogue does not state: PCIe 4.0 x16, one direction.
USUAL_LINK_BYTES_PER_S = 32e9


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Seconds over bytes of one collective."""

    gpu: str
    kind: int
    backend: int
    narrow: bool  # elements of one byte
    gpus: int
    size: Array
    time_s: Array

    def at(self, size: Array) -> Array:
        """Seconds of messages of `size` bytes."""
        slope = (self.time_s[-1] - self.time_s[-2]) / (self.size[-1] - self.size[-2])
        beyond = np.maximum(size - self.size[-1], 0.0) * max(slope, 0.0)
        found: Array = np.interp(size, self.size, self.time_s) + beyond
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """Seconds of each collective, and whether it was measured among so many of these GPUs."""

    time_s: Array
    measured: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Exchange:
    """One direction of an expert-parallel all-to-all: seconds before the first byte, share of the link's rate."""

    start_s: float
    rate_ratio: float


def meta() -> Mapping[str, Any]:
    """What the curves come from, and the errors of what was left out."""
    return meta_of("collectives")


@cache
def curves() -> tuple[Curve, ...]:
    """All shipped curves."""
    arrays, made = stored("collectives"), []
    ends = np.cumsum(arrays["counts"])
    for (where, kind, backend, narrow, gpus), end, count in zip(arrays["keys"], ends, arrays["counts"], strict=True):
        points = slice(end - count, end)
        size, time_s = arrays["size"][points], arrays["time_s"][points].astype(float)
        made.append(Curve(meta()["gpus"][where], int(kind), int(backend), bool(narrow), int(gpus), size, time_s))
    return tuple(made)


def links(columns: Columns) -> tuple[dict[str, Array], NDArray[Any]]:
    """Kind, backend, GPUs and bytes of each row, and its refusal ("" where usable; such rows hold harmless figures)."""
    kinds = [word.replace("all_to_all", "alltoall") for word in words(columns, "op_name", "all_reduce")]
    sources = words(columns, "kernel_source", "NCCL")
    dtypes = words(columns, "nccl_dtype") if "nccl_dtype" in columns else words(columns, "allreduce_dtype", "half")
    gpus, elements = numbers(columns, "num_gpus"), numbers(columns, "message_size")
    refusal = np.array(
        [_refusal(*row) for row in zip(kinds, dtypes, gpus.tolist(), elements.tolist(), strict=True)],
        dtype=object,
    )
    fine = refusal == ""
    widths = np.array([_BYTES.get(d, 2.0) for d in dtypes])
    figures = {
        "kind": np.array([float(KINDS.index(k)) if ok else 0.0 for k, ok in zip(kinds, fine, strict=True)]),
        "backend": np.array([float(_backend(name)) for name in sources]),
        "gpus": np.where(fine, gpus, 2.0),
        "bytes": np.where(fine, elements, 1.0) * widths,
        "narrow": 1.0 * (widths == 1),
    }
    return figures, refusal


def _backend(source: str) -> int:
    return next((i for i, name in enumerate(BACKENDS) if name in source.lower()), 0)


def _refusal(kind: str, dtype: str, gpus: float, elements: float) -> str:
    if kind not in KINDS:
        return f"unknown collective {kind[:40]!r}: known are {', '.join(KINDS)}"
    if dtype not in _BYTES:
        return f"unknown dtype {dtype[:40]!r}: known are {', '.join(sorted(_BYTES))}"
    if not 2 <= gpus <= MOST_GPUS or gpus != int(gpus):
        return f"num_gpus is {gpus:g}, allowed are whole numbers from 2 to {MOST_GPUS}"
    if not 1 <= elements <= MOST_ELEMENTS:
        return f"message_size is {elements:g} elements, allowed are 1 to {MOST_ELEMENTS:g}"
    return ""


def link_bytes_per_s(gpu: GPUType) -> float:
    """Rate of a GPU's link to its peers in the node, one direction: NVLink or its like, else PCIe."""
    return gpu.scale_up_bytes_per_s or gpu.pcie_bytes_per_s or USUAL_LINK_BYTES_PER_S


def collective_s(
    gpu: GPUType, figures: Mapping[str, Array], among: tuple[Curve, ...], specs: dict[str, GPUType]
) -> Times:
    """Seconds of every row of `links` on a GPU. `among`: curves to go by; `specs`: the GPUs that they are of."""
    keys = np.stack([figures[key] for key in ("kind", "backend", "narrow", "gpus")], axis=1)
    groups, at = np.unique(keys, axis=0, return_inverse=True)
    time_s, measured = np.empty(len(keys)), np.zeros(len(keys), bool)
    for i, (kind, backend, narrow, gpus) in enumerate(groups.tolist()):
        mine = at.ravel() == i
        time_s[mine], measured[mine] = _one(
            gpu, (int(kind), int(backend), bool(narrow), int(gpus)), figures["bytes"][mine], among, specs
        )
    return Times(time_s, measured)


def _one(
    gpu: GPUType, key: tuple[int, int, bool, int], size: Array, among: tuple[Curve, ...], specs: dict[str, GPUType]
) -> tuple[Array, bool]:
    """Seconds of messages of one collective, and whether that very curve was measured."""
    kind, backend, narrow, gpus = key
    near = _nearest_gpus(gpu, {c.gpu for c in among if (c.kind, c.backend) == (kind, backend)}, specs)
    found, exact = [], True
    for name in near:
        same = [c for c in among if (c.gpu, c.kind, c.backend) == (name, kind, backend)]
        same = [c for c in same if c.narrow == narrow] or same
        time_s, hit = _among_gpus(same, gpus, size)
        latency_s = min(float(c.time_s[:4].min()) for c in same if c.gpus == _closest(same, gpus))
        rate = link_bytes_per_s(specs[name]) / link_bytes_per_s(gpu)
        # What is latency does not get shorter or longer with the link.
        found.append(np.minimum(latency_s, time_s) + np.maximum(time_s - latency_s, 0.0) * rate)
        exact &= hit and name == gpu.name
    return np.exp(np.mean(np.log(found), axis=0)), exact


def _nearest_gpus(gpu: GPUType, names: set[str], specs: dict[str, GPUType]) -> list[str]:
    """The GPU itself where it was measured, else those of the nearest generation, then of the nearest link rate."""
    if gpu.name in names:
        return [gpu.name]

    def distance(name: str) -> tuple[float, float]:
        apart = abs(generation(specs[name]) - generation(gpu))
        return apart, round(abs(np.log(link_bytes_per_s(specs[name]) / link_bytes_per_s(gpu))), 6)

    least = min(map(distance, names))
    return sorted(name for name in names if distance(name) == least)


def _closest(same: list[Curve], gpus: int) -> int:
    return min({c.gpus for c in same}, key=lambda n: (abs(np.log2(n / gpus)), n))


def _among_gpus(same: list[Curve], gpus: int, size: Array) -> tuple[Array, bool]:
    """Between numbers of GPUs, a line in logarithms; beyond the most, hops and the share moved grow as on a ring."""
    by = {c.gpus: c for c in same}
    if gpus in by:
        return by[gpus].at(size), True
    below, above = [n for n in by if n < gpus], [n for n in by if n > gpus]
    if below and above:
        low, high = max(below), min(above)
        share = np.log(gpus / low) / np.log(high / low)
        return np.exp((1 - share) * np.log(by[low].at(size)) + share * np.log(by[high].at(size))), False
    edge = max(below) if below else min(above)
    latency_s = float(by[edge].time_s[:4].min())
    more = np.maximum(by[edge].at(size) - latency_s, 0.0)
    hops, moved = np.log2(gpus) / np.log2(edge), (1 - 1 / gpus) / (1 - 1 / edge)
    return latency_s * hops + more * moved, False


def exchanges() -> Mapping[str, Exchange]:
    """What was measured of all-to-alls of experts, by library and direction: `deepep_ht:dispatch`."""
    return {name: Exchange(*pair) for name, pair in meta()["exchanges"].items()}


def exchange_s(
    gpu: GPUType,
    exchange: Exchange,
    tokens: Array,
    hidden: Array | float,
    per_token: float,
    ranks: int,
    gpus_per_node: int = 8,
    network_bytes_per_s: float | None = None,
    element_bytes: float = 2.0,
) -> Array:
    """Seconds in which `tokens` of every rank reach, or return from, the ranks of their `per_token` experts.

    A token goes once to each rank that holds one of its experts, balanced: ranks x (1 - (1 - 1 / ranks)^per_token) of
    them, but its own. It crosses to each other node once, over `network_bytes_per_s` of one GPU, and is handed on over
    the links in the node; both happen at once, so that the slower one counts. Raises ValueError where ranks span nodes
    and no network is stated. The network is taken to reach the share of its rate that links do; a crossing adds what
    one added between two nodes of A100s.
    """
    inside = min(ranks, gpus_per_node)
    met = ranks * (1 - (1 - 1 / ranks) ** per_token)
    row_bytes = np.asarray(tokens, dtype=float) * hidden * element_bytes
    # Of the ranks that a token goes to, all but its own share one of its node's links at the end.
    link_s = row_bytes * met * (1 - 1 / ranks) / link_bytes_per_s(gpu) / exchange.rate_ratio
    if ranks <= inside:
        return np.asarray(exchange.start_s + link_s)
    if network_bytes_per_s is None:
        raise ValueError(f"{ranks} ranks on nodes of {gpus_per_node} GPUs need network_bytes_per_s")
    nodes = ranks / inside
    crossed = nodes * (1 - (1 - 1 / nodes) ** per_token) * (1 - 1 / nodes)
    network_s = row_bytes * crossed / network_bytes_per_s / exchange.rate_ratio
    return np.asarray(exchange.start_s + meta()["crossing_s"] + np.maximum(link_s, network_s))
