"""Tensor parallelism: the GPUs of a stage share every matrix and head, and add up their parts twice a layer.

Shoeybi et al., "Megatron-LM: Training Multi-Billion Parameter Language Models Using Model Parallelism", arXiv
1909.08053: columns of the first matrix and rows of the second, so that attention and the feed-forward unit each need
one all-reduce. A ring sends 2 (N-1) / N of the message from each GPU in 2 (N-1) hops (Thakur et al., "Optimization of
Collective Communication Operations in MPICH", 2005). Fewer KV heads than GPUs are copied.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import ClassVar, Literal

import numpy as np

from planner.architecture import kv_heads
from planner.base import (
    ACTIVATION_BYTES,
    HBM_ACTIVATIONS,
    HBM_EMBEDDINGS,
    HBM_KV,
    HBM_STATE,
    HBM_WEIGHTS,
    HBM_WORKSPACE,
    held_activations,
    held_fixed,
    held_weights,
    kept_per_sequence,
    link,
)
from planner.cost import At, Case, Cost, Figure, Op, Phase
from planner.model import Block
from planner.technique import Parallelism


@dataclass(frozen=True)
class TensorParallel(Parallelism):
    """Matrices and heads over `ways` GPUs."""

    degree: ClassVar[Literal["tp"]] = "tp"

    def objection(self, case: Case) -> str | None:
        """Whole heads on every GPU."""
        heads = [block.attention.heads for block in case.model.blocks if block.attention is not None]
        odd = [count for count in heads if count % self.ways]
        return f"tp {self.ways} does not divide the {odd[0]} heads of {case.model.name}" if odd else None

    def apply(self, cost: Cost, case: Case) -> Cost:
        """A share of every op that can be split, and the all-reduces at the end of each group of layers."""
        phases = {}
        for name, phase in cost.phases.items():
            message_bytes = phase.tokens * case.rank_share(name) * case.model.hidden * ACTIVATION_BYTES
            ops: list[Op] = []
            for _, layers in groupby(phase.ops, lambda op: id(op.block)):
                shared = [self._share(op) for op in layers]
                block = shared[0].block
                ops += shared if block is None else [*shared, self._all_reduce(case, block, message_bytes)]
            phases[name] = replace(phase, ops=tuple(ops), resident=self._resident(phase, case, name))
        return replace(cost, phases=phases)

    def _share(self, op: Op) -> Op:
        if op.shard == "none":
            return op
        heads = kv_heads(op.block.attention) if op.block and op.block.attention else self.ways
        ways = {HBM_KV: min(self.ways, heads)}
        traffic = {at: amount / ways.get(at, self.ways) for at, amount in op.traffic.items()}
        return replace(op, flops=op.flops / self.ways, traffic=traffic)

    def _all_reduce(self, case: Case, block: Block, message_bytes: Figure) -> Op:
        count, place = block.count * ((block.attention is not None) + (block.ffn is not None)), link(case.gpu)
        traffic: dict[At, Figure] = {
            At("activations", place): message_bytes * count * 2 * (self.ways - 1) / self.ways,
            At("collectives", place): float(count),
            At("hops", place): float(count * 2 * (self.ways - 1)),
        }
        return Op("all_reduce", traffic=traffic, block=block)

    def _resident(self, phase: Phase, case: Case, name: str) -> Mapping[At, Figure]:
        """A share of what is split; activations are not split as far, and NCCL keeps buffers."""
        model, whole = case.model, kept_per_sequence(case)
        shares: dict[At, Figure] = {
            HBM_WEIGHTS: held_weights(model, self.ways) / held_weights(model),
            HBM_EMBEDDINGS: 1 / self.ways,
            HBM_KV: kept_per_sequence(case, self.ways) / np.maximum(whole, 1.0),
            HBM_STATE: 1 / self.ways,
        }
        held = {at: amount * shares.get(at, 1.0) for at, amount in phase.resident.items()}
        share = case.rank_share(name)
        spared = held_activations(case, name, share) - held_activations(case, name, share, self.ways)
        held[HBM_ACTIVATIONS] = held[HBM_ACTIVATIONS] - spared
        return {**held, HBM_WORKSPACE: held[HBM_WORKSPACE] + held_fixed(model, self.ways) - held_fixed(model)}

    def flags(self, engine: str) -> Mapping[str, str]:
        """The same flag for both engines."""
        return {"tensor-parallel-size": str(self.ways)}


TECHNIQUE = TensorParallel
