"""Power and joules per token of engines, with rows left out: whole curves (5 folds, seed 0), models, GPUs.

    python -m tests.benchmarks.energy [--data DIR]

Rows: ML.ENERGY's leaderboard. What a row says of its power, energy, latency and throughput is never read; the observed
batch and the mean output length are (`planner.perf.energy_rows.READ`), and one line shows what is lost without them.
Intervals are calibrated inside each fold, on rows left out of its training rows in the same way. Beside: engines on
an A100; and what equal configurations differ by when they are measured twice.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from planner.perf import energy
from planner.perf.energy_terms import TIMED, step_s
from planner.perf.fit_energy import Measured, errors, learn, residuals, some_anchors, splits, truth, widths_of
from tests.benchmarks.common import bar, perf_folder

POWER_BARS = {"H100-SXM": 6.0, "B200": 10.0}
JOULES_BAR = 15.0
WAITING = 1.35  # a step that takes so many times what its terms add up to waits for its host


def main() -> None:
    """Print one line a split and figure; exit code 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Folder of measured performance data.")
    folder = perf_folder(parser.parse_args().data)
    measured = Measured(folder)
    print(f"{len(measured.rows)} rows answered, {len(measured.refusals)} refused; errors mean / median, %")
    met = []
    for source, (name, fold) in zip(energy.SOURCES, splits(measured).items(), strict=True):
        away = residuals(measured, fold, learned=source != "extrapolated")
        met += _bars(name, measured, away)
        waits = measured.step_s > WAITING * step_s(measured.terms, energy.fitted().coefficients)
        quick = (measured.gpu == "B200") & ~waits
        print(f"      power, B200, the {quick.sum()} rows that do not wait: {_words(away['power'][quick])}", flush=True)
        if name != "gpus":
            met += _coverage(name, measured, fold, source)
    _without_batch(folder)
    _repeats(measured)
    _a100(measured)
    sys.exit(0 if all(met) else 1)


def _bars(name: str, measured: Measured, away: dict[str, NDArray[np.float64]]) -> list[bool]:
    """Power by GPU, joules of all rows and by GPU: whether the mean error is within the bar."""
    every = np.ones(len(measured.gpu), dtype=bool)
    asked = [(f"power, {gpu}", "power", measured.gpu == gpu, most) for gpu, most in POWER_BARS.items()]
    asked += [("joules per token", "joules_per_token", every, JOULES_BAR)]
    asked += [(f"joules per token, {gpu}", "joules_per_token", measured.gpu == gpu, JOULES_BAR) for gpu in POWER_BARS]
    return [
        bar(
            f"{figure}, unseen {name}",
            errors(away[key][rows])["mean"] <= most / 100,
            f"{_words(away[key][rows])} % ({most:g} wanted)",
        )
        for figure, key, rows, most in asked
    ]


def _words(away: NDArray[np.float64]) -> str:
    found = errors(away)
    return f"{100 * found['mean']:5.1f} / {100 * found['median']:4.1f}"


def _coverage(name: str, measured: Measured, fold: NDArray[np.int64], source: str) -> list[bool]:
    """Whether intervals hold on rows that neither the model nor the widths have seen."""
    away = residuals(measured, fold, learned=True)
    half = {key: np.zeros(len(fold)) for key in away}
    for one in np.unique(fold):
        test = fold == one
        inner = residuals(measured, fold if name == "models" else _inner(measured, test), True, ~test)
        widths = widths_of(measured, inner, source)
        for key, values in half.items():
            of = [f"{key}:{source}:{gpu}" for gpu in measured.gpu[test]]
            values[test] = [widths.get(width, widths[f"{key}:{source}:"]) for width in of]
    met = []
    for key, values in half.items():
        covered = 100 * float(np.mean(np.abs(away[key]) <= values))
        wide = 100 * float(np.median(np.expm1(values)))
        by_gpu = ", ".join(
            f"{gpu} {100 * np.mean((np.abs(away[key]) <= values)[measured.gpu == gpu]):.0f}" for gpu in POWER_BARS
        )
        figure = f"{covered:.1f} % covered (85 to 95 wanted; {by_gpu}), median half width {wide:.0f} %"
        met.append(bar(f"90 % intervals, {name}, {key}", 85 <= covered <= 95, figure))
    return met


def _inner(measured: Measured, test: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Ten folds of the curves that are not being tested: each fit sees nearly as many rows as the one it stands for."""
    fold = np.full(len(test), -1)
    curves, at = np.unique(measured.curve[~test], return_inverse=True)
    dealt = np.empty(len(curves), dtype=np.int64)
    dealt[np.random.default_rng(0).permutation(len(curves))] = np.arange(len(curves)) % 10
    fold[~test] = dealt[at]
    return fold


def _without_batch(folder: Path) -> None:
    """The same rows with what is known before an engine runs: its limit of sequences, not its batch and lengths."""
    measured = Measured(folder, without=("avg_batch_size", "avg_output_len"))
    fold = splits(measured)["configurations"]
    away = residuals(measured, fold, learned=True)
    power = ", ".join(f"{gpu} {_words(away['power'][measured.gpu == gpu])}" for gpu in POWER_BARS)
    joules = _words(away["joules_per_token"])
    print(f"configurations, observed batch and output length unknown: power {power}; J/token {joules}")


def _repeats(measured: Measured) -> None:
    """Equal engines at equal limits, measured twice: no model can be nearer to both than half their difference."""
    limits = np.array([row.limit for row in measured.rows])
    keys = [f"{curve}|{limit}" for curve, limit in zip(measured.curve, limits, strict=True)]
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        watts = truth(measured)["power"][[other == key for other in keys]]
        print(f"measured twice: {key}: {', '.join(f'{w:.0f}' for w in watts)} W a GPU")


def _a100(measured: Measured) -> None:
    """Engines on an A100, which taught the ratios of its architecture: one of the two models left out, and both."""
    anchors = measured.anchors
    assert anchors is not None
    head_s = anchors.terms.seconds[:, TIMED.index("head")]
    model = head_s > head_s.mean()  # Llama-3's vocabulary is four times that of Llama-2
    every = np.ones(len(measured.rows), dtype=bool)
    for name, groups in (("the other model", [~model, model]), ("no row", [model | True])):
        power, joules = [], []
        for test in groups:
            measured.anchors = some_anchors(anchors, ~test) if not test.all() else None
            fitted = energy.unpacked(learn(measured, every))
            seconds, watts = energy.estimate(
                fitted, some_anchors(anchors, test).terms, np.zeros(test.sum(), dtype=bool)
            )
            power.append(np.log(watts / anchors.watts[test]))
            joules.append(power[-1] + np.log(seconds / anchors.step_s[test]))
        figures = f"power {_words(np.concatenate(power))}, J/token {_words(np.concatenate(joules))}"
        print(f"A100, {len(model)} rows, {name} fitted: {figures}")
    measured.anchors = anchors


if __name__ == "__main__":
    main()
