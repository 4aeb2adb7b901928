"""TPOT and TTFT of whole engines, with rows left out: whole curves (5 folds), whole models, whole GPUs.

    python -m tests.benchmarks.serving [--splits configurations models gpus]

Beside ours: the error of AIConfigurator 0.12.0 on the same kind of rows (its tables included), as published with them.
Intervals are calibrated inside each fold, on rows left out of its training rows in the same way.

Two figures each. The first is what the bars are about: every row, by the definition of a configuration and by the names
of models. The stricter one below it: the table repeats rows under other spellings of one deployment, so rows whose
(TTFT, TPOT) stands in another fold too are not scored; and checkpoints of one architecture (DeepSeek-V3 and R1, which
share many runs; a model and its quantised copy) are left out together. It passes and fails nothing.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from planner.perf.conformal import half_width
from planner.perf.fit_serving import engine_half_widths, estimates, folds, learn, measured, splits
from planner.perf.serving import predict
from planner.perf.serving_rows import ENGINES, parse, published
from planner.perf.tables import Columns, numbers, words
from tests.benchmarks.common import bar, perf_folder

Array = NDArray[np.float64]
Fold = NDArray[np.int64]
BARS = {
    ("configurations", "tpot"): (6.0, 3.5, "22.5 / 11.2"),
    ("models", "tpot"): (14.0, 9.0, "35.5 / 20.3"),
    ("gpus", "tpot"): (15.0, 10.0, "38.9 / 26.4"),
    ("configurations", "ttft"): (15.0, 8.0, "45.8 / -"),
    ("models", "ttft"): (25.0, 15.0, "52.9 / -"),
}
WIDEST = {"tpot": 20.0, "ttft": 50.0}
MOST_US = 100.0


def main() -> None:
    """Print the bars, and below each figure the stricter one; exit code 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", nargs="*", default=["configurations", "models", "gpus"])
    parser.add_argument("--data", type=Path, help="Folder of measured performance data.")
    options = parser.parse_args()
    columns = measured(perf_folder(options.data))
    refused = int((parse(columns).refusal != "").sum())
    total = len(columns["isl"])
    answered = 100 * (1 - refused / total)
    met = bar("answered", answered >= 99, f"{answered:.1f} % of {total} complete rows (99 wanted)")
    each_us = 1e6 * min(_seconds(columns) for _ in range(3)) / total
    met &= bar("speed", each_us <= MOST_US, f"{each_us:.0f} us of CPU a row in an array (at most {MOST_US:.0f} wanted)")
    for name, fold in splits(columns).items():
        if name in options.splits:
            met &= _report(name, columns, fold)
    sys.exit(0 if met else 1)


def _seconds(columns: Columns) -> float:
    start_s = time.process_time()
    predict(columns)
    return time.process_time() - start_s


def _report(name: str, columns: Columns, fold: Fold) -> bool:
    residual, half = _left_out(name, columns, fold)
    alike = folds(_architectures(columns), None) if name == "models" else fold
    strict = residual if alike is fold else _together(columns, residual, fold, alike)
    twins, met = _twins(columns, alike), True
    for key, away in residual.items():
        figure, error = f"{key.upper()}, unseen {name}", _errors(away)
        mean_bar, median_bar, peer = BARS.get((name, key), (np.inf, np.inf, ""))
        if peer:
            fine = error[0] <= mean_bar and error[1] <= median_bar
            wanted = f"{mean_bar:g} / {median_bar:g} wanted; AIConfigurator {peer}"
            met &= bar(figure, fine, f"mean / median error {error[0]:.1f} / {error[1]:.1f} % ({wanted})")
        else:
            print(f"----  {figure}: mean / median error {error[0]:.1f} / {error[1]:.1f} % (no bar)")
        mean, median = _errors(strict[key][~twins])
        over = " and ".join(
            f"{what} over by {value - most:.2f}"
            for what, value, most in (("mean", mean, mean_bar), ("median", median, median_bar))
            if value > most
        )
        print(f"      stricter, {twins.sum()} twins not scored: {mean:.2f} / {median:.2f} % {over and f'({over})'}")
        covered = 100 * float(np.mean(np.abs(away) <= half[key]))
        wide = 100 * float(np.median(np.expm1(half[key])))
        cover = f"{covered:.1f} % covered (85 to 95 wanted), median half width {wide:.1f} % ({WIDEST[key]:g} wanted)"
        met &= bar(f"{figure}, 90 % intervals", 85 <= covered <= 95 and wide <= WIDEST[key], cover)
        sys.stdout.flush()
    return met


