"""Intra-GPU split: prefill and decode run at the same time on the same GPUs, each on some of the SMs.

"Nexus: Proactive Intra-GPU Disaggregation of Prefill and Decode in LLM Serving", arXiv 2507.06608. Decode steps no
longer wait for prompts, and the weights are held once. What each phase gets of a divided GPU, and how it is divided
within Nexus' limits, is `planner/partition.py`. Prompts are taken shortest first, age counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from planner.cost import Case, Cost
from planner.partition import DECODE_SLOWDOWN, PREFILL_SLOWDOWN
from planner.technique import Stage, Technique


@dataclass(frozen=True)
class IntraGPUSplit(Technique):
    """Two streams with SMs of their own; limits of slowdown and the worth of a second of waiting as in the paper."""

    prefill_slowdown: ClassVar[float] = PREFILL_SLOWDOWN
    decode_slowdown: ClassVar[float] = DECODE_SLOWDOWN
    tokens_per_s_waited: float = 15.0
    stage: ClassVar[Stage] = Stage.SCHEDULE
    searched: ClassVar[bool] = False

    def objection(self, case: Case) -> str | None:
        """SMs can be divided where the driver has green contexts; their curves were measured on Hopper."""
        if case.gpu.vendor != "nvidia":
            return f"{case.gpu.name} is no NVIDIA GPU, whose driver could divide its compute units between streams"
        return None

    def apply(self, cost: Cost, case: Case) -> Cost:
        """The prefill phase runs beside the decode phase; the shares follow from what both are in the end."""
        return cost.change("prefill", lambda prefill: replace(prefill, beside="decode"))

    def turn(self, tokens_left: float, waited_s: float) -> float:
        """A prompt's place in the queue, least first: tokens left less 15 a second of waiting."""
        return tokens_left - self.tokens_per_s_waited * waited_s

    def flags(self, engine: str) -> Mapping[str, str] | None:
        """SGLang multiplexes the phases in green contexts; vLLM cannot."""
        return {"enable-pdmux": ""} if engine == "sglang" else None


TECHNIQUE = IntraGPUSplit
