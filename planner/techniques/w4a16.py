"""W4A16: 4-bit weights with a 16-bit scale and zero per group; arithmetic stays 16-bit.

Lin et al., "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration", arXiv 2306.00978.
"Give Me BF16 or Give Me Death" (arXiv 2411.02355) finds it the cheapest where requests are answered one at a time.
Weight bytes shrink wherever they are held or read. Flops do not: the gain is in decode and in memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from planner.base import WEIGHT_BYTES
from planner.cost import Case, Cost
from planner.narrow import narrow_already, uneven_groups
from planner.technique import Stage, Technique


@dataclass(frozen=True)
class W4A16(Technique):
    """4-bit weights in groups along the input dimension."""

    group_size: int = 128
    stage: ClassVar[Stage] = Stage.PRECISION
    quantised: ClassVar[bool] = True

    def objection(self, case: Case) -> str | None:
        """Needs a 16-bit checkpoint, and whole groups on every GPU."""
        return narrow_already(case) or uneven_groups(case, self.group_size)

    def apply(self, cost: Cost, case: Case) -> Cost:
        """4 bits and a group's share of two 16-bit numbers, for every weight but the embeddings'."""
        bits = 4 + 2 * 16 / self.group_size
        return cost.scale("weights", bits / 8 / WEIGHT_BYTES[case.model.weight_dtype])

    def flags(self, engine: str) -> Mapping[str, str]:
        """Both engines read the checkpoint's own quantisation config; the kernel is named for both."""
        return {"quantization": "awq_marlin"}


TECHNIQUE = W4A16
