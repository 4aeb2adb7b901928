"""Context parallelism while decoding: GPUs that would hold copies of a sequence's cache hold parts of it instead.

Liu et al., "Ring Attention with Blockwise Transformers for Near-Infinite Context", arXiv 2310.01889: attention over
blocks of keys gives partial results that merge exactly, given each block's log-sum-exp. As engines do it, among the
GPUs of a tensor-parallel group that share a KV head (all of them for a latent cache): each gathers the others' queries,
meets its own part of the context with all of them, gathers their log-sum-exps (float32), and scatters the partial sums.
A prompt meets itself before it is cached, so prefill stays. Layers that keep a state instead of a cache stay too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from planner.architecture import kv_elements, kv_heads
from planner.base import ACTIVATION_BYTES, HBM_ACTIVATIONS, HBM_KV, link, widths
from planner.cost import At, Case, Cost, Figure, Op
from planner.model import Attention
from planner.technique import Parallelism

_LSE_BYTES = 4.0


@dataclass(frozen=True)
class ContextParallel(Parallelism):
    """A sequence's cache over `ways` of the GPUs of a tensor-parallel group."""

    searched: ClassVar[bool] = False  # worth a search only for long contexts
    degree: ClassVar[Literal["cp"]] = "cp"

    def objection(self, case: Case) -> str | None:
        """Copies to do away with."""
        mixers = [b.attention for b in case.model.blocks if b.attention is not None and kv_elements(b.attention)]
        if not mixers:
            return f"{case.model.name} keeps no KV cache"
        if case.tp % self.ways:
            return f"cp {self.ways} does not divide tp {case.tp}, whose GPUs it shares"
        copies = min(case.tp // min(case.tp, kv_heads(mixer)) for mixer in mixers)
        return (
            f"tp {case.tp} keeps {copies} of each KV head, too few for cp {self.ways}" if copies < self.ways else None
        )

    def apply(self, cost: Cost, case: Case) -> Cost:
        """A part of the cache read and held, and three collectives a layer in a decode step."""
        decode = cost.phases["decode"]
        tokens = decode.tokens * case.rank_share("decode")
        ops: list[Op] = []
        for op in decode.ops:
            mixer = op.block.attention if op.block is not None and HBM_KV in op.traffic else None
            if mixer is None or op.block is None:
                ops.append(op)
            else:
                ops += [self._part(op), self._merge(case, op, mixer, tokens * mixer.heads / case.tp * op.block.count)]
        cost = cost.hold("kv", 1 / self.ways)
        return replace(cost, phases={**cost.phases, "decode": replace(cost.phases["decode"], ops=tuple(ops))})

    def _part(self, op: Op) -> Op:
        """As much arithmetic, for more heads over less context; queries and results of all heads are there."""
        ways = {HBM_KV: 1 / self.ways, HBM_ACTIVATIONS: float(self.ways)}
        return replace(op, traffic={at: amount * ways.get(at, 1.0) for at, amount in op.traffic.items()})

    def _merge(self, case: Case, op: Op, mixer: Attention, queries: Figure) -> Op:
        """What a GPU receives: queries of a step summed over layers, log-sum-exps, and partial results."""
        place, layers = link(case.gpu), float(op.block.count) if op.block is not None else 1.0
        each = sum(widths(mixer, cached=True)) * ACTIVATION_BYTES + _LSE_BYTES
        traffic: dict[At, Figure] = {
            At("activations", place): queries * each * (self.ways - 1),
            At("collectives", place): 3 * layers,
            At("hops", place): 3 * (self.ways - 1) * layers,
        }
        return Op("merge", traffic=traffic, block=op.block)

    def flags(self, engine: str) -> Mapping[str, str]:
        """SGLang does so for latent caches only."""
        return {"dcp-size": str(self.ways)} if engine == "sglang" else {"decode-context-parallel-size": str(self.ways)}


TECHNIQUE = ContextParallel
