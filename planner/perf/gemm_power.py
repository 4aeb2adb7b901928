"""Time and power of matrix products on a GPU whose own sweep was measured (today: H200), as learned from that sweep.

After "Understanding GEMM Performance and Energy on NVIDIA Ada Lovelace" (sizes, tiles and occupancy in a forest), with
the power limit as physics: at full power many products run at less than the highest clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.catalog import gpu
from planner.perf.conformal import interval
from planner.perf.gemm_features import DTYPES, Products, features, products
from planner.perf.power_cap import Work, settle
from planner.perf.stored import meta_of, stored
from planner.perf.trees import Forest, predict, unpack

Array = NDArray[np.float64]
SWEEP = files("planner.perf") / "data" / "h200_gemm_sweep.npz"
PICO = 1e-12
LARGEST = 2**24  # of m, n and k: beyond it nothing was ever served
GRAIN = {"fp8": 16}  # n and k of fp8 products are multiples of 16, or no kernel takes them
SWEPT_GRAIN = 16
WIDER = 2.0  # intervals outside the sweep's sizes, times those inside


@dataclass(frozen=True, slots=True, eq=False)
class Energy:
    """Where joules go: idle power, pJ per HBM byte, per L2 byte and per FLOP of each dtype (`joules`, in that order).

    `exponent`: energy of arithmetic and caches falls as clock^exponent. `core`: time of a product that does not wait
    for HBM grows as clock^-core (less than 1: the clock that NVML reads is a mean of one that jumps).
    """

    idle_w: float
    exponent: float
    core: float
    joules: Array

    def split(self, p: Products) -> tuple[Array, Array]:
        """Joules of arithmetic and caches at full clock, and of HBM."""
        per_flop = np.array([self.joules[2 + DTYPES.index(name)] for name in p.dtype])
        core_j = PICO * (per_flop * p.flops + self.joules[1] * p.cache_bytes)
        return core_j, PICO * self.joules[0] * p.hbm_bytes

    def core_share(self, p: Products, full_s: Array) -> Array:
        """Exponent of time over clock: `core`, less where HBM is busy (0 where it is busy all the time)."""
        busy = np.minimum(p.hbm_bytes / p.hbm_bytes_per_s / 0.92 / full_s, 1.0)
        return self.core * (1 - busy**2)


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """The model: forest of time, energy, forest of what energy misses, and the power limit of the sweep."""

    time: Forest
    energy: Energy
    rest: Forest
    limit_w: float


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """One figure a row, NaN where `refusal` says why. `time_s` at full clock; `sustained_s` under the power limit."""

    time_s: Array
    time_lo_s: Array
    time_hi_s: Array
    sustained_s: Array
    power_w: Array
    power_lo_w: Array
    power_hi_w: Array
    source: NDArray[Any]
    refusal: NDArray[Any]


def power_features(p: Products, full_s: Array, energy: Energy) -> Array:
    """What the forest of missed energy reads: sizes, what the energy model says, rates over peaks."""
    core_j, hbm_j = energy.split(p)
    rates = [p.flops / full_s / p.peak_flops_per_s, p.hbm_bytes / full_s / 1e12, p.cache_bytes / full_s / 1e12]
    logs = [np.log2(x) for x in (p.m, p.n, p.k, p.flops, full_s, (core_j + hbm_j) / full_s)]
    tiles = np.ceil(p.m / 128) * np.ceil(p.n / 128)
    full = tiles / p.multiprocessors / np.ceil(tiles / p.multiprocessors)
    kinds = [(p.dtype == name).astype(float) for name in DTYPES]
    return np.stack([*logs, *rates, full, *kinds], axis=1)


def draw(p: Products, full_s: Array, fitted: Fitted) -> Work:
    """Each product as a step of one kernel, to be settled under a power limit."""
    core_j, hbm_j = fitted.energy.split(p)
    more = np.exp(predict(fitted.rest, power_features(p, full_s, fitted.energy)))
    share = fitted.energy.core_share(p, full_s)
    return Work(full_s[:, None], (core_j * more)[:, None], (hbm_j * more)[:, None], share[:, None])


def at_limit(power_w: Array, limit_w: float) -> NDArray[np.bool_]:
    """Whether predicted power is that of the limit: such figures are surer than those below."""
    return np.asarray(power_w > 0.985 * limit_w)


def meta() -> Mapping[str, Any]:
    """What was fitted, from what, and the errors on shapes left out."""
    return meta_of("gemm_power")


@cache
def fitted() -> Fitted:
    """The shipped model."""
    arrays = stored("gemm_power")
    idle_w, exponent, core, *joules = arrays["energy"].tolist()
    energy = Energy(idle_w, exponent, core, np.array(joules))
    return Fitted(unpack(arrays, "time"), energy, unpack(arrays, "rest"), meta()["limit_w"])


def estimate(m: NDArray[Any], n: NDArray[Any], k: NDArray[Any], dtype: NDArray[Any]) -> Estimate:
    """Time and power of products (m x k) times (k x n) on the GPU of the sweep, one row each."""
    refusal = _refusals(m, n, k, dtype)
    good = refusal == ""
    source = np.full(len(refusal), "", dtype=object)
    out = {name: np.full(len(refusal), np.nan) for name in Estimate.__dataclass_fields__}
    if good.any():
        p = _known(*(np.asarray(x)[good] for x in (m, n, k, dtype)))
        for name, values in _estimate(p).items():
            out[name][good] = values
        source[good] = np.where(_outside(p.m, p.n, p.k), "extrapolated", "measured")
    return Estimate(**{**out, "source": source, "refusal": refusal})


def _estimate(p: Products) -> dict[str, Array]:
    model, said = fitted(), meta()
    full_s = p.roof_s * np.exp(predict(model.time, features(p)))
    settled = settle(draw(p, full_s, model), model.energy.idle_w, model.energy.exponent, model.limit_w)
    held_out = said["cross_validation"]
    wider = np.where(_outside(p.m, p.n, p.k), WIDER, 1.0)
    half = np.array([held_out["runtime"]["half_width"][name] for name in p.dtype]) * wider
    low_s, high_s = interval(full_s, half)
    half_w = held_out["power"]["half_width"]
    limited = at_limit(settled.power_w, model.limit_w)
    low_w, high_w = interval(settled.power_w, np.where(limited, half_w["at_limit"], half_w["below"]) * wider)
    return {
        "time_s": full_s,
        "time_lo_s": low_s,
        "time_hi_s": high_s,
        "sustained_s": settled.time_s,
        "power_w": settled.power_w,
        "power_lo_w": low_w,
        "power_hi_w": high_w,
    }


def _known(m: NDArray[Any], n: NDArray[Any], k: NDArray[Any], dtype: NDArray[Any]) -> Products:
    said = meta()
    return products(gpu(said["gpu"]), said["multiprocessors"], m, n, k, dtype)


def _outside(m: Array, n: Array, k: Array) -> NDArray[np.bool_]:
    """Larger than what was swept, or of widths that no engine has."""
    most = meta()["largest"]
    odd = (n % SWEPT_GRAIN != 0) | (k % SWEPT_GRAIN != 0) | (np.minimum(n, k) < 64)
    return np.asarray((m > most[0]) | (n > most[1]) | (k > most[2]) | odd)


def _refusals(m: NDArray[Any], n: NDArray[Any], k: NDArray[Any], dtype: NDArray[Any]) -> NDArray[Any]:
    """Why a row is not answered, or an empty word."""
    out = np.full(len(m), "", dtype=object)
    for at, row in enumerate(zip(m, n, k, dtype, strict=True)):
        out[at] = _refusal(*row)
    return out


def _refusal(m: Any, n: Any, k: Any, dtype: Any) -> str:
    if dtype not in DTYPES:
        return f"dtype: got {str(dtype)[:40]!r}, allowed: {', '.join(DTYPES)}"
    for name, size in (("m", m), ("n", n), ("k", k)):
        if not (np.isfinite(size) and 1 <= size <= LARGEST and size == int(size)):
            return f"{name}: got {size:g}, allowed: a whole number from 1 to {LARGEST}"
        if name != "m" and size % GRAIN.get(dtype, 1):
            return f"{name}: got {size:g}, allowed in {dtype}: multiples of {GRAIN[dtype]}"
    held = (n * k + m * k + m * n) * 1.0
    if held > gpu(meta()["gpu"]).hbm_bytes:
        return f"m, n, k: got {held:.3g} elements, more than the GPU's memory holds"
    return ""
