"""Watts: what a GPU draws at a given activity, and what a power cap leaves of it, phase by phase.

The cap lowers the clock, and with it voltage down to a floor (`planner.perf.clocks`): arithmetic slows at once, memory
only where the clock has fallen so far that HBM is fed too slowly. Splitwise (arXiv 2311.18677) takes prompts to be 1.3
times as long on an H100 at half its power, and tokens unchanged; this curve gives 1.31 and 1.00.

`under_cap` answers for one phase of known activity. `capped` makes another `GPUType` value of the capped GPU, so that
the rest of the model needs no word for caps: arithmetic slowed as a prefill is, memory as a decode is.
"""

from dataclasses import dataclass, replace

import numpy as np

from planner.calibration import HBM_POWER_RATIO, IDLE_POWER_RATIO
from planner.catalog.gpus import is_slice
from planner.cost import Figure
from planner.hardware import GPUType, Inventory
from planner.perf.clocks import DECODE_HBM_RATIO, clock_ratio, draw_w, rated_prefill_clock, slowdown, slowdown_at


@dataclass(frozen=True, slots=True, eq=False)
class Capped:
    """A phase under a power limit, beside the same phase under the GPU's own.

    `slowdown`: times as long. `power_w`: of one GPU while the phase runs. `energy_ratio`: joules of the same work, so
    joules per token under the cap are those without it times this.
    """

    slowdown: Figure
    power_w: Figure
    energy_ratio: Figure


def idle_w(gpu: GPUType) -> float:
    """Watts at rest: the catalogue's, else the usual share of the rated power."""
    return gpu.tdp_w * IDLE_POWER_RATIO if gpu.idle_w is None else gpu.idle_w


def rest_w(inventory: Inventory, domain: str) -> float:
    """Watts of a power domain with nothing running on any of its GPUs: no plan draws less there."""
    return sum(group.gpus * idle_w(group.gpu) for group in inventory.node_groups if group.power_domain == domain)


def cap_objection(gpu: GPUType, cap_w: float) -> str | None:
    """Why a GPU cannot be given a power limit of `cap_w`, in words."""
    if is_slice(gpu):
        return f"{gpu.name} is a MIG slice: a power limit holds the whole card"
    if gpu.min_cap_w is None:
        return f"nobody published the power limits that the driver of {gpu.name} accepts"
    most_w = gpu.tdp_w if gpu.max_cap_w is None else gpu.max_cap_w
    if not gpu.min_cap_w <= cap_w <= most_w:  # nan too
        return f"power cap: got {cap_w:g} W, allowed on {gpu.name}: {gpu.min_cap_w:g} to {most_w:g} W"
    return None


def under_cap(
    gpu: GPUType, cap_w: Figure, compute_ratio: Figure, hbm_ratio: Figure, link_bytes_per_s: Figure = 0.0
) -> Capped:
    """What a limit does to a phase that at full clock reaches these shares of the datasheet's FLOP/s and HBM bytes/s.

    `link_bytes_per_s`: sent and received over NVLink. Where no clock meets the limit, `power_w` lies above it.
    """
    phase = (compute_ratio, hbm_ratio, link_bytes_per_s)
    clock, own = (clock_ratio(gpu, np.minimum(limit, gpu.tdp_w), *phase) for limit in (cap_w, gpu.tdp_w))
    drawn_w, free_w = (draw_w(gpu, at, *phase) for at in (clock, own))
    longer = slowdown_at(gpu, clock, compute_ratio, hbm_ratio) / slowdown_at(gpu, own, compute_ratio, hbm_ratio)
    return Capped(longer, drawn_w, longer * drawn_w / free_w)


def capped(gpu: GPUType, cap_w: float) -> GPUType:
    """The GPU under a power limit of `cap_w` watts; its `max_cap_w` becomes the cap, its TDP stays.

    Arithmetic is that of a phase that only computes and draws the rated power at full clock, as prefill does; HBM's
    bandwidth that of a decode at the usual share of it, which a limit of half the rated power leaves alone.
    """
    if cap_w >= gpu.tdp_w:
        return gpu
    clock = rated_prefill_clock(gpu, cap_w)
    slower = {dtype: flops_per_s * clock for dtype, flops_per_s in gpu.flops_per_s.items()}
    fed = gpu.hbm_bytes_per_s / float(slowdown(gpu, cap_w, 0.0, DECODE_HBM_RATIO))
    return replace(gpu, flops_per_s=slower, hbm_bytes_per_s=fed, max_cap_w=cap_w)


def power_w(gpu: GPUType, compute_ratio: Figure, hbm_ratio: Figure) -> Figure:
    """Watts of one GPU whose compute units and HBM are busy for these shares of the time; never above its limit."""
    rest_w = idle_w(gpu)
    drawn_w = rest_w + (gpu.tdp_w - rest_w) * (compute_ratio + HBM_POWER_RATIO * hbm_ratio)
    return np.minimum(drawn_w, gpu.tdp_w if gpu.max_cap_w is None else min(gpu.max_cap_w, gpu.tdp_w))
