"""Fits the utilisation surfaces of kernels on measured operator tables: `muster fit operators --data DIR`."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.catalog import gpu
from planner.errors import BadInput
from planner.perf.conformal import half_width
from planner.perf.op_base import base_s, fitted
from planner.perf.op_features import HARDWARE, Work, chip
from planner.perf.op_rows import kernels, work_of
from planner.perf.operators import Surfaces, pairs, power_features
from planner.perf.shallow_trees import Shallow, from_sklearn, pack, predict
from planner.perf.tables import Columns, read

Array = NDArray[np.float64]
SOURCE = "operator tables of aiconfigurator-core 0.12.0 (github ai-dynamo/aiconfigurator, Apache-2.0)"
# Name in a file -> in the catalogue.
GPUS = {"a100_sxm": "A100-SXM-80GB", "h100_sxm": "H100-SXM", "h200_sxm": "H200-SXM", "b200_sxm": "B200"}
# What makes a shape: all rows of one are left out together.
SHAPES = {
    "gemm": ("n", "k"),
    "context_attention": ("heads", "kv_heads", "head_dim", "window"),
    "generation_attention": ("heads", "kv_heads", "head_dim", "window"),
    "moe": ("hidden", "inter", "per_token", "experts", "tp", "ep"),
}
POWER = ("b200_sxm", "B200")  # the only GPU whose kernels' power was measured
MOST_ROWS, MOST_NEW = 160_000, 40_000
TREES = {"gemm": 400, "context_attention": 350, "generation_attention": 350, "moe": 500}
FOLDS = 5


class Measured(NamedTuple):
    """All rows of one operator family: what it asks of the GPU, seconds, GPU and shape of each."""

    features: NDArray[np.float32]
    terms: Array
    group: Array
    time_s: Array
    gpu: NDArray[Any]
    shape: NDArray[Any]

    def of(self, rows: NDArray[np.bool_]) -> "Measured":
        """Some of the rows."""
        return Measured(
            self.features[rows], self.terms[rows], self.group[rows], self.time_s[rows], self.gpu[rows], self.shape[rows]
        )


def fit(data: Path) -> dict[str, NDArray[Any]]:
    """Prices and trees of every family, for measured GPUs and for new ones, and of power; errors in `meta`."""
    arrays: dict[str, NDArray[Any]] = {}
    report: dict[str, dict[str, float]] = {}
    used: list[Path] = []
    for op in SHAPES:
        rows, paths = measured(data, op)
        used += paths
        surface = surfaces(op, rows)
        arrays |= {f"{op}.{key}": x for key, x in _stored(surface).items()}
        arrays |= pack(surface.known, f"{op}.known") | pack(surface.new, f"{op}.new")
        report |= {f"{op}:{name}": errors for name, errors in evaluate(op, rows).items()}
    watts, errors, paths = powers(data)
    arrays, report = arrays | watts, report | errors
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted({*used, *paths})}
    meta = {
        "source": SOURCE,
        "inputs_sha256": digests,
        "rows": sum(int(r["rows"]) for r in report.values() if "rows" in r),
        "gpus": list(GPUS.values()),
        "power_gpu": POWER[1],
        "cross_validation": report,
    }
    return {**arrays, "meta": np.array(json.dumps(meta, sort_keys=True))}


def measured(data: Path, op: str) -> tuple[Measured, list[Path]]:
    """All rows of a family, and the files that they come from."""
    parts: list[Measured] = []
    used: list[Path] = []
    for prefix, name in GPUS.items():
        for path in _files(data, prefix, op):
            used.append(path)
            columns = read(path)
            work, fine, shape = _work(op, name, columns)
            time_s = columns["latency"] / 1e3
            fine &= np.isfinite(time_s) & (time_s > 0)
            features = work.features.astype(np.float32)
            gpus = np.full(len(fine), name, dtype=object)
            parts.append(Measured(features, work.terms, work.group, time_s, gpus, shape).of(fine))
    if not parts:
        raise BadInput(f"{data / 'operators'}: got no table of {op} ({', '.join(GPUS)}_*_{op}.parquet)")
    return Measured(*(np.concatenate(columns) for columns in zip(*parts, strict=True))), used


def _files(data: Path, prefix: str, op: str) -> list[Path]:
    return sorted((data / "operators").glob(f"{prefix}_vllm*_{op}*.parquet"))


def _work(op: str, name: str, columns: Columns) -> tuple[Work, NDArray[np.bool_], NDArray[Any]]:
    rows = kernels(op, columns)
    work = work_of(op, chip(gpu(name), tuple(GPUS.values())), rows)
    keys = [rows.figures[key].astype(np.int64).astype(str) for key in SHAPES[op]]
    return work, rows.refusal == "", np.array(["_".join(parts) for parts in zip(*keys, strict=True)], dtype=object)


def _grown(x: NDArray[Any], y: Array, trees: int, leaves: int, depth: int, least: int) -> Shallow:
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(
        loss="absolute_error", max_iter=trees, learning_rate=0.1, max_leaf_nodes=leaves, max_depth=depth,
        min_samples_leaf=least, early_stopping=False, random_state=0,
    )  # fmt: skip
    return from_sklearn(model.fit(x, y), x.shape[1])


def _some(count: int, most: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).permutation(count)[:most]


def surfaces(op: str, rows: Measured, which: str = "both") -> Surfaces:
    """Prices of all rows, trees that know which GPU it is, and trees for GPUs that nobody measured."""
    prices = fitted(rows.terms, rows.group, rows.gpu.astype(str), rows.time_s)
    y = np.log(rows.time_s / base_s(prices, rows.terms, rows.group))
    many, few = _some(len(y), MOST_ROWS), _some(len(y), MOST_NEW)
    known = new = _grown(rows.features[few][:, HARDWARE:], y[few], 150, 31, 7, 30)
    if which != "new":
        known = _grown(rows.features[many], y[many], TREES[op], 128, 9, 5)
    return Surfaces(prices, known, new, pairs(rows.features[:, 0], rows.group))


def evaluate(op: str, rows: Measured) -> dict[str, dict[str, float]]:
    """Errors on one fifth of the shapes, and on each GPU in turn, none of them seen."""
    test = _test(rows.shape)
    shapes = _residual(surfaces(op, rows.of(~test)), rows.of(test), known=True)
    left: list[Array] = []
    medians = {}
    for name in np.unique(rows.gpu.astype(str)):
        out = rows.gpu == name
        residual = _residual(surfaces(op, rows.of(~out), "new"), rows.of(out), known=False)
        medians[f"median:{name}"] = float(np.median(np.abs(np.expm1(residual))))
        left.append(residual)
    of_gpus = {f"median:{g}": float(np.median(np.abs(np.expm1(shapes[rows.gpu[test] == g])))) for g in set(rows.gpu)}
    return {
        "shapes": {**_errors(shapes), **of_gpus, "rows": float(len(rows.time_s))},
        "gpus": {**_errors(np.concatenate(left)), **medians},
    }


def _residual(made: Surfaces, rows: Measured, known: bool) -> Array:
    """Log of predicted over measured time."""
    log_ratio = predict(made.known, rows.features) if known else predict(made.new, rows.features[:, HARDWARE:])
    found: Array = np.log(base_s(made.prices, rows.terms, rows.group) / rows.time_s) + log_ratio
    return found


def _stored(made: Surfaces) -> dict[str, NDArray[Any]]:
    prices = made.prices
    return {
        "groups": prices.groups, "log_prices": prices.log_prices, "unseen": prices.unseen, "pairs": made.pairs,
    }  # fmt: skip


def _errors(residual: Array) -> dict[str, float]:
    error = np.abs(np.expm1(residual))
    return {
        "mean": float(error.mean()),
        "median": float(np.median(error)),
        "half_width": half_width(residual),
    }


def powers(data: Path) -> tuple[dict[str, NDArray[Any]], dict[str, dict[str, float]], list[Path]]:
    """Trees of the power over the limit: of each family where it was measured, and of all families for other GPUs."""
    arrays: dict[str, NDArray[Any]] = {}
    report: dict[str, dict[str, float]] = {}
    xs: list[Array] = []
    ys: list[Array] = []
    parts: list[NDArray[np.bool_]] = []
    used: list[Path] = []
    for op in SHAPES:
        for path in sorted((data / "operators").glob(f"{POWER[0]}_*_{op}_power.parquet")):
            columns = read(path)
            work, fine, shape = _work(op, POWER[1], columns)
            fine &= (columns["power"] > 0) & (columns["power_limit"] > 0)
            y = np.log(columns["power"] / columns["power_limit"])[fine]
            general = power_features(op, work, columns["latency"] / 1e3)[fine]
            x = np.concatenate([work.features[fine], general], axis=1)
            test = _test(shape[fine])
            arrays |= pack(_power_trees(x, y), f"power.{op}")
            report[f"power:{op}"] = _errors(predict(_power_trees(x[~test], y[~test]), x[test]) - y[test])
            xs.append(general)
            ys.append(y)
            parts.append(test)
            used.append(path)
    x, y, test = np.concatenate(xs), np.concatenate(ys), np.concatenate(parts)
    report["power:other"] = _errors(predict(_power_trees(x[~test], y[~test]), x[test]) - y[test])
    return arrays | pack(_power_trees(x, y), "power"), report, used


def _power_trees(x: Array, y: Array) -> Shallow:
    return _grown(x, y, 200, 63, 8, 10)


def _test(shape: NDArray[Any]) -> NDArray[np.bool_]:
    """One fifth of the shapes."""
    unique, at = np.unique(shape.astype(str), return_inverse=True)
    fold: NDArray[np.bool_] = np.random.default_rng(0).permutation(len(unique))[at] % FOLDS == 0
    return fold
