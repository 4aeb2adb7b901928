"""Where the bytes of a GPU go under an engine, and how many KV tokens and sequences are left room for.

Weights in their format with scales, split over tensor, pipeline and expert ranks; KV in the engine's blocks by layer
(grouped heads, latent, sliding windows) and fixed states; activations, graphs and buffers of `planner.memory`. The
interval says what is not known of a deployment: how its sampler is built, and whether graphs are counted in.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from planner.architecture import gemms, kv_elements, parameters
from planner.cost import Figure
from planner.hardware import GPUType
from planner.memory import (
    KERNEL_WORKSPACE_BYTES,
    MASKED_LOGIT_BYTES,
    MIB,
    NCCL_GROUP_BYTES,
    SGLANG_LARGE_MB,
    TRTLLM_FREE_RATIO,
    activation_bytes,
    counts_graphs,
    fixed_bytes,
    forward_bytes,
    graph_bytes,
    sampler_bytes,
    sglang_reserve_bytes,
    usable_ratio,
)
from planner.model import Attention, Block, Model
from planner.perf.formats import FORMATS, WEIGHT_BYTES, known_as

Array = NDArray[np.float64]
ENGINES = ("vllm", "sglang", "trtllm")
# Bytes of a KV element with scales: int8 a 32-bit scale per token and head of 128, nvfp4 one byte per 16.
KV_BYTES: Mapping[str, float] = MappingProxyType(
    {"bf16": 2.0, "fp16": 2.0, "fp32": 4.0, "fp8": 1.0, "int8": 1 + 4 / 128, "nvfp4": 0.5 + 1 / 16}
)
STATE_BYTES = WIDE = 2.0  # fixed states, embeddings, head, norms: 16 bits


@dataclass(frozen=True, slots=True)
class Running:
    """How an engine runs a model: parallel degrees, formats and limits; empty formats are the checkpoint's own.

    `moe_tp` x `moe_ep`: GPUs of a stage that experts are split over, all of `tp` x `dp` if 0. `step_tokens`: most
    tokens of a step (vLLM: max_num_batched_tokens). `sequences`: most sequences (max_num_seqs). `ratio`: what the
    engine may take of a GPU; None = its default. `version` () = today's.
    """

    engine: str = "vllm"
    version: tuple[int, ...] = ()
    tp: int = 1
    pp: int = 1
    dp: int = 1
    moe_tp: int = 0
    moe_ep: int = 0
    weight_format: str = ""
    kv_format: str = "bf16"
    sequences: int = 256
    step_tokens: int = 2048
    block_tokens: int = 16
    ratio: float | None = None
    graphs: bool = True


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes of one GPU by item, and the KV that fits beside them: as expected, at least, and at most.

    `kv_tokens` (per attention rank): as if every layer kept every token; what windows save is in `sequences_of`.
    """

    model: Model
    running: Running
    items: Mapping[str, float]
    usable_bytes: float
    kv_bytes: float
    kv_lo_bytes: float
    kv_hi_bytes: float

    @property
    def block_bytes(self) -> float:
        """One block of every layer on one GPU; 0 for a model that keeps no KV."""
        return self.running.block_tokens * token_bytes(self.model, self.running)

    @property
    def kv_blocks(self) -> int:
        """Whole blocks that fit."""
        return int(self.kv_bytes // self.block_bytes) if self.block_bytes else 0

    @property
    def kv_tokens(self) -> int:
        """Tokens in those blocks."""
        return self.kv_blocks * self.running.block_tokens

    @property
    def kv_tokens_interval(self) -> tuple[int, int]:
        """At least and at most so many."""
        if not self.block_bytes:
            return 0, 0
        lo, hi = (int(b // self.block_bytes) * self.running.block_tokens for b in (self.kv_lo_bytes, self.kv_hi_bytes))
        return lo, hi

    def sequences_of(self, mix: Iterable[tuple[float, float]]) -> int:
        """How many sequences of a mix of (tokens, weight) fit at once: never more than the engine's limit."""
        lengths, weights = (np.array(column, dtype=float) for column in zip(*mix, strict=True))
        each = float((sequence_bytes(self.model, self.running, lengths) * weights).sum() / weights.sum())
        return min(int(self.kv_bytes // each) if each else self.running.sequences, self.running.sequences)


def budget(model: Model, gpu: GPUType, running: Running) -> Budget | str:
    """The budget of one GPU, or in words why there is none."""
    wrong = _objection(model, running)
    if wrong:
        return wrong
    held = weights_bytes(model, running)
    layers = math.ceil(sum(block.count for block in model.blocks) / running.pp)
    held["activations"] = float(activation_bytes(model, running.step_tokens, running.sequences, running.tp))
    held["libraries and buffers"] = fixed_bytes(layers, running.tp * running.dp, graphs=False)
    least = float(activation_bytes(model, running.step_tokens, running.sequences, running.tp, MASKED_LOGIT_BYTES))
    graphs = graph_bytes(layers) if running.graphs else 0.0
    counted = counts_graphs(running.version) or running.engine != "vllm"
    if graphs:
        held["CUDA graphs" if counted else "CUDA graphs (beyond the share)"] = graphs
    usable = _usable(gpu, running, held, graphs)
    kv = usable - sum(amount for item, amount in held.items() if not item.startswith("CUDA graphs (beyond"))
    if kv <= 0:
        return _short(model, gpu, running, held, usable)
    # Graphs that some counted in before it was the default; kernels with a workspace; one group more than is needed.
    doubtful = KERNEL_WORKSPACE_BYTES + (0.0 if counted else graphs)
    doubtful += NCCL_GROUP_BYTES if running.tp * running.dp > 1 else 0.0
    items = MappingProxyType({**held, "KV cache": kv})
    return Budget(model, running, items, usable, kv, max(kv - doubtful, 0.0), kv + held["activations"] - least)


def weights_bytes(model: Model, running: Running) -> dict[str, float]:
    """Bytes of weights on the fullest GPU: matrices, expert matrices, embeddings and head, all else."""
    dense = experts = every = 0.0
    form = running.weight_format or own_format(model)
    expert_ways = (running.moe_tp or running.tp * running.dp) * (running.moe_ep or 1)
    for block in model.blocks:
        for gemm in gemms(model, block):
            size = float(gemm.inputs * gemm.outputs * block.count)
            if gemm.shard == "expert" and block.ffn is not None:
                every += size * block.ffn.experts
                experts += size * block.ffn.experts * WEIGHT_BYTES[form] / expert_ways
            else:
                every += size
                # Checkpoints published in MXFP4 have it in experts only.
                wide = form == "mxfp4" == model.weight_dtype or gemm.name == "router"
                ways = 1 if gemm.shard == "none" else running.tp
                dense += size * (WIDE if wide else WEIGHT_BYTES[form]) / ways
    layers = sum(block.count for block in model.blocks)
    stage = math.ceil(layers / running.pp) / layers
    tables = 1 if model.tied_embeddings or running.pp > 1 else 2
    small = parameters(model) - every - (1 if model.tied_embeddings else 2) * model.vocab * model.hidden
    held = {"weights": dense * stage, "expert weights": experts * stage}
    held["embeddings and head"] = model.vocab * model.hidden * tables * WIDE / running.tp
    held["norms and biases"] = small * WIDE * stage
    return {item: amount for item, amount in held.items() if amount}


def token_bytes(model: Model, running: Running) -> float:
    """KV bytes of one token in every layer of one GPU, where no window has cut it off."""
    return float(sum(_kept(block, running) for block in model.blocks)) / running.pp


def sequence_bytes(model: Model, running: Running, tokens: Figure) -> Figure:
    """KV blocks and fixed states that one sequence of so many tokens holds on one GPU.

    A window of w tokens lies in at most one block more than w fills.
    """
    block = running.block_tokens
    total: Figure = 0.0
    for layer in model.blocks:
        attention = layer.attention
        if attention is None:
            continue
        blocks = np.ceil(np.asarray(tokens, dtype=float) / block)
        if attention.window is not None:
            blocks = np.minimum(blocks, math.ceil(attention.window / block) + 1)
        state = attention.state_elements * STATE_BYTES / running.tp * layer.count
        total = total + blocks * block * _kept(layer, running) + state
    return total / running.pp


def beside_bytes(
    models: Sequence[Model], tp: Array, sequences: Array, layers: Array, step_tokens: float = 2048.0
) -> Array:
    """Activations, libraries, graphs and buffers of one GPU, for many rows at once; `layers` are those of its stage."""
    # Models by identity: to hash an architecture takes longer than all of this.
    keys = [(id(model), ways) for model, ways in zip(models, tp.tolist(), strict=True)]
    kinds = {key: (model, int(key[1])) for key, model in zip(keys, models, strict=True)}
    place = {key: i for i, key in enumerate(kinds)}
    at = np.array([place[key] for key in keys], dtype=int)
    pairs = list(kinds.values())
    forward = np.array([forward_bytes(model, step_tokens, ways) for model, ways in pairs], dtype=float)[at]
    logits = np.array([sampler_bytes(model, 1.0) for model, _ in pairs], dtype=float)[at]
    buffers = np.array([fixed_bytes(0.0, ways) for _, ways in pairs], dtype=float)[at]
    return np.asarray(np.maximum(forward, logits * sequences) + buffers + graph_bytes(1.0) * layers)


def _kept(block: Block, running: Running) -> float:
    """KV bytes of a token in `block.count` layers on one GPU: at least one head, and the whole latent, on each."""
    a = block.attention
    if a is None:
        return 0.0
    return kv_elements(a) * KV_BYTES[running.kv_format] / min(running.tp, _heads(a)) * block.count


def _heads(attention: Attention) -> int:
    return 1 if attention.kind == "mla" else max(attention.kv_heads, 1)


def own_format(model: Model) -> str:
    """The format of the published checkpoint, as tables name it."""
    return "fp8_block" if model.weight_dtype == "fp8" else known_as(model.weight_dtype)


def _objection(model: Model, running: Running) -> str:
    if running.engine not in ENGINES:
        return f"unknown engine {running.engine!r}: known are {', '.join(ENGINES)}"
    form = running.weight_format or own_format(model)
    if form not in FORMATS:
        return f"unknown weight format {form!r}: known are {', '.join(FORMATS)}"
    if running.kv_format not in KV_BYTES:
        return f"unknown KV format {running.kv_format!r}: known are {', '.join(KV_BYTES)}"
    for block in model.blocks:
        a = block.attention
        if a is not None and a.heads % running.tp:
            return f"tp={running.tp} does not divide {a.heads} heads of {model.name}"
    layers = sum(block.count for block in model.blocks)
    return f"pp={running.pp} exceeds {layers} layers of {model.name}" if running.pp > layers else ""


def _usable(gpu: GPUType, running: Running, held: Mapping[str, float], graphs: float) -> float:
    """Bytes that the engine lets weights, KV and what is counted beside them take."""
    if running.engine == "vllm" or (running.ratio is not None and running.engine == "sglang"):
        ratio = usable_ratio("vllm", running.version) if running.ratio is None else running.ratio
        beside = sum(v for k, v in held.items() if k in _BESIDE) if running.engine == "sglang" else 0.0
        return ratio * gpu.hbm_bytes + beside  # SGLang's share is for weights and KV alone
    if running.engine == "sglang":
        batch = 256 if gpu.hbm_bytes > SGLANG_LARGE_MB * MIB else 24
        reserve = sglang_reserve_bytes(gpu.hbm_bytes, running.step_tokens, batch, running.tp * running.pp)
        return gpu.hbm_bytes - reserve + sum(v for k, v in held.items() if k in _BESIDE)
    ratio = TRTLLM_FREE_RATIO if running.ratio is None else running.ratio
    taken = sum(held.values())
    return taken + ratio * (gpu.hbm_bytes - taken)


_BESIDE = ("activations", "libraries and buffers", "CUDA graphs")


def _short(model: Model, gpu: GPUType, running: Running, held: Mapping[str, float], usable: float) -> str:
    needed = sum(held.values())
    parts = ", ".join(f"{item} {amount / 1e9:,.1f}" for item, amount in held.items())
    return (
        f"{model.name} leaves no room for KV on {gpu.name} with tp={running.tp}, pp={running.pp}: "
        f"needs {needed / 1e9:,.1f} GB ({parts}), "
        f"{running.engine} may take {usable / 1e9:,.1f} of {gpu.hbm_bytes / 1e9:,.1f} GB"
    )
