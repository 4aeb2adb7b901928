"""Fits the serving model on measured whole-engine runs: `muster fit serving --data DIR`.

Two stages. First the coefficients of `planner.perf.serving_step` and of the first token, by robust least squares in log
space with normal priors around their starting values. Then trees on what is left, which hold for models and GPUs among
the measured ones. Intervals come from rows left out: whole curves, whole models, whole GPUs (`planner.perf.conformal`).
"""

import hashlib
import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.errors import BadInput
from planner.perf.conformal import half_width
from planner.perf.fit_serving_first import fit_measured, fit_new
from planner.perf.fit_serving_step import fit_step
from planner.perf.serving_features import FIRST_CLIP, STEP_CLIP, share_features, step_features
from planner.perf.serving_first import campaigns, first_features, first_index, first_s, waits
from planner.perf.serving_physics import demand, index
from planner.perf.serving_ranges import measured_ranges
from planner.perf.serving_rows import ENGINES, parse
from planner.perf.serving_step import log_step_s, measured_together, placed, prompt_s, steps
from planner.perf.tables import Columns, numbers, read, words
from planner.perf.trees import Forest, compact, constant, from_sklearn, pack, rounded

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
FILE = Path("engine") / "silicon_sample.csv"
SOURCE = "aiconfigurator-core 0.12.0, measured whole-engine runs (github ai-dynamo/aiconfigurator, Apache-2.0)"
TREES = 48
LARGEST_AWAY = 1.5  # logs, beyond which an error says no more of its engine
FEWEST_ROWS = 100  # a fit from fewer would be noise in each of five folds
ROWS_OF_ALL = 30  # how many rows of all engines speak for an engine beside its own
# A configuration is a whole curve: every column but these.
NO_CONFIGURATION = (
    "id", "batch_size", "concurrency", "backend_version", "measured_on", "image", "complete", "silicon_ttft_ms",
    "silicon_tpot_ms", "prefill_batch_size", "decode_batch_size", "prefill_num_workers", "decode_num_workers",
)  # fmt: skip


def fit(data: Path) -> dict[str, NDArray[Any]]:
    """The arrays of the shipped model, with the errors that left-out rows had in `meta`."""
    columns = measured(data)
    found, report = learn(columns), evaluate(columns)
    digest = hashlib.sha256((data / FILE).read_bytes()).hexdigest()
    meta = {
        "source": SOURCE,
        "inputs_sha256": {str(FILE): digest},
        "rows": len(columns["isl"]),
        "models": sorted(set(words(columns, "model_path"))),
        "gpus": sorted(set(words(columns, "system"))),
        "ranges": measured_ranges(parse(columns)),
        "cross_validation": report,
    }
    return {**found, "meta": np.array(json.dumps(meta, sort_keys=True))}


def measured(data: Path) -> dict[str, NDArray[Any]]:
    """The rows that state both latencies and are not called incomplete. Raises BadInput where they are too few."""
    columns = read(data / FILE)
    kept = ~np.isin(words(columns, "complete"), ("False", "0"))
    for name in ("silicon_ttft_ms", "silicon_tpot_ms"):
        if name not in columns:
            raise BadInput(f"{data / FILE}: got no column {name!r}, allowed: a table of measured runs")
        times = numbers(columns, name)
        kept &= np.isfinite(times) & (times > 0)
    if (found := int(kept.sum())) < FEWEST_ROWS:
        raise BadInput(f"{data / FILE}: got {found} complete rows with both latencies, allowed: at least {FEWEST_ROWS}")
    return {name: values[kept] for name, values in columns.items()}


def learn(columns: Columns, train: Mask | None = None, *, grown: bool = True) -> dict[str, NDArray[Any]]:
    """Coefficients and trees from the rows of a mask (all, if none is given); trees that say 0 unless `grown`."""
    rows = parse(columns)
    everything = np.ones(len(rows.concurrency), dtype=bool)
    train = (everything if train is None else train) & (rows.refusal == "")
    tpot, ttft = (np.log(numbers(columns, f"silicon_{key}_ms") / 1e3) for key in ("tpot", "ttft"))
    names = sorted({str(name) for name in rows.version[train]})
    d, at = demand(rows), index(rows, names)
    terms = steps(rows, d)
    v, coefficients = fit_step(terms, measured_together(rows), tpot, train)
    ready = placed(terms, coefficients)
    log_tpot, shares = log_step_s(v, ready)
    tpot_s, each_s = np.exp(log_tpot), prompt_s(v, coefficients, rows, d, terms.levels)
    together = sorted({str(name) for name in campaigns(rows)[train]})
    found, first_at = waits(rows, d, tpot_s, each_s), first_index(rows, together)
    seen = _some(found, train), _some(first_at, train)
    u, new = fit_measured(*seen, len(together), ttft[train]), fit_new(*seen, ttft[train])
    ttft_s = first_s(u, new, found, first_at, len(together))
    x = step_features(rows, d, at, tpot_s, each_s)
    z = share_features(x, rows, d, tuple(ready.groups[g] for g in ready.group_of), shares)
    grow = _trees if grown else _nothing
    step_trees = grow(z[train], np.clip(tpot - np.log(tpot_s), -STEP_CLIP, STEP_CLIP)[train])
    y = first_features(x, found, ttft_s)
    first_trees = grow(y[train], np.clip(ttft - np.log(ttft_s), -FIRST_CLIP, FIRST_CLIP)[train])
    return {
        "step": v,
        "step_names": np.array(coefficients),
        "first": u,
        "first_new": new,
        "first_campaigns": np.array(together),
        "versions": np.array(names),
        **pack(step_trees, "step_trees"),
        **pack(first_trees, "first_trees"),
    }


