"""What one engine step asks of a GPU, for many (model, parallelism, batch) rows at once, as seconds at datasheet peaks.

A model becomes a short table of its weight matrices and attention layers (`Table`); rows of different models are then
arrays over (row, matrix), so that thousands of estimates cost a few numpy calls. FLOPs and bytes are those of
`planner.base` (a test holds the two to each other); nothing here is fitted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache

import numpy as np
from numpy.typing import NDArray

from planner.architecture import gemms, kv_elements
from planner.model import Model

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Weight matrices and attention layers of models, one row a model, padded with zeros.

    Matrices: `inputs` x `outputs`, `count` layers; `experts`, `per_token` where routed; `split` 1 where tensor
    parallelism divides it. Attention: `a_*`, of `a_count` layers; key and value widths in decode (`a_dk`, `a_dv`, the
    latent ones of MLA) and in prefill (`a_pk`, `a_pv`); `a_window` infinite where all tokens are seen.
    """

    inputs: Array
    outputs: Array
    count: Array
    experts: Array
    per_token: Array
    split: Array
    a_count: Array
    a_heads: Array
    a_kv_heads: Array
    a_dk: Array
    a_dv: Array
    a_pk: Array
    a_pv: Array
    a_kv: Array
    a_window: Array
    a_state: Array
    hidden: Array
    vocab: Array
    layers: Array
    moe_layers: Array
    reductions: Array
    kernels: Array  # matrix products outside the experts
    latent_layers: Array
    query_norms: Array


@cache
def _one(model: Model) -> dict[str, list[float]]:
    out: dict[str, list[float]] = {field.name: [] for field in fields(Table)}
    for block in model.blocks:
        for gemm in gemms(model, block):
            expert = gemm.shard == "expert" and block.ffn is not None
            out["inputs"].append(gemm.inputs)
            out["outputs"].append(gemm.outputs)
            out["count"].append(block.count)
            out["experts"].append(block.ffn.experts if expert and block.ffn else 0)
            out["per_token"].append(block.ffn.experts_per_token if expert and block.ffn else 0)
            out["split"].append(gemm.shard in ("column", "row"))
        a = block.attention
        if a is None:
            continue
        key, value = a.head_dim + a.rope_dim, a.v_head_dim or a.head_dim
        mla = a.kind == "mla"
        out["a_count"].append(block.count)
        out["a_heads"].append(0 if a.state_elements else a.heads)
        out["a_kv_heads"].append(1 if mla else max(a.kv_heads, 1))
        out["a_dk"].append(a.kv_lora_rank + a.rope_dim if mla else key)
        out["a_dv"].append(a.kv_lora_rank if mla else value)
        out["a_pk"].append(key)
        out["a_pv"].append(value)
        out["a_kv"].append(kv_elements(a))
        out["a_window"].append(np.inf if a.window is None else a.window)
        out["a_state"].append(a.state_elements)
    out["hidden"], out["vocab"] = [model.hidden], [model.vocab]
    out["layers"] = [sum(b.count for b in model.blocks)]
    out["moe_layers"] = [sum(b.count for b in model.blocks if b.ffn is not None and b.ffn.experts)]
    mixers = [(b.count, b.attention) for b in model.blocks if b.attention is not None]
    out["kernels"] = [sum(n for n, experts in zip(out["count"], out["experts"], strict=True) if not experts)]
    out["latent_layers"] = [sum(n for n, a in mixers if a.kind == "mla")]
    out["query_norms"] = [sum(n for n, a in mixers if a.qk_norm)]
    out["reductions"] = [sum(b.count * ((b.attention is not None) + (b.ffn is not None)) for b in model.blocks)]
    return out


def table(models: Sequence[Model]) -> Table:
    """One row for each model, in order."""
    rows = [_one(model) for model in models]

    def column(name: str) -> Array:
        width = max(len(row[name]) for row in rows)
        return np.array([row[name] + [0.0] * (width - len(row[name])) for row in rows], dtype=float)

    return Table(**{field.name: column(field.name) for field in fields(Table)})


