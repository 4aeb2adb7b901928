"""A decoder layer stack on a real H200: predicted from its operations before it was measured, then compared.

    python -m tests.benchmarks.layer_stack predict     writes the predictions
    python -m workloads.layer_stack --predicted ...    measures on the GPU, after printing the predictions' SHA-256
    python -m tests.benchmarks.layer_stack compare     prints both side by side

Times and joules of all kernels of a step are summed and settle under the power limit together. Matrix products come
from `planner.perf.gemm_power`; attention and elementwise kernels from the same sweep, interpolated.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.catalog import gpu
from planner.perf.gemm_features import features, products
from planner.perf.gemm_power import SWEEP, Energy, draw, fitted, meta
from planner.perf.power_cap import Work, settle
from planner.perf.trees import predict
from tests.benchmarks.common import bar
from workloads.cases import LAYERS, STACK, Layer

Array = NDArray[np.float64]
DATA = Path(__file__).with_name("data")
PREDICTED = DATA / "layer_stack_predicted.json"
MEASURED = DATA / "layer_stack_measured.jsonl"
WEIGHTS = ((6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336))  # qkv, out, gate and up, down
ELEMENTWISE = {"norm": 2, "residual": 2, "rope": 1, "keep": 1, "gate": 1}  # in each layer
KV_BYTES = 4096  # of one token in one layer: 8 heads x 128 x (key and value) x 2 bytes
BAR = 0.08


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What the sweep says of one operation: seconds over its grid, and watts above idle (full clock) over seconds."""

    times: Mapping[tuple[int, int], float]
    log_s: Array
    above_idle_w: Array

    def time_s(self, x: float, y: float) -> float:
        """Seconds at (batch or 1, tokens or context), between the grid's points linear in logs."""
        xs, ys = sorted({at[0] for at in self.times}), sorted({at[1] for at in self.times})
        (x0, x1), (y0, y1) = _around(xs, x), _around(ys, y)
        u = 0.0 if x0 == x1 else np.log(x / x0) / np.log(x1 / x0)
        v = 0.0 if y0 == y1 else np.log(y / y0) / np.log(y1 / y0)
        corners = (((x0, y0), (1 - u) * (1 - v)), ((x1, y0), u * (1 - v)), ((x0, y1), (1 - u) * v), ((x1, y1), u * v))
        return float(np.exp(sum(share * np.log(self.times[at]) for at, share in corners if share > 1e-9)))

    def core_j(self, time_s: float) -> float:
        """Joules above idle at full clock."""
        return float(np.interp(np.log(time_s), self.log_s, self.above_idle_w)) * time_s


def _around(grid: list[int], x: float) -> tuple[int, int]:
    at = int(np.clip(np.searchsorted(grid, x), 1, len(grid) - 1)) if len(grid) > 1 else 0
    return (grid[at - 1], grid[at]) if len(grid) > 1 else (grid[0], grid[0])


def operations(energy: Energy) -> dict[str, Measured]:
    """Attention and elementwise kernels of the shipped sweep."""
    with SWEEP.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        data = dict(stored)
    highest = json.loads(str(data["meta"]))["heads"][0]["max_sm_hz"]
    out = {}
    for op in (*ELEMENTWISE, "prompt", "decode"):
        mine = data["op"] == op
        second = data["context"] if op == "decode" else data["new"]
        burst = mine & (data["kind"] == "burst")
        keys = zip(data["batch"][burst].tolist(), second[burst].tolist(), strict=True)
        long = mine & (data["kind"] == "sustained")
        time_s, clock = data["time_s"][long].astype(float), data["sm_hz"][long] / highest
        joules = (data["power_w"][long] - energy.idle_w) * time_s
        hbm_j = _hbm_j(op, data["batch"][long] * second[long], energy)
        above = np.maximum((joules - hbm_j) / clock**energy.exponent + hbm_j, 0.0) / time_s
        order = np.argsort(time_s)
        out[op] = Measured(
            dict(zip(keys, data["time_s"][burst].tolist(), strict=True)), np.log(time_s[order]), above[order]
        )
    return out


