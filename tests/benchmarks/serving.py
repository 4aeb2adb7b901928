"""TPOT and TTFT of whole engines, with rows left out: whole curves (5 folds), whole models, whole GPUs.

    python -m tests.benchmarks.serving [--splits configurations models gpus]

Beside ours: the error of AIConfigurator 0.12.0 on the same kind of rows (its tables included), as published with them.
Intervals are calibrated inside each fold, on curves left out of its training rows. Rows that repeat under another
spelling of the same deployment fall into other folds, as the definition of a configuration has it; `--merged` counts
DeepSeek-V3 and R1, which are one architecture and share many runs, as one model.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from planner.perf.conformal import half_width
from planner.perf.fit_serving import estimates, folds, learn, measured, splits
from planner.perf.serving import predict
from planner.perf.serving_rows import parse
from planner.perf.tables import numbers, words
from tests.benchmarks.common import perf_folder

BARS = {
    ("configurations", "tpot"): (6.0, 3.5, "22.5 / 11.2"),
    ("models", "tpot"): (14.0, 9.0, "35.5 / 20.3"),
    ("gpus", "tpot"): (15.0, 10.0, "38.9 / 26.4"),
    ("configurations", "ttft"): (15.0, 8.0, "45.8 / -"),
    ("models", "ttft"): (25.0, 15.0, "52.9 / -"),
}
WIDEST = {"tpot": 20.0, "ttft": 50.0}
MOST_SECONDS = 100e-6


def main() -> None:
    """Print one line a split and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", nargs="*", default=["configurations", "models", "gpus"])
    parser.add_argument("--data", type=Path, help="Folder of measured performance data.")
    parser.add_argument("--merged", action="store_true")
    options = parser.parse_args()
    columns = measured(perf_folder(options.data))
    refused = int((parse(columns).refusal != "").sum())
    total = len(columns["isl"])
    print(f"{total} complete rows, {refused} refused: {100 * (1 - refused / total):.1f} % answered (bar 99 %)")
    print(
        f"{'left out':15}{'':6}{'mean / median APE %':>20}{'bar':>14}{'AIConfigurator':>16}"
        f"{'90 % cover':>12}{'half width':>12}"
    )
    each_s = min(_seconds(columns) for _ in range(3)) / total
    print(f"one estimate in an array of {total}: {1e6 * each_s:.0f} us of CPU (bar {1e6 * MOST_SECONDS:.0f})")
    met = refused <= 0.01 * total and each_s <= MOST_SECONDS
    for name, fold in splits(columns).items():
        if name not in options.splits:
            continue
        if name == "models" and options.merged:
            fold = folds(
                np.array([w.replace("DeepSeek-V3", "DeepSeek-R1") for w in words(columns, "model_path")]), None
            )
        met &= _report(name, columns, fold)
    sys.exit(0 if met else 1)


def _seconds(columns: dict[str, NDArray[np.float64]]) -> float:
    start_s = time.process_time()
    predict(columns)
    return time.process_time() - start_s


def _report(name: str, columns: dict[str, NDArray[np.float64]], fold: NDArray[np.int64]) -> bool:
    kind = "" if name == "configurations" else "_physics"
    truth = {key: np.log(numbers(columns, f"silicon_{key}_ms") / 1e3) for key in ("tpot", "ttft")}
    residual = {key: np.zeros(len(fold)) for key in truth}
    half = {key: np.zeros(len(fold)) for key in truth}
    for one in np.unique(fold):
        test = fold == one
        made = estimates(columns, learn(columns, ~test, grown=not kind))
        widths = _calibrated(name, columns, ~test)
        for key, y in truth.items():
            residual[key][test] = (made[key + kind] - y)[test]
            half[key][test] = (widths[key] * (made[f"{key}_spread"] if not kind else 1.0) + 0.0 * y)[test]
    met = True
    for key in truth:
        error = 100 * np.abs(np.expm1(residual[key]))
        covered = 100 * np.mean(np.abs(residual[key]) <= half[key])
        mean_bar, median_bar, peer = BARS.get((name, key), (np.nan, np.nan, "-"))
        bar = "-" if np.isnan(mean_bar) else f"{mean_bar:g} / {median_bar:g}"
        wide = 100 * np.median(np.expm1(half[key]))
        print(
            f"{name:15}{key:6}{error.mean():11.1f} / {np.median(error):5.1f}{bar:>15}{peer:>16}{covered:11.1f}%"
            f"{wide:10.1f}% (bar {WIDEST[key]:g})",
            flush=True,
        )
        met &= not (error.mean() > mean_bar or np.median(error) > median_bar)
        met &= name != "configurations" or bool(85 <= covered <= 95 and wide <= WIDEST[key])
    return met


def _calibrated(name: str, columns: dict[str, NDArray[np.float64]], train: NDArray[np.bool_]) -> dict[str, float]:
    """Half widths from the training rows alone: the same kind of split once more, inside."""
    inner = splits(columns)[name]
    groups = np.unique(inner[train])
    kind = "" if name == "configurations" else "_physics"
    scores: dict[str, list[NDArray[np.float64]]] = {"tpot": [], "ttft": []}
    for one in groups:
        test = train & (inner == one)
        made = estimates(columns, learn(columns, train & ~test, grown=not kind))
        for key, kept in scores.items():
            y = np.log(numbers(columns, f"silicon_{key}_ms") / 1e3)
            scale = made[f"{key}_spread"] if not kind else np.ones(len(y))
            kept.append(np.abs((made[key + kind] - y) / scale)[test])
    return {key: half_width(np.concatenate(kept)) for key, kept in scores.items()}


if __name__ == "__main__":
    main()
