"""Fits the energy model on measured engines: `muster fit energy --data DIR`.

First the factors and draws of `planner.perf.energy_terms`, by least squares in relative errors that forgive outliers,
drawn towards what is expected of them. Then forests on what is left. Some engines on a B200 wait for their host most
of the time, up to five times as long as others of the same model: what the first fit finds to be that far away teaches
nothing about time. The rows carry no licence: what is shipped are coefficients and trees, and no row can be read from
them.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.perf import tables, trees
from planner.perf.conformal import half_width
from planner.perf.energy import LOADS, SOURCES, estimate, unpacked
from planner.perf.energy_demand import demand, terms
from planner.perf.energy_rows import Row, read
from planner.perf.energy_terms import Coefficients, Terms, draw_ratio, features, shares, step_s
from planner.perf.fit_energy_sums import fit_draws, fit_factors

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
FILE, ANCHORS = Path("engine") / "ml_energy_llm.csv", Path("engine") / "llm_inference_bench_power.csv"
SOURCE = (
    "ML.ENERGY leaderboard, github ml-energy/leaderboard at 0cd52dab89 (measured engines; coefficients only); A100: "
    "LLM-Inference-Bench, github argonne-lcf/LLM-Inference-Bench at 4211f5d4e9 (BSD-3-Clause)"
)
TREES, DEPTH = 100, 8
NEAR = 0.5  # log seconds between an engine and the sum of its terms; beyond, it waits for something else
# A configuration is a whole curve: these columns and no batch size.
CURVE = (
    "task", "model_id", "gpu_model", "num_gpus", "tensor_parallel", "expert_parallel", "data_parallel",
    "weight_precision",
)  # fmt: skip


class Anchors(NamedTuple):
    """Engines on another GPU: what they ask, and the truth. They teach the ratios of its architecture and no forest."""

    terms: Terms
    step_s: Array
    watts: Array
    weight: Array


class Measured:
    """The measured rows: what they ask, the truth (seconds of a step, watts of one GPU), and who they are."""

    def __init__(self, data: Path, without: Collection[str] = (), anchored: bool = True) -> None:
        columns = {name: values for name, values in tables.read(data / FILE).items() if name not in without}
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
        self.anchors = anchors(tables.read(data / ANCHORS)) if anchored else None


def anchors(rows: dict[str, NDArray[Any]]) -> Anchors:
    """Whole batches that fit into memory at once: mean power, and seconds for each output token of a sequence."""
    length, batch = rows["io_length"], rows["batch_size"]
    asked = {"model_id": rows["model"], "gpu_model": rows["hardware"], "num_gpus": rows["gpus"], "max_num_seqs": batch}
    found, _, _ = read({**asked, "avg_input_len": length, "avg_output_len": length})
    # DeepSpeed-MII's kernels are not those of the engines that this model is of.
    engine = np.isin(tables.words(rows, "framework"), ("vLLM", "TensorRT-LLM"))
    fits = np.array([row is not None and row.batch == row.limit for row in found]) & engine
    kept = terms(demand([row for row, fit in zip(found, fits, strict=True) if row is not None and fit]))
    seconds, watts = (rows["latency_s"] / length)[fits], rows["avg_power_w"][fits]
    return Anchors(kept, seconds, watts, np.full(len(watts), 2 / np.sqrt(len(watts) / 2)))


def some_anchors(anchors: Anchors, rows: Mask) -> Anchors:
    """Those of a mask."""
    return Anchors(_some(anchors.terms, rows), *(values[rows] for values in anchors[1:]))


def _with(beside: Anchors | None, asked: Terms, seconds: Array, weight: Array, *watts: Array) -> tuple[Any, ...]:
    """Rows and anchors, one after the other."""
    if beside is None:
        return asked, seconds, weight, *watts
    both = {name: np.concatenate([getattr(asked, name), getattr(beside.terms, name)]) for name in _TERMS}
    more = (np.concatenate([mine, beside.watts]) for mine in watts)
    return Terms(**both), np.concatenate([seconds, beside.step_s]), np.concatenate([weight, beside.weight]), *more


_TERMS = tuple(field.name for field in fields(Terms))


def fit(data: Path) -> dict[str, NDArray[Any]]:
    """The arrays of the shipped model, with the errors that left-out rows had in `meta`."""
    measured = Measured(data)
    everything = np.ones(len(measured.rows), dtype=bool)
    widths, report = evaluate(measured)
    meta = {
        "source": SOURCE,
        "inputs_sha256": {
            str(file): hashlib.sha256((data / file).read_bytes()).hexdigest() for file in (FILE, ANCHORS)
        },
        "rows": len(measured.rows),
        "models": sorted({row.model.name for row in measured.rows if row.known}),
        "gpus": sorted(set(measured.gpu.tolist())),
        "most": {name: max(float(getattr(row, name)) for row in measured.rows) for name in LOADS},
        "cross_validation": report,
        "half_widths": widths,
    }
    return {**learn(measured, everything), "meta": np.array(json.dumps(meta, sort_keys=True))}


def learn(measured: Measured, train: Mask) -> dict[str, NDArray[Any]]:
    """Coefficients and forests from the rows of a mask."""
    asked = measured.terms
    weight = 2 / np.sqrt(measured.runs)
    near, beside = train, measured.anchors
    for _ in range(3):
        factors, slower = fit_factors(*_with(beside, _some(asked, near), measured.step_s[near], weight[near]))
        sums = Coefficients(factors, slower, factors, slower)
        away = np.log(measured.step_s / step_s(asked, sums))
        near = train & (np.abs(away - np.median(away[train])) < NEAR)
    seconds, watts = (values[train] for values in (measured.step_s, measured.watts))
    sums = fit_draws(sums, *_with(beside, _some(asked, train), seconds, weight[train], watts))
    x = features(asked, sums)
    slow = measured.step_s / step_s(asked, sums)
    hot = measured.watts / (asked.rated_w * draw_ratio(asked, shares(asked, sums), sums))
    return {
        **{field.name: getattr(sums, field.name) for field in fields(Coefficients)},
        **trees.pack(_forest(x[near], slow[near], measured.runs[near]), "step"),
        **trees.pack(_forest(x[train], hot[train], measured.runs[train]), "draw"),
    }


def _forest(x: Array, ratio: Array, runs: Array) -> trees.Forest:
    """The ratio with the least relative error; each curve weighs the same, however many points it has."""
    from sklearn.ensemble import ExtraTreesRegressor

    model = ExtraTreesRegressor(TREES, max_depth=DEPTH, min_samples_leaf=3, max_features=0.5, random_state=0)
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


def residuals(
    measured: Measured, fold: NDArray[np.int64], learned: bool, among: Mask | None = None
) -> dict[str, Array]:
    """Logarithms of left-out predictions over what was measured; nan outside the mask."""
    made = left_out(measured, fold, learned, among)
    return {key: np.log(made[key] / true) for key, true in truth(measured).items()}


def widths_of(measured: Measured, away: dict[str, Array], source: str) -> dict[str, float]:
    """Half widths that cover 90 % of left-out rows: of each measured GPU, of all, and for new GPUs of each as much."""
    widths: dict[str, float] = {}
    for key, values in away.items():
        each = {gpu: values[np.isfinite(values) & (measured.gpu == gpu)] for gpu in np.unique(measured.gpu)}
        each = {gpu: of for gpu, of in each.items() if len(of)}
        if source == SOURCES[2]:
            most = max(len(of) for of in each.values())
            widths[f"{key}:{source}:"] = half_width(np.concatenate([np.resize(of, most) for of in each.values()]))
            continue
        widths[f"{key}:{source}:"] = half_width(np.concatenate(list(each.values())))
        widths |= {f"{key}:{source}:{gpu}": half_width(of) for gpu, of in each.items()}
    return widths


def evaluate(measured: Measured) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Half widths by figure, source and GPU; and the errors of left-out rows."""
    widths: dict[str, float] = {}
    report: dict[str, dict[str, float]] = {}
    for source, (name, fold) in zip(SOURCES, splits(measured).items(), strict=True):
        away = residuals(measured, fold, learned=source != SOURCES[2])
        widths |= widths_of(measured, away, source)
        for key, values in away.items():
            report[f"{name}:{key}"] = errors(values)
            for gpu in np.unique(measured.gpu):
                report[f"{name}:{key}:{gpu}"] = errors(values[measured.gpu == gpu])
    return widths, report


def errors(away: Array) -> dict[str, float]:
    """Mean and median error of predictions, as shares of what was measured."""
    error = np.abs(np.expm1(away))
    return {"mean": float(error.mean()), "median": float(np.median(error))}
