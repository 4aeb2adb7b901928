"""Who is slow in a training job, by how much it slows the job, and whether it is a worker at all.

A worker (data-parallel rank, stage) is compared with the workers of its own stage only, after the time that its
micro-batches take on every stage is taken out: neither a heavier stage nor a longer sequence makes a straggler. What a
cause costs is the step played again without it (`telemetry.pipeline`; Lin et al., arXiv 2505.05713).
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

from telemetry.errors import BadRecord
from telemetry.pipeline import COMPUTE, Duration, Op, kind_of, step_s, transfers_s

Cause = Literal["worker", "stage_imbalance", "sequence_imbalance", "none"]
# A worker 10 % slow must be named: measured against peers that vary by 1 to 2 % themselves, that shows as 7 % or more.
SLOW_RATIO = 1.07
SLOW_STEPS_RATIO = 0.6  # of the last steps; fewer are a passing thing
LAST_STEPS = 20
LEAST_RATIO = 1.02  # what costs less than this is no cause


@dataclass(frozen=True, slots=True)
class Straggler:
    """A slow worker and how many times as long its computations take as those of its peers."""

    dp_rank: int
    stage: int
    slowdown_ratio: float


@dataclass(frozen=True, slots=True)
class Findings:
    """What a trace shows. `slowdown_ratio`: step time over that with every operation at its mean over all workers.

    `worker_ratio`, `stage_ratio`, `sequence_ratio`: what differences between workers of a stage, between stages, and
    between micro-batches cost, each alone.
    """

    stragglers: tuple[Straggler, ...]
    slowdown_ratio: float
    cause: Cause
    worker_ratio: float
    stage_ratio: float
    sequence_ratio: float
    steps: int


def findings(ops: Sequence[Op]) -> Findings:
    """Judge a trace of one job. Raises BadRecord for one without computations."""
    steps = by_step(ops)
    if not any(op.kind in COMPUTE for op in ops):
        raise BadRecord(f"the trace has no {' or '.join(COMPUTE)} operation: nothing to compare workers by")
    as_it_was = sum(step_s(step, lambda op: op.duration_s) for step in steps.values())
    ratios = {
        "all": as_it_was / sum(step_s(step, _all_alike(ops), _transfers(steps)) for step in steps.values()),
        "worker": as_it_was / sum(step_s(step, _stage_peers(step)) for step in steps.values()),
        "stage": as_it_was / sum(step_s(step, _stages_alike(step)) for step in steps.values()),
        "sequence": as_it_was / sum(step_s(step, _micro_batches_alike(step)) for step in steps.values()),
    }
    slow = stragglers(steps)
    return Findings(
        slow, ratios["all"], _cause(slow, ratios), ratios["worker"], ratios["stage"], ratios["sequence"], len(steps)
    )


def _cause(slow: Sequence[Straggler], ratios: Mapping[str, float]) -> Cause:
    if slow:
        return "worker"
    stage, sequence = ratios["stage"], ratios["sequence"]
    if max(stage, sequence) < LEAST_RATIO:
        return "none"
    return "stage_imbalance" if stage >= sequence else "sequence_imbalance"


def stragglers(steps: Mapping[int, Sequence[Op]]) -> tuple[Straggler, ...]:
    """Workers slower than their peers in most of the last steps, the slowest first."""
    last = [steps[step] for step in sorted(steps)[-LAST_STEPS:]]
    seen: dict[tuple[int, int], list[float]] = defaultdict(list)
    for ops in last:
        for worker, excess in excess_by_worker(ops).items():
            seen[worker].append(math.exp(excess))
    found = [
        Straggler(*worker, median(ratios))
        for worker, ratios in seen.items()
        if sum(ratio >= SLOW_RATIO for ratio in ratios) >= SLOW_STEPS_RATIO * len(last)
    ]
    return tuple(sorted(found, key=lambda one: -one.slowdown_ratio))


def excess_by_worker(ops: Sequence[Op]) -> Mapping[tuple[int, int], float]:
    """Log of how much longer each worker computes in one step than the median of the others of its stage.

    Empty where a stage has one worker only. The time of a micro-batch that its rank spends on all stages alike (a long
    sequence) is taken out first: with three stages and more it is told from a slow worker by the median over stages.
    """
    logs: dict[tuple[str, int, int], dict[tuple[int, int], float]] = defaultdict(dict)
    for op in ops:
        if op.kind in COMPUTE and op.duration_s > 0:
            logs[op.kind, op.micro_batch, op.chunk][op.worker] = math.log(op.duration_s)
    relative: dict[tuple[str, int, int, int], dict[int, float]] = defaultdict(dict)  # (.., rank) -> stage -> log
    for (kind, micro_batch, chunk), workers in logs.items():
        for (rank, stage), value in workers.items():
            others = [x for (other, at), x in workers.items() if at == stage and other != rank]
            if others:
                relative[kind, micro_batch, chunk, rank][stage] = value - median(others)
    of_data = _of_data(relative)
    worker: dict[tuple[int, int], list[float]] = defaultdict(list)
    for (kind, micro_batch, _, rank), stages in relative.items():
        for stage, value in stages.items():
            worker[rank, stage].append(value - of_data.get((kind, micro_batch, rank), 0.0))
    return {one: median(values) for one, values in worker.items()}


def _of_data(relative: Mapping[tuple[str, int, int, int], Mapping[int, float]]) -> Mapping[tuple[str, int, int], float]:
    """What a rank's micro-batch takes longer on all stages than those of other ranks."""
    pooled: dict[tuple[str, int, int], dict[int, float]] = defaultdict(dict)
    for (kind, micro_batch, _, rank), stages in relative.items():
        pooled[kind, micro_batch, rank].update(stages)
    return {key: median(stages.values()) for key, stages in pooled.items() if len(stages) > 2}


