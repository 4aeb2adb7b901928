"""What a model's architecture weighs: parameters, weight matrices, KV elements, FLOPs. Counts of elements, no bytes.

A multiply and an add are two FLOPs (Kaplan et al., "Scaling Laws for Neural Language Models", arXiv 2001.08361,
section 2.1).
"""

from typing import Literal, NamedTuple

from planner.model import Attention, Block, FeedForward, Model

Shard = Literal["column", "row", "expert", "none"]


class Gemm(NamedTuple):
    """One weight matrix of a layer: `inputs` x `outputs`, and how tensor parallelism splits it.

    "expert": one matrix of one routed expert; the layer holds `ffn.experts` of them.
    """

    name: str
    inputs: int
    outputs: int
    shard: Shard


def gemms(model: Model, block: Block) -> list[Gemm]:
    """The weight matrices of one layer of a block, in the order of their use."""
    out: list[Gemm] = []
    if block.attention is not None:
        out += _mixer(model.hidden, block.attention)
    if block.ffn is not None:
        out += _feed_forward(model.hidden, block.ffn)
    return out


def _mixer(hidden: int, a: Attention) -> list[Gemm]:
    if a.kind == "gqa":
        queries, keys = a.heads * a.head_dim, a.kv_heads * a.head_dim
        gate = queries if a.gated else 0
        return [Gemm("qkv", hidden, queries + gate + 2 * keys, "column"), Gemm("out", queries, hidden, "row")]
    if a.kind == "mla":
        width = a.head_dim + a.rope_dim
        asked = (
            [Gemm("q_down", hidden, a.q_lora_rank, "none"), Gemm("q_up", a.q_lora_rank, a.heads * width, "column")]
            if a.q_lora_rank
            else [Gemm("q", hidden, a.heads * width, "column")]
        )
        return [
            *asked,
            Gemm("kv_down", hidden, a.kv_lora_rank + a.rope_dim, "none"),
            Gemm("kv_up", a.kv_lora_rank, a.heads * (a.head_dim + a.v_head_dim), "column"),
            Gemm("out", a.heads * a.v_head_dim, hidden, "row"),
        ]
    if a.kind == "mfa":
        return [
            Gemm("q_down", hidden, a.q_lora_rank, "none"),
            Gemm("q_up", a.q_lora_rank, a.heads * a.head_dim, "column"),
            Gemm("kv", hidden, 2 * a.kv_heads * a.head_dim, "none"),
            Gemm("out", a.heads * a.head_dim, hidden, "row"),
        ]
    # A mixer with a fixed state: all its projections in, and the one out again.
    inner = a.heads * a.head_dim
    return [
        Gemm("mixer_in", hidden, a.projection_params // hidden - inner, "column"),
        Gemm("mixer_out", inner, hidden, "row"),
    ]


def _feed_forward(hidden: int, f: FeedForward) -> list[Gemm]:
    def unit(prefix: str, inner: int, columns: Shard, rows: Shard) -> list[Gemm]:
        return [
            Gemm(f"{prefix}up", hidden, (f.matrices - 1) * inner, columns),
            Gemm(f"{prefix}down", inner, hidden, rows),
        ]

    if not f.experts:
        return unit("", f.inner, "column", "row")
    shared = unit("shared_", f.shared_inner, "column", "row") if f.shared_inner else []
    return [Gemm("router", hidden, f.experts, "none"), *unit("expert_", f.inner, "expert", "expert"), *shared]


def kv_elements(attention: Attention) -> int:
    """KV elements that a layer keeps of a token: 2 x heads x width, or the latent of MLA; none for a fixed state."""
    if attention.kind in ("gqa", "mfa"):
        return 2 * attention.kv_heads * attention.head_dim
    if attention.kind == "mla":
        return attention.kv_lora_rank + attention.rope_dim
    return 0


def kv_heads(attention: Attention) -> int:
    """Over how many GPUs a layer's cache can be split before it is copied; a latent is shared by all heads."""
    return 1 if attention.kind == "mla" else max(attention.kv_heads, 1)


def _small(hidden: int, block: Block, experts: int) -> int:
    """Parameters of a layer that are no matrices: norms, biases, sinks, gates."""
    out = block.norms * hidden
    a, f = block.attention, block.ffn
    if a is not None:
        out += a.params_extra
        out += (a.heads + 2 * a.kv_heads) * a.head_dim if a.qkv_bias else 0
        out += hidden if a.out_bias else 0
        out += 2 * a.head_dim if a.qk_norm else 0
        out += a.q_lora_rank + a.kv_lora_rank if a.kind in ("mla", "mfa") else 0
    if f is not None:
        out += f.router_params
        each = (f.matrices - 1) * f.inner + hidden
        out += each * (experts if f.experts else 1) if f.bias else 0
    return out


def _layer(model: Model, block: Block, experts: int) -> int:
    """Parameters of one layer when `experts` of its routed experts count."""
    total = _small(model.hidden, block, experts)
    for gemm in gemms(model, block):
        total += gemm.inputs * gemm.outputs * (experts if gemm.shard == "expert" else 1)
    return total


def parameters(model: Model) -> int:
    """All parameters of the language model; tied embeddings count once."""
    return _outside(model) + sum(b.count * _layer(model, b, b.ffn.experts if b.ffn else 0) for b in model.blocks)


def active_parameters(model: Model) -> int:
    """Parameters of all but the experts, and of the experts that one token is sent to; as most publishers count, the
    whole table of embeddings is among them."""
    per_token = ((b, b.ffn.experts_per_token if b.ffn else 0) for b in model.blocks)
    return _outside(model) + sum(b.count * _layer(model, b, experts) for b, experts in per_token)


def _outside(model: Model) -> int:
    """Parameters outside the layers: embeddings, head, last norm, and what `params_extra` counts."""
    tables = 1 if model.tied_embeddings else 2
    return tables * model.vocab * model.hidden + model.hidden + model.params_extra
