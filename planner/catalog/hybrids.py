"""Layers of models whose layers differ in kind: state-space, linear, pruned away, or factored attention."""

from planner.catalog.fields import Fields
from planner.catalog.layers import attention, dense, head_dim, layer_count, layer_numbers, routed
from planner.model import Attention, Block, FeedForward

_DECI_ALIGNMENT = 256  # the published code rounds a width of the search up to this
_CHANGED = ("replace_with_linear", "sparsify", "num_sink_tokens", "window_length")


def nemotron_h(f: Fields) -> list[Block]:
    """Mamba-2, attention, feed-forward or experts, one each a layer (Nemotron-H, arXiv 2504.03624)."""
    f.refuse_any("moe_latent_size", "use_bias", "mamba_proj_bias")
    layers = layer_count(f)
    f = f.with_defaults({"head_dim": f.values.get("attention_head_dim")})  # its name in the first checkpoints
    pattern = f.text("hybrid_override_pattern")
    if len(pattern) != layers or set(pattern) - set("M*-E"):
        raise f.refuse("hybrid_override_pattern", f"{layers} letters out of M, *, - and E, one a layer")
    made = {
        "M": lambda: Block(1, _mamba2(f), None, 1),
        "*": lambda: Block(1, attention(f), None, 1),
        "-": lambda: Block(1, None, dense(f, matrices=2), 1),
        "E": lambda: Block(1, None, _plain_experts(f), 1),
    }
    blocks = {letter: made[letter]() for letter in set(pattern)}
    return [blocks[letter] for letter in pattern]


def _mamba2(f: Fields) -> Attention:
    """A Mamba-2 mixer (arXiv 2405.21060, section 6): one projection in, a short convolution, the state, one out."""
    hidden, heads, width = f.count("hidden_size"), f.count("mamba_num_heads"), f.count("mamba_head_dim")
    groups, state, kernel = f.count("n_groups"), f.count("ssm_state_size"), f.count("conv_kernel")
    inner = heads * width
    mixed = inner + 2 * groups * state  # the convolution passes over x, B and C
    biases = mixed if f.flag("use_conv_bias") else 0
    small = mixed * kernel + biases + 3 * heads + inner  # convolution; A, D, dt per head; the gate's norm
    return Attention(
        "ssm",
        heads,
        kv_heads=1,
        head_dim=width,
        state_elements=inner * state + mixed * (kernel - 1),
        projection_params=hidden * (inner + mixed + heads) + inner * hidden,
        params_extra=small,
    )


def _plain_experts(f: Fields) -> FeedForward:
    """Experts of two matrices, and a shared one; a correction per expert in the router."""
    experts = f.count("n_routed_experts")
    return FeedForward(
        f.count("moe_intermediate_size"),
        2,
        experts,
        f.count("num_experts_per_tok", most=experts),
        f.count("n_shared_experts", least=0) * f.count("moe_shared_expert_intermediate_size"),
        router_params=experts,
    )


def minimax_01(f: Fields) -> list[Block]:
    """Lightning attention in most layers, softmax attention in the rest (MiniMax-01, arXiv 2501.08313)."""
    f.refuse_any("shared_intermediate_size")
    hidden, heads = f.count("hidden_size"), f.count("num_attention_heads")
    inner = heads * head_dim(f, heads)
    linear = Attention(
        "linear",
        heads,
        kv_heads=1,
        head_dim=inner // heads,
        state_elements=inner * (inner // heads),
        projection_params=5 * hidden * inner,  # queries, keys, values, output gate, output
        params_extra=inner,  # the norm before the gate
    )
    softmax, experts = attention(f), routed(f, "intermediate_size", "num_local_experts")
    kinds = f.per_layer("attn_type_list", (0, 1), layer_count(f))
    return [Block(1, softmax if kind else linear, experts) for kind in kinds]


def step3(f: Fields) -> list[Block]:
    """Multi-matrix factorisation attention: queries through a narrow factor, one KV head (Step-3, arXiv 2507.19427)."""
    mixer = Attention(
        "mfa",
        f.count("num_attention_heads"),
        f.count("num_attention_groups"),
        f.count("head_dim"),
        q_lora_rank=f.count("share_q_dim"),
    )
    plain, experts = f.count("intermediate_size"), f.count("moe_num_experts")
    unit = FeedForward(
        f.count("moe_intermediate_size"),
        3,
        experts,
        f.count("moe_top_k", most=experts),
        f.count("share_expert_dim"),
    )
    sparse = layer_numbers(f, "moe_layers_enum")
    return [Block(1, mixer, unit if index in sparse else FeedForward(plain)) for index in range(layer_count(f))]


def deci(f: Fields) -> list[Block]:
    """Layers found by a search: some without attention, all of their own width (Puzzle, arXiv 2411.19146)."""
    listed = f.items("block_configs")
    if len(listed) != layer_count(f):
        raise f.refuse("block_configs", f"one for each of {layer_count(f)} layers", f"a list of {len(listed)}")
    place = Fields({}, f.at, (*f.path, "block_configs"))
    return [_deci_block(f, place.below(index, item)) for index, item in enumerate(listed)]


def _deci_block(f: Fields, found: Fields) -> Block:
    mixing, feeding = found.child("attention"), found.child("ffn")
    for part in (mixing, feeding):
        part.refuse_any(*_CHANGED)
    mixer = None
    if not mixing.flag("no_op"):
        grouped = mixing.count("n_heads_in_group")
        heads = f.count("num_attention_heads")
        if heads % grouped:
            raise mixing.refuse("n_heads_in_group", f"a divisor of num_attention_heads ({heads})")
        mixer = Attention("gqa", heads, heads // grouped, head_dim(f, heads))
    unit = None
    if not feeding.flag("no_op"):
        # A gated unit of multiple m is 2/3 x 4 x m x hidden wide, rounded up.
        wide = int(2 * feeding.number("ffn_mult") * f.count("hidden_size") / 3)
        unit = FeedForward(-(-wide // _DECI_ALIGNMENT) * _DECI_ALIGNMENT)
    return Block(1, mixer, unit, (mixer is not None) + (unit is not None))
