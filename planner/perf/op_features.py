"""What a kernel's time depends on, by operator family: ideal time at datasheet peaks, and how its shape fits the GPU.

FLOPs and bytes are exact counts of the shape. `reference_s` adds a launch's worth of time, so that its error is a ratio
that varies little over shapes; `features` say how full tiles and waves are, what fits the L2 cache, and which of
arithmetic and memory is short. The first `HARDWARE` of them name the GPU and are left out for one never measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.catalog import gpu as gpu_named
from planner.catalog.gpus import is_slice
from planner.hardware import GPUType

Array = NDArray[np.float64]
LAUNCH_S = 4e-6  # a kernel in a replayed CUDA graph: the shortest rows of the measured tables take 2 to 9 us
# Streaming multiprocessors and bytes of L2 cache: NVIDIA's architecture white papers and data sheets.
_CHIPS: Mapping[str, tuple[int, float]] = MappingProxyType(
    {
        "V100": (80, 6e6), "T4": (40, 4e6), "A100": (108, 40e6), "A800": (108, 40e6), "A30": (56, 24e6),
        "A10": (72, 6e6), "A40": (84, 6e6), "RTX-A6000": (84, 6e6), "L4": (58, 48e6), "L40": (142, 96e6),
        "L20": (92, 96e6), "RTX-6000-ADA": (142, 96e6), "RTX-3090": (82, 6e6), "RTX-4090": (128, 72e6),
        "RTX-5090": (170, 96e6), "RTX-PRO-6000": (188, 128e6), "H100-PCIE": (114, 50e6), "H100": (132, 50e6),
        "H800": (132, 50e6), "H20": (78, 60e6), "H200": (132, 50e6), "GH200": (132, 50e6), "B100": (148, 126e6),
        "B200": (148, 126e6), "GB200": (152, 126e6), "B300": (148, 126e6), "GB300": (152, 126e6),
    }
)  # fmt: skip
GENERATIONS = ("ampere", "ada", "hopper", "blackwell")
TILES = ((64, 128), (128, 128), (128, 256), (256, 128))
# Libraries that kernels come from, by what tables call them; neighbours resemble each other.
KERNELS = (
    "fa2", "fa3", "fa4", "triton", "oaitriton", "marlin", "cutlass", "flashinfer", "modular", "trtllm", "cublas",
    "deepgemm", "cutedsl",
)  # fmt: skip
DTYPES = ("bfloat16", "fp8", "fp8_block", "nvfp4", "int8", "int4", "mxfp4")
HARDWARE = 1
SECONDS_AT = (5, 6)  # features that are logarithms of seconds of arithmetic and of memory


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A batch of kernels on one GPU: seconds of arithmetic and of memory at the peaks, and features, (rows, n)."""

    flops_s: Array
    bytes_s: Array
    terms: Array
    group: Array
    features: Array


@dataclass(frozen=True, slots=True)
class Chip:
    """What the features know of a GPU."""

    gpu: GPUType
    known: int  # position among the measured GPUs, -1 for none
    sms: int
    l2_bytes: float


def chip(gpu: GPUType, measured: tuple[str, ...]) -> Chip:
    """A GPU's chip; SMs that no source counts are taken to be as fast as an H100's. A slice has its share."""
    names = [name for name in sorted(_CHIPS, key=len, reverse=True) if gpu.name.upper().startswith(name)]
    known = measured.index(gpu.name) if gpu.name in measured else -1
    sms, l2_bytes = _CHIPS[names[0]] if names else (_like_h100(gpu), 40e6)
    if is_slice(gpu):
        whole = gpu_named(gpu.name.rpartition("-")[0])
        sms = max(round(sms * _rate(gpu, "bfloat16") / _rate(whole, "bfloat16")), 1)
        l2_bytes *= gpu.hbm_bytes_per_s / whole.hbm_bytes_per_s
    return Chip(gpu, known, sms, l2_bytes)


