"""NVFP4: weights and activations in 4-bit floating point, an 8-bit scale for each 16 and one for the tensor.

Format: NVIDIA, "Introducing NVFP4 for Efficient and Accurate Low-Precision Inference", 2025. On GPUs without FP4 units
only memory is saved: weights are unpacked to 16 bits, for which engines have kernels from Turing on (vLLM
documentation, "Supported Hardware").
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from planner.base import HBM_WEIGHTS, WEIGHT_BYTES
from planner.cost import Case, Cost, Op
from planner.technique import Stage, Technique

_GROUP = 16


@dataclass(frozen=True)
class NVFP4(Technique):
    """4-bit floating point in groups of 16 along the input dimension."""

    stage: ClassVar[Stage] = Stage.PRECISION
    searched: ClassVar[bool] = False  # near ties with w4a16 make fleets slow to prove

    def objection(self, case: Case) -> str | None:
        """Needs a 16-bit checkpoint, an NVIDIA GPU, and whole groups on every GPU."""
        if case.model.weight_dtype not in ("bf16", "fp16"):
            return f"{case.model.name} is published in {case.model.weight_dtype} already"
        if case.gpu.vendor.lower() != "nvidia":
            return f"{case.gpu.name} is no NVIDIA GPU"
        if case.gpu.architecture.lower() == "volta":
            return f"{case.gpu.name} is older than the GPUs that engines have NVFP4 kernels for"
        widths = {case.model.hidden, *(b.ffn.inner // case.tp for b in case.model.blocks if b.ffn is not None)}
        odd = sorted(width for width in widths if width % _GROUP)
        return f"{odd[0]} weights in a row do not split into groups of {_GROUP}" if odd else None

    def apply(self, cost: Cost, case: Case) -> Cost:
        """4 bits and a sixteenth of a byte for every weight but the embeddings', GEMMs on FP4 units where there are."""
        engine = "fp4" if "fp4" in case.gpu.flops_per_s else None

        def narrow(op: Op) -> Op:
            return replace(op, engine=engine) if engine and HBM_WEIGHTS in op.traffic else op

        return cost.scale("weights", WEIGHT_BYTES["nvfp4"] / WEIGHT_BYTES[case.model.weight_dtype]).map_ops(narrow)

    def flags(self, engine: str) -> Mapping[str, str]:
        """Both engines read what NVIDIA's Model Optimizer wrote."""
        return {"quantization": "modelopt_fp4"}


TECHNIQUE = NVFP4
