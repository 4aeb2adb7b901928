"""Watts: what a GPU draws at a given activity, and what a power cap leaves of it.

A capped GPU is another `GPUType` value, so that the rest of the model needs no word for caps. The cap lowers the clock,
and with it voltage down to a floor (`planner.perf.clocks`): arithmetic slows, memory bandwidth stays. Splitwise
(arXiv 2311.18677) takes prompts to be 1.3 times as long on an H100 at half its power, and tokens unchanged; this
curve gives 1.31.
"""

from dataclasses import replace

import numpy as np

from planner.calibration import HBM_POWER_RATIO, IDLE_POWER_RATIO
from planner.cost import Figure
from planner.hardware import GPUType
from planner.perf.clocks import rated_prefill_clock


def idle_w(gpu: GPUType) -> float:
    """Watts at rest: the catalogue's, else the usual share of the rated power."""
    return gpu.tdp_w * IDLE_POWER_RATIO if gpu.idle_w is None else gpu.idle_w


def capped(gpu: GPUType, cap_w: float) -> GPUType:
    """The GPU under a power limit of `cap_w` watts; its `max_cap_w` becomes the cap, its TDP stays.

    Arithmetic is that of a phase that only computes and draws the rated power at full clock, as prefill does.
    """
    if cap_w >= gpu.tdp_w:
        return gpu
    clock = rated_prefill_clock(gpu, cap_w)
    slower = {dtype: flops_per_s * clock for dtype, flops_per_s in gpu.flops_per_s.items()}
    return replace(gpu, flops_per_s=slower, max_cap_w=cap_w)


def power_w(gpu: GPUType, compute_ratio: Figure, hbm_ratio: Figure) -> Figure:
    """Watts of one GPU whose compute units and HBM are busy for these shares of the time; never above its limit."""
    rest_w = idle_w(gpu)
    drawn_w = rest_w + (gpu.tdp_w - rest_w) * (compute_ratio + HBM_POWER_RATIO * hbm_ratio)
    return np.minimum(drawn_w, gpu.tdp_w if gpu.max_cap_w is None else min(gpu.max_cap_w, gpu.tdp_w))
