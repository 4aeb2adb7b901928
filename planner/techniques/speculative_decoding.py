"""Speculative decoding: a draft proposes tokens, one step of the model checks them all.

Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", arXiv 2211.17192: of k proposals that are
accepted with probability a each, a step yields (1 - a^(k+1)) / (1 - a) tokens (equation 1). The answer is the model's
own. How often proposals are accepted depends on the traffic, so a plan uses it only where a service names it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from planner.base import HBM_ACTIVATIONS
from planner.cost import At, Case, Cost, Figure, Op
from planner.technique import Stage, Technique

# Read once a step whatever the number of tokens; experts aside, of which more tokens touch more.
_ONCE = ("weights", "embeddings", "kv", "state", "collectives", "hops", "layers", "steps", "requests")


@dataclass(frozen=True)
class SpeculativeDecoding(Technique):
    """`proposals` tokens a step at a rate of `accepted`, by n-gram lookup in the prompt: the draft costs nothing."""

    proposals: int = 3
    accepted: float = 0.6
    stage: ClassVar[Stage] = Stage.SCHEDULE
    searched: ClassVar[bool] = False

    @property
    def tokens_per_step(self) -> float:
        """Tokens that a step yields on average (equation 1)."""
        return (1 - self.accepted ** (self.proposals + 1)) / (1 - self.accepted)

    def objection(self, case: Case) -> str | None:
        """A layer with a running state cannot take proposals back."""
        kinds = {b.attention.kind for b in case.model.blocks if b.attention is not None} & {"linear", "ssm"}
        return f"{case.model.name} has {min(kinds)} layers, whose state cannot take a proposal back" if kinds else None

    def apply(self, cost: Cost, case: Case) -> Cost:
        """A decode step checks all proposals: more arithmetic and activations, the same weights and cache read."""
        checked = 1.0 + self.proposals
        cost = cost.map_ops(lambda op: _wider(op, checked), "decode")
        decode = cost.phases["decode"]
        resident = {at: x * checked if at == HBM_ACTIVATIONS else x for at, x in decode.resident.items()}
        yielding = replace(decode, tokens=decode.tokens * self.tokens_per_step, resident=resident)
        return replace(cost, phases={**cost.phases, "decode": yielding})

    def flags(self, engine: str) -> Mapping[str, str]:
        """N-gram lookup, which needs no second model."""
        if engine == "sglang":
            return {"speculative-algorithm": "NGRAM", "speculative-num-draft-tokens": str(self.proposals)}
        return {"speculative-config": f'{{"method": "ngram", "num_speculative_tokens": {self.proposals}}}'}


def _wider(op: Op, tokens: float) -> Op:
    traffic: dict[At, Figure] = {at: x if at.item in _ONCE else x * tokens for at, x in op.traffic.items()}
    return replace(op, flops=op.flops * tokens, traffic=traffic)


TECHNIQUE = SpeculativeDecoding
