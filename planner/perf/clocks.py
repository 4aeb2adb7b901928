"""What a power limit costs each phase: a clock-voltage curve, the draw at a clock, and the clock that meets a limit.

Draw = static x V + energy of arithmetic x V^2 + energy of memory, energies per second of the phase; time stretches with
the clock where arithmetic is waited for and not where memory is. V falls with the clock to a floor and no further:
below it a lower clock saves power only as fast as it costs speed. (Shape: Guerreiro et al., "GPGPU Power Modeling for
Multi-domain Voltage-Frequency Scaling", HPCA 2018.) Prefill waits for arithmetic and slows, decode hardly does.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.calibration import kernels
from planner.cost import Figure
from planner.hardware import GPUType

Array = NDArray[np.float64]


class Curve(NamedTuple):
    """Voltage over that of the highest clock: 1 - slope x (1 - clock), at least `floor`."""

    floor: float
    slope: float


# Hopper: 345 matrix products held for a second each on an H200, 126 of them below its limit, clocks from 0.62 to 1 of
# 1,980 MHz. Power as the sum below misses by 6.7 % on average, with floor and slope free by 6.5 % (0.73, 1.39).
# Volta: 31 training jobs on a V100 under limits of 100 to 250 W (Zeus, arXiv 2208.06102, Apache-2.0 repository): times
# within 0.9 % on average; voltage proportional to the clock, the cube law, misses by 5.6 %.
CURVES = {"hopper": Curve(0.75, 1.0), "volta": Curve(0.87, 0.78)}
UNMEASURED = Curve(0.75, 1.0)  # Hopper's
# Shares of the rated power, H200: 125 of 700 W with clocks up and no work; 1.45 W per TFLOP/s of bf16 (fp8: 0.76) at
# full clock x the peak of 989 (1,979), the median of 89 (57) products above 0.4 of the peak; of HBM's
# peak of 4.8 TB/s, 84 W per TB/s in the memory and 33 W in the caches, which the clock's voltage feeds.
STATIC_RATIO = 0.18
# Blackwell: the least of 36,000 kernels on a B200 (aiconfigurator-core 0.12.0, Apache-2.0, vLLM 0.22.0: attention, MoE)
# draws 243 to 246 of 1,000 W, tiny ones that leave the GPU idle nearly all the time.
STATIC_RATIOS = {"blackwell": 0.245}
TENSOR_RATIO = 2.05
HBM_RATIO = 0.58
CACHE_RATIO = 0.22
# Joules of a byte sent or received over NVLink: 4 pJ a bit, as LLMServingSim's power model has it (MIT, 5daddb21a5;
# arXiv 2408.05499), which is 29 W for an H100 whose 450 GB/s are busy both ways. It falls with nothing.
LINK_J_PER_BYTE = 32e-12
# HBM's bandwidth holds down to this clock, the lowest of that sweep; below, it is taken to fall with the clock.
MEMORY_CLOCK = 0.62
# Of HBM's peak, what engines that decode on one H100 reach: the median of 108 measured (ML.ENERGY, arXiv 2505.06371).
DECODE_HBM_RATIO = 0.5
LOWEST_CLOCK = 0.1


def curve(gpu: GPUType) -> Curve:
    """The curve of a GPU's architecture; that of the newest measured one where nobody measured it."""
    return CURVES.get(gpu.architecture.lower(), UNMEASURED)


def static_ratio(gpu: GPUType) -> float:
    """The share of the rated power that a GPU draws with its clocks up and no work."""
    return STATIC_RATIOS.get(gpu.architecture.lower(), STATIC_RATIO)


def voltage_ratio(gpu: GPUType, clock: Figure) -> Figure:
    """Voltage at a clock, both as shares of the highest."""
    floor, slope = curve(gpu)
    return np.maximum(floor, 1 - slope * (1 - clock))


def slowdown_at(gpu: GPUType, clock: Figure, tensor_activity: Figure, hbm_activity: Figure) -> Figure:
    """How many times as long a phase takes at a share of the highest clock.

    Activities are shares of the datasheet's FLOP/s and bytes/s that the phase reaches at full clock. Kernels reach less
    than the datasheet (`planner.calibration`): a phase at their share waits for arithmetic, or for HBM, all the time.
    """
    ratios = kernels(gpu.architecture)
    compute = np.minimum(tensor_activity / ratios.gemm_ratio, 1.0)
    memory = np.minimum(hbm_activity / ratios.hbm_ratio, 1.0)
    fed = memory / np.minimum(clock / MEMORY_CLOCK, 1.0)
    return 1 - np.maximum(compute, memory) + np.maximum(compute / clock, fed)


def draw_w(
    gpu: GPUType, clock: Figure, tensor_activity: Figure, hbm_activity: Figure, link_bytes_per_s: Figure = 0.0
) -> Figure:
    """Mean watts of a phase at a share of the highest clock, as if there were no limit.

    `link_bytes_per_s`: what the phase sends and receives at full clock, both counted.
    """
    volts, stretch = voltage_ratio(gpu, clock), slowdown_at(gpu, clock, tensor_activity, hbm_activity)
    core = TENSOR_RATIO * tensor_activity + CACHE_RATIO * hbm_activity
    work = core * volts**2 + HBM_RATIO * hbm_activity
    return gpu.tdp_w * (static_ratio(gpu) * volts + work / stretch) + LINK_J_PER_BYTE * link_bytes_per_s / stretch


def clock_ratio(
    gpu: GPUType, cap_w: Figure, tensor_activity: Figure, hbm_activity: Figure, link_bytes_per_s: Figure = 0.0
) -> Array:
    """The highest clock, as a share, at which a phase draws no more than a limit; at least the lowest clock."""
    phase = (tensor_activity, hbm_activity, link_bytes_per_s)
    shape = np.broadcast_shapes(*map(np.shape, (cap_w, *phase)))
    low, high = np.full(shape, LOWEST_CLOCK), np.ones(shape)
    free = draw_w(gpu, high, *phase) <= cap_w
    for _ in range(40):
        middle = (low + high) / 2
        fits = draw_w(gpu, middle, *phase) <= cap_w
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    return np.where(free, 1.0, low)


def slowdown(
    gpu: GPUType, cap_w: Figure, tensor_activity: Figure, hbm_activity: Figure, link_bytes_per_s: Figure = 0.0
) -> Array:
    """How many times as long a phase takes under a limit as under the GPU's own."""
    phase = (tensor_activity, hbm_activity, link_bytes_per_s)
    capped, own = (
        slowdown_at(gpu, clock_ratio(gpu, limit_w, *phase), tensor_activity, hbm_activity)
        for limit_w in (np.minimum(cap_w, gpu.tdp_w), gpu.tdp_w)
    )
    return np.asarray(capped / own)


def rated_prefill_clock(gpu: GPUType, cap_w: float) -> float:
    """The clock under a limit of a phase that only computes, and at full clock just draws the rated power."""
    low, high, static = LOWEST_CLOCK, 1.0, static_ratio(gpu)
    for _ in range(40):
        middle = (low + high) / 2
        volts = float(voltage_ratio(gpu, middle))
        drawn_w = gpu.tdp_w * (static * volts + (1 - static) * middle * volts**2)
        low, high = (middle, high) if drawn_w <= cap_w else (low, middle)
    return low
