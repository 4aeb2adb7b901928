"""Prefix caching: what a prompt shares with earlier ones is found in the KV cache instead of computed.

Zheng et al., "SGLang: Efficient Execution of Structured Language Model Programs", arXiv 2312.07104 (RadixAttention).
Of a prompt of n tokens a share h is found: the GEMMs see (1 - h) n tokens, and these still attend to all before them,
so that of n^2 / 2 meetings (1 - h^2) n^2 / 2 remain; the cached keys and values are read once. A latent cache is
unpacked again for the tokens found, as for the new ones. Sequences in flight hold the part found only once for each of
`prefixes` different ones; layers with a window have moved on from it. A chunk of chunked prefill counts the tokens
found as well, which makes more chunks than there are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from planner.base import HBM_ACTIVATIONS, HBM_KV, HBM_WEIGHTS, Step, held_activations, kept_bytes, kept_per_sequence
from planner.cost import Case, Cost, Figure, Op
from planner.model import Attention
from planner.technique import Stage, Technique


@dataclass(frozen=True)
class PrefixCaching(Technique):
    """A share of the prompt found in the cache: the workload's, unless it is given here."""

    hit_ratio: float | None = None
    prefixes: int = 1
    stage: ClassVar[Stage] = Stage.PLACEMENT  # part of a prompt lies in the cache before anything is scheduled
    searched: ClassVar[bool] = False  # it needs a figure that only the traffic knows

    def objection(self, case: Case) -> str | None:
        """Needs a share, and layers that can start from a cache."""
        kinds = {mixer.kind for mixer, _ in _mixers(case)} & {"linear", "ssm"}
        if kinds:
            return f"{case.model.name} has {min(kinds)} layers, whose state is not kept for prefixes"
        if not 0 < self._found(case) < 1:
            return f"the workload's prefixHitRatio is {self._found(case):g}, prefix caching needs one between 0 and 1"
        return None

    def apply(self, cost: Cost, case: Case) -> Cost:
        """A prefill step computes the rest of its prompts, and reads what it found."""
        found, prefill = self._found(case), cost.phases["prefill"]
        ops = (*(_rest(op, case, prefill.tokens, found) for op in prefill.ops), _cached(cost, case, found))
        share = case.rank_share("prefill")
        whole, rest = (held_activations(case, "prefill", share, case.tp, of) for of in (1.0, 1 - found))
        held = {**prefill.resident, HBM_ACTIVATIONS: prefill.resident[HBM_ACTIVATIONS] - whole + rest}
        shorter = replace(prefill, ops=ops, resident=held)
        return replace(cost, phases={**cost.phases, "prefill": shorter}).hold("kv", self._held(case, found))

    def _found(self, case: Case) -> float:
        return case.prefix_hit_ratio if self.hit_ratio is None else self.hit_ratio

    def _held(self, case: Case, found: float) -> Figure:
        """What remains to be held where sequences in flight share what they found; layers without a window only."""
        each = sum(kept_bytes(mixer, case.tp) * count for mixer, count in _mixers(case) if mixer.window is None)
        shared = found * case.input_tokens * each / np.maximum(kept_per_sequence(case, case.tp), 1.0)
        sequences = np.maximum(case.batch * case.rank_share("decode"), 1.0)
        once: Figure = np.minimum(self.prefixes / sequences, 1.0)
        return 1 - shared * (1 - once)

    def flags(self, engine: str) -> Mapping[str, str]:
        """SGLang caches prefixes unless it is told not to."""
        return {} if engine == "sglang" else {"enable-prefix-caching": ""}


def _mixers(case: Case) -> list[tuple[Attention, int]]:
    return [(block.attention, block.count) for block in case.model.blocks if block.attention is not None]


def _rest(op: Op, case: Case, tokens: Figure, found: float) -> Op:
    """An op of the layers for the tokens that were not found; head and host serve the last token as before."""
    if op.name == "kv_up":
        return op
    flops: Figure = 1 - found if op.block is not None else 1.0
    read: Figure = 1.0
    if op.name == "attention" and op.block is not None and op.block.attention is not None:
        window = op.block.attention.window
        whole, before = Step(1.0, case.input_tokens), Step(1.0, case.input_tokens * found)
        flops = 1 - before.new * before.met(window) / (whole.new * whole.met(window))
    if op.shard == "expert" and op.block is not None and op.block.ffn is not None:
        idle = 1 - op.block.ffn.experts_per_token / op.block.ffn.experts
        read = (1 - idle ** (tokens * (1 - found))) / (1 - idle**tokens)
    shares = {at: 1 - found for at in op.traffic if at.item == "activations"} | {HBM_WEIGHTS: read}
    traffic = {at: amount * shares.get(at, 1.0) for at, amount in op.traffic.items()}
    return replace(op, flops=op.flops * flops, traffic=traffic)


def _cached(cost: Cost, case: Case, found: float) -> Op:
    """Keys and values of what was found, read once for each prompt, in the format that the cache has."""
    each: Figure = 0.0
    for mixer, count in _mixers(case):
        tokens = found * case.input_tokens
        each = each + kept_bytes(mixer, case.tp) * count * (
            tokens if mixer.window is None else np.minimum(tokens, mixer.window)
        )
    sixteen_bit = kept_per_sequence(case, case.tp) * case.batch * case.rank_share("decode") / case.cp
    narrowed = cost.phases["decode"].resident[HBM_KV] / np.maximum(sixteen_bit, 1.0)
    return Op("cached", traffic={HBM_KV: each / case.cp * case.prompts * case.rank_share("prefill") * narrowed})


TECHNIQUE = PrefixCaching
