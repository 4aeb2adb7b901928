"""Fits time and power of matrix products on one GPU from the sweep that `python -m workloads.gemm_sweep` measures.

Three parts: a forest for the log of time over roofline (full clock); idle power and energy per FLOP, L2 byte and HBM
byte with the clock's exponent by least squares (`planner.perf.power_cap`); a small forest for what that energy misses.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.catalog import gpu
from planner.errors import BadInput
from planner.hardware import GPUType
from planner.perf.conformal import half_width
from planner.perf.gemm_features import DTYPES, Products, features, products
from planner.perf.gemm_power import SWEEP, Energy, Fitted, at_limit, draw, power_features
from planner.perf.power_cap import settle
from planner.perf.trees import from_sklearn, pack, predict

Array = NDArray[np.float64]
GPU = "H200"
FOLDS = 5
NAME = "h200_gemm_sweep.npz"
# At this share of the highest clock and above, a power reading was not held down by the limit.
FREE_CLOCK = 0.985


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """Rows of one kind: shapes, and what was measured (power is NaN in bursts)."""

    products: Products
    time_s: Array
    power_w: Array
    clock: Array
    shape: NDArray[Any]

    def rows(self, keep: NDArray[Any]) -> "Sweep":
        """Some of the rows."""
        p = self.products
        part = Products(
            p.m[keep],
            p.n[keep],
            p.k[keep],
            p.dtype[keep],
            p.peak_flops_per_s[keep],
            p.hbm_bytes_per_s,
            p.multiprocessors,
        )
        return Sweep(part, self.time_s[keep], self.power_w[keep], self.clock[keep], self.shape[keep])


def read(path: Path) -> tuple[Sweep, Sweep, dict[str, Any]]:
    """Bursts and sustained rows of products in a sweep's file, and the file's own words on itself."""
    with np.load(path, allow_pickle=False) as stored:
        data = dict(stored)
    meta = json.loads(str(data["meta"]))
    head = meta["heads"][0]
    card = gpu(GPU)
    return _kind(data, "burst", card, head), _kind(data, "sustained", card, head), meta


def _kind(data: Mapping[str, NDArray[Any]], kind: str, card: GPUType, head: Mapping[str, Any]) -> Sweep:
    keep = (data["kind"] == kind) & (data["dtype"] != "")
    m, n, k, dtype = (data[name][keep] for name in ("m", "n", "k", "dtype"))
    made = products(card, head["multiprocessors"], m, n, k, dtype)
    time_s, power_w, hz = (data[name][keep].astype(float) for name in ("time_s", "power_w", "sm_hz"))
    shape = np.unique(np.stack([m, n, k]), axis=1, return_inverse=True)[1]
    return Sweep(made, time_s, power_w, hz / head["max_sm_hz"], np.ravel(shape))


def fit(data: Path) -> dict[str, NDArray[Any]]:
    """The shipped arrays, from the sweep in `data`."""
    path = data / NAME
    if not path.is_file():
        raise BadInput(
            f"{path}: got no sweep; measure one (python -m workloads.gemm_sweep), or name the folder of {SWEEP}"
        )
    bursts, long, source = read(path)
    held_out = cross_validate(bursts, long)
    limit_w = source["heads"][0]["power_limit_w"]
    fitted = fit_parts(bursts, long, limit_w)
    meta = {
        "gpu": GPU,
        "source": "our own sweep of an H200; licence as this repository",
        "software": [head["torch"] for head in source["heads"]],
        "inputs_sha256": {NAME: hashlib.sha256(path.read_bytes()).hexdigest()},
        "rows": {"runtime": len(bursts.time_s), "power": len(long.time_s)},
        "limit_w": limit_w,
        "multiprocessors": source["heads"][0]["multiprocessors"],
        "largest": [int(x.max()) for x in (bursts.products.m, bursts.products.n, bursts.products.k)],
        "cross_validation": held_out,
    }
    energy = np.array([fitted.energy.idle_w, fitted.energy.exponent, fitted.energy.core, *fitted.energy.joules])
    arrays = {**pack(fitted.time, "time"), **pack(fitted.rest, "rest"), "energy": energy}
    return {**arrays, "meta": np.array(json.dumps(meta, sort_keys=True))}


def fit_parts(bursts: Sweep, long: Sweep, limit_w: float) -> Fitted:
    """The three parts, from these rows."""
    from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor

    boosting = HistGradientBoostingRegressor(
        max_iter=400,
        learning_rate=0.06,
        max_leaf_nodes=24,
        min_samples_leaf=8,
        l2_regularization=1.0,
        random_state=0,
        early_stopping=False,
    )
    boosting.fit(features(bursts.products), np.log(bursts.time_s / bursts.products.roof_s))
    time = from_sklearn(boosting)
    full_s = long.products.roof_s * np.exp(predict(time, features(long.products)))
    energy = fit_energy(long, full_s)
    x = power_features(long.products, full_s, energy)
    rest = ExtraTreesRegressor(150, min_samples_leaf=3, max_features=0.5, random_state=0)
    rest.fit(x, _missed(long, energy))
    return Fitted(time, energy, from_sklearn(rest), limit_w)


def fit_energy(long: Sweep, full_s: Array) -> Energy:
    """Idle power, exponents and joules that agree best with measured power, clocks and times."""
    from scipy.optimize import least_squares

    slowed = long.clock < FREE_CLOCK

    def misfit(x: Array) -> Array:
        energy = Energy(x[0], x[1], x[2], x[3:])
        power = _power_w(long, energy)
        slower = (np.log(long.time_s / full_s) + energy.core_share(long.products, full_s) * np.log(long.clock))[slowed]
        return np.concatenate([np.log(power / long.power_w), 0.3 * slower])

    start = np.array([150.0, 1.7, 0.5, 80.0, 35.0, *([1.0] * len(DTYPES))])
    bounds = (np.full(len(start), 1e-3), np.array([250.0, 4.0, 2.0, *([300.0] * (len(start) - 3))]))
    found = least_squares(misfit, start, bounds=bounds, loss="soft_l1", f_scale=0.1).x
    return Energy(float(found[0]), float(found[1]), float(found[2]), found[3:])


def _power_w(long: Sweep, energy: Energy) -> Array:
    """Power at the clock and the time that were measured."""
    core_j, hbm_j = energy.split(long.products)
    return energy.idle_w + (core_j * long.clock**energy.exponent + hbm_j) / long.time_s


def _missed(long: Sweep, energy: Energy) -> Array:
    """Log of measured over predicted power above idle, at the measured clock."""
    above = np.maximum(long.power_w - energy.idle_w, 5.0)
    return np.clip(np.log(above / np.maximum(_power_w(long, energy) - energy.idle_w, 5.0)), -1.0, 1.0)


def cross_validate(bursts: Sweep, long: Sweep, folds: int = FOLDS) -> dict[str, Any]:
    """Errors on shapes left out (in every dtype), and the half widths that cover 90 % of them."""
    together = np.concatenate([np.stack([s.products.m, s.products.n, s.products.k], 1) for s in (bursts, long)])
    shape = np.ravel(np.unique(together, axis=0, return_inverse=True)[1])
    fold = np.random.default_rng(0).integers(0, folds, shape.max() + 1)[shape]
    mine, theirs = fold[: len(bursts.time_s)], fold[len(bursts.time_s) :]
    time_s, sustained_s, power_w = (np.zeros(len(x)) for x in (mine, theirs, theirs))
    limit_w = 700.0
    for held in range(folds):
        fitted = fit_parts(bursts.rows(mine != held), long.rows(theirs != held), limit_w)
        p = bursts.rows(mine == held).products
        time_s[mine == held] = p.roof_s * np.exp(predict(fitted.time, features(p)))
        p = long.rows(theirs == held).products
        full_s = p.roof_s * np.exp(predict(fitted.time, features(p)))
        settled = settle(draw(p, full_s, fitted), fitted.energy.idle_w, fitted.energy.exponent, fitted.limit_w)
        sustained_s[theirs == held], power_w[theirs == held] = settled.time_s, settled.power_w
    return {
        "runtime": errors(bursts.time_s, time_s)
        | {"half_width": {name: _half(bursts, time_s, name) for name in DTYPES}},
        "sustained": errors(long.time_s, sustained_s),
        "power": errors(long.power_w, power_w)
        | {
            "half_width": {
                name: half_width(np.log(power_w / long.power_w)[mine])
                for name, mine in (("at_limit", at_limit(power_w, limit_w)), ("below", ~at_limit(power_w, limit_w)))
            }
        },
        "power_below_limit": errors(long.power_w[long.clock > FREE_CLOCK], power_w[long.clock > FREE_CLOCK]),
    }


def _half(rows: Sweep, predicted: Array, dtype: str) -> float:
    mine = rows.products.dtype == dtype
    return half_width(np.log(predicted[mine] / rows.time_s[mine]))


def errors(measured: Array, predicted: Array) -> dict[str, float]:
    """R2 of values and of logs, mean and median absolute percentage error."""
    ape = np.abs(predicted / measured - 1)

    def r2(a: Array, b: Array) -> float:
        return float(1 - ((a - b) ** 2).sum() / ((a - a.mean()) ** 2).sum())

    return {
        "rows": len(measured),
        "r2": r2(measured, predicted),
        "r2_log": r2(np.log(measured), np.log(predicted)),
        "mean_ape": float(ape.mean()),
        "median_ape": float(np.median(ape)),
    }
