"""Attention-FFN disaggregation: a decode step's attention on some servers, its feed-forward layers on others.

"Step-3 is Large yet Affordable: Model-system Co-design for Cost-effective Decoding", arXiv 2507.19427. Three
micro-batches are in flight: one in attention, one in the feed-forward layers, one on the network, layer by layer, so
that a token takes three times the slowest of the three stages. Attention runs data parallel with a sequence on one GPU.
Feed-forward servers split experts between them and matrices among their GPUs: a token goes to each of them in 8 bits
over the network, is gathered from and reduced to the GPUs of a server over NVLink, and comes back in 16 bits.

A full server multiplies at least F / (2 BW) tokens by every weight it reads; experts of which a share S is active need
1 / S times as many, and the network must carry them in a stage: S >= H F L / (Net BW 11.1 ms) (16.6 ms a stage, 3 bytes
an element, 2 flops a weight).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from planner.architecture import gemms
from planner.base import HBM_WEIGHTS, weight_bytes
from planner.calibration import EngineCosts
from planner.cost import At, Case, Cost, Figure, Op, Phase
from planner.hardware import GPUType
from planner.model import Model
from planner.roofline import step_time
from planner.technique import Stage, Technique

FFN = ("up", "down", "router", "expert_up", "expert_down", "shared_up", "shared_down")
STAGES = 3
OUT_BYTES, BACK_BYTES = 1.0, 2.0  # of an element of a hidden vector, to the feed-forward servers and back
STAGE_S = 16.6e-3  # a third of 50 ms a token
_LAYERS = At("layers", "host")


@dataclass(frozen=True)
class AttentionFFNDisaggregation(Technique):
    """Whole servers for attention and for the feed-forward layers, as the paper's 2A2F: two of each."""

    attention_nodes: int = 2
    ffn_nodes: int = 2
    gpus_per_node: int = 8
    stage: ClassVar[Stage] = Stage.PLACEMENT
    searched: ClassVar[bool] = False

    @property
    def gpus(self) -> int:
        """All of one deployment."""
        return (self.attention_nodes + self.ffn_nodes) * self.gpus_per_node

    def objection(self, case: Case) -> str | None:
        """A case describes one attention GPU, by itself, and a network that is known."""
        spread = [f"{kind}{ways}" for kind, ways in case.degrees._asdict().items() if ways > 1]
        if spread:
            return f"attention-FFN disaggregation keeps a sequence's attention on one GPU, not on {' '.join(spread)}"
        if case.gpu.network_bytes_per_s is None or case.gpu.scale_up_bytes_per_s is None:
            return f"needs the network and NVLink bandwidth of {case.gpu.name}; the inventory states no network"
        return None

    def apply(self, cost: Cost, case: Case) -> Cost:
        """Decode keeps attention; the phase "ffn" has the rest, for a micro-batch of every attention GPU."""
        tokens, hidden = case.batch, case.model.hidden * (OUT_BYTES + BACK_BYTES)
        layers = float(sum(block.count for block in case.model.blocks if block.ffn is not None))
        together = tokens * self.attention_nodes * self.gpus_per_node
        gathered = hidden * together * layers * (self.gpus_per_node - 1) / self.gpus_per_node
        ffn_exchange = Op(
            "exchange", traffic={At("activations", "network"): hidden * layers * together / self.gpus_per_node}
        )
        exchange = Op("exchange", traffic={At("activations", "network"): hidden * tokens * layers * self.ffn_nodes})
        host = Op("host", traffic={_LAYERS: layers / 2})
        cost = cost.part("decode", "ffn", *FFN).map_ops(lambda op: self._shared_out(op, case), "ffn")
        cost = cost.add("ffn", Op("gather", traffic={At("activations", "scale_up"): gathered}), host)
        cost = cost.beneath("ffn", "gather").map_ops(_half_the_launches, "decode")
        cost = cost.change("decode", lambda p: replace(p, ops=(exchange, *p.ops)))
        cost = cost.change("ffn", lambda p: replace(p, ops=(ffn_exchange, *p.ops)))
        return replace(self._held(cost, case), pools=(*cost.pools, ("ffn",)))

    def _shared_out(self, op: Op, case: Case) -> Op:
        """One feed-forward GPU's part of an op that a lone attention GPU would have done for its own tokens."""
        more = self.attention_nodes / self.ffn_nodes
        gpus = self.ffn_nodes * self.gpus_per_node
        together = case.batch * self.attention_nodes * self.gpus_per_node
        read: Figure = 1 / self.gpus_per_node
        if op.name.startswith("expert"):
            chance = max(b.ffn.experts_per_token / b.ffn.experts for b in case.model.blocks if b.ffn and b.ffn.experts)
            read = (1 - (1 - chance) ** together) / (1 - (1 - chance) ** case.batch) / gpus
        traffic = {at: x * (read if at == HBM_WEIGHTS else more) for at, x in op.traffic.items()}
        return replace(op, flops=op.flops * more, traffic=traffic)

    def _held(self, cost: Cost, case: Case) -> Cost:
        """Attention GPUs no longer hold the feed-forward weights, which the others share."""
        share, gpus = ffn_share(case.model), self.ffn_nodes * self.gpus_per_node
        decode = cost.phases["decode"]
        weights = decode.resident[HBM_WEIGHTS]
        workspace = {at: x for at, x in decode.resident.items() if at.item in ("workspace", "activations")}
        theirs = {**workspace, HBM_WEIGHTS: weights * share / gpus}
        cost = cost.change("ffn", lambda p: replace(p, resident=theirs))
        return cost.change("decode", lambda p: replace(p, resident={**p.resident, HBM_WEIGHTS: weights * (1 - share)}))

    def flags(self, engine: str) -> Mapping[str, str] | None:
        """None: no release of either engine runs it (a plugin of vLLM is experimental), so that plans refuse it."""
        return None


