"""NVFP4: weights and activations in 4-bit floating point, an 8-bit scale for each 16 and one for the tensor.

Format: NVIDIA, "Introducing NVFP4 for Efficient and Accurate Low-Precision Inference", 2025. Accuracy: NVIDIA states
for Nemotron 3 Nano, BF16 against NVFP4: MMLU-Pro 78.3 / 77.4, GPQA 73.0 / 71.9, IFBench 71.5 / 70.7, AIME25 89.1 /
86.7; the mean of the four ratios is used. On GPUs without FP4 units only memory is saved: weights are unpacked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from planner.base import HBM_WEIGHTS, WEIGHT_BYTES
from planner.cost import Case, Cost, Op
from planner.technique import Stage, Technique

_PAIRS = ((77.4, 78.3), (71.9, 73.0), (70.7, 71.5), (86.7, 89.1))
_GROUP = 16


@dataclass(frozen=True)
class NVFP4(Technique):
    """4-bit floating point in groups of 16 along the input dimension."""

    stage: ClassVar[Stage] = Stage.PRECISION
    searched: ClassVar[bool] = False  # near ties with w4a16 make fleets slow to prove
    recovery_ratio: ClassVar[float] = sum(kept / whole for kept, whole in _PAIRS) / len(_PAIRS)

    def objection(self, case: Case) -> str | None:
        """Needs a 16-bit checkpoint, an NVIDIA GPU, and whole groups on every GPU."""
        if case.model.weight_dtype not in ("bf16", "fp16"):
            return f"{case.model.name} is published in {case.model.weight_dtype} already"
        if case.gpu.vendor.lower() != "nvidia":
            return f"{case.gpu.name} is no NVIDIA GPU"
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
