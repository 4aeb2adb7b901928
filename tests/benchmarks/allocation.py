"""33 allocation instances against their proved optima: `python -m tests.benchmarks.allocation [--data DIR] [--json]`.

Beside ours, in the same run, stands plain HiGHS: the same continuous-split model as one mixed-integer program. CPU
seconds are the median of three runs, from the parsed instance to the checked answer, imports left out.
"""

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from planner.allocate import allocate
from planner.highs import solve
from planner.instance import Instance, parse_instance
from planner.rows import Rows
from tests.benchmarks.common import bar, cpu_s, data_folder, reference

UNLISTED = {"F8-g288-multiSLO-r64": 23.16}  # its optimum is not in reference_optima.csv
MEDIAN_S, WORST_S, COST_RATIO, SHARE = 0.030, 0.250, 1e-6, 1e-6
HIGHS_LIMIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Row:
    """One instance, solved by both."""

    name: str
    usd_per_hour: float
    reference_usd_per_hour: float
    status: str
    cpu_s: float
    highs_cpu_s: float
    highs_usd_per_hour: float
    share_error: float

    @property
    def cost_error(self) -> float:
        """Relative distance from the reference."""
        return abs(self.usd_per_hour / self.reference_usd_per_hour - 1)


def instances(folder: Path) -> Iterator[tuple[str, Instance, float]]:
    """Name, instance and proved optimum of each."""
    with (folder / "alloc" / "reference_optima.csv").open(encoding="utf-8", newline="") as file:
        optima = {row["instance"]: float(row["proved_optimal_cost_usd_h"]) for row in csv.DictReader(file)}
    for path in sorted((folder / "alloc" / "instances").glob("*.json")):
        parsed = parse_instance(path.read_text(encoding="utf-8"), path.name)
        yield path.stem, parsed, {**optima, **UNLISTED}[path.stem]


def monolith(instance: Instance, limit_s: float) -> float:
    """Cost found by plain HiGHS: counts and shares in one program."""
    load, rows = instance.load(), Rows()
    counts = [rows.column(float(usd), integer=True) for usd in instance.usd_per_hour]
    parts = [rows.columns(int(np.isfinite(of_gpu).sum())) for of_gpu in load]
    column = np.full(load.shape, -1)
    for g, of_gpu in enumerate(load):
        column[g, np.isfinite(of_gpu)] = parts[g]
    for s in range(load.shape[1]):
        served = np.flatnonzero(column[:, s] >= 0)
        rows.row(f"carry_{s}", column[served, s].astype(float), np.ones(len(served)), least=1.0, most=1.0)
    for g, count in enumerate(counts):
        busy = load[g, np.isfinite(load[g])]
        rows.row(f"capacity_{g}", np.append(parts[g], float(count)), np.append(busy, -1.0), most=0.0)
    return solve(rows.model(), time_limit_s=limit_s).objective


def share_error(instance: Instance, counts: dict[str, int], weights: dict[str, np.ndarray]) -> float:
    """The most that any cell's shares miss 1, or that a GPU type is over its count, relative."""
    total, over = np.zeros(instance.rates.shape), 0.0
    for gpu, table in weights.items():
        g = instance.gpus.index(gpu)
        used = table > 0
        busy = float((instance.rates[used] * table[used] / instance.throughput[g][used]).sum())
        over = max(over, busy / counts[gpu] - 1, -float(table.min()))
        total += table
    return max(over, float(np.abs(total - 1)[instance.rates > 0].max()))


def measured(folder: Path, runs: int) -> Iterator[Row]:
    """Each instance solved by both."""
    for name, instance, optimum in instances(folder):
        answer, took_s = cpu_s(partial(allocate, instance), runs)
        plain_usd, plain_s = cpu_s(partial(monolith, instance, HIGHS_LIMIT_S))
        error = share_error(instance, dict(answer.counts), dict(answer.weights))
        yield Row(name, answer.usd_per_hour or np.inf, optimum, answer.status, took_s, plain_s, plain_usd, error)


def main() -> None:
    """Print the table and the bars; exit code 1 if one is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="folder of the published planner data")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = list(measured(data_folder(args.data), args.runs))
    if args.json:
        print(json.dumps([{name: getattr(row, name) for name in Row.__slots__} for row in rows], indent=2))
        return
    print(f"{'instance':30} {'$/h':>9} {'proved':>9} {'error':>8} {'status':>8} {'CPU ms':>7} {'HiGHS ms':>9}")
    for row in rows:
        print(
            f"{row.name:30} {row.usd_per_hour:9.2f} {row.reference_usd_per_hour:9.2f} {row.cost_error:8.1e} "
            f"{row.status:>8} {row.cpu_s * 1e3:7.1f} {row.highs_cpu_s * 1e3:9.1f}"
        )
    ours, plain = np.array([row.cpu_s for row in rows]), np.array([row.highs_cpu_s for row in rows])
    print(f"load {os.getloadavg()[0]:.2f}, reference operation {reference() * 1e3:.0f} ms of CPU")
    print(f"plain HiGHS: median {np.median(plain) * 1e3:.0f} ms, worst {plain.max() * 1e3:.0f} ms; ", end="")
    print(f"geometric mean of its time over ours: {np.exp(np.log(plain / ours).mean()):.1f}x")
    met = [
        bar("proved optimal", all(r.status == "optimal" for r in rows), f"{len(rows)} instances"),
        bar("cost to 1e-6", max(r.cost_error for r in rows) <= COST_RATIO, f"{max(r.cost_error for r in rows):.1e}"),
        bar("shares to 1e-6", max(r.share_error for r in rows) <= SHARE, f"{max(r.share_error for r in rows):.1e}"),
        bar("median <= 30 ms", bool(np.median(ours) <= MEDIAN_S), f"{np.median(ours) * 1e3:.1f} ms"),
        bar("worst <= 250 ms", bool(ours.max() <= WORST_S), f"{ours.max() * 1e3:.1f} ms"),
    ]
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
