"""The cost of a model with no technique applied: its published dtype, whole prompts, tensor and pipeline parallel.

Two flops per weight and token (arXiv 2001.08361, section 2.1), attention by the pairs of tokens that meet. A parallel
degree above 1 shards by itself: GEMMs and heads split by `tp`, two ring all-reduces a layer (2 (N-1) / N of the message
each), experts split by `ep`, layers by `pp`. With `pp` stages a Case is one of `pp` micro-batches in flight, followed
through all stages; what is resident is one stage's share for all of them.
"""

import math
from dataclasses import dataclass

import numpy as np

from planner.architecture import Gemm, gemms, kv_elements
from planner.cost import At, Case, Cost, Figure, Op, Phase
from planner.errors import MissingFigure
from planner.hardware import GPUType
from planner.memory import activation_bytes, fixed_bytes
from planner.model import Attention, Block, Model

# Bytes per weight with the scales that the format prescribes: fp8 a float32 per 128 x 128 block (DeepSeek-V3,
# arXiv 2412.19437), mxfp4 one byte per 32 and nvfp4 one per 16 (OCP Microscaling 1.0; NVIDIA).
WEIGHT_BYTES = {
    "fp32": 4.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1 + 4 / 128**2,
    "int8": 1.0,
    "mxfp4": 0.5 + 1 / 32,
    "nvfp4": 0.5 + 1 / 16,
}
# Published for expert weights only; the rest of such a checkpoint is 16-bit (gpt-oss model card, arXiv 2508.10925).
EXPERTS_ONLY = ("mxfp4",)
ACTIVATION_BYTES = 2.0  # 16-bit activations, KV cache, embeddings and head

HBM_WEIGHTS, HBM_EMBEDDINGS = At("weights", "hbm"), At("embeddings", "hbm")
HBM_KV, HBM_STATE, HBM_ACTIVATIONS = At("kv", "hbm"), At("state", "hbm"), At("activations", "hbm")


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """`sequences` advance by `new` tokens each, which meet `context` cached ones; None = a prompt that meets itself."""

    sequences: Figure
    new: Figure
    context: Figure | None = None

    @property
    def tokens(self) -> Figure:
        """New tokens of all sequences."""
        return self.sequences * self.new

    def met(self, window: int | None) -> Figure:
        """Tokens that a new token attends to, on average: half the prompt, or the context, within a sliding window."""
        if self.context is not None:
            return self.context if window is None else np.minimum(self.context, window)
        reach = self.new if window is None else np.minimum(self.new, window)
        return reach - reach * reach / (2 * self.new)


def dialect(model: Model, gpu: GPUType) -> tuple[str, str, str]:
    """All that the cost of a model knows of a GPU: what its GEMMs and the rest run in, and the link between GPUs."""
    return arithmetic(model, gpu), sixteen_bit(gpu), _link(gpu)


def base_cost(case: Case) -> Cost:
    """Prefill of `case.prompts` prompts, and a decode step of `case.batch` sequences half way through their output."""
    steps = {
        "prefill": Step(case.prompts, case.input_tokens),
        "decode": Step(case.batch, 1.0, case.input_tokens + case.output_tokens / 2),
    }
    phases = {name: Phase(_ops(case, step), _resident(case, step), step.tokens) for name, step in steps.items()}
    return Cost(phases, (tuple(phases),))


def sixteen_bit(gpu: GPUType) -> str:
    """The 16-bit dtype that a GPU multiplies; raises MissingFigure where its row has none."""
    for dtype in ("bf16", "fp16"):
        if dtype in gpu.flops_per_s:
            return dtype
    raise MissingFigure(f"{gpu.name} has no 16-bit peak in the catalogue (has: {', '.join(sorted(gpu.flops_per_s))})")


def arithmetic(model: Model, gpu: GPUType) -> str:
    """What the model's GEMMs run in: fp8 if published so and the GPU multiplies it, else 16-bit after unpacking."""
    return "fp8" if model.weight_dtype == "fp8" and "fp8" in gpu.flops_per_s else sixteen_bit(gpu)


