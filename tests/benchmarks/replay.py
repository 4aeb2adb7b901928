"""Two real vLLM runs of 300 requests, served again step by step from times of single layers.

    python -m tests.benchmarks.replay

Nothing is fitted on the runs: layer times, and how attention fares with unequal lengths, were profiled apart from them.
The frontend's 1.3 ms is the shortest time between arrival and queue that they show. Beside ours: what LLMServingSim 2.0
claims for its own four runs (0.2 to 4 %), which takes 156 to 396 s for 300 requests.
"""

import argparse
import csv
import json
import sys
import time
from pathlib import Path

import numpy as np

from planner.paged_cache import BLOCK_TOKENS
from planner.perf.layers import profile
from planner.simulate import Engine, Request, serve
from tests.benchmarks.common import bar, perf_folder

FRONTEND_S = 1.3e-3
BARS = {"tpot": 3.0, "ttft": 8.0, "e2e": 4.0}
TAIL = 10.0


def main() -> None:
    """Print each run's figures beside the bars; exit code 1 where one is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Folder of measured performance data.")
    folders = sorted(p for p in (perf_folder(parser.parse_args().data) / "requests").iterdir() if p.is_dir())
    met = all([_replay(folder) for folder in folders])
    sys.exit(0 if met else 1)


def _replay(folder: Path) -> bool:
    with (folder / "requests.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (folder / "workload.jsonl").open() as file:
        blocks = {line["request"]: line["block16"] for line in map(json.loads, file)}
    run = json.loads((folder / "run.json").read_text())
    asked = [
        Request(
            float(row["arrival_s"]),
            int(row["input_tokens"]),
            int(row["output_tokens"]),
            tuple(blocks[int(row["request"])])[: int(row["input_tokens"]) // BLOCK_TOKENS],
        )
        for row in rows
    ]
    limits, cache = run["engine_kwargs"], run["kv_cache"] or {"num_gpu_blocks": 30_000}
    engine = Engine(
        limits["max_num_seqs"], limits["max_num_batched_tokens"], cache["num_gpu_blocks"], frontend_s=FRONTEND_S
    )
    steps = profile(folder.name)
    before = time.process_time()
    served = serve(asked, engine, steps.time_s)
    took_s = time.process_time() - before
    print(f"{folder.name}: {served.steps} steps, {served.preemptions} preemptions, {took_s:.1f} CPU s")
    first, last, came, count = (
        np.array([float(row[key]) for row in rows])
        for key in ("first_token_s", "last_token_s", "arrival_s", "output_tokens")
    )
    truth = {"tpot": (last - first) / (count - 1), "ttft": first - came, "e2e": last - came}
    met = True
    for key, limit in BARS.items():
        made = getattr(served, f"{key}_s")
        mean = 100 * (made.mean() / truth[key].mean() - 1)
        tail = 100 * (np.quantile(made, 0.99) / np.quantile(truth[key], 0.99) - 1)
        figure = f"mean {mean:+.1f} % (bar {limit:g}), p99 {tail:+.1f} % (bar {TAIL:g})"
        met &= bar(f"{folder.name} {key}", abs(mean) <= limit and abs(tail) <= TAIL, figure)
    return met


if __name__ == "__main__":
    main()
