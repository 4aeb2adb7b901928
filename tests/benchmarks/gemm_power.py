"""Time and power of matrix products on an H200, shapes left out in turn: `python -m tests.benchmarks.gemm_power`.

Needs the extra that fits (scikit-learn, scipy); the sweep itself ships with the planner.
"""

import sys
from pathlib import Path

import numpy as np

from planner.perf.fit_gemm_power import cross_validate, read
from planner.perf.gemm_power import SWEEP
from tests.benchmarks.common import bar

PAPER = "the paper, RTX 4070: R2 0.98 and mean error 15.57 % (time), R2 0.78 and median error 5.42 % (power)"


def main() -> None:
    """Print figures beside the bars."""
    bursts, long, meta = read(Path(str(SWEEP)))
    seconds = f"{min(_seconds()):.2f}"
    found = cross_validate(bursts, long)
    print(f"{len(meta['heads'])} calls on {meta['heads'][0]['gpu']}; 5 folds, whole shapes left out; {PAPER}")
    for name, row in found.items():
        errors = f"mean {row['mean_ape']:.2%}, median {row['median_ape']:.2%}"
        print(f"{name:18} {row['rows']:5} rows  R2 {row['r2']:.4f} (logs {row['r2_log']:.4f})  {errors}")
    time, power = found["runtime"], found["power"]
    met = [
        bar("runtimes", time["rows"] >= 2000, f"{time['rows']} (2,000 wanted)"),
        bar("power points", power["rows"] >= 300, f"{power['rows']}, each {seconds} s or more (300 of 1 s wanted)"),
        bar("time R2", min(time["r2"], time["r2_log"]) >= 0.98, f"{time['r2']:.4f} (0.98 wanted)"),
        bar("power R2", min(power["r2"], power["r2_log"]) >= 0.78, f"{power['r2']:.4f} (0.78 wanted)"),
    ]
    sys.exit(0 if all(met) else 1)


def _seconds() -> list[float]:
    with SWEEP.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        seconds: list[float] = stored["seconds"][stored["kind"] == "sustained"].tolist()
    return seconds


if __name__ == "__main__":
    main()
