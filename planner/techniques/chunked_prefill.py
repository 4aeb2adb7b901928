"""Chunked prefill: prompts are split into chunks that ride on decode steps.

Agrawal et al., "Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve", arXiv 2403.02310.
A step carries up to `chunk_tokens` prompt tokens. The decode step reads the weights and pays the engine's overhead
anyway, so a chunk costs its own arithmetic, its activations, and reading again what earlier chunks of its prompt left
in the KV cache: a prompt of n chunks reads (n - 1) / 2 of itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from planner.base import HBM_KV, HBM_WEIGHTS, kv_bytes_per_token
from planner.cost import Case, Cost, Figure, Op, Phase
from planner.technique import Stage, Technique

# What the decode step pays whether a chunk rides on it or not. Weights are shared too, apart from experts that the few
# decoding tokens do not touch.
_SHARED = ("weights", "embeddings", "collectives", "hops", "layers", "steps")


@dataclass(frozen=True)
class ChunkedPrefill(Technique):
    """Prompts in chunks, mixed with decode."""

    chunk_tokens: int = 2048
    stage: ClassVar[Stage] = Stage.SCHEDULE

    def objection(self, case: Case) -> str | None:
        """A layer without a KV cache would have to hand its state from chunk to chunk; not every engine does."""
        kinds = {b.attention.kind for b in case.model.blocks if b.attention is not None} & {"linear", "ssm"}
        return f"{case.model.name} has {min(kinds)} layers, whose state does not pass between chunks" if kinds else None

    def apply(self, cost: Cost, case: Case) -> Cost:
        """A prefill step becomes one chunk, at what it adds to the decode step that it rides on."""
        tokens = cost.phases["prefill"].tokens
        more_weights = np.maximum(_weights(cost.phases["prefill"]) - _weights(cost.phases["decode"]), 0.0)
        again = np.maximum(case.input_tokens / self.chunk_tokens - 1, 0.0) / 2
        mine = tokens * case.rank_share("prefill")
        cost = cost.add(
            "prefill", Op("cached", traffic={HBM_KV: mine * again * kv_bytes_per_token(case) * cost.kv_ratio})
        )
        cost = cost.map_ops(_alone, "prefill").times("prefill", self.chunk_tokens / tokens)
        cost = cost.hold("activations", np.minimum(self.chunk_tokens / tokens, 1.0), "prefill")
        cost = cost.add("prefill", Op("experts", traffic={HBM_WEIGHTS: more_weights}))
        riding = replace(cost.phases["prefill"], rides="decode")
        return replace(cost, phases={**cost.phases, "prefill": riding})

    def flags(self, engine: str) -> Mapping[str, str]:
        """The token budget of one step."""
        if engine == "sglang":
            return {"chunked-prefill-size": str(self.chunk_tokens), "enable-mixed-chunk": ""}
        return {"enable-chunked-prefill": "", "max-num-batched-tokens": str(self.chunk_tokens)}


def _weights(phase: Phase) -> Figure:
    """Weight bytes that one step of a phase reads."""
    total: Figure = 0.0
    for op in phase.ops:
        total = total + op.traffic.get(HBM_WEIGHTS, 0.0)
    return total


def _alone(op: Op) -> Op:
    return replace(op, traffic={at: amount for at, amount in op.traffic.items() if at.item not in _SHARED})


TECHNIQUE = ChunkedPrefill
