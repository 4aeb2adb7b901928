"""The kernels that the sweep and the layer stack share, in plain torch, with the shapes of a Llama-3.1-8B layer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu

from workloads.cases import Case, Layer, Product

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FFN = 4096, 32, 8, 128, 14336
ALL_HEADS = HEADS + 2 * KV_HEADS
DTYPES = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "tf32": torch.float32,
    "fp32": torch.float32,
    "fp8": torch.float8_e4m3fn,
}
COLD_BYTES = 256 * 2**20  # weights and caches rotate over more than any L2 holds
POOL = 2**31  # bytes of random weights
KV_POOL = 2**32  # elements of random keys and values
PROMPT = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION]
DECODE = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION]


def norm(x: Tensor, weight: Tensor) -> Tensor:
    """RMS norm of the hidden state."""
    return rms_norm(x, (x.shape[-1],), weight, 1e-5)


def residual(x: Tensor, y: Tensor) -> Tensor:
    """The sum that carries the hidden state on."""
    return x + y


def rope(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of (batch, tokens, heads, head_dim); cos and sin are (tokens, 1, head_dim / 2)."""
    a, b = heads.chunk(2, dim=-1)
    return torch.cat((torch.addcmul(a * cos, b, sin, value=-1), torch.addcmul(b * cos, a, sin)), dim=-1)


def keep(keys: Tensor, values: Tensor, k: Tensor, v: Tensor, at: int) -> None:
    """Write new keys and values (batch, kv heads, new, head_dim) into the caches from token `at` on."""
    keys[:, :, at : at + k.shape[2]].copy_(k)
    values[:, :, at : at + v.shape[2]].copy_(v)


def gate(both: Tensor) -> Tensor:
    """silu of the first half times the second."""
    one, other = both.chunk(2, dim=-1)
    return silu(one) * other


