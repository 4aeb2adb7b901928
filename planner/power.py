"""Watts: what a GPU draws at a given activity, and what a power cap leaves of it.

A capped GPU is another `GPUType` value, so that the rest of the model needs no word for caps. Dynamic power goes with
the cube of the clock (voltage follows frequency: Weiser et al., "Scheduling for Reduced CPU Energy", OSDI 1994), so
a cap leaves ((cap - idle) / (TDP - idle))^(1/3) of the arithmetic and all of the memory bandwidth. Splitwise
(arXiv 2311.18677) takes prompts to be 1.3 times as long on an H100 at half its power, and tokens unchanged; this
law gives 1.31.
"""

from dataclasses import replace

import numpy as np

from planner.calibration import HBM_POWER_RATIO, IDLE_POWER_RATIO
from planner.cost import Figure
from planner.hardware import GPUType


def idle_w(gpu: GPUType) -> float:
    """Watts at rest: the catalogue's, else the usual share of the rated power."""
    return gpu.tdp_w * IDLE_POWER_RATIO if gpu.idle_w is None else gpu.idle_w


def capped(gpu: GPUType, cap_w: float) -> GPUType:
    """The GPU under a power limit of `cap_w` watts; its `max_cap_w` becomes the cap, its TDP stays."""
    if cap_w >= gpu.tdp_w:
        return gpu
    rest_w = idle_w(gpu)
    clock_ratio = (max(cap_w - rest_w, 0.0) / (gpu.tdp_w - rest_w)) ** (1 / 3)
    slower = {dtype: flops_per_s * clock_ratio for dtype, flops_per_s in gpu.flops_per_s.items()}
    return replace(gpu, flops_per_s=slower, max_cap_w=cap_w)


def power_w(gpu: GPUType, compute_ratio: Figure, hbm_ratio: Figure) -> Figure:
    """Watts of one GPU whose compute units and HBM are busy for these shares of the time; never above its limit."""
    rest_w = idle_w(gpu)
    drawn_w = rest_w + (gpu.tdp_w - rest_w) * (compute_ratio + HBM_POWER_RATIO * hbm_ratio)
    return np.minimum(drawn_w, gpu.tdp_w if gpu.max_cap_w is None else min(gpu.max_cap_w, gpu.tdp_w))
