"""Loads to watch a GPU under: idle, a matrix product at the power limit, a copy bound by memory, a mix of both.

    python -m workloads.loads --seconds 40 --log phases.jsonl

Runs beside an agent that records (`muster agent --record FILE`); the log says when each phase began and ended.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

SIZE, COPY_BYTES = 8192, 8 << 30


def loads() -> dict[str, Callable[[], None]]:
    """What each phase repeats; about ten milliseconds of work a call."""
    a, b = (torch.randn(SIZE, SIZE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    state = {"turn": 0}

    def product() -> None:
        for _ in range(6):
            torch.mm(a, b)

    def copy() -> None:
        for _ in range(3):
            target.copy_(source)

    def mixed() -> None:
        state["turn"] += 1
        if state["turn"] % 4 == 0:
            time.sleep(0.02)  # the host is slow now and then
        (product if state["turn"] % 2 else copy)()

    return {"idle": lambda: time.sleep(0.01), "product": product, "copy": copy, "mixed": mixed}


def hold(work: Callable[[], None], seconds: float) -> None:
    """Repeat for a time, never more than a call ahead of the GPU."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        work()
        torch.cuda.synchronize()


def main() -> None:
    """Run every phase once, then rest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40.0, help="length of a phase")
    parser.add_argument("--log", type=Path, required=True, help="file for the phases' times")
    given = parser.parse_args()
    found = loads()
    with given.log.open("w", encoding="utf-8") as log:
        for name in ("idle", "product", "copy", "mixed", "idle"):
            began = time.time()
            hold(found[name], given.seconds)
            log.write(json.dumps({"phase": name, "began_s": began, "ended_s": time.time()}) + "\n")


if __name__ == "__main__":
    main()
