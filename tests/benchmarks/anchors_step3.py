"""Step-3 (arXiv 2507.19427): demand, cost and sparsity tables, attention layers as measured, and decoding systems.

Systems run with the host costs that were fitted on SGLang's replayed graphs. Its links were fitted on all-reduces,
which wait for the slowest GPU; streams beneath other work are taken as fast as bare kernels are.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from planner.architecture import gemms, kv_elements
from planner.calibration import ENGINES
from planner.catalog import gpu, model
from planner.cost import At, Case, Op
from planner.hardware import GPUType
from planner.model import Attention, Model
from planner.roofline import BARE, seconds
from planner.technique import Technique, cost_of
from planner.techniques.attention_ffn_disaggregation import (
    AttentionFFNDisaggregation,
    least_activation_ratio,
    tpot_s,
)
from planner.techniques.fp8 import FP8
from planner.techniques.kv_fp8 import KVFP8
from tests.benchmarks.anchor_rows import Figure, computed, explained, given

CONTEXT = 8192
MODELS = {
    "DSv3": "deepseek-v3",
    "Qwen3 MoE": "qwen3-235b-a22b",
    "Qwen3 32B": "qwen3-32b",
    "Step-3": "step-3",
    "Step3": "step-3",
    "Qwen3": "qwen3-235b-a22b",
}
GPUS = {"H800": "H800", "H20": "H20", "A800": "A800", "Ascend 910B": "Ascend-910B", "910B": "Ascend-910B"}
# The paper's own inputs: rental prices, what each GPU multiplies in, network of an 8-GPU node.
USD_PER_HOUR = {"H800": 2.0, "H20": 0.8, "A800": 0.75, "910B": 0.67}
ENGINE = {"H800": "fp8", "H20": "fp8", "A800": "bf16", "910B": "bf16"}
NETWORK_BYTES_PER_S = {"H800": 8 * 50e9, "H20": 8 * 50e9, "A800": 8 * 25e9, "910B": 8 * 25e9}
CARD_BYTES_PER_S = 50e9  # one GPU's network card, 400 Gb/s
SYSTEM = replace(ENGINES["sglang"], link_ratio=1.0)
TILE_ROWS = 64  # query heads that share a cache head are rows of a matrix tile, of which Hopper multiplies 64 or none
NO_LOAD = "how busy the deployment was over the day: the figure is an average over a day and night of traffic"


class Demand(NamedTuple):
    """What decoding one token asks for: FLOPs, and bytes of an 8-bit KV cache."""

    kv_bytes: float
    core_flops: float
    linear_flops: float
    ffn_flops: float


def demand(name: str) -> Demand:
    """Counts of a model at the context of the paper's tables."""
    found = model(MODELS[name])
    kv = core = linear = ffn = 0.0
    for block in found.blocks:
        a, f = block.attention, block.ffn
        assert a is not None
        latent = a.kind == "mla"
        key, value = (a.kv_lora_rank + a.rope_dim, a.kv_lora_rank) if latent else (a.head_dim, a.head_dim)
        kv += block.count * kv_elements(a) * CONTEXT
        core += block.count * 2 * a.heads * (key + value) * CONTEXT
        for gemm in gemms(found, block):
            flops = 2.0 * gemm.inputs * gemm.outputs * block.count
            if gemm.shard == "expert" and f is not None:
                ffn += flops * f.experts_per_token
            elif gemm.name in ("up", "down", "shared_up", "shared_down", "router"):
                ffn += flops
            else:
                linear += flops
    return Demand(kv, core, linear, ffn)


def _unit_costs(name: str) -> tuple[float, float]:
    """USD per FLOP and per byte of a GPU at its peaks."""
    short = "910B" if "910B" in name else name
    card = gpu(GPUS[name])
    rate = card.flops_per_s.get(ENGINE[short]) or card.flops_per_s["fp16"]
    per_s = USD_PER_HOUR[short] / 3600
    return per_s / rate, per_s / card.hbm_bytes_per_s


def attention_usd(which: str, card: str) -> float:
    """USD of a million tokens' attention: the dearer of its arithmetic and its cache, and its projections."""
    d, (flop, byte) = demand(which), _unit_costs(card)
    return 1e6 * (max(d.core_flops * flop, d.kv_bytes * byte) + d.linear_flops * flop)


def ffn_usd(which: str, card: str) -> float:
    """USD of a million tokens' feed-forward layers, at full batches."""
    return 1e6 * demand(which).ffn_flops * _unit_costs(card)[0]


