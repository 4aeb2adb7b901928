"""Fits the energy model on measured engines: `muster fit energy --data DIR`.

First the factors and draws of `planner.perf.energy_terms`, by least squares in relative errors that forgive outliers,
drawn towards what is expected of them. Then forests on what is left. Some engines on a B200 wait for their host most
of the time, up to five times as long as others of the same model: what the first fit finds to be that far away teaches
neither. The rows carry no licence: what is shipped are coefficients and trees, and no row can be read from them.
"""

import hashlib
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.perf import tables, trees
from planner.perf.conformal import half_width
from planner.perf.energy import SOURCES, estimate, unpacked
from planner.perf.energy_rows import Row, demand, read
from planner.perf.energy_terms import TERMS, TIMED, Terms, draw_ratio, features, shares, step_s, terms

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
FILE = Path("engine") / "ml_energy_llm.csv"
SOURCE = "ML.ENERGY leaderboard, github ml-energy/leaderboard at 0cd52dab89 (measured engines; coefficients only)"
TREES = 100
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
    asked, near = measured.terms, train.copy()
    factors = _factors(_some(asked, near), measured.step_s[near])
    for _ in range(2):
        away = np.log(measured.step_s / step_s(asked, factors))
        near = train & (np.abs(away - np.median(away[train])) < NEAR)
        factors = _factors(_some(asked, near), measured.step_s[near])
    kept = _some(asked, near)
    draws = _draws(kept, factors, measured.watts[near])
    x = features(kept, factors, draws)
    slow = np.log(measured.step_s[near] / step_s(kept, factors))
    hot = np.log(measured.watts[near] / (kept.rated_w * draw_ratio(shares(kept, factors), draws)))
    return {
        "factors": factors,
        "draws": draws,
        **trees.pack(_forest(x, slow), "step"),
        **trees.pack(_forest(x, hot), "draw"),
    }


def _factors(asked: Terms, seconds: Array) -> Array:
    """Factors on the terms, none below its least, drawn towards what is expected of it; least absolute errors."""
    from scipy.optimize import nnls

    expected = np.array([TERMS[name].factor for name in TIMED])
    least = np.array([TERMS[name].least for name in TIMED])
    pull = np.diag(np.sqrt(10.0) / expected) * 0.1
    beyond = seconds - asked.seconds @ least
    weight, factors = 1 / seconds, expected
    for _ in range(12):
        system = np.vstack([asked.seconds * weight[:, None], pull])
        factors = nnls(system, np.concatenate([beyond * weight, pull @ (expected - least)]))[0] + least
        away = np.abs(np.log(asked.seconds @ factors / seconds))
        weight = 1 / seconds / np.sqrt(np.maximum(away, 0.02))
    return np.asarray(factors)


def _draws(asked: Terms, factors: Array, watts: Array) -> Array:
    """Draws of the terms, drawn towards what is expected of them."""
    from scipy.optimize import least_squares

    expected = np.array([term.draw for term in TERMS.values()])
    spent = shares(asked, factors)

    def away(draws: Array) -> Array:
        errors = np.log(asked.rated_w * draw_ratio(spent, draws) / watts)
        return np.concatenate([errors, 0.3 * (draws - expected)])

    return np.asarray(least_squares(away, expected, bounds=(0.08, 1.6), loss="soft_l1", f_scale=0.08).x)


def _forest(x: Array, y: Array) -> trees.Forest:
    from sklearn.ensemble import ExtraTreesRegressor

    model = ExtraTreesRegressor(TREES, min_samples_leaf=3, max_features=0.5, random_state=0)
    return trees.from_sklearn(model.fit(x.astype(np.float32), y))


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