def _like_h100(gpu: GPUType) -> int:
    return max(round(_rate(gpu, "bfloat16") / 989.4e12 * 132), 8)


def generation(gpu: GPUType) -> float:
    """Position in `GENERATIONS`, the first for others.

    Blackwell's workstation cards lack the tensor cores of its large dies: libraries run the kernels of Ada on them.
    """
    name = gpu.architecture.lower()
    if name == "blackwell" and gpu.name.upper().startswith("RTX"):
        name = "ada"
    return float(GENERATIONS.index(name)) if name in GENERATIONS else 0.0


def _rate(gpu: GPUType, dtype: str) -> float:
    units = {"fp8": ("fp8",), "fp8_block": ("fp8",), "nvfp4": ("fp4",), "int8": ("int8",), "mxfp4": ()}
    for unit in (*units.get(dtype, ()), "bf16", "fp16", "fp32"):
        if unit in gpu.flops_per_s:
            return gpu.flops_per_s[unit]
    raise AssertionError(f"{gpu.name} has no peak")  # the catalogue refuses such a row


# Bytes of a weight with its scales, and of an activation, by dtype.
_WEIGHT = {
    "bfloat16": 2.0,
    "fp8": 1.0,
    "fp8_block": 1 + 4 / 128**2,
    "nvfp4": 0.5625,
    "int8": 1.0,
    "int4": 0.5,
    "mxfp4": 0.53125,
}
_ACTIVATION = {
    "bfloat16": 2.0,
    "fp8": 1.0,
    "fp8_block": 1 + 4 / 128,
    "nvfp4": 0.5625,
    "int8": 1.0,
    "int4": 2.0,
    "mxfp4": 2.0,
}


def _each(table: Mapping[str, float], dtype: NDArray[Any]) -> Array:
    return np.array([table[str(name)] for name in dtype])


def _peaks(card: Chip, dtype: NDArray[Any]) -> Array:
    rates = {name: _rate(card.gpu, name) for name in set(dtype.tolist())}
    return np.array([rates[name] for name in dtype.tolist()])


def _log(x: Array | float, least: float = 1e-30) -> Array:
    return np.asarray(np.log(np.maximum(np.asarray(x, dtype=float), least)))


def _stack(
    card: Chip,
    dtype: NDArray[Any],
    kernel: Array,
    flops_s: Array,
    bytes_s: Array,
    terms: list[Array],
    more: list[Array],
) -> Work:
    n = len(flops_s)
    hardware = [np.full(n, float(card.known)), np.full(n, generation(card.gpu)), kernel]
    codes = np.array([float(DTYPES.index(name)) for name in dtype.tolist()])
    reference = np.cbrt(flops_s**3 + bytes_s**3) + LAUNCH_S
    common: list[Array] = [codes, _log(flops_s / bytes_s), _log(flops_s), _log(bytes_s), _log(reference)]
    moved = bytes_s * card.gpu.hbm_bytes_per_s
    all_terms = [np.full(n, 1e-6), flops_s, terms[0], bytes_s, moved / (card.sms * 30e9), *terms[1:]]
    group = kernel * len(DTYPES) + codes
    return Work(flops_s, bytes_s, np.stack(all_terms, axis=1), group, np.stack([*hardware, *common, *more], axis=1))


