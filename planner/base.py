"""The cost of a model on one GPU with no technique applied: its published dtype, whole prompts.

Two flops per weight and token (arXiv 2001.08361, section 2.1), attention by the pairs of tokens that meet. Each op says
what it can be split by, so that the degrees of a case (`planner.technique.sharded`) can put it on several GPUs.
"""

from dataclasses import dataclass

import numpy as np

from planner.architecture import Gemm, gemms, kv_elements, kv_heads
from planner.cost import ONE_GPU, At, Case, Cost, Figure, Op, Phase
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
HBM_WORKSPACE = At("workspace", "hbm")


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
    return arithmetic(model, gpu), sixteen_bit(gpu), link(gpu)


def base_cost(case: Case) -> Cost:
    """Prefill of `case.prompts` prompts, and a decode step of `case.batch` sequences half way through their output.

    Raises ValueError for a case on several GPUs: what one of them does is `planner.technique.sharded(case)`.
    """
    if case.degrees != ONE_GPU:
        raise ValueError(f"base_cost is that of one GPU, got {case.degrees}: use planner.technique.sharded")
    steps = {
        "prefill": Step(case.prompts, case.input_tokens),
        "decode": Step(case.batch, 1.0, case.input_tokens + case.output_tokens / 2),
    }
    phases = {name: Phase(_ops(case, step), _resident(case, name), step.tokens) for name, step in steps.items()}
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


def link(gpu: GPUType) -> str:
    """Between the GPUs of a node: NVLink or its like, else PCIe."""
    return "pcie" if gpu.scale_up_bytes_per_s is None else "scale_up"


def kv_bytes_per_token(case: Case) -> float:
    """KV bytes on one GPU for one token in every layer, where no window has cut it off yet."""
    each = (kept_bytes(block.attention, case.tp) * block.count for block in case.model.blocks if block.attention)
    return sum(each) / case.cp


def kept_bytes(attention: Attention, tp: int = 1) -> float:
    """KV bytes of one token in one layer on one of `tp` GPUs: at least one head each, so few heads are copied."""
    return kv_elements(attention) * ACTIVATION_BYTES / min(tp, kv_heads(attention))


def kept_per_sequence(case: Case, tp: int = 1) -> Figure:
    """KV bytes of a whole sequence of the case on one of `tp` GPUs."""
    full, kept = case.input_tokens + case.output_tokens, 0.0 * case.input_tokens
    for block in case.model.blocks:
        if block.attention is not None:
            window = block.attention.window
            tokens = full if window is None else np.minimum(full, window)
            kept = kept + tokens * kept_bytes(block.attention, tp) * block.count
    return kept


def held_weights(model: Model, tp: int = 1, spread: int = 1) -> float:
    """Bytes of the blocks' weights on one of `tp` GPUs, experts over `spread` times as many, in the published dtype."""
    total = 0.0
    for block in model.blocks:
        for gemm in gemms(model, block):
            ways = {"none": 1, "expert": tp * spread}.get(gemm.shard, tp)
            copies = block.ffn.experts if gemm.shard == "expert" and block.ffn is not None else 1
            total += gemm.inputs * gemm.outputs * copies * weight_bytes(model, gemm) / ways * block.count
    return total


def widths(attention: Attention, cached: bool) -> tuple[int, int]:
    """Elements of a key and of a value as a query meets them.

    MLA decodes in the latent space that it caches, and prefills unpacked (DeepSeek-V2, arXiv 2405.04434, section 2.1).
    """
    if attention.kind == "mla" and cached:
        return attention.kv_lora_rank + attention.rope_dim, attention.kv_lora_rank
    return attention.head_dim + attention.rope_dim, attention.v_head_dim or attention.head_dim


def weight_bytes(model: Model, gemm: Gemm) -> float:
    """Bytes of one weight of a GEMM in the model's published dtype."""
    narrow = model.weight_dtype not in EXPERTS_ONLY or gemm.shard == "expert"
    return WEIGHT_BYTES[model.weight_dtype] if narrow else ACTIVATION_BYTES


def held_activations(case: Case, phase: str, share: Figure = 1.0, tp: int = 1, computed: float = 1.0) -> Figure:
    """Activations that one of `tp` GPUs holds in a step of a phase.

    `share`: of the step's sequences; `computed`: of the tokens of each of these.
    """
    sequences = case.sequences(phase) * share
    new = case.input_tokens * computed if phase == "prefill" else 1.0
    return activation_bytes(case.model, sequences * new, sequences, tp)


def held_fixed(model: Model, gpus: int = 1, pp: int = 1) -> float:
    """What an engine holds on one of so many GPUs of each of `pp` stages, whatever its load."""
    return fixed_bytes(sum(block.count for block in model.blocks) / pp, gpus)