def layer_us(which: str, card: str) -> float:
    """Microseconds of one attention layer with its projections: 4 GPUs, 256 sequences of 8K, 8-bit GEMMs, 16-bit KV.

    One KV head (MFA, MLA) is not divided: each GPU serves its own 64 sequences. GQA is split by heads.
    """
    found, chip = model(MODELS[which]), gpu(GPUS[card])
    a = _attention(found)
    ways, sequences = (4, 256) if a.kind == "gqa" else (1, 64)
    op_s = sum(
        float(seconds(_product(gemm.inputs * gemm.outputs / ways, sequences, chip), chip, BARE))
        for gemm in gemms(found, found.blocks[-1])
        if gemm.shard != "expert" and not gemm.name.startswith(("router", "shared", "up", "down"))
    )
    key, value = (a.kv_lora_rank + a.rope_dim, a.kv_lora_rank) if a.kind == "mla" else (a.head_dim, a.head_dim)
    groups = a.kv_heads / ways if a.kind == "gqa" else 1
    rows = groups * max(a.heads / ways / groups, TILE_ROWS)
    core = Op(
        "attention",
        2.0 * rows * (key + value) * CONTEXT * sequences,
        "bf16",
        {At("kv", "hbm"): 2.0 * kv_elements(a) / ways * CONTEXT * sequences},
    )
    reduce_s = 0.0
    if ways > 1:
        message = sequences * found.hidden * 2.0 * 2 * 3 / 4
        link = Op("all_reduce", traffic={At("activations", "scale_up"): message, At("hops", "scale_up"): 6.0})
        reduce_s = float(seconds(link, chip, BARE))
    return 1e6 * (op_s + float(seconds(core, chip, BARE)) + reduce_s)


def _attention(found: Model) -> Attention:
    a = found.blocks[-1].attention
    assert a is not None
    return a


def _product(weights: float, rows: float, chip: GPUType) -> Op:
    engine = "fp8" if "fp8" in chip.flops_per_s else "bf16"
    return Op("projection", 2.0 * weights * rows, engine, {At("weights", "hbm"): weights})


def afd_tokens_per_s(attention_nodes: int, ffn_nodes: int, batch: int, formats: list[Technique]) -> float:
    """Tokens a second and GPU of Step-3 on H800s, with `batch` sequences of 4,096 tokens in three micro-batches."""
    afd = AttentionFFNDisaggregation(attention_nodes, ffn_nodes)
    card = replace(gpu("H800"), network_bytes_per_s=CARD_BYTES_PER_S)
    case = Case(model("step-3"), card, batch / 3 / (8 * attention_nodes), 4096 - 64, 128)
    cost = cost_of(case, [afd, *formats])
    return batch / float(tpot_s(cost, card, SYSTEM)) / afd.gpus


def expert_parallel_tokens_per_s(mla_s: float, per_gpu: int = 128, ranks: int = 128) -> float:
    """Tokens a second and GPU of DeepSeek-V3 decoding, experts spread over `ranks` H800s, attention data parallel.

    Two micro-batches: one computes while the other's tokens are on the network, to their experts in 8 bits and back in
    16. `mla_s`: attention of one layer and half a batch with its projections, as measured (vLLM on H100).
    """
    found, card = model("deepseek-v3"), replace(gpu("H800"), network_bytes_per_s=CARD_BYTES_PER_S)
    half = per_gpu / 2
    dense, sparse = found.blocks[0], found.blocks[-1]
    f, d = sparse.ffn, dense.ffn
    assert f is not None
    assert d is not None
    expert = float(found.hidden * f.inner * f.matrices)
    routed = f.experts_per_token * half  # tokens that a GPU's experts get, balanced
    moe_s = _bare_s(_product(expert * f.experts / ranks, routed / (f.experts / ranks), card), card)
    moe_s += _bare_s(_product(float(found.hidden * f.shared_inner * f.matrices), half, card), card)
    wire_s = _bare_s(Op("exchange", traffic={At("activations", "network"): 3.0 * routed * found.hidden}), card)
    dense_s = _bare_s(_product(float(found.hidden * d.inner * d.matrices), half, card), card)
    step_s = 2 * (sparse.count * max(mla_s + moe_s, wire_s) + dense.count * (mla_s + dense_s))
    step_s += _bare_s(Op("head", traffic={At("embeddings", "hbm"): 2.0 * found.hidden * found.vocab}), card)
    layers = sparse.count + dense.count
    return per_gpu / (step_s + SYSTEM.step_s + 2 * layers * SYSTEM.layer_s + per_gpu * SYSTEM.request_s)


