"""Kernels with rows left out: whole shapes of known GPUs, and whole GPUs predicted from their data sheet.

    python -m tests.benchmarks.operators

One fifth of the shapes is left out together (all m of a GEMM's n x k; all lengths of an attention's heads; all token
counts of a MoE layer), then each of A100, H100, H200 and B200 in turn. Beside ours: AIConfigurator's own leave-one-out
medians as published with its tables (one row left out, its neighbours kept): GEMM 4.9 %, attention 1.1 to 2.0 %; and
24 % from one GPU to another.
"""

import argparse
import sys
from pathlib import Path

from planner.perf.fit_operators import evaluate, measured
from planner.perf.op_rows import OPERATORS
from tests.benchmarks.common import bar, perf_folder


def main() -> None:
    """Print two lines a family; exit code 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Folder of measured performance data.")
    parser.add_argument("--ops", nargs="*", default=list(OPERATORS))
    options = parser.parse_args()
    met = True
    for op in options.ops:
        report = evaluate(measured(perf_folder(options.data), op)[0])
        for name, limit in (("shapes", 4.0), ("gpus", 15.0)):
            errors = report[name]
            medians = ", ".join(f"{key[7:]} {100 * value:.1f}" for key, value in errors.items() if "median:" in key)
            median = 100 * errors["median"]
            figure = f"median {median:.1f} % (bar {limit:g}), mean {100 * errors['mean']:.1f} % {medians}"
            met &= bar(f"{op} unseen {name}", median <= limit, figure)
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
