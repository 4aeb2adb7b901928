"""The longest request that the engines of a recipe are told to take (vLLM: --max-model-len, SGLang: --context-length).

Untold, an engine makes room for the model's whole context, and vLLM refuses to start where that does not fit: one
sequence of Llama-3.1's 131,072 tokens takes 16 GiB of KV cache, more than an L4 has beside 8-bit weights.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from planner.base import HBM_KV, kept_per_sequence
from planner.batching import Array, Mask
from planner.calibration import HBM_RATIO
from planner.cost import Case, Cost
from planner.memory import KERNEL_WORKSPACE_BYTES

# Prompts come in a chat template, and sizes are an expectation: what is told is the power of two above so many times
# the largest. Coarse steps, since another length is another kind of replica, whose pods start anew.
ROOM_RATIO = 1.25
LEAST_TOKENS = 2048
STEP_TOKENS = 256  # where the power of two does not fit


class Room(NamedTuple):
    """What is left for the KV cache on a GPU of each pool, by (bucket, batch), and what one sequence takes of it."""

    case: Case
    left_bytes: tuple[Array, ...]
    mean_bytes: Array  # of one sequence of each bucket's mean size, one row a bucket

    def takes_bytes(self, tokens: Array) -> Array:
        """One sequence of so many tokens, a number for each bucket; the same for all where the cache is of one kind."""
        kept = np.asarray(kept_per_sequence(self.case), dtype=float)
        longer = replace(self.case, input_tokens=tokens, output_tokens=0.0)
        ratio = np.divide(kept_per_sequence(longer), kept, out=np.zeros(np.shape(kept)), where=kept > 0)
        return np.asarray(ratio * self.mean_bytes)

    def holds(self, tokens: Array) -> list[Mask]:
        """Whether one sequence of so many tokens fits, by pool and (bucket, batch)."""
        return [self.takes_bytes(tokens) <= left for left in self.left_bytes]


def room_of(case: Case, cost: Cost, used: Sequence[Array]) -> Room:
    """The room of a recipe; `used`: bytes of a GPU of each pool, whose first batch is 1 in each pipeline lane."""
    most = HBM_RATIO * case.gpu.hbm_bytes
    left = tuple(
        most - all_bytes + np.asarray(cost.resident(pool)["kv"], dtype=float)
        for pool, all_bytes in zip(cost.pools, used, strict=True)
    )
    # A lane's sequence lies on each stage with that stage's layers alone, and there is one of each lane.
    alone = np.broadcast_to(np.asarray(cost.phases["decode"].resident[HBM_KV], dtype=float), used[0].shape)[:, :1]
    return Room(case, left, alone / case.pp)


def context_tokens(room: Room, edges: Array, rows: Sequence[int], column: int) -> int:
    """What to tell: of the largest requests of buckets, the largest that fits beside what a batch (`column`) needs.

    `edges`: input and output tokens of each bucket's largest request; `rows`: the buckets that are served. What is told
    follows from sizes and memory, not from rates: so it stays what it is while those change.
    """
    longest = room.case.model.max_context

    def fits(tokens: float, spare_bytes: float = 0.0) -> bool:
        takes = room.takes_bytes(np.full(edges.shape, tokens))[rows, 0] + spare_bytes
        return all((takes <= left[rows, column]).all() for left in room.left_bytes)

    sizes = np.unique(edges)  # from the smallest
    fitting = bisect_left(sizes, True, key=lambda size: not fits(size))
    largest = max(float(edges[rows].max()), *sizes[:fitting][-1:].tolist())
    roomy = 2 ** int(np.ceil(np.log2(max(ROOM_RATIO * largest, LEAST_TOKENS))))
    stepped = int(-(-largest // STEP_TOKENS)) * STEP_TOKENS
    for tokens in (min(roomy, longest), min(stepped, longest)):
        if fits(tokens, KERNEL_WORKSPACE_BYTES):
            return tokens
    return max(min(int(np.ceil(largest)), longest), 1)
