"""Expert parallelism: whole experts on each GPU instead of a slice of every expert.

Lepikhin et al., "GShard: Scaling Giant Models with Conditional Computation and Automatic Sharding", arXiv 2006.16668.
Weights and traffic are those of slicing, but tokens are not spread evenly: of r ranks with m tokens each on average,
the busiest has m + sqrt(2 m ln r) (Raab and Steger, "Balls into Bins", 1998), and all wait for it. Routing is uniform.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from planner.base import HBM_ACTIVATIONS
from planner.cost import Case, Cost, Figure, Op
from planner.technique import Parallelism


@dataclass(frozen=True)
class ExpertParallel(Parallelism):
    """Experts over `ways` GPUs, which are all of a stage."""

    degree: ClassVar[Literal["ep"]] = "ep"

    def objection(self, case: Case) -> str | None:
        """Experts, as many on every GPU of a stage."""
        counts = [block.ffn.experts for block in case.model.blocks if block.ffn is not None and block.ffn.experts]
        if not counts:
            return f"{case.model.name} has no experts"
        if self.ways != case.tp * case.dp:
            return f"ep {self.ways} is not the {case.tp * case.dp} GPUs of a stage (tp {case.tp} x dp {case.dp})"
        odd = [count for count in counts if count % self.ways]
        return f"ep {self.ways} does not divide the {odd[0]} experts of {case.model.name}" if odd else None

    def apply(self, cost: Cost, case: Case) -> Cost:
        """The busiest rank's tokens in place of the mean."""
        phases = {}
        for name, phase in cost.phases.items():
            tokens = phase.tokens
            phases[name] = replace(phase, ops=tuple(self._busiest(op, tokens) for op in phase.ops))
        return replace(cost, phases=phases)

    def _busiest(self, op: Op, tokens: Figure) -> Op:
        if op.shard != "expert" or op.block is None or op.block.ffn is None:
            return op
        used = tokens * op.block.ffn.experts_per_token
        more = 1 + np.sqrt(2 * self.ways * math.log(self.ways) / used)
        moved = {at: amount * more if at == HBM_ACTIVATIONS else amount for at, amount in op.traffic.items()}
        return replace(op, flops=op.flops * more, traffic=moved)

    def flags(self, engine: str) -> Mapping[str, str]:
        """vLLM spreads experts over all GPUs of its tensor and data parallel groups."""
        return {"ep-size": str(self.ways)} if engine == "sglang" else {"enable-expert-parallel": ""}


TECHNIQUE = ExpertParallel
