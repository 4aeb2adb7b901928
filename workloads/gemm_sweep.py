"""Times matrix products, attention and elementwise kernels on this GPU and reads what they draw, one JSON row a line.

    python -m workloads.gemm_sweep --seconds 400 --part 1/3 --out FILE.jsonl

A *burst* is the time of one operation in a CUDA graph of many: weights and caches cold (they rotate over more than the
L2 cache holds, or over 160 copies), activations warm, as in a decoder layer; the median of five replays. *Sustained* is
the same over one second after the clocks have settled, with the power drawn meanwhile. Nothing of the GPU is changed.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

import torch

from workloads.cases import Case, Product, layers, part, power_layers, power_products, products
from workloads.meter import Meter
from workloads.operations import Pools, operation
from workloads.replay import burst, capture, sustained

BURST_S = 1.5e-3  # one replay lasts about so long ...
MOST_OPERATIONS = 160  # ... but holds at most so many kernels
SETTLE_S, WINDOW_S = 0.22, 1.02


def _first_guess_s(case: Case) -> float:
    """Roughly how long one operation takes, to choose how many go into one graph."""
    if isinstance(case, Product):
        rate = {"bf16": 6e14, "fp16": 6e14, "tf32": 3e14, "fp32": 4e13, "fp8": 1e15}[case.dtype]
        return 2e-6 + case.flops / rate + case.n * case.k / 2e12
    tokens = case.batch * case.new
    if case.op == "decode":
        return 4e-6 + case.batch * case.context * 4096 / 3e12
    if case.op == "prompt":
        return 8e-6 + tokens * case.new * 8192 / 4e14
    return 6e-6 + tokens * 60_000 / 3e12


def measure(case: Case, pools: Pools, meter: Meter, power: bool) -> Iterator[dict[str, object]]:
    """The burst row of a case, and with `power` its sustained row."""
    run = operation(case, pools)
    guess = _first_guess_s(case)
    operations = max(1, min(MOST_OPERATIONS, round(BURST_S / guess)))
    graph = capture(run, operations)
    short = burst(graph, operations, meter)
    yield {"kind": "burst", **_named(case), "operations": operations, **asdict(short)}
    if power:
        long = asdict(sustained(graph, operations, short.time_s * operations, meter, SETTLE_S, WINDOW_S))
        reading = long.pop("reading")
        yield {"kind": "sustained", **_named(case), "operations": operations, **long, **reading}


def idle(meter: Meter, seconds: float) -> dict[str, object]:
    """A row of what the GPU draws with nothing on it."""
    torch.cuda.synchronize()
    start = meter.energy_j()
    time.sleep(seconds)
    return {"kind": "idle", **asdict(meter.between(start, meter.energy_j()))}


def _named(case: Case) -> dict[str, object]:
    return {"family": "product" if isinstance(case, Product) else "layer", **asdict(case)}


def sweep(bursts: Iterable[Case], powers: Iterable[Case], meter: Meter, out: TextIO, deadline_s: float) -> int:
    """All rows that fit before the deadline; a case that the libraries refuse becomes a row that says so."""
    pools, count = Pools(), 0
    todo = [(case, False) for case in bursts] + [(case, True) for case in powers]
    write(out, idle(meter, 1.0))
    for at, (case, power) in enumerate(todo):
        if time.monotonic() > deadline_s:
            say(f"out of time after {at} of {len(todo)} cases")
            break
        try:
            for row in measure(case, pools, meter, power):
                write(out, row)
                count += row["kind"] == ("sustained" if power else "burst")
        except RuntimeError as error:
            write(out, {"kind": "refused", **_named(case), "why": str(error).splitlines()[0][:200]})
        if power and at % 25 == 0:
            write(out, idle(meter, 1.0))
        if at % 200 == 199:
            torch.cuda.empty_cache()
    return count


def write(out: TextIO, row: dict[str, object]) -> None:
    """One line, at once on disk: a run that is cut off keeps what it has."""
    out.write(json.dumps(row) + "\n")
    out.flush()


def say(line: str) -> None:
    """One line of progress, at once on the screen."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run the part that the arguments name."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=420.0)
    parser.add_argument("--part", default="1/1", help="I/N: part I of N disjoint parts")
    parser.add_argument("--runtimes", type=int, default=4500, help="matrix products timed by all parts together")
    parser.add_argument("--powers", type=int, default=345, help="matrix products whose power is read, likewise")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    began = time.monotonic()
    which, of = (int(number) for number in asked.part.split("/"))
    bursts = part([*products(asked.runtimes), *layers()], which, of)
    powers = part([*power_products(asked.powers), *power_layers()], which, of)
    with Meter() as meter, torch.cuda.stream(torch.cuda.Stream()), asked.out.open("w", encoding="utf-8") as out:
        head = {"kind": "head", **meter.describe(), "torch": torch.__version__, "part": asked.part}
        write(out, {**head, "cuda": torch.version.cuda, "multiprocessors": _multiprocessors()})
        count = sweep(bursts, powers, meter, out, began + asked.seconds)
    say(f"{count} of {len(bursts) + len(powers)} cases in {time.monotonic() - began:.0f} s -> {asked.out}")


def _multiprocessors() -> int:
    return int(torch.cuda.get_device_properties(0).multi_processor_count)


if __name__ == "__main__":
    main()