def gemm(card: Chip, dtype: NDArray[Any], kernel: Array, m: Array, n: Array, k: Array) -> Work:
    """(m x k) times (k x n) into 16 bits."""
    peak, weight = _peaks(card, dtype), _each(_WEIGHT, dtype)
    flops_s = 2 * m * n * k / peak
    moved = weight * n * k + _each(_ACTIVATION, dtype) * m * k + 2 * m * n
    more = [_log(m), _log(n), _log(k), _log(weight * n * k / card.l2_bytes), _log(moved / card.l2_bytes)]
    for rows, columns in TILES:
        tiles = np.ceil(m / rows) * np.ceil(n / columns)
        waves = tiles / card.sms
        more += [_log(waves), np.ceil(waves) / waves, tiles * rows * columns / (m * n)]
    more += [m % 2, 1.0 * (m % 8 == 0), 1.0 * (m % 16 == 0), 1.0 * (m % 64 == 0), _log(m * n / card.sms)]
    full = np.ceil(m / 128) * np.ceil(n / 128)
    tiled = np.ceil(full / card.sms) * card.sms * 128 * 128 * k * 2 / peak
    terms = [tiled, k * 1e-9]
    return _stack(card, dtype, kernel, flops_s, moved / card.gpu.hbm_bytes_per_s, terms, more)


def _attention(
    card: Chip,
    dtype: NDArray[Any],
    kernel: Array,
    flops: Array,
    moved: Array,
    shape: dict[str, Array],
    kv_bytes: Array,
) -> Work:
    b, heads, kv, width = (shape[key] for key in ("batch", "heads", "kv_heads", "head_dim"))
    groups = heads / kv
    more = [_log(b), _log(heads), _log(kv), width, _log(groups), _log(shape["tokens"]), _log(shape["met"]), kv_bytes]
    units = b * kv * np.ceil(shape["tokens"] * groups / 64)
    waves = b * heads * np.ceil(shape["tokens"] / 128) / card.sms
    more += [_log(b * kv / card.sms), _log(units / card.sms), np.ceil(waves) / waves, _log(waves)]
    more += [_log(moved / card.l2_bytes), np.where(shape["window"] > 0, 1.0, 0.0), _log(b * heads / card.sms)]
    tiled = flops / _peaks(card, dtype) * np.ceil(waves) / waves
    terms = [tiled, shape["met"] * 1e-9, b * heads * np.ceil(shape["tokens"] / 128) / card.sms * 1e-7]
    return _stack(card, dtype, kernel, flops / _peaks(card, dtype), moved / card.gpu.hbm_bytes_per_s, terms, more)


def context_attention(card: Chip, dtype: NDArray[Any], kernel: Array, kv_bytes: Array, shape: dict[str, Array]) -> Work:
    """Causal attention of `tokens` new tokens that meet themselves; `window` 0 sees all."""
    b, heads, kv, width = (shape[key] for key in ("batch", "heads", "kv_heads", "head_dim"))
    tokens, window = shape["tokens"], shape["window"]
    reach = np.where(window > 0, np.minimum(tokens, window), tokens)
    met = reach - reach * reach / (2 * tokens)
    flops = 4 * b * heads * width * tokens * met
    moved = b * tokens * width * (2 * 2 * heads + 2 * kv * kv_bytes)
    return _attention(card, dtype, kernel, flops, moved, {**shape, "met": met}, kv_bytes)


def generation_attention(
    card: Chip, dtype: NDArray[Any], kernel: Array, kv_bytes: Array, shape: dict[str, Array]
) -> Work:
    """One new token a sequence that meets `cached` + 1 tokens, or a window's worth."""
    b, heads, kv, width = (shape[key] for key in ("batch", "heads", "kv_heads", "head_dim"))
    whole, window = shape["cached"] + 1, shape["window"]
    met = np.where(window > 0, np.minimum(whole, window), whole)
    moved = b * width * (2 * kv * kv_bytes * met + 2 * 2 * heads)
    full = {**shape, "tokens": np.ones(len(b)), "met": met}
    return _attention(card, dtype, kernel, 4 * b * heads * width * met, moved, full, kv_bytes)


# Expected largest of 1, 2, 4, ... 256 standard normal draws.
_LARGEST = (0.0, 0.564, 1.029, 1.424, 1.766, 2.070, 2.343, 2.594, 2.826)


