"""Nano-batches: a step's requests in two parts; one's attention and all-reduce run beneath the other's products.

Zhu et al., "NanoFlow: Towards Optimal Large Language Model Serving Throughput", arXiv 2408.12757. Compute, memory and
network are then used at the same time: T = max(T_compute, T_memory, T_network) at best. Kernels that run together take
SMs from one another. On an H200 (`workloads/sm_partition.py`) a product keeps 0.88 to 0.64 of its speed beside kernels
that stream memory at 0.28 to 0.57 of theirs: each second of streaming costs it 0.48 s (median of four), so 0.52 of the
streaming is free. An all-reduce is as fast with 16 of 132 SMs as with more (TokenWeave's sweep, 8 H100): 0.88 is free.
Kernels double. Weights are read once more, for which products of so many tokens have time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from planner.cost import At, Case, Cost, Figure, Op
from planner.technique import Stage, Technique

_LAYERS = At("layers", "host")
STREAM_HIDDEN, LINK_HIDDEN = 0.52, 1 - 16 / 132


@dataclass(frozen=True)
class NanoBatch(Technique):
    """Two nano-batches in steps of at least `least_tokens`, where products have arithmetic to hide something under."""

    least_tokens: int = 512
    stage: ClassVar[Stage] = Stage.SCHEDULE
    searched: ClassVar[bool] = False

    def objection(self, case: Case) -> str | None:
        """Needs a cache to read beneath the products, and products that are not short of tokens already."""
        kinds = {b.attention.kind for b in case.model.blocks if b.attention is not None} & {"linear", "ssm"}
        if kinds:
            return f"{case.model.name} has {min(kinds)} layers, which read no cache"
        if any(block.ffn is not None and block.ffn.experts for block in case.model.blocks):
            return f"{case.model.name} has experts, whose weights half a batch would have to read again"
        return None

    def apply(self, cost: Cost, case: Case) -> Cost:
        """Cache reads and links run beneath the products, as far as they are free."""
        for phase, tokens in (("prefill", case.input_tokens * case.prompts), ("decode", case.batch)):
            on = np.where(np.asarray(tokens) >= self.least_tokens, 1.0, 0.0)
            cost = cost.map_ops(lambda op, on=on: _twice(op, on), phase)  # type: ignore[misc]
            cost = cost.beneath(phase, "attention", on * STREAM_HIDDEN).beneath(phase, "all_reduce", on * LINK_HIDDEN)
        return cost

    def flags(self, engine: str) -> Mapping[str, str] | None:
        """None: the micro-batches of both engines (`--enable-dbo`, `--enable-two-batch-overlap`) are for experts only.

        The paper's own engine is efeslab/Nanoflow.
        """
        return None


def _twice(op: Op, on: Figure) -> Op:
    return replace(op, traffic={at: x * (1 + on) if at == _LAYERS else x for at, x in op.traffic.items()})


TECHNIQUE = NanoBatch
