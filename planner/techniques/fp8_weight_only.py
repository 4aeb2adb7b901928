"""FP8 weights on GPUs without FP8 units: stored in 8 bits, unpacked to 16 as they are used.

vLLM documentation, "FP8 W8A8": on Turing and Ampere FP8 checkpoints run as W8A16 by Marlin kernels. Format as in `fp8`;
activations stay 16-bit, so that it loses no more than that. Weight bytes halve, arithmetic does not change: the gain is
in decode and in memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from planner.cost import Case, Cost
from planner.narrow import narrow_already, narrowed
from planner.technique import Stage, Technique

_UNPACKING = ("turing", "ampere")


@dataclass(frozen=True)
class FP8WeightOnly(Technique):
    """8-bit floating point weights, one scale per output channel."""

    stage: ClassVar[Stage] = Stage.PRECISION
    searched: ClassVar[bool] = False  # another format for half of all GPU types takes a third more time to plan

    def objection(self, case: Case) -> str | None:
        """Needs a dense 16-bit checkpoint, and a GPU that lacks the units but has the kernels."""
        model, gpu = case.model, case.gpu
        if why := narrow_already(case):
            return why
        if "fp8" in gpu.flops_per_s:
            return f"{gpu.name} has FP8 units, which fp8 uses"
        if gpu.vendor.lower() != "nvidia" or gpu.architecture.lower() not in _UNPACKING:
            return f"{gpu.name} is no Turing or Ampere GPU, for which engines unpack FP8"
        if any(block.ffn is not None and block.ffn.experts for block in model.blocks):
            return f"{model.name} has experts, which engines do not document to unpack from FP8"
        return None

    def apply(self, cost: Cost, case: Case) -> Cost:
        """Half the bytes of every weight but the embeddings'."""
        return narrowed(cost, case, 1.0)

    def flags(self, engine: str) -> Mapping[str, str]:
        """The engine chooses the kernel by the GPU."""
        return {"quantization": "fp8"}


TECHNIQUE = FP8WeightOnly