def _routed(skew: Array, tokens: Array, per_token: Array, experts: Array, ep: Array) -> tuple[Array, Array]:
    """Share of experts that any token meets, and how much more the busiest of `ep` ranks gets than the mean.

    Skewed: what experts get follows a power law of exponent `skew` between one and all tokens, drawn independently, so
    that the sum over a rank's experts is nearly normal.
    """
    u = (np.arange(32) + 0.5) / 32
    exponent, most = (1 - skew)[:, None], np.maximum(tokens, 1.0)[:, None]
    flat = np.abs(exponent) < 1e-6
    safe = np.where(flat, 1.0, exponent)
    draws = np.where(flat, most**u, (1 + (most**safe - 1) * u) ** (1 / safe))
    mean = tokens * per_token / experts
    loads = np.where((skew > 0)[:, None], draws / draws.mean(axis=1, keepdims=True), 1.0) * mean[:, None]
    loads = np.minimum(loads, tokens[:, None])
    met = np.where(skew > 0, 1 - np.exp(-loads).mean(axis=1), 1 - (1 - per_token / experts) ** tokens)
    spread = loads.std(axis=1) / mean / np.sqrt(experts / ep)
    busiest = 1 + spread * np.interp(np.log2(ep), np.arange(len(_LARGEST)), _LARGEST)
    return met, np.minimum(busiest, np.minimum(experts / ep, per_token) * ep / per_token)


def moe(card: Chip, dtype: NDArray[Any], kernel: Array, skew: Array, shape: dict[str, Array]) -> Work:
    """Routed experts of one layer on the busiest GPU of `tp` x `ep`: three matrices of hidden x inter each.

    `skew`: 0 for balanced routing, else the exponent of the power law that tokens follow over experts.
    """
    tokens, hidden, inter, per_token, experts, tp, ep = (
        shape[key] for key in ("tokens", "hidden", "inter", "per_token", "experts", "tp", "ep")
    )
    held, inner = experts / ep, inter / tp
    met, busiest = _routed(skew, tokens, per_token, experts, ep)
    mean = tokens * per_token / ep
    used = mean * busiest
    touched = np.maximum(np.minimum(held * met, used), 1e-9)
    size = 3 * hidden * inner
    each = used / touched
    flops_s = 2 * size * used / _peaks(card, dtype)
    rate = card.gpu.hbm_bytes_per_s
    moved = size * touched * _each(_WEIGHT, dtype) + used * (2 * hidden + 3 * inner) * 2
    # Some libraries keep rows, and sum them, for every choice of every token, wherever its expert is.
    whole = tokens * per_token * (2 * hidden + 3 * inner) * 2
    more = [_log(tokens), _log(hidden), _log(inner), _log(per_token), _log(experts), _log(tp), _log(ep), skew]
    more += [_log(held), _log(mean), _log(touched), _log(each), np.ceil(each / 64) * 64 / each]
    more += [np.ceil(each / 16) * 16 / each, _log(touched * np.ceil(2 * inner / 128) / card.sms)]
    more += [_log(touched * np.ceil(each / 64) * np.ceil(2 * inner / 128) / card.sms), _log(moved / card.l2_bytes)]
    more += [_log(np.ceil(inner / width) * width / inner) for width in (16, 32, 64, 128, 256)]
    more += [inner % 128, _log(busiest), _log(whole / rate), _log(tokens * per_token)]
    more += [_log(whole / rate / np.maximum(flops_s, moved / rate))]
    for rows in (16, 64, 128):
        for width in (2 * inner, hidden):
            waves = touched * np.ceil(each / rows) * np.ceil(width / 128) / card.sms
            more += [np.ceil(waves) / waves]
    padded = touched * np.ceil(each / 64) * 64 * 6 * hidden * np.ceil(inner / 128) * 128 / _peaks(card, dtype)
    terms = [padded, whole / rate, tokens * per_token * 1e-9, touched * np.ceil(3 * inner / 128) / card.sms * 1e-6]
    terms += [(hidden + inner) * 1e-9, experts * 1e-9]
    return _stack(card, dtype, kernel, flops_s, moved / rate, terms, more)
