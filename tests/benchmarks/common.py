"""What the benchmarks share: where published data lies, CPU seconds, and how a bar is printed."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
ROOT = Path(__file__).parents[2]


def data_folder(given: Path | None) -> Path:
    """The folder of published planner data: as given, or in the folder `shared` beside the checkout."""
    return given or Path(os.environ.get("MUSTER_SHARED") or ROOT.parent / "shared") / "data" / "planner"


def perf_folder(given: Path | None = None) -> Path:
    """The folder of measured performance data; leaves with a word where there is none."""
    folder = given or Path(os.environ.get("MUSTER_SHARED") or ROOT.parent / "shared") / "data" / "perf"
    if not folder.is_dir():
        sys.exit(f"no measured performance data at {folder}: give --data, or set MUSTER_SHARED")
    return folder


def cpu_s(work: Callable[[], T], runs: int = 1) -> tuple[T, float]:
    """The answer, and the median CPU seconds of so many runs."""
    took = []
    for _ in range(runs):
        before = time.process_time()
        answer = work()
        took.append(time.process_time() - before)
    return answer, sorted(took)[len(took) // 2]


def bar(name: str, met: bool, figure: str) -> bool:
    """Print one bar with its figure; returns whether it is met."""
    print(f"{'PASS' if met else 'MISS'}  {name}: {figure}")
    return met


def reference() -> float:
    """CPU seconds of a fixed piece of Python, to compare machines by."""
    return cpu_s(lambda: sum(i * i for i in range(2_000_000)), 3)[1]
