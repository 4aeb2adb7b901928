"""A training step played again: what it would have taken had its operations taken other times.

Operations of a worker follow one another; a forward pass waits for the stage before, a backward pass for the stage
after, collectives for the last of their group. Method: Lin et al., "Understanding Stragglers in Large Model Training
Using What-if Analysis", arXiv 2505.05713. Gaps between operations, in which a worker launches the next, are left out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

FORWARD, BACKWARD = "forward-compute", "backward-compute"
COMPUTE = (FORWARD, BACKWARD)
# Who takes part in a collective, by what its members have in common.
_GROUPS: Mapping[str, Callable[["Op"], object]] = {
    "params-all-gather": lambda op: op.stage,
    "grads-reduce-scatter": lambda op: op.stage,
    "embedding-grads-all-reduce": lambda op: op.dp_rank,
    "optimizer-clip-main-grad": lambda op: 0,
}


@dataclass(frozen=True, slots=True)
class Op:
    """One operation of a worker in a step; `chunk` counts model chunks through all stages, `micro_batch` -1 = none."""

    dp_rank: int
    stage: int
    step: int
    kind: str
    start_s: float
    duration_s: float
    sequence: int
    micro_batch: int
    chunk: int

    @property
    def worker(self) -> tuple[int, int]:
        """Data-parallel rank and pipeline stage."""
        return self.dp_rank, self.stage


class Key(NamedTuple):
    """Names an operation that others wait for."""

    dp_rank: int
    kind: str
    micro_batch: int
    chunk: int


Duration = Callable[[Op], float]


def step_s(ops: Sequence[Op], duration_s: Duration, transfer_of: Mapping[str, float] | None = None) -> float:
    """Seconds of one step (all its workers' operations) with the durations given.

    `transfer_of`: seconds of each kind of collective and of a transfer "forward" and "backward"; else as they were.
    """
    ordered = sorted(ops, key=lambda op: (op.start_s, op.sequence))
    queues = {worker: [op for op in ordered if op.worker == worker and _counts(op)] for worker in _workers(ops)}
    transfer_s, sizes = transfers_s(ops), _group_sizes(ops)
    if transfer_of is not None:
        transfer_s = {name: transfer_of[kind_of(name)] for name in transfer_s}
    ends: dict[Key, float] = {}
    clock: dict[tuple[int, int], float] = dict.fromkeys(queues, 0.0)
    meeting: dict[tuple[str, object, int], list[tuple[int, int]]] = {}
    position = dict.fromkeys(queues, 0)
    last_chunk = max(op.chunk for op in ops)
    moved = True
    while moved:
        moved = False
        for worker, queue in queues.items():
            while position[worker] < len(queue):
                op = queue[position[worker]]
                if op.kind in _GROUPS:
                    name = (op.kind, _GROUPS[op.kind](op), op.sequence)
                    there = meeting.setdefault(name, [])
                    if worker not in there:
                        there.append(worker)
                    if len(there) < sizes[name]:
                        break  # until the others come
                    end_s = max(clock[one] for one in there) + transfer_s[name]
                    for one in there:
                        clock[one] = end_s
                        position[one] += 1
                    moved = True
                    break  # positions of others moved too: start over
                ready_s = _ready_s(op, ends, transfer_s, last_chunk)
                if ready_s is None:
                    break
                clock[worker] = max(clock[worker], ready_s) + duration_s(op)
                if op.kind in COMPUTE:
                    ends[Key(op.dp_rank, op.kind, op.micro_batch, op.chunk)] = clock[worker]
                position[worker] += 1
                moved = True
    return max(clock.values())


def kind_of(name: object) -> str:
    """The kind of operation that a name of `transfers_s` stands for."""
    return name[0] if isinstance(name, tuple) else str(name)


def transfers_s(ops: Sequence[Op]) -> Mapping[object, float]:
    """Seconds that each collective takes once the last of its group has come, and each transfer between stages."""
    found: dict[object, float] = {}
    for name, members in _groups(ops).items():
        found[name] = max(min(op.duration_s for op in members), 0.0)
    for op in ops:
        if not _counts(op):  # the shorter of the two ends' times is the transfer, the longer one holds a wait
            way = op.kind.partition("-")[0]
            found[way] = min(found.get(way, op.duration_s), op.duration_s)
    return found


def _ready_s(op: Op, ends: Mapping[Key, float], transfer_s: Mapping[object, float], last_chunk: int) -> float | None:
    """When what a compute operation waits for is there; None = not yet known."""
    forward = op.kind == FORWARD
    if op.kind not in COMPUTE or op.chunk == (0 if forward else last_chunk):
        return 0.0
    needed = Key(op.dp_rank, op.kind, op.micro_batch, op.chunk + (-1 if forward else 1))
    if needed not in ends:
        return None
    return ends[needed] + transfer_s.get("forward" if forward else "backward", 0.0)


def _counts(op: Op) -> bool:
    """Transfers between stages are waits: the dependencies stand for them."""
    return not op.kind.endswith(("-send", "-recv"))


def _workers(ops: Sequence[Op]) -> list[tuple[int, int]]:
    return sorted({op.worker for op in ops})


def _groups(ops: Sequence[Op]) -> dict[tuple[str, object, int], list[Op]]:
    found: dict[tuple[str, object, int], list[Op]] = {}
    for op in ops:
        if op.kind in _GROUPS:
            found.setdefault((op.kind, _GROUPS[op.kind](op), op.sequence), []).append(op)
    return found


def _group_sizes(ops: Sequence[Op]) -> dict[tuple[str, object, int], int]:
    return {name: len({op.worker for op in members}) for name, members in _groups(ops).items()}