def _nothing(x: Array, y: Array) -> Forest:
    return constant(0.0)


def _trees(x: Array, y: Array) -> Forest:
    from sklearn.ensemble import ExtraTreesRegressor

    model = ExtraTreesRegressor(TREES, min_samples_leaf=1, max_features=0.8, random_state=0)
    return compact(from_sklearn(model.fit(rounded(x), y)))


def _some(whole: Any, mask: Mask) -> Any:
    """The rows of a mask, of every array in a dataclass."""
    parts = {f.name: getattr(whole, f.name) for f in fields(whole)}
    return replace(whole, **{k: _some(x, mask) if is_dataclass(x) else x[mask] for k, x in parts.items()})


def estimates(columns: Columns, found: dict[str, NDArray[Any]]) -> dict[str, Array]:
    """Log TPOT and TTFT of every row: of the coefficients alone, and with the trees."""
    from planner.perf.serving import logs
    from planner.perf.serving import unpacked as unpack_model

    return logs(parse(columns), unpack_model(found))


def folds(names: NDArray[Any], count: int | None) -> NDArray[np.int64]:
    """The fold of each row: groups dealt out at random (seed 0) to `count` folds, or one fold a group."""
    unique, at = np.unique(names.astype(str), return_inverse=True)
    if count is None:
        return at
    dealt = np.empty(len(unique), dtype=int)
    dealt[np.random.default_rng(0).permutation(len(unique))] = np.arange(len(unique)) % count
    return dealt[at]


def splits(columns: Columns) -> dict[str, NDArray[np.int64]]:
    """The three ways to leave rows out: whole configurations (5 folds), whole models, whole GPUs."""
    keys = [name for name in columns if name not in NO_CONFIGURATION]
    curves = np.array(["|".join(row) for row in zip(*(words(columns, key) for key in keys), strict=True)])
    return {
        "configurations": folds(curves, 5),
        "models": folds(np.array(words(columns, "model_path")), None),
        "gpus": folds(np.array(words(columns, "system")), None),
    }


def left_out(columns: Columns, fold: NDArray[np.int64], *, grown: bool) -> dict[str, Array]:
    """Log predictions of every row by a model that has not seen its fold."""
    out: dict[str, Array] = {}
    for one in np.unique(fold):
        test = fold == one
        for key, values in estimates(columns, learn(columns, ~test, grown=grown)).items():
            out.setdefault(key, np.zeros(len(fold)))[test] = values[test]
    return out


def engine_half_widths(key: str, residual: Array, engine: NDArray[np.int64]) -> Array:
    """By engine, the half width for new models or GPUs: first tokens differ by engine in how well they are known."""
    away = np.minimum(np.abs(residual), LARGEST_AWAY)
    apart = [away[engine == i] if key == "ttft" else away[:0] for i in range(len(ENGINES))]
    scale = np.array([(own.sum() + ROWS_OF_ALL * away.mean()) / (len(own) + ROWS_OF_ALL) for own in apart])
    return half_width(residual, scale[engine]) * scale


def evaluate(columns: Columns) -> dict[str, dict[str, float]]:
    """Errors of left-out rows, and the half widths that cover 90 % of them, by split; of new ones by engine."""
    truth = {key: np.log(numbers(columns, f"silicon_{key}_ms") / 1e3) for key in ("tpot", "ttft")}
    engine = parse(columns).engine
    report: dict[str, dict[str, float]] = {}
    for name, fold in splits(columns).items():
        known = name == "configurations"
        made, kind = left_out(columns, fold, grown=known), "" if known else "_physics"
        for key, y in truth.items():
            residual = made[key + kind] - y
            error = np.abs(np.expm1(residual))
            if known:
                widths = {"half_width": half_width(residual, made[f"{key}_spread"])}
            else:
                halves = engine_half_widths(key, residual, engine)
                widths = {f"half_width_{one}": float(half) for one, half in zip(ENGINES, halves, strict=True)}
            errors = {"mean": float(error.mean()), "median": float(np.median(error))}
            report[f"{name}:{key}"] = errors | widths
    return report
