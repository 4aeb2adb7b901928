"""Fits the utilisation surfaces of kernels on measured operator tables: `muster fit operators --data DIR`."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.catalog import gpu
from planner.perf.collectives import link_work, links
from planner.perf.conformal import half_width
from planner.perf.op_features import HARDWARE, Work, chip
from planner.perf.op_rows import OPERATORS, kernels, work_of
from planner.perf.operators import power_features
from planner.perf.tables import Columns, read
from planner.perf.trees import Forest, from_sklearn, pack, predict
from planner.power import idle_w

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
    "allreduce": ("bytes",),
}
MOST_ROWS, MOST_NEW = 160_000, 40_000
FOLDS = 5


class Measured(NamedTuple):
    """All rows of one operator family: work, log ratio of measured to reference time, GPU and shape of each."""

    features: NDArray[np.float32]
    ratio: Array
    gpu: NDArray[Any]
    shape: NDArray[Any]


def fit(data: Path) -> dict[str, NDArray[Any]]:
    """Trees of every family for GPUs that were measured and for new ones, and of power; errors in `meta`."""
    arrays: dict[str, NDArray[Any]] = {}
    report: dict[str, dict[str, float]] = {}
    used: list[Path] = []
    for op in OPERATORS:
        rows, paths = measured(data, op)
        used += paths
        arrays |= pack(known_trees(rows, np.ones(len(rows.ratio), bool)), f"{op}.known")
        arrays |= pack(new_trees(rows, np.ones(len(rows.ratio), bool)), f"{op}.new")
        report |= {f"{op}:{name}": errors for name, errors in evaluate(rows).items()}
    x, share, paths = drawn(data)
    arrays |= pack(_grown(x, share, 100, 31, 20), "power")
    cut = np.random.default_rng(0).random(len(share)) < 0.2
    error = np.abs(predict(_grown(x[~cut], share[~cut], 100, 31, 20), x[cut]) - share[cut]) / share[cut]
    report["power"] = {"mean": float(error.mean()), "median": float(np.median(error))}
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted({*used, *paths})}
    meta = {
        "source": SOURCE,
        "inputs_sha256": digests,
        "rows": sum(int(r["rows"]) for r in report.values() if "rows" in r),
        "gpus": list(GPUS.values()),
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
            ratio = np.log(columns["latency"] / 1e3 / work.reference_s)
            fine &= np.isfinite(ratio)
            parts.append(
                Measured(work.features.astype(np.float32)[fine], ratio[fine], np.full(fine.sum(), name), shape[fine])
            )
    return Measured(*(np.concatenate(columns) for columns in zip(*parts, strict=True))), used


def _files(data: Path, prefix: str, op: str) -> list[Path]:
    folder = data / "operators"
    if op == "allreduce":
        return sorted([*folder.glob(f"{prefix}_nccl*.parquet"), *folder.glob(f"{prefix}_*custom_allreduce.parquet")])
    return sorted(folder.glob(f"{prefix}_vllm*_{op}.parquet"))


def _work(op: str, name: str, columns: Columns) -> tuple[Work, NDArray[np.bool_], NDArray[Any]]:
    card = chip(gpu(name), tuple(GPUS.values()))
    if op == "allreduce":
        figures, refusal = links(columns)
        work = link_work(card.gpu, card.known, figures)
    else:
        rows = kernels(op, columns)
        figures, refusal, work = rows.figures, rows.refusal, work_of(op, card, rows)
    keys = [figures[key].astype(np.int64).astype(str) for key in SHAPES[op]]
    return work, refusal == "", np.array(["_".join(parts) for parts in zip(*keys, strict=True)])


def _grown(x: NDArray[Any], y: Array, trees: int, leaves: int, least: int) -> Forest:
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(
        loss="absolute_error", max_iter=trees, learning_rate=0.1, max_leaf_nodes=leaves, min_samples_leaf=least,
        early_stopping=False, random_state=0,
    )  # fmt: skip
    return from_sklearn(model.fit(x, y))


def _some(mask: NDArray[np.bool_], most: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).permutation(np.flatnonzero(mask))[:most]


def known_trees(rows: Measured, train: NDArray[np.bool_], trees: int = 400) -> Forest:
    """Trees that know which GPU it is."""
    at = _some(train, MOST_ROWS)
    return _grown(rows.features[at], rows.ratio[at], trees, 95, 5)


def new_trees(rows: Measured, train: NDArray[np.bool_]) -> Forest:
    """Trees for GPUs that nobody measured."""
    at = _some(train, MOST_NEW)
    return _grown(rows.features[at][:, HARDWARE:], rows.ratio[at], 150, 31, 30)


def evaluate(rows: Measured) -> dict[str, dict[str, float]]:
    """Errors on one fifth of the shapes, and on each GPU in turn, none of them seen."""
    unique, at = np.unique(rows.shape, return_inverse=True)
    fold = np.random.default_rng(0).permutation(len(unique))[at] % FOLDS
    test = fold == 0
    shapes = predict(known_trees(rows, ~test), rows.features[test]) - rows.ratio[test]
    left: list[Array] = []
    medians = {}
    for name in np.unique(rows.gpu):
        out = rows.gpu == name
        residual = predict(new_trees(rows, ~out), rows.features[out][:, HARDWARE:]) - rows.ratio[out]
        medians[f"median:{name}"] = float(np.median(np.abs(np.expm1(residual))))
        left.append(residual)
    return {
        "shapes": {**_errors(shapes), "rows": float(len(rows.ratio))},
        "gpus": {**_errors(np.concatenate(left)), **medians},
    }


def _errors(residual: Array) -> dict[str, float]:
    error = np.abs(np.expm1(residual))
    return {
        "mean": float(error.mean()),
        "median": float(np.median(error)),
        "half_width": half_width(residual),
    }


def drawn(data: Path) -> tuple[Array, Array, list[Path]]:
    """Features and the share of the way from idle to the limit that kernels drew."""
    xs, shares, used = [], [], []
    for prefix, name in GPUS.items():
        for op in ("context_attention", "generation_attention", "moe"):
            for path in sorted((data / "operators").glob(f"{prefix}_*_{op}_power.parquet")):
                columns = read(path)
                work, fine, _ = _work(op, name, columns)
                rest = idle_w(gpu(name))
                share = (columns["power"] - rest) / (columns["power_limit"] - rest)
                xs.append(power_features(work, columns["latency"] / 1e3)[fine])
                shares.append(np.clip(share, 0.01, 1.0)[fine])
                used.append(path)
    return np.concatenate(xs), np.concatenate(shares), used
