"""Many models on 12 GPU types under shared caps: `python -m tests.benchmarks.joint [--models N] [--seeds 0,1]`.

Seeded and made up: each model has a size, its own SLO and a mix of four kinds of traffic on a grid of 20 x 10 sizes; a
roofline gives requests/s. Caps: the uncapped optimum's wants / 1.6 on the five types most wanted, wide elsewhere.
The monolith (all counts and shares in one program) has the same time beside it: for the first seed, or all of them with
--monolith.
"""

import argparse
import sys
import time

import numpy as np
from numpy.typing import NDArray

from planner.branch import Limits, cheapest
from planner.highs import solve
from planner.joint import JointLimits, Problem, joint
from planner.rows import Rows
from planner.transport import Transport
from tests.benchmarks.common import bar

Floats = NDArray[np.float64]
# Round figures near real ones: FLOP/s, memory bytes, bytes/s, $/h.
GPUS = {
    "T4": (65e12, 16e9, 320e9, 0.5), "V100": (125e12, 16e9, 900e9, 1.5), "L4": (121e12, 24e9, 300e9, 0.7),
    "A10G": (70e12, 24e9, 600e9, 1.0), "L40S": (362e12, 48e9, 864e9, 1.9), "A100-40": (312e12, 40e9, 1555e9, 2.2),
    "A100-80": (312e12, 80e9, 2039e9, 2.6), "H100-NVL": (835e12, 94e9, 3938e9, 3.9),
    "H100": (989e12, 80e9, 3350e9, 3.8),
    "H200": (989e12, 141e9, 4800e9, 4.7), "MI300X": (1307e12, 192e9, 5300e9, 5.2),
    "B200": (2250e12, 180e9, 7700e9, 7.3),
}  # fmt: skip
MODELS = ((3.2e9, 114688), (8e9, 131072), (14.8e9, 196608), (32.8e9, 262144), (70.6e9, 327680))  # weights, KV bytes
MIXES = ((700, 1.2, 200, 0.9), (2000, 0.9, 40, 0.8), (6000, 0.6, 300, 0.7), (150, 0.8, 900, 0.8))
INPUT, OUTPUT = np.geomspace(24, 14000, 20)[:, None], np.geomspace(20, 3200, 10)[None, :]
BATCHES = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256)
SLO_LEVELS, OVER_WANT, TYPES_BOUND = 6, 1.6, 4


def throughput(gpu: str, weights: float, kv: float, tpot_s: float, ttft_s: float) -> tuple[int, Floats]:
    """GPUs of a replica, and requests/s by (SLO level, input, output); each level is twice as loose as the last."""
    flops, memory, bandwidth, _ = GPUS[gpu]
    count = next((k for k in (1, 2, 4, 8) if 0.9 * memory * k >= 2.5 * weights), 0)
    out = np.zeros((SLO_LEVELS, INPUT.size, OUTPUT.size))
    if not count:
        return 8, out
    share = count * 0.9 ** np.log2(count)
    flops, bandwidth = 0.5 * flops * share, 0.75 * bandwidth * share
    prefill_s = 2 * weights * INPUT / flops + 0.01 + 0 * OUTPUT
    most = (0.9 * memory * count - 2 * weights) / ((INPUT + OUTPUT) * kv)
    for batch in BATCHES:
        moved = 2 * weights + batch * (INPUT + OUTPUT / 2) * kv
        step_s = np.maximum(moved / bandwidth, 2 * weights * batch / flops) + 0.005 + batch * prefill_s / OUTPUT
        for level in range(SLO_LEVELS):
            met = (batch <= most) & (step_s <= tpot_s * 2**level) & (prefill_s <= ttft_s * 2**level)
            out[level] = np.maximum(out[level], np.where(met, batch / (OUTPUT * step_s), 0.0))
    return count, out


def fleet(models: int, seed: int) -> list[Problem]:
    """So many models, each with 200 sizes; a size that no GPU serves at its SLO gets the next looser one."""
    rng = np.random.default_rng(seed)
    usd = np.array([price * np.exp(rng.normal(0, 0.08)) for *_, price in GPUS.values()]).round(2)
    return [_problem(f"model-{s}", rng, usd) for s in range(models)]


