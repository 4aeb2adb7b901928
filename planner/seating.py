"""Replicas into nodes, so that the loss of any one node takes no more than each service can spare.

Sizes are dealt from the largest down, each replica into the node with the most room that may still take one of its
kind. Water-filling leaves the nodes as even as can be, which is best for the sizes that follow (the argument of Gale
and Ryser for 0-1 matrices with given sums, here with a limit by kind instead of 1).
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """Replicas of `gpus` GPUs each, at most `most_in_node` of them in one node (None: any number)."""

    gpus: int
    replicas: int
    most_in_node: int | None = None


def seats(kinds: Sequence[Kind], gpus_per_node: int, nodes: int) -> bool:
    """Whether all replicas find a place."""
    room = [gpus_per_node] * min(nodes, sum(kind.replicas for kind in kinds))
    order = sorted(kinds, key=lambda k: (-k.gpus, k.most_in_node if k.most_in_node is not None else gpus_per_node))
    return all(_deal(room, kind) for kind in order)


def _deal(room: list[int], kind: Kind) -> bool:
    """Put one kind into the emptiest nodes; changes `room`, and returns False if some replicas find no place."""
    most = kind.replicas if kind.most_in_node is None else kind.most_in_node
    heap = [(-free, 0, node) for node, free in enumerate(room) if free >= kind.gpus]
    heapq.heapify(heap)
    for _ in range(kind.replicas):
        if not heap or most <= 0:
            return False
        free, taken, node = heapq.heappop(heap)
        room[node] -= kind.gpus
        if room[node] >= kind.gpus and taken + 1 < most:
            heapq.heappush(heap, (free + kind.gpus, taken + 1, node))
    return True
