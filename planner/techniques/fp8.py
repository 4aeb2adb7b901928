"""FP8 (W8A8): weights and activations of the blocks' GEMMs in 8-bit floating point, embeddings and head left 16-bit.

Format: Micikevicius et al., "FP8 Formats for Deep Learning", arXiv 2209.05433; lossless at all scales according to
"Give Me BF16 or Give Me Death", arXiv 2411.02355. Weight bytes halve, and the GEMMs run on the FP8 units; KV cache and
attention stay 16-bit. Dense and expert alike. GPUs without these units have `fp8-weight-only`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from planner.cost import Case, Cost
from planner.narrow import narrow_already, narrowed
from planner.technique import Stage, Technique


@dataclass(frozen=True)
class FP8(Technique):
    """8-bit floating point weights and activations, one scale per output channel."""

    stage: ClassVar[Stage] = Stage.PRECISION

    def objection(self, case: Case) -> str | None:
        """Needs a 16-bit checkpoint and FP8 units."""
        if why := narrow_already(case):
            return why
        if "fp8" not in case.gpu.flops_per_s:
            return f"{case.gpu.name} has no fp8 peak in the catalogue"
        return None

    def apply(self, cost: Cost, case: Case) -> Cost:
        """Half the bytes of every weight but the embeddings', and their GEMMs on the FP8 units."""
        return narrowed(cost, case, 1.0, "fp8")

    def flags(self, engine: str) -> Mapping[str, str]:
        """Both engines quantise a 16-bit checkpoint while loading it."""
        return {"quantization": "fp8"}


TECHNIQUE = FP8