def _problem(name: str, rng: np.random.Generator, usd: Floats) -> Problem:
    weights, kv = np.array(MODELS[rng.integers(len(MODELS))]) * rng.uniform(0.8, 1.25)
    tpot_s, ttft_s = rng.choice([0.04, 0.08, 0.12, 0.2]), rng.choice([1.0, 2.0, 5.0, 10.0])
    mass = np.zeros((INPUT.size, OUTPUT.size))
    for weight, (i, wide_i, o, wide_o) in zip(rng.dirichlet(np.full(4, 0.7)), MIXES, strict=True):
        around_i, around_o = i * rng.uniform(0.7, 1.4), o * rng.uniform(0.7, 1.4)
        far = (np.log(INPUT / around_i) / wide_i) ** 2 + (np.log(OUTPUT / around_o) / wide_o) ** 2
        bump = np.exp(-far / 2)
        mass += weight * bump / bump.sum()
    rate = np.exp(rng.uniform(np.log(4), np.log(128))) * (mass := mass * rng.gamma(4, 0.25, mass.shape)) / mass.sum()
    counts, tables = zip(*(throughput(gpu, weights, kv, tpot_s, ttft_s) for gpu in GPUS), strict=True)
    levels = np.array(tables).reshape(len(GPUS), SLO_LEVELS, -1)
    first = (levels.max(axis=0) > 0).argmax(axis=0)
    served = levels[:, first, np.arange(first.size)]
    load = np.full(served.shape, np.inf)
    np.divide(rate.ravel(), served, out=load, where=served > 0)
    gpus = np.array(counts, float)
    return Problem(name, load[:, served.max(axis=0) > 0], usd * gpus, tuple(GPUS), gpus)


def caps_of(problems: list[Problem]) -> tuple[dict[str, int], Floats]:
    """The caps, and how many GPUs of each type the uncapped optima want."""
    want = np.zeros(len(GPUS))
    for p in problems:
        found = cheapest(Transport(p.load, p.usd_per_hour), p.usd_per_hour, limits=Limits(nodes=3000, gap_ratio=2e-3))
        assert found.counts is not None
        want += p.gpus_per_replica * found.counts
    caps = want + 8 * len(problems)
    top = np.argsort(-want)[:5]
    caps[top] = np.floor(want[top] / OVER_WANT)
    return {gpu: int(cap) for gpu, cap in zip(GPUS, caps, strict=True)}, want


def monolith(problems: list[Problem], caps: dict[str, int], limit_s: float) -> tuple[float, float]:
    """Cost and bound of one program with all counts and shares."""
    rows, counts = Rows(), []
    for p in problems:
        n = [rows.column(float(usd), integer=True) for usd in p.usd_per_hour]
        counts.append(n)
        x = np.array([rows.columns(p.load.shape[1]) for _ in n])
        for b in range(p.load.shape[1]):
            rows.row("carry", x[np.isfinite(p.load[:, b]), b], np.ones(np.isfinite(p.load[:, b]).sum()), least=1.0)
        for g, of_gpu in enumerate(p.load):
            good = np.isfinite(of_gpu)
            rows.row("capacity", np.append(x[g, good], float(n[g])), np.append(of_gpu[good], -1.0), most=0.0)
    for g, gpu in enumerate(GPUS):
        here = [n[g] for n in counts]
        rows.row(gpu, here, [float(p.gpus_per_replica[g]) for p in problems], most=float(caps[gpu]))
    found = solve(rows.model(), time_limit_s=limit_s, verify=False)
    return found.objective, found.bound


def report(models: int, seed: int, limit_s: float, gap: float, beside: bool) -> bool:
    """Print one case; True where the bar is met."""
    problems = fleet(models, seed)
    caps, want = caps_of(problems)
    bound_types = int(sum(w >= 1.5 * caps[gpu] and w > 0 for gpu, w in zip(GPUS, want, strict=True)))
    began_s = time.process_time()
    answer = joint(problems, caps, JointLimits(gap_ratio=gap, stop=lambda: time.process_time() - began_s > limit_s))
    took_s = time.process_time() - began_s
    reached = 1.0 if answer.gap_ratio is None else answer.gap_ratio
    print(f"{models} models, seed {seed}: ${answer.usd_per_hour}/h, bound ${answer.bound_usd_per_hour}/h")
    if beside:
        cost, bound = monolith(problems, caps, limit_s)
        found = f"${cost:.2f}/h, gap {(cost - bound) / cost:.2%}" if np.isfinite(cost) else "no plan"
        print(f"  the monolith in {limit_s:.0f} s: {found}, bound ${bound:.2f}/h")
    met = bar("caps bind on >= 4 types", bound_types >= TYPES_BOUND, f"{bound_types} types want >= 1.5 x their cap")
    return (
        bar(f"gap <= {gap:.1%} in {limit_s:.0f} CPU s", reached <= gap, f"{reached:.2%} in {took_s:.1f} CPU s") and met
    )


def main() -> None:
    """Print every case; exit code 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description="Joint planning of many models under shared caps.")
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--monolith", action="store_true", help="time the one program for every seed")
    args = parser.parse_args()
    limit_s, gap = (10.0, 1e-3) if args.models <= 10 else (60.0, 5e-3)
    seeds = args.seeds.split(",")
    met = [report(args.models, int(seed), limit_s, gap, args.monolith or seed == seeds[0]) for seed in seeds]
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