@dataclass(frozen=True, slots=True, eq=False)
class Peaks:
    """Hardware and formats of each row: FLOP/s by what computes, bytes/s, bytes per weight and per KV element."""

    gemm_flops_per_s: Array
    moe_flops_per_s: Array
    attention_flops_per_s: Array
    hbm_bytes_per_s: Array
    link_bytes_per_s: Array
    gemm_weight_bytes: Array
    moe_weight_bytes: Array
    kv_bytes: Array


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """GPUs of each row: `tp` share an attention head group, `dp` attention ranks, experts over `moe_tp` x `moe_ep`."""

    tp: Array
    dp: Array
    moe_tp: Array
    moe_ep: Array


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """Seconds at datasheet peaks of one step on one GPU, by what is waited for, and counts of what costs time each."""

    gemm_hbm: Array
    gemm_flops: Array
    gemm_roof: Array
    moe_hbm: Array
    moe_flops: Array
    moe_roof: Array
    kv: Array
    attention_flops: Array
    attention_roof: Array
    head_roof: Array
    activations: Array
    reduce_link: Array
    exchange_link: Array
    reductions: Array
    exchanges: Array
    layers: Array
    moe_layers: Array
    sequences: Array
    tokens: Array


def work(t: Table, peaks: Peaks, layout: Layout, sequences: Array, new: Array, context: Array | None) -> Work:
    """One step: `sequences` per attention rank advance by `new` tokens each, which meet `context` cached ones.

    `context` None: prompts that meet themselves. All arrays have one entry a row.
    """

    tokens = sequences * new
    dense, experts = _matrices(t, peaks, layout, tokens)
    kv, attention_flops = _attention(t, peaks, layout, sequences, new, context)
    hidden, vocab, layers = t.hidden[:, 0], t.vocab[:, 0], t.layers[:, 0]
    head_hbm = hidden * vocab / layout.tp * 2.0 / peaks.hbm_bytes_per_s
    head_flops = 2 * hidden * vocab / layout.tp * sequences / peaks.attention_flops_per_s
    reduced = tokens * hidden * 2.0 * 2 * (layout.tp - 1) / layout.tp
    gpus = layout.moe_tp * layout.moe_ep
    exchanged = np.where(layout.dp > 1, tokens * layout.dp / gpus * hidden * 4.0, 0.0) * t.moe_layers[:, 0]
    return Work(
        gemm_hbm=dense[0].sum(1),
        gemm_flops=dense[1].sum(1),
        gemm_roof=_soft(*dense).sum(1),
        moe_hbm=experts[0].sum(1),
        moe_flops=experts[1].sum(1),
        moe_roof=_soft(*experts).sum(1),
        kv=kv.sum(1),
        attention_flops=attention_flops.sum(1),
        attention_roof=_soft(kv, attention_flops).sum(1),
        head_roof=_soft(head_hbm, head_flops),
        activations=tokens * hidden * layers * 2 * 12.0 / peaks.hbm_bytes_per_s,
        reduce_link=reduced * t.reductions[:, 0] / peaks.link_bytes_per_s,
        exchange_link=exchanged / peaks.link_bytes_per_s,
        reductions=t.reductions[:, 0] * (layout.tp > 1),
        exchanges=2 * t.moe_layers[:, 0] * (layout.dp > 1),
        layers=layers,
        moe_layers=t.moe_layers[:, 0],
        sequences=sequences,
        tokens=tokens,
    )


def _c(x: Array) -> Array:
    return x[:, None]


