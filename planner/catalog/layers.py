"""What the architectures share: attention, feed-forward and sliding windows from the common keys of a config.json."""

from collections.abc import Callable
from dataclasses import replace

from planner.catalog.fields import MOST_LAYERS, Fields
from planner.model import Attention, Block, FeedForward

# What transformers calls a layer that sees all tokens, and those that see a window or a chunk of them.
FULL = "full_attention"
LAYER_TYPES = (FULL, "sliding_attention", "chunked_attention")


def layer_count(f: Fields) -> int:
    """How many layers there are."""
    return f.count("num_hidden_layers", most=MOST_LAYERS)


def layer_numbers(f: Fields, key: str) -> set[int]:
    """Layers by number from 0, as a list or a text with commas; absent = none."""
    value = f.values.get(key)
    listed = value.split(",") if isinstance(value, str) else f.items(key)
    numbers = {int(str(item)) for item in listed if _is_layer(str(item), layer_count(f))}
    if len(numbers) != len(listed):
        raise f.refuse(key, f"different layers from 0 to {layer_count(f) - 1}")
    return numbers


def _is_layer(text: str, layers: int) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 6 and int(text) < layers


def attention(f: Fields, *, norm: bool = False) -> Attention:
    """Grouped-query attention; without head_dim heads share the hidden width, without KV heads each has its own."""
    heads = f.count("num_attention_heads")
    kv_heads = f.count("num_key_value_heads", heads)
    if heads % kv_heads:
        raise f.refuse("num_key_value_heads", f"a divisor of num_attention_heads ({heads})")
    bias = f.flag("attention_bias")
    return Attention("gqa", heads, kv_heads, head_dim(f, heads), qkv_bias=bias, out_bias=bias, qk_norm=norm)


def head_dim(f: Fields, heads: int) -> int:
    """Elements of one head."""
    if f.has("head_dim"):
        return f.count("head_dim")
    hidden = f.count("hidden_size")
    if hidden % heads:
        raise f.refuse("num_attention_heads", f"a divisor of hidden_size ({hidden}) where head_dim is absent")
    return hidden // heads


def dense(f: Fields, key: str = "intermediate_size", *, matrices: int = 3) -> FeedForward:
    """One feed-forward unit that every token passes; three matrices if gated, two if plain."""
    return FeedForward(f.count(key), matrices, bias=f.flag("mlp_bias"))


def routed(f: Fields, inner: str, experts: str, *, shared_inner: int = 0, biases: int = 0) -> FeedForward:
    """Routed experts; `inner` and `experts` are keys, `biases` the router's parameters besides its matrix."""
    count = f.count(experts)
    chosen = f.count("num_experts_per_tok", most=count)
    return FeedForward(f.count(inner), 3, count, chosen, shared_inner, router_params=biases)


def windows(f: Fields, slides: Callable[[int], bool], key: str = "sliding_window") -> list[int | None]:
    """The window of each layer; which layers have one is in `layer_types`, else the architecture's habit `slides`."""
    layers = layer_count(f)
    if f.has("layer_types"):
        narrow = [kind != FULL for kind in f.per_layer("layer_types", LAYER_TYPES, layers)]
    else:
        narrow = [slides(index) for index in range(layers)]
    window = f.count(key) if any(narrow) else None
    return [window if slid else None for slid in narrow]


def stack(mixer: Attention, seen: list[int | None], units: list[FeedForward], norms: int = 2) -> list[Block]:
    """One block per layer: the same attention with each layer's window and feed-forward unit."""
    return [Block(1, replace(mixer, window=window), unit, norms) for window, unit in zip(seen, units, strict=True)]
