"""Prefill/decode disaggregation: each phase on GPUs of its own, the KV cache of a prompt sent from one to the other.

Zhong et al., "DistServe: Disaggregating Prefill and Decoding for Goodput-optimized Large Language Model Serving", arXiv
2401.09670; Patel et al., "Splitwise: Efficient Generative LLM Inference Using Phase Splitting", arXiv 2311.18677.
Neither phase waits for the other any more; both hold the weights. The decoding GPU fetches the cache once the prompt is
done, as vLLM's connector and SGLang do: every layer's keys and values of every prompt token over the network, or over
PCIe where the inventory states no network, and the prompt's first token waits for it. `planner/pools.py` plans it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from planner.base import HBM_KV, HBM_STATE
from planner.cost import At, Case, Cost, Figure, Op, Phase
from planner.technique import Stage, Technique

SENT_KV = At("kv", "network")
BOOTSTRAP_PORT = "8998"  # where SGLang's prefill servers introduce themselves: its own default, told so that all know


@dataclass(frozen=True)
class Disaggregation(Technique):
    """Two pools, prefill and decode."""

    stage: ClassVar[Stage] = Stage.SCHEDULE
    searched: ClassVar[bool] = False  # pools of two sizes take the solver longer than one

    def objection(self, case: Case) -> str | None:
        """Needs a cache to send, and a way to send it."""
        if not any(block.attention is not None and not block.attention.state_elements for block in case.model.blocks):
            return f"{case.model.name} keeps no KV cache that could be sent"
        if case.gpu.network_bytes_per_s is None and case.gpu.pcie_bytes_per_s is None:
            return f"neither a network nor PCIe bandwidth is known for {case.gpu.name}, over which to send the KV cache"
        return None

    def apply(self, cost: Cost, case: Case) -> Cost:
        """Prefill ends with sending what it computed, and holds caches only of the prompts in its step."""
        share = case.input_tokens / (case.input_tokens + case.output_tokens)

        def sends(prefill: Phase) -> Phase:
            kept = prefill.resident[HBM_KV] * share / case.batch  # of one prompt
            sent: dict[At, Figure] = {SENT_KV: kept * prefill.tokens / case.input_tokens}
            here = {at: _of(x, at, share * case.prompts / case.batch) for at, x in prefill.resident.items()}
            return replace(prefill, ops=(Op("send", traffic=sent), *prefill.ops), resident=here)

        return replace(cost.change("prefill", sends), pools=(("prefill",), ("decode",)))

    def flags(self, engine: str) -> Mapping[str, str]:
        """Of both pools; SGLang's servers are also told which they are (`pool_flags`)."""
        if engine == "sglang":
            return {"disaggregation-transfer-backend": "nixl"}
        return {"kv-transfer-config": '{"kv_connector": "NixlConnector", "kv_role": "kv_both"}'}

    def pool_flags(self, engine: str, pool: str) -> Mapping[str, str]:
        """Of one pool, "prefill" or "decode": vLLM's connector takes either role as its proxy asks."""
        if engine != "sglang":
            return {}
        introduces = {"disaggregation-bootstrap-port": BOOTSTRAP_PORT} if pool == "prefill" else {}
        return {"disaggregation-mode": pool, **introduces}


def _of(amount: Figure, at: At, share: Figure) -> Figure:
    return amount * share if at in (HBM_KV, HBM_STATE) else amount


TECHNIQUE = Disaggregation
