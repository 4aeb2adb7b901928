"""MXFP4: weights and activations in 4-bit floating point, a power of two for each 32 along the input dimension.

Format: Rouhani et al., "Microscaling Data Formats for Deep Learning", arXiv 2310.10537 (OCP Microscaling 1.0). On GPUs
without FP4 units only memory is saved: weights are unpacked to 16 bits, for which engines have kernels on NVIDIA GPUs
from Ampere on (vLLM documentation, "Supported Hardware" and `Mxfp4Config`). Its coarse scales lose more than NVFP4's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from planner.base import WEIGHT_BYTES
from planner.cost import Case, Cost
from planner.narrow import fp4_units, narrow_already, narrowed, uneven_groups
from planner.technique import Stage, Technique

_GROUP = 32
_TOO_OLD = ("volta", "turing")


@dataclass(frozen=True)
class MXFP4(Technique):
    """4-bit floating point in groups of 32 along the input dimension."""

    stage: ClassVar[Stage] = Stage.PRECISION
    searched: ClassVar[bool] = False  # as nvfp4
    quantised: ClassVar[bool] = True

    def objection(self, case: Case) -> str | None:
        """Needs a 16-bit checkpoint, FP4 units or kernels that unpack, and whole groups on every GPU."""
        gpu = case.gpu
        if why := narrow_already(case):
            return why
        unpacked = gpu.vendor.lower() == "nvidia" and gpu.architecture.lower() not in _TOO_OLD
        if "fp4" not in gpu.flops_per_s and not unpacked:
            return f"{gpu.name} has no fp4 peak in the catalogue, and engines do not unpack MXFP4 on it"
        return uneven_groups(case, _GROUP)

    def apply(self, cost: Cost, case: Case) -> Cost:
        """4 bits and a 32nd of a byte for every weight but the embeddings', GEMMs on FP4 units where there are any."""
        return narrowed(cost, case, WEIGHT_BYTES["mxfp4"], fp4_units(case))

    def flags(self, engine: str) -> Mapping[str, str]:
        """vLLM reads what LLM Compressor wrote; SGLang has a method of the format's name."""
        return {"quantization": "mxfp4"} if engine == "sglang" else {"quantization": "compressed-tensors"}


TECHNIQUE = MXFP4
