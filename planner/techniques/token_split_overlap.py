"""Token-split overlap: a step's tokens in two halves, one computes while the other's all-reduce is under way.

"TokenWeave: Efficient Compute-Communication Overlap for Distributed LLM Inference", arXiv 2505.11329. All-reduce and
norm become one kernel: each GPU normalises only its share of the tokens, and the traffic hides beneath the other half's
matrix products. The kernel keeps 8 of 132 SMs busy, which the products lack; kernels double, and weights are read once
more, for which products of a thousand tokens have time. Halves end where a wave of thread blocks ends, so that no
product gains a wave. Steps of fewer tokens than the threshold run as before. The paper's kernel needs NVSwitch with
multicast; without, an all-reduce takes longer than what can hide it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from planner.cost import At, Case, Cost, Figure, Op
from planner.technique import Stage, Technique

_LAYERS = At("layers", "host")
TILE_ROWS, TILE_COLUMNS, SMS = 128, 256, 132  # of a product's thread blocks on Hopper, and of H100 and H200


@dataclass(frozen=True)
class TokenSplitOverlap(Technique):
    """Two halves of at least `least_tokens` together."""

    least_tokens: int = 1024
    communication_sms: int = 8
    stage: ClassVar[Stage] = Stage.SCHEDULE
    searched: ClassVar[bool] = False

    def objection(self, case: Case) -> str | None:
        """Needs an all-reduce to hide, over links that all GPUs of a node share."""
        if case.tp == 1:
            return "on one GPU there is no all-reduce to hide"
        if case.gpu.scale_up_bytes_per_s is None:
            return f"{case.gpu.name} has no link between GPUs that reduces within the switch, as the kernel does"
        if any(block.ffn is not None and block.ffn.experts for block in case.model.blocks):
            return f"{case.model.name} has experts, whose exchange the halves do not cover"
        return None

    def apply(self, cost: Cost, case: Case) -> Cost:
        """Links and a GPU's share of the norms run beneath the products, on the SMs that remain."""
        for phase, tokens in (("prefill", case.input_tokens * case.prompts), ("decode", case.batch)):
            on = np.where(np.asarray(tokens) >= self.least_tokens, 1.0, 0.0)
            cost = cost.map_ops(lambda op, on=on: self._halved(op, case, on), phase)  # type: ignore[misc]
            cost = cost.beneath(phase, "all_reduce", on).beneath(phase, "norms", on)
        return cost

    def _halved(self, op: Op, case: Case, on: Figure) -> Op:
        slower = 1 + on * (SMS / (SMS - self.communication_sms) - 1)
        twice = {at: x * (1 + on) if at == _LAYERS else x for at, x in op.traffic.items()}
        if op.name == "norms":
            twice = {at: x * (1 - on * (1 - 1 / case.tp)) for at, x in twice.items()}
        return replace(op, flops=op.flops * slower, traffic=twice)

    def halves(self, tokens: int, columns: int) -> tuple[int, int]:
        """The two halves of a product of `tokens` rows: as even as can be without a wave more than the whole has."""
        rows, wide = -(-tokens // TILE_ROWS), -(-columns // TILE_COLUMNS)
        whole = waves(rows, wide)
        even = (rows + 1) // 2
        splits = [first for first in range(1, rows) if waves(first, wide) + waves(rows - first, wide) == whole]
        first = min(splits, key=lambda first: abs(first - even), default=even)
        return min(first * TILE_ROWS, tokens), max(tokens - first * TILE_ROWS, 0)

    def flags(self, engine: str) -> Mapping[str, str] | None:
        """None: the micro-batches of both engines (`--enable-dbo`, `--enable-two-batch-overlap`) are for experts only.

        The paper's patch of vLLM is microsoft/tokenweave.
        """
        return None


def waves(rows: int, columns: int) -> int:
    """Rounds in which the SMs work off a product of so many tiles."""
    return -(-rows * columns // SMS)


TECHNIQUE = TokenSplitOverlap
