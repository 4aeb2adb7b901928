"""Demand and hardware to seconds: within an op the slowest resource counts, ops of a step add up.

seconds(op) = max over resources of demand / (peak x efficiency); efficiencies come from `planner.calibration`.
Roofline: Williams et al., "Roofline: an insightful visual performance model for multicore architectures", CACM 2009.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from planner.calibration import COLLECTIVE_S, HOP_S, LINK_RATIO, EngineCosts, Kernels, kernels
from planner.cost import Cost, Figure, Op, Phase
from planner.errors import MissingFigure
from planner.hardware import GPUType

_COUNT_S = {"collectives": COLLECTIVE_S, "hops": HOP_S}
_HOST = "host"


class StepTime(NamedTuple):
    """Seconds of one step, and how many of them HBM and the compute units were busy (for power)."""

    total_s: Figure
    compute_s: Figure
    hbm_s: Figure


def seconds(op: Op, gpu: GPUType, engine: EngineCosts) -> Figure:
    """Seconds of one op on one GPU, without the host. Raises MissingFigure where the GPU's row lacks a needed peak."""
    compute_s, places = _demands(op, gpu, engine, kernels(gpu.architecture))
    return _slowest(compute_s, places)


def resources_s(op: Op, gpu: GPUType, engine: EngineCosts) -> Mapping[str, Figure]:
    """Seconds that each resource alone would need for an op: "compute" and the places that it moves bytes through."""
    compute_s, places = _demands(op, gpu, engine, kernels(gpu.architecture))
    return {"compute": compute_s, **places}


def step_time(phase: Phase, gpu: GPUType, engine: EngineCosts) -> StepTime:
    """Seconds of one step of a phase, with the engine's overhead, apart from the phase that it may ride on."""
    ratios = kernels(gpu.architecture)
    gpu_s: Figure = 0.0
    compute_sum_s: Figure = 0.0
    hbm_sum_s: Figure = 0.0
    for op in phase.ops:
        compute_s, places = _demands(op, gpu, engine, ratios)
        gpu_s = gpu_s + _slowest(compute_s, places)
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


def _seconds_each(item: str, place: str, gpu: GPUType, engine: EngineCosts, ratios: Kernels) -> float:
    if item in _COUNT_S:
        return _COUNT_S[item]
    if place == "hbm":
        return 1 / (gpu.hbm_bytes_per_s * (ratios.kv_ratio if item == "kv" else ratios.hbm_ratio))
    links = {"scale_up": gpu.scale_up_bytes_per_s, "pcie": gpu.pcie_bytes_per_s}
    peak = links.get(place)
    if peak is None:
        raise MissingFigure(f"{gpu.name} has no {place} bandwidth in the catalogue")
    return 1 / (peak * LINK_RATIO * engine.link_ratio)


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
