"""Fits the energy model on measured engines: `muster fit energy --data DIR`.

First the factors and draws of `planner.perf.energy_terms`, by least squares in relative errors that forgive outliers,
drawn towards what is expected of them. Then forests on what is left. Some engines on a B200 wait for their host most
of the time, up to five times as long as others of the same model: what the first fit finds to be that far away teaches
neither. The rows carry no licence: what is shipped are coefficients and trees, and no row can be read from them.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.perf import tables, trees
from planner.perf.conformal import half_width
from planner.perf.energy import SOURCES, estimate, unpacked
from planner.perf.energy_rows import Row, demand, read
from planner.perf.energy_terms import (
    TERMS,
    TIMED,
    Coefficients,
    Terms,
    draw_ratio,
    features,
    group_of,
    limited,
    limited_slope,
    shares,
    spent_s,
    step_s,
    terms,
    wanted,
)

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
FILE = Path("engine") / "ml_energy_llm.csv"
SOURCE = "ML.ENERGY leaderboard, github ml-energy/leaderboard at 0cd52dab89 (measured engines; coefficients only)"
TREES = 100
DOUBT_S, DOUBT_W = 0.10, 0.08  # log seconds and watts by which engines depart from the sums
NEAR = 0.5  # log seconds between an engine and the sum of its terms; beyond, it waits for something else
# A configuration is a whole curve: these columns and no batch size.
CURVE = (
    "task", "model_id", "gpu_model", "num_gpus", "tensor_parallel", "expert_parallel", "data_parallel",
    "weight_precision",
)  # fmt: skip


class Measured:
    """The measured rows: what they ask, the truth (seconds of a step, watts of one GPU), and who they are."""

    def __init__(self, data: Path) -> None:
        columns = tables.read(data / FILE)
        found, refusals, _ = read(columns)
        kept = np.array([row is not None for row in found])
        self.rows: list[Row] = [row for row in found if row is not None]
        self.refusals = [words for words in refusals if words]
        asked = demand(self.rows)
        self.batch = asked.batch
        self.gpus = np.array([row.gpus for row in self.rows], dtype=float)
        self.terms = terms(asked)
        self.step_s = self.batch / columns["output_throughput_tokens_per_sec"][kept]
        self.watts = columns["avg_power_watts"][kept] / self.gpus
        self.joules = columns["energy_per_token_joules"][kept]
        self.gpu = np.array([row.gpu.name for row in self.rows])
        self.model = np.array([row.model.name for row in self.rows])
        self.identity = np.array(tables.words(columns, "model_id"))[kept]
        curves = zip(*(tables.words(columns, name) for name in CURVE), strict=True)
        self.curve = np.array(["|".join(words) for words in curves])[kept]
        _, at, count = np.unique(self.curve, return_inverse=True, return_counts=True)
        self.runs = count[at].astype(float)


def fit(data: Path) -> dict[str, NDArray[Any]]:
    """The arrays of the shipped model, with the errors that left-out rows had in `meta`."""
    measured = Measured(data)
    everything = np.ones(len(measured.rows), dtype=bool)
    widths, report = evaluate(measured)
    meta = {
        "source": SOURCE,
        "inputs_sha256": {str(FILE): hashlib.sha256((data / FILE).read_bytes()).hexdigest()},
        "rows": len(measured.rows),
        "models": sorted({row.model.name for row in measured.rows if row.known}),
        "gpus": sorted(set(measured.gpu.tolist())),
        "cross_validation": report,
        "half_widths": widths,
    }
    return {**learn(measured, everything), "meta": np.array(json.dumps(meta, sort_keys=True))}


def learn(measured: Measured, train: Mask) -> dict[str, NDArray[Any]]:
    """Coefficients and forests from the rows of a mask."""
    asked = measured.terms
    weight = 2 / np.sqrt(measured.runs)
    near = train
    for _ in range(3):
        factors, slower = _factors(_some(asked, near), measured.step_s[near], weight[near])
        sums = Coefficients(factors, slower, factors, slower)
        away = np.log(measured.step_s / step_s(asked, sums))
        near = train & (np.abs(away - np.median(away[train])) < NEAR)
    sums = _draws(_some(asked, train), sums, measured.step_s[train], measured.watts[train], weight[train])
    x = features(asked, sums)
    slow = measured.step_s / step_s(asked, sums)
    hot = measured.watts / (asked.rated_w * draw_ratio(asked, shares(asked, sums), sums))
    return {
        **{field.name: getattr(sums, field.name) for field in fields(Coefficients)},
        **trees.pack(_forest(x[near], slow[near], measured.runs[near]), "step"),
        **trees.pack(_forest(x[train], hot[train], measured.runs[train]), "draw"),
    }


def _factors(asked: Terms, seconds: Array, weight: Array) -> tuple[Array, Array]:
    """Factors on the terms and the ratios of the newer architecture, drawn towards what is expected of them."""
    group = group_of()[: len(TIMED)]
    known = len(TIMED)
    expected = np.log([TERMS[name].factor for name in TIMED] + [1.0] * group.shape[1])
    least = np.log([max(TERMS[name].least, 0.02) for name in TIMED])
    doubt = np.concatenate([np.full(known, 0.5), np.full(group.shape[1], 0.3)])

    def away(logs: Array) -> tuple[Array, Array]:
        spent = spent_s(asked, Coefficients(np.exp(logs[:known]), np.exp(logs[known:]), logs, logs))
        share = spent / spent.sum(axis=1)[:, None]
        slope = np.hstack([share, asked.newer[:, None] * (share @ group)])
        return np.log(spent.sum(axis=1) / seconds) / DOUBT_S, slope / DOUBT_S

    lows = np.concatenate([least, np.full(group.shape[1], -1.0)])
    highs = np.concatenate([np.full(known, 6.0), np.full(group.shape[1], 1.0)])
    logs = np.exp(_fit(away, expected, doubt, (lows, highs), weight))
    return logs[:known], logs[known:]


def _draws(asked: Terms, sums: Coefficients, seconds: Array, watts: Array, weight: Array) -> Coefficients:
    """The coefficients with draws, and their ratios, drawn towards what is expected of them.

    Rows share out the seconds that were measured: what an engine waits beyond the sum has a draw of its own, so that
    even engines which wait for their host most of the time teach what the rest of their steps draws.
    """
    spent, group = shares(asked, sums, seconds), group_of()
    known = len(TERMS)
    expected = np.concatenate([[term.draw for term in TERMS.values()], np.zeros(group.shape[1])])

    def made(values: Array) -> Coefficients:
        return replace(sums, draws=values[:known], hotter=np.exp(values[known:]))

    def away(values: Array) -> tuple[Array, Array]:
        each = wanted(asked, spent, made(values))
        drawn = limited(each.sum(axis=1))
        slope = np.hstack([each / values[:known], asked.newer[:, None] * (each @ group)])
        slope *= (limited_slope(each.sum(axis=1)) / drawn)[:, None]
        return np.log(asked.rated_w * drawn / watts) / DOUBT_W, slope / DOUBT_W

    lows = np.concatenate([np.full(known, 0.08), np.full(group.shape[1], -1.0)])
    highs = np.concatenate([np.full(known, 1.8), np.full(group.shape[1], 1.0)])
    return made(_fit(away, expected, np.full(len(expected), 0.2), (lows, highs), weight))


def _fit(
    away: Callable[[Array], tuple[Array, Array]],
    expected: Array,
    doubt: Array,
    bounds: tuple[Array, Array],
    weight: Array,
) -> Array:
    """What makes errors (forgiving large ones) and departures from what is expected small, both in units of doubt."""
    from scipy.optimize import least_squares

    def errors(values: Array) -> Array:
        far = away(values)[0]
        root = np.sqrt(2 * (np.sqrt(1 + far * far) - 1))
        return np.concatenate([weight * np.sign(far) * root, (values - expected) / doubt])

    def slopes(values: Array) -> Array:
        far, slope = away(values)
        root = np.sqrt(2 * (np.sqrt(1 + far * far) - 1))
        small = root < 1e-6
        chain = np.where(small, 1.0, np.abs(far) / np.sqrt(1 + far * far) / np.where(small, 1.0, root))
        return np.vstack([(weight * chain)[:, None] * slope, np.diag(1 / doubt)])

    start = np.clip(expected, bounds[0] + 1e-6, bounds[1] - 1e-6)
    return np.asarray(least_squares(errors, start, jac=slopes, bounds=bounds, max_nfev=40).x)  # type: ignore[arg-type]


def _forest(x: Array, ratio: Array, runs: Array) -> trees.Forest:
    """The ratio with the least relative error; each curve weighs the same, however many points it has."""
    from sklearn.ensemble import ExtraTreesRegressor

    model = ExtraTreesRegressor(TREES, min_samples_leaf=3, max_features=0.5, random_state=0)
    return trees.from_sklearn(model.fit(x.astype(np.float32), ratio, sample_weight=1 / (ratio * runs)))


def _some(asked: Terms, rows: Mask) -> Terms:
    return replace(asked, **{field.name: getattr(asked, field.name)[rows] for field in fields(Terms)})


def splits(measured: Measured) -> dict[str, NDArray[np.int64]]:
    """The fold of every row: whole configurations (5 folds, seed 0), whole models, whole GPUs left out."""
    curves, at = np.unique(measured.curve, return_inverse=True)
    dealt = np.empty(len(curves), dtype=np.int64)
    dealt[np.random.default_rng(0).permutation(len(curves))] = np.arange(len(curves)) % 5
    return {
        "configurations": dealt[at],
        "models": np.unique(measured.model, return_inverse=True)[1],
        "gpus": np.unique(measured.gpu, return_inverse=True)[1],
    }


def left_out(measured: Measured, fold: NDArray[np.int64], learned: bool, among: Mask | None = None) -> dict[str, Array]:
    """Power of one GPU and joules per token of every row (of a mask), by a model that has not seen its fold."""
    among = np.ones(len(fold), dtype=bool) if among is None else among
    out = {name: np.full(len(fold), np.nan) for name in ("power", "joules_per_token")}
    for one in np.unique(fold[among]):
        test = among & (fold == one)
        model = unpacked(learn(measured, among & ~test))
        seconds, watts = estimate(model, _some(measured.terms, test), np.full(int(test.sum()), learned))
        out["power"][test] = watts
        out["joules_per_token"][test] = watts * measured.gpus[test] * seconds / measured.batch[test]
    return out


def truth(measured: Measured) -> dict[str, Array]:
    """What was measured, under the names of `left_out`."""
    return {"power": measured.watts, "joules_per_token": measured.joules}


def evaluate(measured: Measured) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Half widths that cover 90 % of left-out rows by figure, source and GPU; and the errors of left-out rows."""
    widths: dict[str, float] = {}
    report: dict[str, dict[str, float]] = {}
    for source, (name, fold) in zip(SOURCES, splits(measured).items(), strict=True):
        made = left_out(measured, fold, learned=source != SOURCES[2])
        for key, true in truth(measured).items():
            away = np.log(made[key] / true)
            widths[f"{key}:{source}:"] = half_width(away)
            report[f"{name}:{key}"] = _errors(away)
            for gpu in np.unique(measured.gpu):
                of = measured.gpu == gpu
                report[f"{name}:{key}:{gpu}"] = _errors(away[of])
                if source != SOURCES[2]:
                    widths[f"{key}:{source}:{gpu}"] = half_width(away[of])
    return widths, report


def _errors(away: Array) -> dict[str, float]:
    error = np.abs(np.expm1(away))
    return {"mean": float(error.mean()), "median": float(np.median(error))}