def _matrices(t: Table, peaks: Peaks, layout: Layout, tokens: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Of dense and of routed matrices (rows, matrices): seconds of memory, and of arithmetic."""
    routed = t.experts > 0
    all_tokens = tokens * layout.dp  # what the experts see
    size = t.inputs * t.outputs
    # Dense and shared matrices: split by tp, or by moe_tp for what stands in an expert layer (counted as tp).
    ways = np.where(t.split > 0, _c(layout.tp), 1.0)
    dense = np.where(routed, 0.0, size * t.count / ways)
    dense_flops = 2 * dense * _c(tokens) / _c(peaks.gemm_flops_per_s)
    dense_hbm = dense * _c(peaks.gemm_weight_bytes) / _c(peaks.hbm_bytes_per_s)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(routed, t.per_token / np.maximum(t.experts, 1), 0.0)
    held = t.experts / _c(layout.moe_ep)
    touched = held * (1 - (1 - share) ** _c(all_tokens))
    expert = np.where(routed, size * t.count / _c(layout.moe_tp), 0.0)
    used = _c(all_tokens) * t.per_token / _c(layout.moe_ep)
    expert_flops = 2 * expert * used / _c(peaks.moe_flops_per_s)
    expert_hbm = expert * touched * _c(peaks.moe_weight_bytes) / _c(peaks.hbm_bytes_per_s)
    return (dense_hbm, dense_flops), (expert_hbm, expert_flops)


def _attention(
    t: Table, peaks: Peaks, layout: Layout, sequences: Array, new: Array, context: Array | None
) -> tuple[Array, Array]:
    """Seconds of reading KV and of arithmetic (rows, attention layers)."""
    decode = context is not None
    met = _half(_c(new), t.a_window) if context is None else np.minimum(_c(context), t.a_window)
    heads = np.ceil(t.a_heads / _c(layout.tp))
    widths = (t.a_dk + t.a_dv) if decode else (t.a_pk + t.a_pv)
    flops = 2 * heads * widths * t.a_count * _c(sequences * new) * met / _c(peaks.attention_flops_per_s)
    kept = t.a_kv / np.minimum(_c(layout.tp), np.maximum(t.a_kv_heads, 1)) * _c(peaks.kv_bytes)
    read = _c(sequences) * met * kept * t.a_count + 4.0 * t.a_state / _c(layout.tp) * t.a_count * _c(sequences)
    return read / _c(peaks.hbm_bytes_per_s) * (1.0 if decode else 0.0), flops


def _half(new: Array, window: Array) -> Array:
    """Tokens that a prompt's token meets on average: half the prompt, or what a sliding window shows of it."""
    reach = np.minimum(new, window)
    return reach - reach * reach / (2 * new)


def _soft(one: Array, other: Array) -> Array:
    """Between the larger and the sum: what overlaps in a real kernel does not overlap wholly (norm of order 3)."""
    return np.cbrt(one**3 + other**3)


def held_bytes(t: Table, peaks: Peaks, layout: Layout) -> Array:
    """Bytes of weights on one GPU: matrices in their format, embeddings and head in 16 bits."""
    routed = t.experts > 0
    size = t.inputs * t.outputs * t.count
    dense = np.where(routed, 0.0, size / np.where(t.split > 0, layout.tp[:, None], 1.0))
    experts = np.where(routed, size * t.experts / (layout.moe_tp * layout.moe_ep)[:, None], 0.0)
    matrices = dense.sum(1) * peaks.gemm_weight_bytes + experts.sum(1) * peaks.moe_weight_bytes
    return np.asarray(matrices + 2 * 2.0 * t.hidden[:, 0] * t.vocab[:, 0] / layout.tp)


def kv_bytes(t: Table, peaks: Peaks, layout: Layout, tokens: Array) -> Array:
    """Bytes of KV cache and fixed state that one GPU holds of a sequence of so many tokens."""
    copies = np.minimum(layout.tp[:, None], np.maximum(t.a_kv_heads, 1))
    kept = np.minimum(tokens[:, None], t.a_window) * t.a_kv / copies * t.a_count * peaks.kv_bytes[:, None]
    state = t.a_state / layout.tp[:, None] * t.a_count * 2.0
    return np.asarray((kept + state).sum(1))
