"""A language model's architecture: enough to count its parameters, KV bytes and FLOPs exactly.

A model is embeddings, a stack of blocks (equal layers grouped, wherever they stand), and a head. Sizes are counts of
elements; bytes appear only once a dtype is chosen (`planner.cost`).
"""

from dataclasses import dataclass
from typing import Literal

AttentionKind = Literal["gqa", "mla", "mfa", "linear", "ssm"]


@dataclass(frozen=True, slots=True)
class Attention:
    """The token mixer of one block.

    gqa: `heads` queries, `kv_heads` keys and values (1 = MQA, heads = MHA), `head_dim` each; `window` tokens or all.
    mla: latent KV of `kv_lora_rank` + `rope_dim` elements a token, shared by all heads; `head_dim` is the part of a
         query or key without position, `v_head_dim` of a value; `q_lora_rank` 0 = queries are not compressed.
    mfa: queries through a rank-`q_lora_rank` factor, one KV head of `head_dim` (Step-3).
    linear, ssm: a fixed state of `state_elements` a sequence and no KV; `projection_params` counts its weights.
    `params_extra`: norms, biases, sinks and gates that no other field covers.
    """

    kind: AttentionKind
    heads: int
    kv_heads: int
    head_dim: int
    window: int | None = None
    q_lora_rank: int = 0
    kv_lora_rank: int = 0
    rope_dim: int = 0
    v_head_dim: int = 0
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: bool = False
    gated: bool = False
    state_elements: int = 0
    projection_params: int = 0
    params_extra: int = 0


@dataclass(frozen=True, slots=True)
class FeedForward:
    """The channel mixer of one block: dense (`experts` = 0) or routed experts, plus shared experts that all tokens use.

    `matrices` is 3 for a gated unit (gate, up, down) and 2 for a plain one. For experts, `inner` is the width of one.
    """

    inner: int
    matrices: int = 3
    experts: int = 0
    experts_per_token: int = 0
    shared_inner: int = 0
    router_params: int = 0
    bias: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """`count` equal layers. `attention` or `ffn` None = the layer has none (pruned or hybrid models)."""

    count: int
    attention: Attention | None
    ffn: FeedForward | None
    norms: int = 2  # weight vectors of length hidden


@dataclass(frozen=True, slots=True)
class Model:
    """One model. `weight_dtype` is what its published checkpoint holds; `max_context` in tokens.

    `params_extra`: what lies outside the blocks besides embeddings, head and the last norm's weight, such as biases.
    """

    name: str
    family: str
    hidden: int
    vocab: int
    blocks: tuple[Block, ...]
    tied_embeddings: bool = False
    max_context: int = 8192
    weight_dtype: str = "bf16"
    published_params: float | None = None  # what the publisher states, for the test that compares
    aliases: tuple[str, ...] = ()
    source: str = ""
    params_extra: int = 0