def kv_bytes_per_token(case: Case) -> float:
    """KV bytes on one GPU for one token in every layer, where no window has cut it off yet."""
    return sum(_kept_bytes(case, block.attention) * block.count for block in case.model.blocks if block.attention)


def weight_bytes(model: Model, gemm: Gemm) -> float:
    """Bytes of one weight of a GEMM in the model's published dtype."""
    narrow = model.weight_dtype not in EXPERTS_ONLY or gemm.shard == "expert"
    return WEIGHT_BYTES[model.weight_dtype] if narrow else ACTIVATION_BYTES


def _ops(case: Case, step: Step) -> tuple[Op, ...]:
    """The ops of one step on one of `tp` GPUs, then what the host does for it."""
    ops = [op for block in case.model.blocks for op in _block_ops(case, block, step)]
    head = case.model.hidden * case.model.vocab / case.tp  # only the last token of a sequence needs its logits
    traffic: dict[At, Figure] = {HBM_EMBEDDINGS: head * ACTIVATION_BYTES}
    ops.append(Op("head", 2 * head * step.sequences, sixteen_bit(case.gpu), traffic))
    if case.pp > 1:
        handed_over = step.tokens * case.model.hidden * ACTIVATION_BYTES * (case.pp - 1)
        ops.append(Op("stages", traffic={At("activations", _link(case.gpu)): handed_over}))
    layers = float(sum(block.count for block in case.model.blocks))
    host = {At("layers", "host"): layers, At("requests", "host"): step.sequences, At("steps", "host"): 1.0}
    return (*ops, Op("host", traffic=host))


def _block_ops(case: Case, block: Block, step: Step) -> list[Op]:
    """The ops of `block.count` equal layers."""
    ops = [_gemm_op(case, block, gemm, step) for gemm in gemms(case.model, block)]
    if block.attention is not None:
        mixer = _state_op if block.attention.state_elements else _attention_op
        ops.append(mixer(case, block.attention, block.count, step))
    # A norm reads and writes the hidden vector and the residual.
    passes = 4.0 * block.norms * case.model.hidden * block.count
    ops.append(Op("norms", traffic={HBM_ACTIVATIONS: step.tokens * passes * ACTIVATION_BYTES}))
    if case.tp > 1:
        reductions = block.count * ((block.attention is not None) + (block.ffn is not None))
        ops.append(_all_reduce(case, reductions, step.tokens * case.model.hidden * ACTIVATION_BYTES))
    return ops


def _gemm_op(case: Case, block: Block, gemm: Gemm, step: Step) -> Op:
    weights = gemm.inputs * gemm.outputs / _ways(case, gemm) * block.count
    moved = (gemm.inputs + gemm.outputs) / _ways(case, gemm) * block.count * ACTIVATION_BYTES
    used, read = step.tokens, 1.0 + 0 * step.tokens
    if gemm.shard == "expert" and block.ffn is not None:
        used, read = _routed(case, block.ffn.experts, block.ffn.experts_per_token, step.tokens)
    traffic = {HBM_WEIGHTS: weights * weight_bytes(case.model, gemm) * read, HBM_ACTIVATIONS: moved * used}
    return Op(gemm.name, 2 * weights * used, arithmetic(case.model, case.gpu), traffic)


def _routed(case: Case, experts: int, per_token: int, tokens: Figure) -> tuple[Figure, Figure]:
    """Tokens summed over all experts, and experts touched, as seen by the busiest of `ep` ranks; routing uniform.

    Touched: E (1 - (1 - k/E)^n). Busiest of r ranks with m tokens each on average: m + sqrt(2 m ln r) (Raab and Steger,
    "Balls into Bins", 1998).
    """
    used = tokens * per_token
    touched = experts * (1 - (1 - per_token / experts) ** tokens)
    if case.ep > 1:
        used = used + np.sqrt(2 * used * case.ep * math.log(case.ep))
    return used, touched


