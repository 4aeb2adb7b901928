"""KV tokens that fit beside weights and all else, predicted, and as a real engine stated them.

    python -m tests.benchmarks.memory

No constant of the memory model was solved from the run: activations are counted, and checked on an H100 by a probe of
ours without any engine (PyTorch), which also read the bytes of logits, libraries and CUDA graphs.
"""

import argparse
import json
import sys
from pathlib import Path

from planner.catalog import gpu, model
from planner.perf.memory import Budget, Running, budget
from tests.benchmarks.common import bar, perf_folder

BAR = 0.05


def main() -> None:
    """Print each run's KV tokens beside ours; exit code 1 where they are further off than 5 %."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Folder of measured performance data.")
    met = True
    for name, (made, real) in predicted_and_real(perf_folder(parser.parse_args().data)).items():
        lo, hi = made.kv_tokens_interval
        error = made.kv_tokens / real - 1
        figure = f"predicted {made.kv_tokens:,} ({lo:,} to {hi:,}), real {real:,}: {100 * error:+.1f} %"
        met &= bar(f"{name} KV tokens", abs(error) <= BAR and lo <= real <= hi, figure)
        for item, amount in sorted(made.items.items(), key=lambda each: -each[1]):
            print(f"  {item:32} {amount / 1e9:6.2f} GB")
    sys.exit(0 if met else 1)


def predicted_and_real(data: Path) -> dict[str, tuple[Budget, int]]:
    """For every run that states its KV cache: our budget, and the tokens that it had."""
    found = {}
    for path in sorted((data / "requests").glob("*/run.json")):
        run = json.loads(path.read_text())
        limits, cache = run["engine_kwargs"], run["kv_cache"]
        if cache is None:
            continue
        running = Running(
            "vllm",
            tuple(int(part) for part in run["vllm_version"].split(".")[:2]),
            tp=limits["tensor_parallel_size"],
            sequences=limits["max_num_seqs"],
            step_tokens=limits["max_num_batched_tokens"],
            block_tokens=cache["block_size"],
            ratio=cache["gpu_memory_utilization"],
        )
        made = budget(model(run["model"]), gpu(run["gpu"]), running)
        assert isinstance(made, Budget), made
        found[path.parent.name] = (made, cache["num_kv_tokens"])
    return found


if __name__ == "__main__":
    main()
