"""Collectives between GPUs of a node: bytes over the link, hops, and what measured kernels add.

All-reduce on a ring moves 2 (N - 1) / N of the message (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms
for clusters of workstations", JPDC 2009), all-gather and reduce-scatter (N - 1) / N, all-to-all likewise.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.hardware import GPUType
from planner.perf.op_features import GENERATIONS, Work
from planner.perf.tables import Columns, numbers, words

Array = NDArray[np.float64]
KINDS = ("all_reduce", "all_gather", "reduce_scatter", "alltoall")
BACKENDS = ("nccl", "graph", "eager")
_BYTES = {"half": 2.0, "float16": 2.0, "bfloat16": 2.0, "bf16": 2.0, "fp16": 2.0, "int8": 1.0, "fp8": 1.0, "float": 4.0}
_BYTES |= {"float32": 4.0, "fp32": 4.0}
MOST_GPUS, MOST_ELEMENTS = 1024, 1e12
LAUNCH_S = 5e-6


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
    figures = {
        "kind": np.array([float(KINDS.index(k)) if ok else 0.0 for k, ok in zip(kinds, fine, strict=True)]),
        "backend": np.array([float(_backend(name)) for name in sources]),
        "gpus": np.where(fine, gpus, 2.0),
        "bytes": np.where(fine, elements, 1.0) * np.array([_BYTES.get(d, 2.0) for d in dtypes]),
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


def link_work(gpu: GPUType, known: int, figures: dict[str, Array]) -> Work:
    """What each collective asks of the link between GPUs: NVLink or its like, else PCIe."""
    n, size = figures["gpus"], figures["bytes"]
    rate = gpu.scale_up_bytes_per_s or gpu.pcie_bytes_per_s or 32e9
    moved_s = size * np.where(figures["kind"] == 0, 2.0, 1.0) * (n - 1) / n / rate
    hops_s = LAUNCH_S * np.log2(n)
    generation = [i for i, name in enumerate(GENERATIONS) if name in gpu.architecture.lower()]
    columns = (
        np.full(len(n), float(known)),
        np.full(len(n), float(generation[0] if generation else 0)),
        figures["kind"],
        figures["backend"],
        n,
        np.log(size),
        np.log(moved_s),
        np.log(moved_s / hops_s),
    )
    return Work(moved_s, hops_s, np.stack(columns, axis=1))