def _errors(away: Array) -> tuple[float, float]:
    error = 100 * np.abs(np.expm1(away))
    return float(error.mean()), float(np.median(error))


def _truth(columns: Columns) -> dict[str, Array]:
    return {key: np.log(numbers(columns, f"silicon_{key}_ms") / 1e3) for key in ("tpot", "ttft")}


def _left_out(name: str, columns: Columns, fold: Fold) -> tuple[dict[str, Array], dict[str, Array]]:
    """What log predictions are off by, and the half width of their intervals, by models that have not seen the fold."""
    kind, truth, engine = "" if name == "configurations" else "_physics", _truth(columns), parse(columns).engine
    residual, half = ({key: np.zeros(len(fold)) for key in truth} for _ in range(2))
    for one in np.unique(fold):
        test = fold == one
        made = estimates(columns, learn(columns, ~test, grown=not kind))
        widths = _calibrated(name, columns, ~test)
        for key, y in truth.items():
            residual[key][test] = (made[key + kind] - y)[test]
            half[key][test] = (widths[key][engine] * (made[f"{key}_spread"] if not kind else 1.0))[test]
    return residual, half


def _architectures(columns: Columns) -> NDArray[np.int64]:
    """Equal numbers for checkpoints that have equal layers."""
    layers = [None if model is None else model.blocks for model in map(published, words(columns, "model_path"))]
    kinds = list(dict.fromkeys(layers))
    return np.array([kinds.index(each) for each in layers])


def _together(columns: Columns, residual: dict[str, Array], fold: Fold, alike: Fold) -> dict[str, Array]:
    """The same with models of one architecture left out together; only those that were not alone are fitted anew."""
    found = {key: values.copy() for key, values in residual.items()}
    for one in np.unique(alike):
        test = alike == one
        if len(np.unique(fold[test])) > 1:
            made = estimates(columns, learn(columns, ~test, grown=False))
            for key, y in _truth(columns).items():
                found[key][test] = (made[f"{key}_physics"] - y)[test]
    return found


def _twins(columns: Columns, fold: Fold) -> NDArray[np.bool_]:
    """Rows whose exact TTFT and TPOT stand in another fold too."""
    pairs = list(zip(columns["silicon_ttft_ms"].tolist(), columns["silicon_tpot_ms"].tolist(), strict=True))
    where: dict[tuple[float, float], set[int]] = {}
    for pair, one in zip(pairs, fold.tolist(), strict=True):
        where.setdefault(pair, set()).add(one)
    return np.array([len(where[pair]) > 1 for pair in pairs])


def _calibrated(name: str, columns: Columns, train: NDArray[np.bool_]) -> dict[str, Array]:
    """Half widths from the training rows alone, by engine: the same kind of split once more, inside."""
    inner = splits(columns)[name]
    groups = np.unique(inner[train])
    kind = "" if name == "configurations" else "_physics"
    engine = parse(columns).engine
    scores: dict[str, Array] = {key: np.zeros(len(inner)) for key in ("tpot", "ttft")}
    for one in groups:
        test = train & (inner == one)
        made = estimates(columns, learn(columns, train & ~test, grown=not kind))
        for key, y in _truth(columns).items():
            scale = made[f"{key}_spread"] if not kind else np.ones(len(y))
            scores[key][test] = ((made[key + kind] - y) / scale)[test]
    if not kind:
        return {key: np.full(len(ENGINES), half_width(kept[train])) for key, kept in scores.items()}
    return {key: engine_half_widths(key, kept[train], engine[train]) for key, kept in scores.items()}


if __name__ == "__main__":
    main()