def prompt_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention of whole prompts; (batch, heads, tokens, head_dim) to (tokens, hidden)."""
    with sdpa_kernel(PROMPT, set_priority=True):
        out = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return out.transpose(1, 2).reshape(-1, HIDDEN)


def decode_attention(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """One new token of each sequence against its cache."""
    with sdpa_kernel(DECODE, set_priority=True):
        out = scaled_dot_product_attention(q, keys, values, enable_gqa=True)
    return out.transpose(1, 2).reshape(-1, HIDDEN)


def noise(count: int, dtype: torch.dtype, scale: float = 1.0) -> Tensor:
    """Normal random numbers: what is multiplied decides what multiplying draws, and zeros would flatter."""
    out = torch.empty(count, dtype=dtype, device="cuda")
    for part in out.split(2**28):
        part.copy_(torch.randn(part.numel(), dtype=torch.bfloat16, device="cuda") * scale)
    return out


class Pools:
    """Random numbers of each dtype, of which cases take slices; made when first asked for."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], Tensor] = {}

    def take(self, what: str, dtype: str, count: int) -> Tensor:
        """The whole pool of a purpose and dtype: at least `count` elements."""
        made = self._made.get((what, dtype))
        if made is None or made.numel() < count:
            least = {"weights": POOL // DTYPES[dtype].itemsize, "kv": KV_POOL}.get(what, 2**28)
            made = self._made[(what, dtype)] = noise(max(count, least), DTYPES[dtype])
        return made


def operation(case: Case, pools: Pools) -> Callable[[int], object]:
    """`run(i)`: the i-th repetition of the case, with the i-th copy of weights or caches."""
    return _product(case, pools) if isinstance(case, Product) else _LAYERS[case.op](case, pools)


def _copies(pool: Tensor, count: int) -> list[Tensor]:
    """Slices of `count` elements, as many as L2 needs to be cold, or as the pool holds."""
    wanted = COLD_BYTES // (count * pool.element_size()) + 2
    return [pool[i * count : (i + 1) * count] for i in range(max(1, min(wanted, pool.numel() // count, 512)))]


def _product(case: Product, pools: Pools) -> Callable[[int], object]:
    x = pools.take("inputs", case.dtype, case.m * case.k)[: case.m * case.k].view(case.m, case.k)
    weights = [
        w.view(case.n, case.k).t() for w in _copies(pools.take("weights", case.dtype, case.n * case.k), case.n * case.k)
    ]
    if case.dtype == "fp8":
        one = torch.ones((), device="cuda")
        return lambda i: torch._scaled_mm(
            x, weights[i % len(weights)], one, one, out_dtype=torch.bfloat16, use_fast_accum=True
        )
    torch.set_float32_matmul_precision("high" if case.dtype == "tf32" else "highest")
    out = torch.empty(case.m, case.n, dtype=DTYPES[case.dtype], device="cuda")
    return lambda i: torch.mm(x, weights[i % len(weights)], out=out)


def _heads(case: Layer, pools: Pools) -> Tensor:
    count = case.batch * case.new * ALL_HEADS * HEAD_DIM
    return pools.take("inputs", "bf16", count)[:count].view(case.batch, case.new, ALL_HEADS, HEAD_DIM)


def _prompt(case: Layer, pools: Pools) -> Callable[[int], object]:
    q, k, v = _heads(case, pools).transpose(1, 2).split((HEADS, KV_HEADS, KV_HEADS), dim=1)
    return lambda i: prompt_attention(q, k, v)


def _decode(case: Layer, pools: Pools) -> Callable[[int], object]:
    q = _heads(case, pools)[:, :, :HEADS].transpose(1, 2)
    shape = (2, case.batch, KV_HEADS, case.context, HEAD_DIM)
    count = 2 * case.batch * KV_HEADS * case.context * HEAD_DIM
    caches = [kv.view(shape) for kv in _copies(pools.take("kv", "bf16", count), count)]

    def run(i: int) -> Tensor:
        keys, values = caches[i % len(caches)]
        return decode_attention(q, keys, values)

    return run


def _norm(case: Layer, pools: Pools) -> Callable[[int], object]:
    x, weight = _hidden(case, pools, HIDDEN), pools.take("inputs", "bf16", HIDDEN)[:HIDDEN]
    return lambda i: norm(x, weight)


def _residual(case: Layer, pools: Pools) -> Callable[[int], object]:
    x, y = _hidden(case, pools, 2 * HIDDEN).view(2, -1, HIDDEN)
    return lambda i: residual(x, y)


def _rope(case: Layer, pools: Pools) -> Callable[[int], object]:
    heads = _heads(case, pools)[:, :, : HEADS + KV_HEADS]
    angles = torch.randn(case.new, 1, HEAD_DIM // 2, device="cuda")
    cos, sin = angles.cos().bfloat16(), angles.sin().bfloat16()
    return lambda i: rope(heads, cos, sin)


def _keep(case: Layer, pools: Pools) -> Callable[[int], object]:
    _, k, v = _heads(case, pools).transpose(1, 2).split((HEADS, KV_HEADS, KV_HEADS), dim=1)
    keys, values = torch.empty(2, case.batch, KV_HEADS, case.new, HEAD_DIM, dtype=torch.bfloat16, device="cuda")
    return lambda i: keep(keys, values, k, v, 0)


def _gate(case: Layer, pools: Pools) -> Callable[[int], object]:
    both = _hidden(case, pools, 2 * FFN)
    return lambda i: gate(both)


def _hidden(case: Layer, pools: Pools, width: int) -> Tensor:
    tokens = case.batch * case.new
    return pools.take("inputs", "bf16", tokens * width)[: tokens * width].view(tokens, width)


_LAYERS: dict[str, Callable[[Any, Pools], Callable[[int], object]]] = {
    "prompt": _prompt,
    "decode": _decode,
    "norm": _norm,
    "residual": _residual,
    "rope": _rope,
    "keep": _keep,
    "gate": _gate,
}
