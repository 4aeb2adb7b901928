"""Kernels with rows left out: whole shapes of known GPUs, and whole GPUs predicted from their data sheet.

    python -m tests.benchmarks.operators

One fifth of the shapes is left out together (all m of a GEMM's n x k; all lengths of an attention's heads; all token
counts of a MoE layer; sizes of messages, in five folds), then each of A100, H100, H200 and B200 in turn. Beside ours:
AIConfigurator's own leave-one-out medians as published with its tables (one row left out, its neighbours kept): GEMM
4.9 %, attention 1.1 to 2.0 %; and 24 % from one GPU to another. The bars are about the median of all rows left out;
the line below each says on which GPUs the median alone is beyond it, and fails nothing. Last, microseconds a row of the
shipped surfaces.
"""

import argparse
import sys
import time
from pathlib import Path

from planner.perf import fit_collectives
from planner.perf.fit_operators import SHAPES, evaluate, measured
from planner.perf.op_rows import OPERATORS
from planner.perf.operators import predict
from planner.perf.tables import read
from tests.benchmarks.common import bar, perf_folder

MOST_US = 100.0


def main() -> None:
    """Print two lines a family, then the speed; exit code 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Folder of measured performance data.")
    parser.add_argument("--ops", nargs="*", default=list(OPERATORS))
    options = parser.parse_args()
    data, met = perf_folder(options.data), True
    for op in options.ops:
        report = (
            evaluate(op, measured(data, op)[0])
            if op in SHAPES
            else fit_collectives.evaluate(fit_collectives.measured(fit_collectives.tables_of(data)))
        )
        for name, limit in (("shapes", 4.0), ("gpus", 15.0)):
            errors = report[name]
            medians = ", ".join(f"{key[7:]} {100 * value:.1f}" for key, value in errors.items() if "median:" in key)
            median = 100 * errors["median"]
            figure = f"median {median:.1f} % (bar {limit:g}), mean {100 * errors['mean']:.1f} % {medians}"
            met &= bar(f"{op} unseen {name}", median <= limit, figure)
            over = [key[7:] for key, value in errors.items() if "median:" in key and 100 * value > limit]
            print(f"      stricter, every GPU by itself: over {limit:g} % on {', '.join(over) or 'none'}", flush=True)
    met &= _speed(data)
    sys.exit(0 if met else 1)


def _speed(data: Path) -> bool:
    """CPU seconds of a whole table, reading left out."""
    columns = read(data / "operators" / "h100_sxm_vllm0.24.0_gemm.parquet")
    rows, began = len(columns["m"]), time.process_time()
    predict("gemm", "H100-SXM", columns)
    each = (time.process_time() - began) / rows * 1e6
    return bar("speed", each <= MOST_US, f"{each:.0f} us a row over {rows:,} rows (bar {MOST_US:g})")


if __name__ == "__main__":
    main()
