"""How long a full search over recipes takes: `python -m tests.benchmarks.recipes [--runs N]`.

Eight GPU types in nodes of eight behind one breaker, so that power caps are tried too; every tensor, pipeline and
expert degree, batch size and technique that is searched unasked; the chat example's 144 request sizes. One core.
"""

import argparse
import sys
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np

from planner.catalog import gpu, model
from planner.hardware import Inventory, NodeGroup, PowerDomain
from planner.perf.serving import predict
from planner.profile import anchored, profiles
from planner.recipes import recipes
from planner.spec import load_services
from tests.benchmarks.command import EXAMPLES, machine
from tests.benchmarks.common import bar, cpu_s

TYPES = ("H100-SXM", "H200-SXM", "B200", "A100-SXM-80GB", "L40S", "L4", "A10G", "MI300X")
MODELS = ("llama-3.1-8b", "llama-3.1-70b", "qwen3-30b-a3b", "deepseek-r1")
SEARCH_S, ROW_S = 2.0, 100e-6


def everything() -> Inventory:
    """Four nodes of each type, which cannot all run at full power."""
    groups = [
        NodeGroup(name, gpu(name), 8, 4, "a", gpu(name).usd_per_hour or 1.0, power_domain="hall") for name in TYPES
    ]
    return Inventory("eight", tuple(groups), power_domains=(PowerDomain("hall", 50e3),))


def estimate_s(runs: int) -> float:
    """CPU seconds of one row of the measured model, of those that a search asks for at once."""
    rows = list(product(TYPES, (1, 2, 4, 8), (1, 4, 16, 64, 256), (512, 1024, 2048, 4096)))
    cards, degrees, users, inputs = (np.array(column) for column in zip(*rows, strict=True))
    columns = {
        "model_path": np.full(len(rows), MODELS[0], dtype=object),
        "system": cards.astype(object),
        "tp_size": degrees.astype(float),
        "concurrency": users.astype(float),
        "isl": inputs.astype(float),
    }
    predict(columns)  # reads the model
    return cpu_s(partial(predict, columns), runs)[1] / len(rows)


def main() -> None:
    """Print one line a model; exit code 1 where a search takes too long."""
    parser = argparse.ArgumentParser(description="A full recipe search over eight GPU types.")
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    machine()
    chat, hardware = load_services(EXAMPLES / "chat.yaml")[0], everything()
    print(f"\n{'model':16} {'tried':>6} {'kept':>5} {'CPU s':>7} {'of it anchors':>14}")
    searches = []
    for name in MODELS:
        service = replace(chat, model=model(name))
        tried = recipes(service, hardware)[0]
        (kept, _), search_s = cpu_s(partial(profiles, service, hardware), runs)
        _, anchor_s = cpu_s(partial(anchored, service, tried, hardware), runs)
        searches.append(search_s)
        print(f"{name:16} {len(tried):6} {len(kept):5} {search_s:7.2f} {anchor_s:14.2f}")
    worst = f"worst {max(searches):.2f} s of {len(MODELS)} models (median of {runs} runs each)"
    met = bar(f"full recipe search over 8 GPU types in <= {SEARCH_S:.0f} s of CPU", max(searches) <= SEARCH_S, worst)
    each_s = estimate_s(runs)
    met &= bar(f"one estimate in <= {ROW_S * 1e6:.0f} us", each_s <= ROW_S, f"{each_s * 1e6:.0f} us a row")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
