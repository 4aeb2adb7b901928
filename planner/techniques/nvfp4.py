"""NVFP4: weights and activations in 4-bit floating point, an 8-bit scale for each 16 and one for the tensor.

Format: NVIDIA, "Introducing NVFP4 for Efficient and Accurate Low-Precision Inference", 2025. On GPUs without FP4 units
only memory is saved: weights are unpacked to 16 bits, for which engines have kernels from Turing on (vLLM
documentation, "Supported Hardware").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from planner.base import WEIGHT_BYTES
from planner.cost import Case, Cost
from planner.narrow import fp4_units, narrow_already, narrowed, uneven_groups
from planner.technique import Stage, Technique

_GROUP = 16


@dataclass(frozen=True)
class NVFP4(Technique):
    """4-bit floating point in groups of 16 along the input dimension."""

    stage: ClassVar[Stage] = Stage.PRECISION
    searched: ClassVar[bool] = False  # near ties with w4a16 make fleets slow to prove
    quantised: ClassVar[bool] = True

    def objection(self, case: Case) -> str | None:
        """Needs a 16-bit checkpoint, an NVIDIA GPU, and whole groups on every GPU."""
        if why := narrow_already(case):
            return why
        if case.gpu.vendor.lower() != "nvidia":
            return f"{case.gpu.name} is no NVIDIA GPU"
        if case.gpu.architecture.lower() == "volta":
            return f"{case.gpu.name} is older than the GPUs that engines have NVFP4 kernels for"
        return uneven_groups(case, _GROUP)

    def apply(self, cost: Cost, case: Case) -> Cost:
        """4 bits and a sixteenth of a byte for every weight but the embeddings', GEMMs on FP4 units where there are."""
        return narrowed(cost, case, WEIGHT_BYTES["nvfp4"], fp4_units(case))

    def flags(self, engine: str) -> Mapping[str, str]:
        """Both engines read what NVIDIA's Model Optimizer wrote."""
        return {"quantization": "modelopt_fp4"}


TECHNIQUE = NVFP4