def ffn_share(model: Model) -> float:
    """Of the bytes of a model's layers, those of feed-forward weights."""
    parts = {True: 0.0, False: 0.0}
    for block in model.blocks:
        for gemm in gemms(model, block):
            copies = block.ffn.experts if gemm.shard == "expert" and block.ffn is not None else 1
            parts[gemm.name in FFN] += gemm.inputs * gemm.outputs * copies * block.count * weight_bytes(model, gemm)
    return parts[True] / (parts[True] + parts[False])


def stages_s(cost: Cost, gpu: GPUType, engine: EngineCosts) -> tuple[Figure, Figure, Figure]:
    """Seconds that a micro-batch spends in all layers' attention, feed-forward and network."""
    wires, rest = ([_only(cost.phases[name], sent) for name in ("decode", "ffn")] for sent in (True, False))
    sent_s = [step_time(phase, gpu, engine).total_s for phase in wires]
    attention_s, ffn_s = (step_time(phase, gpu, engine).total_s for phase in rest)
    return attention_s, ffn_s, np.maximum(sent_s[0], sent_s[1])


def tpot_s(cost: Cost, gpu: GPUType, engine: EngineCosts) -> Figure:
    """Seconds between two tokens of a sequence: three stages, each as long as the slowest."""
    attention_s, ffn_s, network_s = stages_s(cost, gpu, engine)
    return STAGES * np.maximum(np.maximum(attention_s, ffn_s), network_s)


def least_activation_ratio(
    gpu_flops_per_s: float, hbm_bytes_per_s: float, node_bytes_per_s: float, model: Model
) -> float:
    """S: below this share of active experts a server's network is too slow to fill its arithmetic."""
    layers = sum(block.count for block in model.blocks)
    # B_moe = F / (2 BW S) tokens must pass in 16.6 ms / L: 3 H B_moe L / Net <= 16.6 ms.
    elements = (OUT_BYTES + BACK_BYTES) * model.hidden * gpu_flops_per_s * layers
    return elements / (2 * node_bytes_per_s * hbm_bytes_per_s * STAGE_S)


def _only(phase: Phase, exchanges: bool) -> Phase:
    return replace(phase, ops=tuple(op for op in phase.ops if (op.name == "exchange") == exchanges))


def _half_the_launches(op: Op) -> Op:
    return replace(op, traffic={at: x / 2 if at == _LAYERS else x for at, x in op.traffic.items()})


TECHNIQUE = AttentionFFNDisaggregation
