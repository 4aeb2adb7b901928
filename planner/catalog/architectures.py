"""From the keys of a published config.json to layers, for every architecture whose parameters Muster counts exactly.

Names of keys and what is assumed where one is absent are those of the configuration classes in Hugging Face
transformers, or of the modelling code that a checkpoint ships. `ARCHITECTURES` at the end is the whole list.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from planner.catalog.fields import Fields
from planner.catalog.hybrids import deci, minimax_01, nemotron_h, step3
from planner.catalog.layers import attention, dense, layer_count, layer_numbers, routed, stack, windows
from planner.model import Attention, Block, FeedForward, Model


@dataclass(frozen=True, slots=True)
class Architecture:
    """One architecture: its layers, and `extra` parameters outside of them.

    `assumed`: values of keys that may be absent. `context`: the key of the longest context.
    """

    layers: Callable[[Fields], list[Block]]
    assumed: Mapping[str, object] = field(default_factory=dict)
    extra: Callable[[Fields], int] | None = None
    context: str = "max_position_embeddings"


def assemble(architecture: str, fields: Fields, *, name: str, family: str, weight_dtype: str, source: str) -> Model:
    """The model that the keys describe, equal layers as one block; raises BadInput for a key absent or wrong."""
    shape = ARCHITECTURES[architecture]
    f = fields.with_defaults(shape.assumed)
    counted = Counter(shape.layers(f))
    return Model(
        name,
        family,
        hidden=f.count("hidden_size"),
        vocab=f.count("vocab_size"),
        blocks=tuple(replace(block, count=count) for block, count in counted.items()),
        tied_embeddings=f.flag("tie_word_embeddings"),
        max_context=f.count(shape.context),
        weight_dtype=weight_dtype,
        source=source,
        params_extra=shape.extra(f) if shape.extra else 0,
    )


def _every(f: Fields, unit: FeedForward) -> list[FeedForward]:
    return [unit] * layer_count(f)


def _llama(f: Fields) -> list[Block]:
    return stack(attention(f), windows(f, _never), _every(f, dense(f)))


def _never(_: int) -> bool:
    return False


def _mistral(f: Fields) -> list[Block]:
    return stack(attention(f), windows(f, lambda _: f.has("sliding_window")), _every(f, dense(f)))


def _qwen_windows(f: Fields) -> list[int | None]:
    first = f.count("max_window_layers", least=0) if f.flag("use_sliding_window") else layer_count(f)
    return windows(f, lambda index: index >= first)


def _qwen2(f: Fields) -> list[Block]:
    mixer = replace(attention(f), qkv_bias=True, out_bias=False)
    return stack(mixer, _qwen_windows(f), _every(f, dense(f)))


def _qwen3(f: Fields) -> list[Block]:
    return stack(attention(f, norm=True), _qwen_windows(f), _every(f, dense(f)))


def _qwen3_moe(f: Fields) -> list[Block]:
    f.refuse_any("shared_expert_intermediate_size")
    plain = layer_numbers(f, "mlp_only_layers")
    step = f.count("decoder_sparse_step")
    experts, unit = routed(f, "moe_intermediate_size", "num_experts"), dense(f)
    units = [unit if i in plain or (i + 1) % step else experts for i in range(layer_count(f))]
    return stack(attention(f, norm=True), _qwen_windows(f), units)


def _mixtral(f: Fields) -> list[Block]:
    experts = routed(f, "intermediate_size", "num_local_experts")
    return stack(attention(f), windows(f, lambda _: f.has("sliding_window")), _every(f, experts))


def _gemma2(f: Fields) -> list[Block]:
    """Every other layer slides, the first one too; norms before and after attention and feed-forward."""
    return stack(attention(f), windows(f, lambda index: index % 2 == 0), _every(f, dense(f)), norms=4)


def _gemma3(f: Fields) -> list[Block]:
    period = f.count("sliding_window_pattern")
    seen = windows(f, lambda index: (index + 1) % period != 0)
    return stack(attention(f, norm=True), seen, _every(f, dense(f)), norms=4)


def _gpt_oss(f: Fields) -> list[Block]:
    """Biases everywhere, and one learned sink per head in the softmax."""
    mixer = attention(f)
    experts = replace(routed(f, "intermediate_size", "num_local_experts"), bias=True)
    experts = replace(experts, router_params=experts.experts)
    seen = windows(f, lambda index: index % 2 == 0)
    return stack(replace(mixer, params_extra=mixer.heads), seen, _every(f, experts))


def _phi3(f: Fields) -> list[Block]:
    return stack(attention(f), windows(f, lambda _: f.has("sliding_window")), _every(f, dense(f)))


def _phi(f: Fields) -> list[Block]:
    """Attention and feed-forward side by side behind one norm; biases everywhere, the head included."""
    f.refuse_any("qk_layernorm")
    return stack(attention(f), windows(f, _never), _every(f, dense(f, matrices=2)))


def _nemotron(f: Fields) -> list[Block]:
    """Squared ReLU; norms have a weight and a bias each."""
    return stack(attention(f), windows(f, _never), _every(f, dense(f, matrices=2)), norms=4)


def _deepseek(f: Fields) -> list[Block]:
    """Latent attention; from one layer on, experts with shared ones beside them (arXiv 2405.04434, 2412.19437)."""
    f.refuse_any("attention_bias")
    mixer = Attention(
        "mla",
        f.count("num_attention_heads"),
        kv_heads=1,  # one latent serves all heads
        head_dim=f.count("qk_nope_head_dim"),
        q_lora_rank=f.count("q_lora_rank", 0),
        kv_lora_rank=f.count("kv_lora_rank"),
        rope_dim=f.count("qk_rope_head_dim"),
        v_head_dim=f.count("v_head_dim"),
    )
    corrected = f.text("topk_method") == "noaux_tc"  # a learned correction per expert balances the load
    shared = f.count("n_shared_experts", 0, least=0) * f.count("moe_intermediate_size")
    biases = f.count("n_routed_experts") if corrected else 0
    experts = routed(f, "moe_intermediate_size", "n_routed_experts", shared_inner=shared, biases=biases)
    first, step = f.count("first_k_dense_replace", least=0), f.count("moe_layer_freq")
    unit = dense(f)
    units = [unit if i < first or i % step else experts for i in range(layer_count(f))]
    return stack(mixer, windows(f, _never), units)


def _llama4(f: Fields) -> list[Block]:
    """Experts in every n-th layer; three layers in four attend within a chunk. Norms of q and k have no weights."""
    step = f.count("interleave_moe_layer_step")
    experts = routed(f, "intermediate_size", "num_local_experts", shared_inner=f.count("intermediate_size"))
    unit = dense(f, "intermediate_size_mlp")
    units = [unit if (i + 1) % step else experts for i in range(layer_count(f))]
    seen = windows(f, lambda index: (index + 1) % 4 != 0, "attention_chunk_size")
    return stack(attention(f), seen, units)


def _opt(f: Fields) -> list[Block]:
    """Biases everywhere; norms have a weight and a bias each (arXiv 2205.01068)."""
    return stack(attention(f), windows(f, _never), _every(f, dense(f, "ffn_dim", matrices=2)), norms=4)


def _minimax_m2(f: Fields) -> list[Block]:
    """Softmax attention in every layer, queries and keys normed over all heads at once."""
    f.refuse_any("shared_intermediate_size")
    mixer = attention(f)
    if f.flag("use_qk_norm"):
        if f.text("qk_norm_type") != "per_layer":
            raise f.refuse("qk_norm_type", "per_layer")
        mixer = replace(mixer, params_extra=(mixer.heads + mixer.kv_heads) * mixer.head_dim)
    biases = f.count("num_local_experts") if f.flag("use_routing_bias") else 0
    experts = routed(f, "intermediate_size", "num_local_experts", biases=biases)
    return stack(mixer, windows(f, _never), _every(f, experts))


def _last_bias(f: Fields) -> int:
    """The bias of the last norm."""
    return f.count("hidden_size")


def _last_and_head_bias(f: Fields) -> int:
    """The biases of the last norm and of the head."""
    return f.count("hidden_size") + f.count("vocab_size")


def _opt_extra(f: Fields) -> int:
    """The bias of the last norm, and learned positions: two more than the context."""
    if f.count("word_embed_proj_dim", f.count("hidden_size")) != f.count("hidden_size"):
        raise f.refuse("word_embed_proj_dim", "hidden_size: projected embeddings are not counted")
    return f.count("hidden_size") * (1 + f.count("max_position_embeddings") + 2)


_GEMMA = {"tie_word_embeddings": True, "head_dim": 256}
_GEMMA3 = {
    **_GEMMA,
    "vocab_size": 262208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "sliding_window_pattern": 6,
    "max_position_embeddings": 131072,
}
_BIASED = {"attention_bias": True, "mlp_bias": True}
_DEEPSEEK = {"moe_layer_freq": 1, "first_k_dense_replace": 0}
_LLAMA4 = Architecture(
    _llama4, {"head_dim": 128, "attention_chunk_size": 8192, "interleave_moe_layer_step": 1, "num_experts_per_tok": 1}
)

ARCHITECTURES: Mapping[str, Architecture] = {
    "LlamaForCausalLM": Architecture(_llama),
    "MistralForCausalLM": Architecture(_mistral),
    "Mistral3ForConditionalGeneration": Architecture(_mistral),
    "MixtralForCausalLM": Architecture(_mixtral),
    "Qwen2ForCausalLM": Architecture(_qwen2),
    "Qwen3ForCausalLM": Architecture(_qwen3, {"head_dim": 128}),
    "Qwen3MoeForCausalLM": Architecture(_qwen3_moe, {"head_dim": 128, "decoder_sparse_step": 1}),
    "DeepseekV2ForCausalLM": Architecture(_deepseek, {**_DEEPSEEK, "topk_method": "greedy"}),
    "DeepseekV3ForCausalLM": Architecture(_deepseek, {**_DEEPSEEK, "topk_method": "noaux_tc"}),
    "Gemma2ForCausalLM": Architecture(_gemma2, {**_GEMMA, "sliding_window": 4096}),
    "Gemma3ForCausalLM": Architecture(_gemma3, _GEMMA3),
    "Gemma3ForConditionalGeneration": Architecture(_gemma3, _GEMMA3),
    "GptOssForCausalLM": Architecture(_gpt_oss, {"head_dim": 64, "attention_bias": True}),
    "PhiForCausalLM": Architecture(_phi, _BIASED, extra=_last_and_head_bias),
    "Phi3ForCausalLM": Architecture(_phi3),
    "Llama4ForCausalLM": _LLAMA4,
    "Llama4ForConditionalGeneration": _LLAMA4,
    "MiniMaxM2ForCausalLM": Architecture(_minimax_m2, {"qk_norm_type": "per_layer"}),
    "MiniMaxText01ForCausalLM": Architecture(minimax_01),
    "NemotronForCausalLM": Architecture(_nemotron, extra=_last_bias),
    "NemotronHForCausalLM": Architecture(nemotron_h),
    "DeciLMForCausalLM": Architecture(deci),
    "OPTForCausalLM": Architecture(_opt, {**_BIASED, "tie_word_embeddings": True}, extra=_opt_extra),
    "Step3TextForCausalLM": Architecture(step3, context="max_position_embedding"),
    "Step3VLForConditionalGeneration": Architecture(step3, context="max_position_embedding"),
}
