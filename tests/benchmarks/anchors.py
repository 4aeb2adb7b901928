"""Numbers that papers print, beside what our operation counts and rooflines give for the same conditions.

    python -m tests.benchmarks.anchors

Step-3 (arXiv 2507.19427): demand per token, cost per token by GPU, the least MoE activation ratio, attention layers as
measured. NanoFlow (arXiv 2408.12757): the compute-bound optimum. A row counts where ours is within 15 % of the paper's;
rows that nothing here computes yet are listed as such and count as missed.
"""

import argparse
import csv
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from planner.architecture import gemms, kv_elements, parameters
from planner.calibration import ENGINES, KERNELS
from planner.catalog import gpu, model
from planner.cost import At, Op
from planner.hardware import GPUType
from planner.model import Model
from planner.roofline import seconds
from tests.benchmarks.common import perf_folder

PAPERS = ("P02", "P03", "P09", "P17")  # as the table of anchors names them
CLOSE = 0.15
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
HIDDEN, LAYERS, EXCHANGE_S = 7168, 61, 11.1e-3


class Demand(NamedTuple):
    """What decoding one token asks for: FLOPs, and bytes of an 8-bit KV cache."""

    kv_bytes: float
    core_flops: float
    linear_flops: float
    ffn_flops: float


class Row(NamedTuple):
    """One anchor: ours is None where nothing computes it yet."""

    name: str
    paper: float
    ours: float | None


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
    block = found.blocks[-1]
    a = block.attention
    assert a is not None
    ways, sequences = (4, 256) if a.kind == "gqa" else (1, 64)
    op_s = sum(
        float(seconds(_projection(found, gemm.inputs * gemm.outputs / ways, sequences, chip), chip, ENGINES["vllm"]))
        for gemm in gemms(found, block)
        if gemm.shard != "expert" and not gemm.name.startswith(("router", "shared", "up", "down"))
    )
    key, value = (a.kv_lora_rank + a.rope_dim, a.kv_lora_rank) if a.kind == "mla" else (a.head_dim, a.head_dim)
    core = Op(
        "attention",
        2.0 * a.heads / ways * (key + value) * CONTEXT * sequences,
        "bf16",
        {At("kv", "hbm"): 2.0 * kv_elements(a) / ways * CONTEXT * sequences},
    )
    reduce_s = 0.0
    if ways > 1:
        message = sequences * found.hidden * 2.0 * 2 * 3 / 4
        link = Op("all_reduce", traffic={At("activations", "scale_up"): message, At("hops", "scale_up"): 6.0})
        reduce_s = float(seconds(link, chip, ENGINES["vllm"]))
    return 1e6 * (op_s + float(seconds(core, chip, ENGINES["vllm"])) + reduce_s + ENGINES["vllm"].layer_s)


def _projection(found: Model, weights: float, sequences: int, chip: GPUType) -> Op:
    engine = "fp8" if "fp8" in chip.flops_per_s else "bf16"
    return Op("projection", 2.0 * weights * sequences, engine, {At("weights", "hbm"): weights})


def _ours(row: dict[str, str]) -> list[tuple[str, float | None]]:
    """Ours for each figure of a row: one, or several where the row holds several."""
    name, quantity = row["id"], row["quantity"]
    if match := re.fullmatch(r"step3-t2-(.+)", name):
        d = demand(match[1])
        figures = {"KV bytes": d.kv_bytes, "attention core": d.core_flops, "attention linear": d.linear_flops}
        figures["FFN"] = d.ffn_flops
        return [(quantity, next(value for key, value in figures.items() if quantity.startswith(key)))]
    if match := re.fullmatch(r"step3-t45-(.+)", name):
        return [(quantity, _specification(match[1], quantity))]
    if match := re.fullmatch(r"step3-t7-(.+)", name):
        short = "910B" if "910B" in match[1] else match[1]
        card = gpu(GPUS[match[1]])
        rate = card.flops_per_s.get(ENGINE[short]) or card.flops_per_s["fp16"]
        least = HIDDEN * rate * LAYERS / (NETWORK_BYTES_PER_S[short] * card.hbm_bytes_per_s * EXCHANGE_S)
        return [(quantity, least)]
    if match := re.fullmatch(r"step3-t6-(.+)-(H800|H20|A800|910B)", name):
        cost: Callable[[str, str], float] = attention_usd if quantity.startswith("attention") else ffn_usd
        return [(quantity, cost(match[1], match[2]))]
    if match := re.fullmatch(r"step3-t9-(?:MFA|MLA|GQA)-(.+)-(H800|H20)-8K", name):
        return [(quantity, layer_us(match[1], match[2]))]
    if name == "step3-total-8k":
        mixed = [attention_usd(which, "H20") + ffn_usd(which, "H800") for which in ("Step-3", "Qwen3 MoE")]
        apart = attention_usd("DSv3", "H800") + ffn_usd("DSv3", "H800")
        return [("Step-3", mixed[0]), ("DSv3", apart), ("Qwen3 MoE", mixed[1])]
    if name == "nanoflow-optimal":
        reached = KERNELS["ampere"].gemm_ratio * gpu("A100-SXM-80GB").flops("bf16")
        return [(quantity, reached / (2 * parameters(model("llama-2-70b"))))]
    return [(quantity, None)]


def _specification(name: str, quantity: str) -> float | None:
    card, short = gpu(GPUS[name]), "910B" if "910B" in name else name
    figures = {
        "price": USD_PER_HOUR[short],
        "BF16 peak": card.flops_per_s.get("bf16", card.flops_per_s.get("fp16")),
        "FP8 peak": card.flops_per_s.get("fp8"),
        "memory bandwidth": card.hbm_bytes_per_s,
        "cost per flop": _unit_costs(name)[0],
        "cost per byte": _unit_costs(name)[1],
    }
    return figures[quantity]


def rows(table: Path) -> list[Row]:
    """Every numeric figure of the papers' rows."""
    found: list[Row] = []
    with table.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["seed"] not in PAPERS:
                continue
            parts = re.findall(r"\d+\.?\d*(?:e[+-]?\d+)?", row["value"])
            ours = _ours(row)
            ours += [(row["quantity"], None)] * (len(parts) - len(ours))
            for part, (what, value) in zip(parts, ours, strict=True):
                found.append(Row(f"{row['id']}: {what}", float(part), value))
    return found


def main() -> None:
    """Print every figure; exit code 1 where more than a tenth is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Folder of measured performance data.")
    folder = perf_folder(parser.parse_args().data)
    found = rows(folder / "papers" / "anchors.csv")
    hit = 0
    for row in found:
        if row.ours is None:
            print(f"     not computed yet      {row.paper:12.4g}  {row.name}")
            continue
        error = row.ours / row.paper - 1
        hit += abs(error) <= CLOSE
        word = "ok  " if abs(error) <= CLOSE else "MISS"
        print(f"{word} {row.ours:12.4g} {100 * error:+6.1f} % {row.paper:12.4g}  {row.name}")
    print(f"{hit} of {len(found)} figures within {100 * CLOSE:g} % (bar: nine in ten)")
    sys.exit(0 if hit >= 0.9 * len(found) else 1)


if __name__ == "__main__":
    main()
