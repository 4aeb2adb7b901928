"""Demand and hardware to seconds: within an op the slowest resource counts, ops of a step add up.

seconds(op) = max over resources of demand / (peak x efficiency); efficiencies come from `planner.calibration`.
Roofline: Williams et al., "Roofline: an insightful visual performance model for multicore architectures", CACM 2009.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from planner.calibration import COLLECTIVE_S, HOP_S, LINK_RATIO, EngineCosts, Kernels, kernels
from planner.cost import Cost, Figure, Op, Phase
from planner.errors import MissingFigure
from planner.hardware import GPUType

_COUNT_S = {"collectives": COLLECTIVE_S, "hops": HOP_S}
_HOST = "host"
# Kernels alone, without what a serving engine adds.
BARE = EngineCosts(0.0, 0.0, 0.0, False, 1.0, 1.0, "no engine")
# The measured GPUs of an architecture hold their clock down while they multiply: an H200 at 700 W ran products of 2,048
# rows at 1,470 of 1,980 MHz, and at 1,980 on a tenth of its SMs (`workloads/sm_partition.py`). Their shares of peak say
# so. A GPU with less than half their arithmetic per watt (H100: 989 TFLOP/s at 700 W) does not run into its limit.
CLOCK_HELD = {"hopper": (1470 / 1980, 989e12 / 700)}


class StepTime(NamedTuple):
    """Seconds of one step, and how many of them HBM and the compute units were busy (for power)."""

    total_s: Figure
    compute_s: Figure
    hbm_s: Figure


def reached(gpu: GPUType) -> Kernels:
    """What kernels reach of a GPU's peaks: its architecture's, without the loss to the clock where it has none."""
    ratios = kernels(gpu.architecture)
    clock, flops_per_joule = CLOCK_HELD.get(gpu.architecture.lower(), (1.0, 0.0))
    peak = gpu.flops_per_s.get("bf16", gpu.flops_per_s.get("fp16", 0.0))
    if peak >= flops_per_joule * gpu.tdp_w / 2 or gpu.max_cap_w not in (None, gpu.tdp_w):
        return ratios
    by_dtype = {dtype: min(ratio / clock, 1.0) for dtype, ratio in ratios.by_dtype.items()}
    gemm_ratio, attention_ratio = min(ratios.gemm_ratio / clock, 1.0), min(ratios.attention_ratio / clock, 1.0)
    return replace(ratios, gemm_ratio=gemm_ratio, attention_ratio=attention_ratio, by_dtype=by_dtype)


def seconds(op: Op, gpu: GPUType, engine: EngineCosts) -> Figure:
    """Seconds of one op on one GPU, without the host. Raises MissingFigure where the GPU's row lacks a needed peak."""
    compute_s, places = _demands(op, gpu, engine, reached(gpu))
    return _slowest(compute_s, places)


def resources_s(op: Op, gpu: GPUType, engine: EngineCosts) -> Mapping[str, Figure]:
    """Seconds that each resource alone would need for an op: "compute" and the places that it moves bytes through."""
    compute_s, places = _demands(op, gpu, engine, reached(gpu))
    return {"compute": compute_s, **places}


def step_time(phase: Phase, gpu: GPUType, engine: EngineCosts) -> StepTime:
    """Seconds of one step of a phase, with the engine's overhead, apart from the phase that it may ride on."""
    ratios, whole = reached(gpu), bool(np.all(phase.compute_ratio == 1) and np.all(phase.hbm_ratio == 1))
    gpu_s: Figure = 0.0
    compute_sum_s: Figure = 0.0
    hbm_sum_s: Figure = 0.0
    for op in phase.ops:
        compute_s, places = _demands(op, gpu, engine, ratios)
        mine = (compute_s, places) if whole else _divided(compute_s, places, phase)
        gpu_s = gpu_s + _slowest(*mine)
        compute_sum_s = compute_sum_s + compute_s
        hbm_sum_s = hbm_sum_s + places.get("hbm", 0.0)
    layers, steps, requests = (_count(phase, item) for item in ("layers", "steps", "requests"))
    launch_s = layers * engine.layer_s
    busy_s = np.maximum(gpu_s, launch_s) if engine.overlapped else gpu_s + launch_s
    return StepTime(busy_s + steps * engine.step_s + requests * engine.request_s, compute_sum_s, hbm_sum_s)


def _demands(op: Op, gpu: GPUType, engine: EngineCosts, ratios: Kernels) -> tuple[Figure, Mapping[str, Figure]]:
    """Seconds that each resource alone would need: the compute engine, and every place but the host."""
    compute_s: Figure = 0.0
    if op.engine and np.any(op.flops):
        ratio = ratios.attention_ratio if op.name == "attention" else ratios.by_dtype.get(op.engine, ratios.gemm_ratio)
        compute_s = op.flops / (gpu.flops(op.engine) * ratio * engine.compute_ratio)
    places: dict[str, Figure] = {}
    for (item, place), amount in op.traffic.items():
        if place != _HOST:
            places[place] = places.get(place, 0.0) + amount * _seconds_each(item, place, gpu, engine, ratios)
    return compute_s, places


def _slowest(compute_s: Figure, places: Mapping[str, Figure]) -> Figure:
    longest = compute_s
    for place_s in places.values():
        longest = np.maximum(longest, place_s)
    return longest


def _divided(compute_s: Figure, places: Mapping[str, Figure], phase: Phase) -> tuple[Figure, Mapping[str, Figure]]:
    """The same demands on the share of the GPU that the phase has."""
    hbm_s = places.get("hbm", 0.0) / phase.hbm_ratio
    return compute_s / phase.compute_ratio, {**places, "hbm": hbm_s}


def _seconds_each(item: str, place: str, gpu: GPUType, engine: EngineCosts, ratios: Kernels) -> float:
    if item in _COUNT_S:
        return _COUNT_S[item]
    if place == "hbm":
        return 1 / (gpu.hbm_bytes_per_s * (ratios.kv_ratio if item == "kv" else ratios.hbm_ratio))
    links = {"scale_up": gpu.scale_up_bytes_per_s, "pcie": gpu.pcie_bytes_per_s}
    peak = links.get(place)
    if place == "network":  # a network card hangs on PCIe
        known = [rate for rate in (gpu.network_bytes_per_s, gpu.pcie_bytes_per_s) if rate is not None]
        peak = min(known, default=None)
    if peak is None:
        raise MissingFigure(f"{gpu.name} has no {place} bandwidth in the catalogue")
    # What an engine reaches of links was fitted on all-reduces within a node, where each GPU waits for the slowest.
    return 1 / (peak * LINK_RATIO * (1.0 if place == "network" else engine.link_ratio))


def _count(phase: Phase, item: str) -> Figure:
    total: Figure = 0.0
    for op in phase.ops:
        for at, amount in op.traffic.items():
            if at.place == _HOST and at.item == item:
                total = total + amount
    return total


def memory_bytes(cost: Cost, pool: tuple[str, ...]) -> Figure:
    """HBM that one GPU of a pool needs."""
    total: Figure = 0.0
    for amount in cost.resident(pool).values():
        total = total + amount
    return total
