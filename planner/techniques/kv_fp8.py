"""KV cache in FP8: half the bytes of every key and value, held and read.

vLLM documentation, "Quantized KV Cache": room for about twice the tokens. No recovery is published that would hold for
a family of models, so a plan uses it only where a service names it among its techniques.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from planner.cost import Case, Cost
from planner.technique import Stage, Technique


@dataclass(frozen=True)
class KVFP8(Technique):
    """Keys and values in 8-bit floating point, converted as they are read."""

    stage: ClassVar[Stage] = Stage.PLACEMENT  # it combines with any format of the weights
    searched: ClassVar[bool] = False

    def objection(self, case: Case) -> str | None:
        """Needs FP8 units and a cache."""
        if "fp8" not in case.gpu.flops_per_s:
            return f"{case.gpu.name} has no fp8 peak in the catalogue"
        if all(block.attention is None or block.attention.state_elements for block in case.model.blocks):
            return f"{case.model.name} keeps no KV cache"
        return None

    def apply(self, cost: Cost, case: Case) -> Cost:
        """Half the bytes wherever the cache is held or read."""
        return replace(cost.scale("kv", 0.5), kv_ratio=cost.kv_ratio / 2)

    def flags(self, engine: str) -> Mapping[str, str]:
        """The dtype of the cache."""
        return {"kv-cache-dtype": "fp8_e4m3"} if engine == "sglang" else {"kv-cache-dtype": "fp8"}


TECHNIQUE = KVFP8
