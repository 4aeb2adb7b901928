"""A row of inference servers with 30 % more of them than its power budget was made for, held by the control law.

    python -m tests.benchmarks.polca

The row's load is made, as no trace of one is published: a daily swing and noise whose peak is 79 % of the budget with
the servers that it was made for, and whose worst rise in two seconds is 9 % of it (the figures of the paper, arXiv
2308.12908). Half of the servers are low priority. What a clock cap does to power and speed is the planner's clock-
voltage curve for an A100: prompts wait for arithmetic, tokens for memory. Requests' durations are lognormal, and each
is as much longer as its priority was slowed over its life. Beside ours: no capping, one threshold for low priority
alone.
"""

import argparse
import sys
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.catalog import gpu
from planner.hardware import GPUType
from planner.perf.clocks import draw_w, slowdown_at
from telemetry.power_law import PowerPolicy, PowerState, caps, decide

Array = NDArray[np.float64]
PEAK, RISE, MORE = 0.79, 0.09, 1.30
DAY_S = 86_400
IDLE_OF_SERVER = (
    0.4  # share of a server's power that no clock changes: fans, processors, memory, GPUs' idle (splitwise)
)
DELAY_S = 1  # a reading is the mean of the last second, and the command takes the rest of the next
PROMPT_SHARE = 0.1  # of a request's time
# Shares of the datasheet's FLOP/s and bytes/s while computing prompts and tokens.
PROMPT, TOKEN = (0.60, 0.25), (0.10, 0.65)


class Outcome(NamedTuple):
    """What a policy made of the row."""

    name: str
    over_s: int
    brakes: int
    peak: float
    slower_p50: dict[str, float]
    slower_p99: dict[str, float]
    in_force_s: float


def load(days: int, seed: int) -> Array:
    """Row power over its budget, a value a second, for the servers that the row was made for."""
    rng = np.random.default_rng(seed)
    seconds = np.arange(days * DAY_S)
    swing = 0.5 - 0.5 * np.cos(2 * np.pi * seconds / DAY_S)
    noise = np.zeros(len(seconds))
    steps = rng.normal(0, 1, len(seconds))
    for second in range(1, len(seconds)):
        noise[second] = 0.995 * noise[second - 1] + steps[second]
    noise /= np.abs(noise).max()
    shape = 0.55 + 0.16 * swing + 0.03 * noise
    # Now and then many requests come at once: up to the worst rise, within two seconds, gone within a minute.
    for at in rng.choice(len(seconds) - 120, days * 40, replace=False):
        height = RISE * rng.uniform(0.3, 1.0)
        shape[at : at + 60] += height * np.concatenate([[0.5], np.ones(29), np.linspace(1, 0, 30)])
    return np.asarray(np.minimum(shape * PEAK / np.quantile(shape, 0.9999), PEAK))


def at_clock(card: GPUType, clock: float) -> tuple[float, float]:
    """(power, time) of a server's GPUs at a share of the highest clock, both over those at full clock."""
    power = time = 0.0
    for share, (tensor, hbm) in ((PROMPT_SHARE, PROMPT), (1 - PROMPT_SHARE, TOKEN)):
        slower = float(slowdown_at(card, clock, tensor, hbm))
        power += share * slower * float(draw_w(card, clock, tensor, hbm)) / float(draw_w(card, 1.0, tensor, hbm))
        time += share * slower
    return power / time, time


def play(name: str, base: Array, policy: PowerPolicy | None, card: GPUType, seed: int) -> Outcome:
    """Second by second: power under the caps in force, then the law's answer, which takes effect a second later."""
    state, state_in_force = PowerState(), PowerState()
    known: dict[float, tuple[float, float]] = {}
    slow = {"low": np.ones(len(base)), "high": np.ones(len(base))}
    power = np.empty(len(base))
    brakes = over = 0
    asked_at: int | None = None
    waits: list[float] = []
    for second, share in enumerate(base):
        given = {"low": 1.0, "high": 1.0} if policy is None else dict(caps(policy, state_in_force))
        row = 0.0
        for priority, clock in given.items():
            if clock not in known:
                known[clock] = at_clock(card, clock)
            factor, slower = known[clock]
            row += 0.5 * share * MORE * (IDLE_OF_SERVER + (1 - IDLE_OF_SERVER) * factor)
            slow[priority][second] = slower
        power[second] = row
        over += row > 1.0
        if policy is not None:
            state_in_force = state  # what was asked a second ago is in force from here on
            if asked_at is not None:
                waits.append(second - asked_at + DELAY_S)
                asked_at = None
            after = decide(policy, state, row, float(second))
            brakes += after.braked and not state.braked
            asked_at = second if caps(policy, after) != caps(policy, state) else None
            state = after
    return Outcome(
        name, over, brakes, float(power.max()), *_slower(slow, seed), float(np.quantile(waits or [0.0], 0.99))
    )


def _slower(slow: dict[str, Array], seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """How much longer the median and the 99th percentile of requests' durations are, by priority."""
    rng = np.random.default_rng(seed)
    count, seconds = 200_000, len(slow["low"])
    starts = rng.integers(0, seconds - 600, count)
    lengths = np.minimum(rng.lognormal(2.5, 0.6, count), 500.0)
    medians, tails = {}, {}
    for priority, factors in slow.items():
        sums = np.concatenate([[0.0], np.cumsum(factors)])
        mean = (sums[starts + np.ceil(lengths).astype(int)] - sums[starts]) / np.ceil(lengths)
        medians[priority] = float(np.quantile(lengths * mean, 0.5) / np.quantile(lengths, 0.5) - 1)
        tails[priority] = float(np.quantile(lengths * mean, 0.99) / np.quantile(lengths, 0.99) - 1)
    return medians, tails


def main() -> None:
    """Print the three policies side by side; exit code 1 where a bar of the law is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    card, base = gpu("A100-SXM-80GB"), load(given.days, given.seed)
    rises = base[2:] - base[:-2]
    print(f"{given.days} days; before: peak {base.max():.1%} of the budget, worst rise in 2 s {rises.max():.1%}")
    low_only = PowerPolicy(t1_ratio=0.89, t2_ratio=2.0, low_ratios=(1110 / 1410, 1110 / 1410))
    found = [
        play("no capping", base, None, card, given.seed),
        play("low priority at one threshold", base, low_only, card, given.seed),
        play("two thresholds (ours)", base, PowerPolicy(), card, given.seed),
    ]
    for one in found:
        print(
            f"{one.name:30} over budget {one.over_s:6d} s, {one.brakes:3d} brakes, peak {one.peak:.1%}; "
            f"P50 high {one.slower_p50['high']:+.2%} low {one.slower_p50['low']:+.2%}; "
            f"P99 high {one.slower_p99['high']:+.2%} low {one.slower_p99['low']:+.2%}; in force {one.in_force_s:.0f} s"
        )
    ours = found[-1]
    met = (
        ours.over_s == 0
        and ours.brakes == 0
        and ours.slower_p99["high"] < 0.05
        and ours.slower_p99["low"] < 0.50
        and ours.in_force_s <= 2
    )
    print("bars: 0 s over budget, 0 brakes, P99 high < 5 %, low < 50 %, in force <= 2 s:", "met" if met else "MISSED")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