def _attention_op(case: Case, attention: Attention, count: int, step: Step) -> Op:
    """Scores and weighted values of `count` layers. Decode reads the cache; a prompt reads its own keys and values.

    MLA decodes in the latent space that it caches, and prefills unpacked (DeepSeek-V2, arXiv 2405.04434, section 2.1).
    """
    key, value = attention.head_dim + attention.rope_dim, attention.v_head_dim or attention.head_dim
    if attention.kind == "mla" and step.context is not None:
        key, value = attention.kv_lora_rank + attention.rope_dim, attention.kv_lora_rank
    met = step.met(attention.window)
    heads = attention.heads / case.tp * count
    traffic: dict[At, Figure] = {HBM_ACTIVATIONS: 2 * heads * (key + value) * step.tokens * ACTIVATION_BYTES}
    if step.context is not None:
        traffic[HBM_KV] = step.sequences * met * _kept_bytes(case, attention) * count
    return Op("attention", 2 * heads * (key + value) * step.tokens * met, sixteen_bit(case.gpu), traffic)


def _state_op(case: Case, attention: Attention, count: int, step: Step) -> Op:
    """Linear attention and state-space layers: each token updates and reads a state, 2 flops per element each."""
    state = attention.state_elements / case.tp * count
    traffic = {HBM_STATE: 2 * state * step.sequences * ACTIVATION_BYTES}
    return Op("attention", 4 * state * step.tokens, sixteen_bit(case.gpu), traffic)


def _all_reduce(case: Case, count: int, message_bytes: Figure) -> Op:
    """`count` ring all-reduces: each GPU sends 2 (N-1) / N of the message, in 2 (N-1) hops."""
    place, n = _link(case.gpu), case.tp
    traffic: dict[At, Figure] = {
        At("activations", place): message_bytes * count * 2 * (n - 1) / n,
        At("collectives", place): float(count),
        At("hops", place): float(count * 2 * (n - 1)),
    }
    return Op("all_reduce", traffic=traffic)


def _resident(case: Case, step: Step) -> dict[At, Figure]:
    """Bytes that one GPU holds. KV is held for `case.batch` sequences at their full length, on every stage."""
    model, full = case.model, case.input_tokens + case.output_tokens
    kept: Figure = 0.0
    state = weights = 0.0
    for block in model.blocks:
        for gemm in gemms(model, block):
            copies = block.ffn.experts if gemm.shard == "expert" and block.ffn is not None else 1
            size = gemm.inputs * gemm.outputs * copies * weight_bytes(model, gemm)
            weights += size / _ways(case, gemm) * block.count / case.pp
        if block.attention is not None:
            tokens = full if block.attention.window is None else np.minimum(full, block.attention.window)
            kept = kept + tokens * _kept_bytes(case, block.attention) * block.count
            state += block.attention.state_elements * ACTIVATION_BYTES / case.tp * block.count
    tables = 1 if model.tied_embeddings or case.pp > 1 else 2  # first and last stage hold one each
    layers = sum(block.count for block in model.blocks) / case.pp
    return {
        HBM_WEIGHTS: weights,
        HBM_EMBEDDINGS: model.hidden * model.vocab * tables * ACTIVATION_BYTES / case.tp,
        HBM_KV: kept * case.batch,
        HBM_STATE: state * case.batch,
        HBM_ACTIVATIONS: activation_bytes(model, step.tokens, step.sequences, case.tp),
        At("workspace", "hbm"): fixed_bytes(layers, case.tp),
    }


def _ways(case: Case, gemm: Gemm) -> int:
    """Over how many GPUs of a stage a GEMM is split."""
    return 1 if gemm.shard == "none" else case.tp


def _kept_bytes(case: Case, attention: Attention) -> float:
    """KV bytes of one token in one layer on one GPU: at least one head each, so small counts of heads are copied."""
    return kv_elements(attention) * ACTIVATION_BYTES / min(case.tp, attention.kv_heads)


def _link(gpu: GPUType) -> str:
    """Between the GPUs of a node: NVLink or its like, else PCIe."""
    return "pcie" if gpu.scale_up_bytes_per_s is None else "scale_up"