def _hbm_j(op: str, cached: Any, energy: Energy) -> Any:
    """Joules of HBM: reading the cache in decoding; nothing else is counted apart."""
    return energy.joules[0] * 1e-12 * KV_BYTES * cached * (op == "decode")


def step(case: Layer, known: Mapping[str, Measured]) -> Work:
    """All kernels of all layers for one case."""
    model = fitted()
    tokens = case.batch * case.new
    n, k = (np.array(side) for side in zip(*WEIGHTS, strict=True))
    p = products(gpu("H200"), meta()["multiprocessors"], np.full(4, tokens), n, k, np.full(4, "bf16"))
    gemms = draw(p, p.roof_s * np.exp(predict(model.time, features(p))), model)
    rows = [list(row) for row in zip(*(x[:, 0] for x in _fields(gemms)), strict=True)]
    for op, count in ELEMENTWISE.items():
        time_s = known[op].time_s(1, tokens)
        rows.append([count * time_s, count * known[op].core_j(time_s), 0.0, 0.0])
    time_s = known[case.op].time_s(case.batch, case.context or case.new)
    hbm_j = float(_hbm_j(case.op, case.batch * case.context, model.energy))
    core_j = max(known[case.op].core_j(time_s) - hbm_j, 0.0)
    rows.append([time_s, core_j, hbm_j, model.energy.core if case.op == "prompt" else 0.0])
    time, core, hbm, share = (np.array(column)[None, :] for column in zip(*rows, strict=True))
    return Work(time * LAYERS, core * LAYERS, hbm * LAYERS, share)


def _fields(work: Work) -> tuple[Array, Array, Array, Array]:
    return work.time_s, work.core_j, work.hbm_j, work.core


def predictions() -> list[dict[str, Any]]:
    """One row a case of the grid."""
    model = fitted()
    known = operations(model.energy)
    rows = []
    for case in STACK:
        work = step(case, known)
        settled = settle(work, model.energy.idle_w, model.energy.exponent, model.limit_w)
        figures = {"time_s": float(settled.time_s[0]), "power_w": float(settled.power_w[0])}
        rows.append({**asdict(case), **figures, "full_clock_s": float(work.time_s.sum())})
    return rows


def compare() -> bool:
    """Print measured beside predicted; whether the bars are met and the predictions are the ones made before."""
    rows = [json.loads(line) for line in MEASURED.read_text("utf-8").splitlines()]
    predicted = {_key(row): row for row in json.loads(PREDICTED.read_text("utf-8"))}
    digest = hashlib.sha256(PREDICTED.read_bytes()).hexdigest()
    print("case                                 time ms  predicted  error   power W  predicted  error")
    errors: list[tuple[float, float]] = []
    for row in rows[1:]:
        guess = predicted[_key(row)]
        errors.append((guess["time_s"] / row["time_s"] - 1, guess["power_w"] / row["power_w"] - 1))
        name = f"{row['op']} batch {row['batch']}, {row['context'] or row['new']} tokens"
        times = f"{row['time_s'] * 1e3:8.3f} {guess['time_s'] * 1e3:10.3f} {errors[-1][0]:+7.1%}"
        print(f"{name:36}{times} {row['power_w']:9.0f} {guess['power_w']:10.0f} {errors[-1][1]:+7.1%}")
    met = bar("predicted before measured", rows[0]["predicted_sha256"] == digest, f"SHA-256 {digest}")
    for name, values in zip(("time", "power"), zip(*errors, strict=True), strict=True):
        ape = [abs(value) for value in values]
        figure = (
            f"median {median(ape):.1%} of {len(ape)} (8 % wanted), mean {sum(ape) / len(ape):.1%}, worst {max(ape):.1%}"
        )
        met = bar(name, median(ape) <= BAR, figure) and met
    return met


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["op"], row["batch"], row["new"], row["context"]


def main() -> None:
    """Predict, or compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("predict", "compare"), nargs="?", default="compare")
    if parser.parse_args().what == "compare":
        sys.exit(0 if compare() else 1)
    DATA.mkdir(exist_ok=True)
    PREDICTED.write_text(json.dumps(predictions(), indent=1) + "\n", "utf-8")
    print(f"{PREDICTED}: {len(STACK)} cases, SHA-256 {hashlib.sha256(PREDICTED.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