def _ops(case: Case, step: Step) -> tuple[Op, ...]:
    """The ops of one step, then what the host does for it."""
    ops = [op for block in case.model.blocks for op in _block_ops(case, block, step)]
    head = case.model.hidden * case.model.vocab  # only the last token of a sequence needs its logits
    traffic: dict[At, Figure] = {HBM_EMBEDDINGS: head * ACTIVATION_BYTES}
    ops.append(Op("head", 2.0 * head * step.sequences, sixteen_bit(case.gpu), traffic, "column"))
    layers = float(sum(block.count for block in case.model.blocks))
    host = {At("layers", "host"): layers, At("requests", "host"): step.sequences, At("steps", "host"): 1.0}
    return (*ops, Op("host", traffic=host))


def _block_ops(case: Case, block: Block, step: Step) -> list[Op]:
    """The ops of `block.count` equal layers."""
    ops = [_gemm_op(case, block, gemm, step) for gemm in gemms(case.model, block)]
    if block.attention is not None:
        mixer = _state_op if block.attention.state_elements else _attention_op
        ops.append(mixer(case, block, block.attention, step))
    # A norm reads and writes the hidden vector and the residual.
    passes = 4.0 * block.norms * case.model.hidden * block.count
    ops.append(Op("norms", traffic={HBM_ACTIVATIONS: step.tokens * passes * ACTIVATION_BYTES}, block=block))
    return ops


def _gemm_op(case: Case, block: Block, gemm: Gemm, step: Step) -> Op:
    weights = float(gemm.inputs * gemm.outputs * block.count)
    moved = (gemm.inputs + gemm.outputs) * block.count * ACTIVATION_BYTES
    used, read = step.tokens, 1.0 + 0 * step.tokens
    if gemm.shard == "expert" and block.ffn is not None:
        used, read = _routed(block.ffn.experts, block.ffn.experts_per_token, step.tokens)
    traffic = {HBM_WEIGHTS: weights * weight_bytes(case.model, gemm) * read, HBM_ACTIVATIONS: moved * used}
    return Op(gemm.name, 2 * weights * used, arithmetic(case.model, case.gpu), traffic, gemm.shard, block)


def _routed(experts: int, per_token: int, tokens: Figure) -> tuple[Figure, Figure]:
    """Tokens summed over all experts, and experts touched, E (1 - (1 - k/E)^n): routing uniform."""
    return tokens * per_token, experts * (1 - (1 - per_token / experts) ** tokens)


def _attention_op(case: Case, block: Block, attention: Attention, step: Step) -> Op:
    """Scores and weighted values. Decode reads the cache; a prompt reads its own keys and values."""
    met, across = step.met(attention.window), sum(widths(attention, step.context is not None))
    heads = attention.heads * block.count
    traffic: dict[At, Figure] = {HBM_ACTIVATIONS: 2 * heads * across * step.tokens * ACTIVATION_BYTES}
    if step.context is not None:
        traffic[HBM_KV] = step.sequences * met * kept_bytes(attention) * block.count
    flops = 2 * heads * across * step.tokens * met
    return Op("attention", flops, sixteen_bit(case.gpu), traffic, "column", block)


def _state_op(case: Case, block: Block, attention: Attention, step: Step) -> Op:
    """Linear attention and state-space layers: each token updates and reads a state, 2 flops per element each."""
    state = float(attention.state_elements * block.count)
    traffic = {HBM_STATE: 2 * state * step.sequences * ACTIVATION_BYTES}
    return Op("attention", 4 * state * step.tokens, sixteen_bit(case.gpu), traffic, "column", block)


def _resident(case: Case, phase: str) -> dict[At, Figure]:
    """Bytes that the GPU holds. KV is held for `case.batch` sequences at their full length."""
    model = case.model
    mixers = [(block.attention, block.count) for block in model.blocks if block.attention is not None]
    state = sum(mixer.state_elements * ACTIVATION_BYTES * count for mixer, count in mixers)
    return {
        HBM_WEIGHTS: held_weights(model),
        HBM_EMBEDDINGS: model.hidden * model.vocab * tables(model) * ACTIVATION_BYTES,
        HBM_KV: kept_per_sequence(case) * case.batch,
        HBM_STATE: state * case.batch,
        HBM_ACTIVATIONS: held_activations(case, phase),
        HBM_WORKSPACE: held_fixed(model),
    }


def tables(model: Model) -> int:
    """Vocabulary-sized tables: the input embeddings, and the head where it is a matrix of its own."""
    return 1 if model.tied_embeddings else 2
