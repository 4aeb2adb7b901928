"""What a new plan starts and stops, compared with the one that runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from planner.plan import Allocation


@dataclass(frozen=True, slots=True)
class Move:
    """Replicas of one recipe, pool and node group before and after; equal counts are no move."""

    service: str
    recipe: str
    pool: str
    node_group: str
    gpus_per_replica: int
    before: int
    after: int

    @property
    def more(self) -> int:
        """Replicas to start; below zero, to stop."""
        return self.after - self.before


def moves(running: Sequence[Allocation], planned: Sequence[Allocation]) -> tuple[Move, ...]:
    """Every change of a count: first what is planned in its order, then what runs and is planned no more."""
    was, now = _counted(running), _counted(planned)
    gpus = {_key(a): a.gpus_per_replica for a in (*running, *planned)}
    keys = dict.fromkeys((*now, *was))
    found = (Move(*key, gpus[key], was.get(key, 0), now.get(key, 0)) for key in keys)
    return tuple(move for move in found if move.more)


def _key(allocation: Allocation) -> tuple[str, str, str, str]:
    return allocation.service, str(allocation.recipe), allocation.pool, allocation.node_group


def _counted(allocations: Sequence[Allocation]) -> dict[tuple[str, str, str, str], int]:
    counts: dict[tuple[str, str, str, str], int] = {}
    for allocation in allocations:
        counts[_key(allocation)] = counts.get(_key(allocation), 0) + allocation.replicas
    return counts
