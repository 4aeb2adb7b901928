"""W8A8 INT8: weights and activations of the blocks' GEMMs in 8-bit integers, one scale a row of each.

Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models", arXiv
2211.10438. GPUs from Turing to Hopper multiply it in vLLM, Blackwell does not (vLLM documentation, "INT8 W8A8").
Activations are 8-bit too, so that there is no use of it without the units.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from planner.base import WEIGHT_BYTES
from planner.cost import Case, Cost
from planner.narrow import narrow_already, narrowed
from planner.technique import Stage, Technique


@dataclass(frozen=True)
class W8A8Int8(Technique):
    """8-bit integer weights and activations."""

    stage: ClassVar[Stage] = Stage.PRECISION
    searched: ClassVar[bool] = False  # likewise, with fp8
    quantised: ClassVar[bool] = True

    def objection(self, case: Case) -> str | None:
        """Needs a 16-bit checkpoint, INT8 units that are no slower than the 16-bit ones, and dense layers."""
        if why := narrow_already(case):
            return why
        peaks = case.gpu.flops_per_s
        if peaks.get("int8", 0.0) <= peaks.get("bf16", peaks.get("fp16", 0.0)):
            return f"{case.gpu.name} has no int8 peak above its 16-bit one in the catalogue"
        if case.gpu.architecture.lower().startswith("blackwell"):
            return f"{case.gpu.name} is a Blackwell GPU, for which engines have no INT8 kernels"
        if any(block.ffn is not None and block.ffn.experts for block in case.model.blocks):
            return f"{case.model.name} has experts, for which engines have no INT8 kernels"
        return None

    def apply(self, cost: Cost, case: Case) -> Cost:
        """Half the bytes of every weight but the embeddings', and their GEMMs on the INT8 units."""
        return narrowed(cost, case, WEIGHT_BYTES["int8"], "int8")

    def flags(self, engine: str) -> Mapping[str, str]:
        """vLLM reads a compressed-tensors checkpoint's own config; SGLang quantises while loading."""
        return {"quantization": "w8a8_int8"} if engine == "sglang" else {"quantization": "compressed-tensors"}


TECHNIQUE = W8A8Int8
