"""The controller's loop on the embedded cluster: how soon a surge is borne, and whether a steady day leaves it alone.

    python -m tests.benchmarks.up_loop [--surges 9] [--hours 8] [--seeds 2]

surges    a service at 20 requests/s gets 2, 3 or 4 times as many at once. Counted from the moment at which all
          replicas of the plan that follows are ready: when requests, by the 10 seconds in which they came, are in time
          again as often as the objective's percentile says, and stay so. Bar: 60 simulated seconds.
steady    two services of the demo's fleet at one rate, in bunches (coefficient of variation 2, the second 1.5).
          Bar: no plan after the first in 8 hours.

Left out: engines start as fast as plans predict; on a real cluster images and weights come over a network.
"""

import argparse
import sys
from collections.abc import Callable, Mapping

import numpy as np

from controller.embedded.seen import LATENCIES, met
from controller.embedded.world import World
from controller.plans import merged
from planner.service import ServiceSpec
from planner.simulation.told import Finished
from tests.benchmarks.common import bar
from tests.controller.embedded.a_world import a_world, ready, run, submit, told

_BIN_S, _PERCENTILE = 10.0, 0.95
_RATE, _KEY = 20.0, "default/chat"


def watched(world: World) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    """Arrival and success of every request that ends from now on."""
    kept: list[Finished] = []
    advance = world.serving.fleet.advance

    def both(until_s: float) -> Mapping[str, Finished]:
        found = advance(until_s)
        kept.extend(one for key, one in found.items() if key == _KEY)
        return found

    world.serving.fleet.advance = both  # type: ignore[method-assign]

    def so_far() -> tuple[np.ndarray, np.ndarray]:
        obj = world.loop.known.service(_KEY)
        spec = None if obj is None else world.loop.known.spec(obj)
        assert isinstance(spec, ServiceSpec)
        good = [met(spec, {name: getattr(one, f"{name}_s") for name in LATENCIES}, one.bucket) for one in kept]
        return np.concatenate([one.arrival_s for one in kept]), np.concatenate(good)

    return so_far


def surge(factor: float, seed: int) -> tuple[float, float, float]:
    """Seconds from the surge to capacity, from capacity to the objective, and the share in time from 60 s on."""
    world = a_world(None, seed=seed)
    submit(world, "chat", _RATE)
    run(world, 300, lambda: ready(world, "chat"))
    run(world, 600)
    ended = watched(world)
    begun_s = world.now_s
    world.send(_KEY, {"factor": factor})
    before = len(told(world, "Replanned"))
    run(world, 300, lambda: len(told(world, "Replanned")) > before)
    run(world, 900, lambda: _is_there(world))
    came_s = world.now_s
    run(world, 300)
    world.close()
    arrival_s, good = ended()
    bins = np.floor((arrival_s - came_s) / _BIN_S).astype(int)
    last = int((world.now_s - came_s - 60) // _BIN_S)  # those that came later may not have ended yet
    shares = {at: float(good[bins == at].mean()) for at in range(last) if (bins == at).any()}
    late = [at for at, share in shares.items() if share < _PERCENTILE]
    after = good[(arrival_s >= came_s + 60) & (bins < last)]
    return came_s - begun_s, (max(late) + 1) * _BIN_S if late else 0.0, float(after.mean())


def _is_there(world: World) -> bool:
    """Every replica of the plan in force is ready."""
    known = world.loop.known
    plan, runs = known.plan(_KEY), known.running(_KEY)
    assert plan is not None
    there = {(one.kind.recipe, one.kind.pool, one.kind.node_group): one.ready for one in runs}
    rows = merged(known.decided(plan))
    return all(there.get((str(one.recipe), one.pool, one.node_group), 0) >= one.replicas for one in rows)


def steady(hours: float, seed: int) -> int:
    """Plans after the first of each service."""
    world = a_world(None, seed=seed)
    submit(world, "chat", 24.0)
    submit(world, "code", 6.0, model="Qwen/Qwen2.5-32B-Instruct")
    run(world, 600, lambda: ready(world, "chat") and ready(world, "code"))
    world.send(_KEY, {"burst_cv": 2.0})
    world.send("default/code", {"burst_cv": 1.5})
    before = len(told(world, "Replanned"))
    run(world, hours * 3600)
    more = told(world, "Replanned")[before:]
    for note in more:
        print(f"    {note}")
    world.close()
    return len(more)


def main() -> None:
    """Print each surge and each day; exit code 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--surges", type=int, default=9)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    rows = []
    for number in range(given.surges):
        factor, seed = (2.0, 3.0, 4.0)[number % 3], number // 3
        capacity_s, back_s, share = surge(factor, seed)
        rows.append((back_s, share))
        print(
            f"surge {factor:g}x seed {seed}: capacity after {capacity_s:.0f} s, in time again {back_s:.0f} s later; "
            f"{share:.1%} of those from 60 s on",
            flush=True,
        )
    verdicts = []
    if rows:
        backs = sorted(back_s for back_s, _ in rows)
        verdicts.append(
            bar(
                "the objective after a surge",
                backs[-1] <= 60,
                f"slowest {backs[-1]:.0f} s, median {backs[len(backs) // 2]:.0f} s",
            )
        )
    if given.hours:
        plans = [steady(given.hours, seed) for seed in range(given.seeds)]
        verdicts.append(
            bar(f"plans in {given.hours:g} steady hours", not any(plans), f"{plans} over {given.seeds} seeds")
        )
    sys.exit(0 if all(verdicts) else 1)


if __name__ == "__main__":
    main()