def by_step(ops: Iterable[Op]) -> Mapping[int, list[Op]]:
    """Operations by step, in order of step."""
    found: dict[int, list[Op]] = defaultdict(list)
    for op in ops:
        found[op.step].append(op)
    return dict(sorted(found.items()))


def _all_alike(ops: Sequence[Op]) -> Duration:
    """Every kind of operation at its mean over all workers and steps."""
    times: dict[str, list[float]] = defaultdict(list)
    for op in ops:
        times[op.kind].append(op.duration_s)
    means = {kind: fmean(values) for kind, values in times.items()}
    return lambda op: means[op.kind]


def _transfers(steps: Mapping[int, Sequence[Op]]) -> Mapping[str, float]:
    """Every kind of transfer at its median over all groups and steps."""
    times: dict[str, list[float]] = defaultdict(list)
    for step in steps.values():
        for name, seconds in transfers_s(step).items():
            times[kind_of(name)].append(seconds)
    return {kind: median(values) for kind, values in times.items()}


def _stage_peers(ops: Sequence[Op]) -> Duration:
    """Every computation at the median of its stage in that step."""
    times: dict[tuple[int, str], list[float]] = defaultdict(list)
    for op in ops:
        times[op.stage, op.kind].append(op.duration_s)
    medians = {key: median(values) for key, values in times.items()}
    return lambda op: medians[op.stage, op.kind] if op.kind in COMPUTE else op.duration_s


def _stages_alike(ops: Sequence[Op]) -> Duration:
    """Every stage as long as the mean of the stages; differences within a stage stay."""
    times: dict[tuple[str, int], list[float]] = defaultdict(list)
    for op in ops:
        if op.kind in COMPUTE:
            times[op.kind, op.stage].append(op.duration_s)
    means = {key: fmean(values) for key, values in times.items()}
    kinds = {kind: fmean(value for (other, _), value in means.items() if other == kind) for kind, _ in means}
    return lambda op: op.duration_s * kinds[op.kind] / means[op.kind, op.stage] if op.kind in COMPUTE else op.duration_s


def _micro_batches_alike(ops: Sequence[Op]) -> Duration:
    """Every micro-batch of a stage as long as the mean over ranks and micro-batches; workers keep their own pace."""
    excess = excess_by_worker(ops)
    times: dict[tuple[str, int], list[float]] = defaultdict(list)
    for op in ops:
        if op.kind in COMPUTE:
            times[op.kind, op.stage].append(op.duration_s / math.exp(max(excess.get(op.worker, 0.0), 0.0)))
    means = {key: fmean(values) for key, values in times.items()}
    pace = {worker: math.exp(max(value, 0.0)) for worker, value in excess.items()}
    return lambda op: means[op.kind, op.stage] * pace.get(op.worker, 1.0) if op.kind in COMPUTE else op.duration_s