def _bare_s(op: Op, card: GPUType) -> float:
    return float(seconds(op, card, BARE))


def mla_layer_s(folder: Path, sequences: int, cached: int) -> float:
    """A measured MLA layer of DeepSeek-V3 with 8-bit products and a 16-bit cache, on one H100."""
    import pyarrow.parquet as parquet

    table = folder / "operators" / "h100_sxm_vllm0.24.0_mla_generation_module.parquet"
    wanted = {"num_heads": 128, "batch_size": sequences, "step": cached, "gemm_type": "fp8_block"}
    wanted |= {"kv_cache_dtype": "bfloat16"}
    rows = [row for row in parquet.read_table(table).to_pylist() if all(row[k] == v for k, v in wanted.items())]
    return float(rows[0]["latency"]) / 1e3


def figures(row: dict[str, str], folder: Path) -> list[Figure]:
    """Ours for each figure of a row: one, or several where the row holds several."""
    name, quantity = row["id"], row["quantity"]
    if match := re.fullmatch(r"step3-t2-(.+)", name):
        d = demand(match[1])
        counts = {"KV bytes": d.kv_bytes, "attention core": d.core_flops, "attention linear": d.linear_flops}
        counts["FFN"] = d.ffn_flops
        return [computed(next(value for key, value in counts.items() if quantity.startswith(key)))]
    if match := re.fullmatch(r"step3-t45-(.+)", name):
        return [given(USD_PER_HOUR[_short(match[1])]) if quantity == "price" else _specification(match[1], quantity)]
    if match := re.fullmatch(r"step3-t7-(.+)", name):
        card, short = gpu(GPUS[match[1]]), _short(match[1])
        rate = card.flops_per_s.get(ENGINE[short]) or card.flops_per_s["fp16"]
        node = NETWORK_BYTES_PER_S[short]
        return [computed(least_activation_ratio(rate, card.hbm_bytes_per_s, node, model("step-3")))]
    if match := re.fullmatch(r"step3-t6-(.+)-(H800|H20|A800|910B)", name):
        cost: Callable[[str, str], float] = attention_usd if quantity.startswith("attention") else ffn_usd
        return [computed(cost(match[1], match[2]))]
    if name == "step3-t9-GQA-Qwen3-H20-8K":
        ours = layer_us("Qwen3", "H20")
        return [explained(f"which attention kernel ran (one that wastes 48 of 64 rows of a tile: {ours:.0f} us)")]
    if match := re.fullmatch(r"step3-t9-(?:MFA|MLA|GQA)-(.+)-(H800|H20)-8K", name):
        return [computed(layer_us(match[1], match[2]))]
    if name == "step3-total-8k":
        mixed = [attention_usd(which, "H20") + ffn_usd(which, "H800") for which in ("Step-3", "Qwen3 MoE")]
        apart = attention_usd("DSv3", "H800") + ffn_usd("DSv3", "H800")
        return [computed(mixed[0]), computed(apart), computed(mixed[1])]
    return [_system(name, folder)]


def _system(name: str, folder: Path) -> Figure:
    """A whole deployment."""
    if name.startswith("step3-4k-fp8"):
        return computed(afd_tokens_per_s(2, 2, 6144, [FP8(), KVFP8()]))
    if name == "step3-4k-bf16attn":
        return computed(afd_tokens_per_s(3, 2, 6048, [FP8()]))
    if name == "dsv3-profile":
        return computed(expert_parallel_tokens_per_s(mla_layer_s(folder, 64, 4096)))
    return explained(NO_LOAD)


def _short(name: str) -> str:
    return "910B" if "910B" in name else name


def _specification(name: str, quantity: str) -> Figure:
    card = gpu(GPUS[name])
    known = {
        "BF16 peak": card.flops_per_s.get("bf16", card.flops_per_s.get("fp16", 0.0)),
        "FP8 peak": card.flops_per_s.get("fp8", 0.0),
        "memory bandwidth": card.hbm_bytes_per_s,
        "cost per flop": _unit_costs(name)[0],
        "cost per byte": _unit_costs(name)[1],
    }
    return given(known[quantity])  # a datasheet's, or a price over it: the paper and our catalogue share them
