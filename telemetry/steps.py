"""Live steps of jobs: who computes longer than its peers, and who has fallen silent. Pure.

A rank is slow where it computes 7 % longer than the median of the other ranks of its stage in most of the last 20 steps
(see `telemetry.stragglers` for why 7). A job hangs where a rank that reported steps reports none for 25 s or five times
its longest usual step (the 99th percentile), whichever is longer; ranks that are further behind than others are named.
"""

from collections import defaultdict, deque
from dataclasses import dataclass
from statistics import median

from telemetry.stragglers import LAST_STEPS, SLOW_RATIO, SLOW_STEPS_RATIO

LEAST_HANG_S, HANG_STEPS = 25.0, 5.0
MOST_STEPS = 256  # of one rank
MOST_JOBS, MOST_RANKS, MOST_GPUS = 64, 16384, 64
MOST_KEPT = 100_000  # steps of all jobs: some 30 MB


@dataclass(frozen=True, slots=True)
class StepDone:
    """A rank has ended a step; Unix times, and the seconds of its own work within."""

    job: str
    rank: int
    size: int
    stage: int
    step: int
    start_s: float
    end_s: float
    compute_s: float
    gpu: int = -1


@dataclass(frozen=True, slots=True)
class Slow:
    """A rank slower than its peers."""

    job: str
    rank: int
    stage: int
    ratio: float


@dataclass(frozen=True, slots=True)
class Hung:
    """A job that stopped; `ranks`: those that ended the fewest steps."""

    job: str
    ranks: tuple[int, ...]
    silent_s: float


class Steps:
    """The last steps of every rank that is heard of."""

    def __init__(self) -> None:
        self._steps: dict[str, dict[int, deque[StepDone]]] = {}
        self._kept = 0
        self.made: dict[int, tuple[str, int]] = {}  # GPU -> its job, and how many steps that has made there

    def note(self, done: StepDone) -> bool:
        """One more step; False for jobs, ranks and steps beyond what a node can have, which are passed over."""
        ranks = self._steps.get(done.job, {})
        steps = ranks.get(done.rank)
        if steps is None:
            if (not ranks and len(self._steps) >= MOST_JOBS) or len(ranks) >= MOST_RANKS:
                return False
            steps = deque(maxlen=MOST_STEPS)
        if len(steps) < MOST_STEPS:
            if self._kept >= MOST_KEPT:
                return False
            self._kept += 1
        steps.append(done)
        self._steps.setdefault(done.job, {})[done.rank] = steps
        if 0 <= done.gpu < MOST_GPUS:
            job, made = self.made.get(done.gpu, ("", 0))
            self.made[done.gpu] = (done.job, made + 1 if job == done.job else 1)
        return True

    def forget(self, job: str, rank: int | None = None) -> bool:
        """The job is over, or one rank of it; whether no other rank is left."""
        ranks = self._steps.get(job, {})
        for one in list(ranks) if rank is None else [rank]:
            self._kept -= len(ranks.pop(one, ()))
        if not ranks:
            self._steps.pop(job, None)
        return not ranks

    def slow(self) -> list[Slow]:
        """Ranks that compute longer than their peers in most of the last steps."""
        return [one for job, ranks in self._steps.items() for one in _slow(job, ranks)]

    def hung(self, now_s: float) -> list[Hung]:
        """Jobs that stopped."""
        found = []
        for job, ranks in self._steps.items():
            last_s = max(steps[-1].end_s for steps in ranks.values())
            lengths = sorted(one.end_s - one.start_s for steps in ranks.values() for one in steps)
            longest_s = lengths[int(0.99 * (len(lengths) - 1))]
            if len(lengths) > 1 and now_s - last_s > max(LEAST_HANG_S, HANG_STEPS * longest_s):
                fewest = min(steps[-1].step for steps in ranks.values())
                behind = tuple(sorted(rank for rank, steps in ranks.items() if steps[-1].step == fewest))
                found.append(Hung(job, behind if len(behind) < len(ranks) else (), now_s - last_s))
        return found


def _slow(job: str, ranks: dict[int, deque[StepDone]]) -> list[Slow]:
    by_step: dict[int, dict[int, StepDone]] = defaultdict(dict)
    for rank, steps in ranks.items():
        for one in list(steps)[-LAST_STEPS:]:
            by_step[one.step][rank] = one
    ratios: dict[int, list[float]] = defaultdict(list)
    for members in by_step.values():
        for rank, one in members.items():
            peers = [peer.compute_s for other, peer in members.items() if other != rank and peer.stage == one.stage]
            if peers and median(peers) > 0:
                ratios[rank].append(one.compute_s / median(peers))
    return [
        Slow(job, rank, ranks[rank][-1].stage, median(found))
        for rank, found in sorted(ratios.items())
        if len(found) >= LAST_STEPS and sum(x >= SLOW_RATIO for x in found) >= SLOW_STEPS_RATIO * len(found)
    ]
