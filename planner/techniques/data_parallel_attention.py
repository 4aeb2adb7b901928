"""Data-parallel attention: each rank attends for its own sequences, and all ranks share the experts.

DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv 2412.19437, section 3.4 (DP attention with EP experts); engines name
it so. Tensor parallelism copies a latent cache, or KV heads fewer than GPUs, to every GPU; here a sequence's cache lies
on one rank of `tp` GPUs only. In exchange each rank holds all weights but the experts'. Around each layer of experts
the ranks gather one another's tokens and scatter the sums back, both engines' default: each receives and sends
(d-1)/d of the batch, as much as one all-reduce. The rank with most sequences sets the pace.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import ClassVar, Literal

from planner.base import (
    ACTIVATION_BYTES,
    HBM_ACTIVATIONS,
    HBM_KV,
    HBM_STATE,
    HBM_WEIGHTS,
    HBM_WORKSPACE,
    held_activations,
    held_fixed,
    held_weights,
    link,
)
from planner.cost import At, Case, Cost, Figure, Op, Phase
from planner.model import Block
from planner.technique import Parallelism

_BY_TOKEN = (HBM_ACTIVATIONS, HBM_KV, HBM_STATE, At("requests", "host"))


@dataclass(frozen=True)
class DataParallelAttention(Parallelism):
    """`ways` ranks, each with a share of the sequences."""

    searched: ClassVar[bool] = False  # it doubles what is searched for a mixture of experts
    degree: ClassVar[Literal["dp"]] = "dp"

    def objection(self, case: Case) -> str | None:
        """Something to share: without experts these are replicas."""
        if not any(block.ffn is not None and block.ffn.experts for block in case.model.blocks):
            return f"{case.model.name} has no experts that {self.ways} ranks could share: they would be replicas"
        if case.ep != case.tp * self.ways:
            return f"experts must lie on all {case.tp * self.ways} GPUs of the ranks, ep is {case.ep}"
        return None

    def apply(self, cost: Cost, case: Case) -> Cost:
        """A rank's share of the sequences, a GPU's share of the experts, and two exchanges around them."""
        phases = {}
        for name, phase in cost.phases.items():
            share = case.rank_share(name)
            ops: list[Op] = []
            for _, layers in groupby(phase.ops, lambda op: id(op.block)):
                mine = [self._mine(op, share) for op in layers]
                block = mine[0].block
                routed = block is not None and block.ffn is not None and block.ffn.experts > 0
                ops += [*mine, self._exchange(case, block, phase.tokens)] if routed and block else mine
            phases[name] = replace(phase, ops=tuple(ops), resident=self._resident(phase, case, name))
        return replace(cost, phases=phases)

    def _mine(self, op: Op, share: Figure) -> Op:
        if op.shard == "expert":
            traffic = {at: amount / self.ways for at, amount in op.traffic.items()}
            return replace(op, flops=op.flops / self.ways, traffic=traffic)
        traffic = {at: amount * share if at in _BY_TOKEN else amount for at, amount in op.traffic.items()}
        return replace(op, flops=op.flops * share, traffic=traffic)

    def _exchange(self, case: Case, block: Block, tokens: Figure) -> Op:
        place, moved = link(case.gpu), tokens * case.model.hidden * ACTIVATION_BYTES * (self.ways - 1) / self.ways
        traffic: dict[At, Figure] = {
            At("activations", place): 2 * moved * block.count,
            At("collectives", place): 2.0 * block.count,
            At("hops", place): 2.0 * (self.ways - 1) * block.count,
        }
        return Op("exchange", traffic=traffic, block=block)

    def _resident(self, phase: Phase, case: Case, name: str) -> Mapping[At, Figure]:
        """A rank's sequences and activations, all dense weights, and the gathered batch around the experts."""
        model, tp, decoding = case.model, case.tp, case.rank_share("decode")
        weights = held_weights(model, tp, self.ways) / held_weights(model, tp)
        shares: dict[At, Figure] = {HBM_WEIGHTS: weights, HBM_KV: decoding, HBM_STATE: decoding}
        held = {at: amount * shares.get(at, 1.0) for at, amount in phase.resident.items()}
        elsewhere = held_activations(case, name) - held_activations(case, name, case.rank_share(name))
        gathered = 2 * phase.tokens * model.hidden * ACTIVATION_BYTES
        held[HBM_ACTIVATIONS] = held[HBM_ACTIVATIONS] - elsewhere + gathered
        buffers = held_fixed(model, self.ways) - held_fixed(model) if tp == 1 else 0.0
        return {**held, HBM_WORKSPACE: held[HBM_WORKSPACE] + buffers}

    def flags(self, engine: str) -> Mapping[str, str]:
        """SGLang's ranks are part of its tensor-parallel group: its `tensor-parallel-size` is then tp x dp."""
        if engine == "sglang":
            return {"attn-dp-size": str(self.ways)}
        return {"data-parallel-size": str(self.ways), "enable-expert-parallel": ""}


TECHNIQUE = DataParallelAttention
