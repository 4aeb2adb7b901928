"""Columns of operator tables to the work of kernels, with a refusal in words for rows that make no sense."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.perf.op_features import DTYPES, Chip, Work, context_attention, gemm, generation_attention, moe
from planner.perf.tables import Columns, numbers, words

Array = NDArray[np.float64]
OPERATORS = ("gemm", "context_attention", "generation_attention", "moe", "allreduce")
_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "bf16": "bfloat16", "float16": "bfloat16", "half": "bfloat16", "fp16": "bfloat16", "auto": "bfloat16",
        "fp4": "nvfp4", "int8_wo": "int8", "int4_wo": "int4", "w4a16": "int4", "w4a16_mxfp4": "mxfp4",
        "w4a8_mxfp4_mxfp8": "mxfp4", "float8": "fp8", "fp8_e4m3": "fp8", "fp8_static": "fp8",
    }
)  # fmt: skip
MOST = 1e9


@dataclass(frozen=True, slots=True, eq=False)
class Kernels:
    """Rows of one operator: figures by name, dtypes, and a refusal ("" for usable rows, whose figures are sound)."""

    figures: dict[str, Array]
    dtype: NDArray[Any]
    kv_bytes: Array
    skew: Array
    refusal: NDArray[Any]


# Column of the table -> our name, default where the column or the field is missing.
_COLUMNS: Mapping[str, Mapping[str, tuple[str, float]]] = MappingProxyType(
    {
        "gemm": {"m": ("m", np.nan), "n": ("n", np.nan), "k": ("k", np.nan)},
        "context_attention": {
            "batch_size": ("batch", 1.0), "isl": ("tokens", np.nan), "num_heads": ("heads", np.nan),
            "num_key_value_heads": ("kv_heads", 0.0), "head_dim": ("head_dim", 128.0), "window_size": ("window", 0.0),
        },
        "generation_attention": {
            "batch_size": ("batch", 1.0), "step": ("cached", np.nan), "num_heads": ("heads", np.nan),
            "num_key_value_heads": ("kv_heads", 0.0), "head_dim": ("head_dim", 128.0), "window_size": ("window", 0.0),
        },
        "moe": {
            "num_tokens": ("tokens", np.nan), "hidden_size": ("hidden", np.nan), "inter_size": ("inter", np.nan),
            "topk": ("per_token", np.nan), "num_experts": ("experts", np.nan), "moe_tp_size": ("tp", 1.0),
            "moe_ep_size": ("ep", 1.0),
        },
    }
)  # fmt: skip
_DTYPE = {
    "gemm": "gemm_dtype",
    "context_attention": "attn_dtype",
    "generation_attention": "attn_dtype",
    "moe": "moe_dtype",
}
_MAY_BE_ZERO = ("window", "cached")


def kernels(op: str, columns: Columns) -> Kernels:
    """Every row; those that are refused hold ones."""
    named = _COLUMNS[op]
    figures = {name: numbers(columns, column, default) for column, (name, default) in named.items()}
    if "kv_heads" in figures:  # 0: as many as query heads
        figures["kv_heads"] = np.where(figures["kv_heads"] == 0, figures["heads"], figures["kv_heads"])
    dtypes = [_ALIASES.get(word, word) for word in words(columns, _DTYPE[op], "bfloat16")]
    caches = [_ALIASES.get(word, word) for word in words(columns, "kv_cache_dtype", "bfloat16")]
    laws = words(columns, "distribution", "balanced")
    skews = np.array([_skew(law) for law in laws])
    column_of = {name: column for column, (name, _) in named.items()}
    refusal = np.array(
        [_refusal(i, op, figures, column_of, dtypes[i], caches[i], skews[i], laws[i]) for i in range(len(dtypes))],
        dtype=object,
    )
    fine = refusal == ""
    return Kernels(
        {name: np.where(fine, values, 1.0) for name, values in figures.items()},
        np.array([d if ok else "bfloat16" for d, ok in zip(dtypes, fine, strict=True)], dtype=object),
        np.where([cache == "fp8" for cache in caches], 1.0, 2.0),
        np.where(fine, skews, 0.0),
        refusal,
    )


def _skew(law: str) -> float:
    if law in ("balanced", "uniform"):
        return 0.0
    head, _, exponent = law.rpartition("_")
    try:
        return float(exponent) if head == "power_law" else np.nan
    except ValueError:
        return np.nan


def _refusal(
    i: int, op: str, figures: dict[str, Array], column_of: dict[str, str], dtype: str, cache: str, skew: float, law: str
) -> str:
    for name, values in figures.items():
        value, least = float(values[i]), 0 if name in _MAY_BE_ZERO else 1
        if np.isnan(value):
            return f"{column_of[name]} is missing"
        if not least <= value <= MOST or value != int(value):
            return f"{column_of[name]} is {value:g}, allowed are whole numbers from {least} to {MOST:g}"
    if dtype not in DTYPES:
        return f"unknown dtype {dtype[:40]!r}: known are {', '.join(DTYPES)}"
    if cache not in ("bfloat16", "fp8"):
        return f"unknown KV cache dtype {cache[:40]!r}: known are bfloat16, fp8"
    if np.isnan(skew):
        return f"unknown distribution {law[:40]!r}: balanced or power_law_EXPONENT"
    if op == "moe" and figures["per_token"][i] > figures["experts"][i]:
        return f"topk is {figures['per_token'][i]:g} of {figures['experts'][i]:g} experts"
    if "heads" in figures and figures["heads"][i] % figures["kv_heads"][i]:
        return f"{figures['heads'][i]:g} heads do not divide over {figures['kv_heads'][i]:g} KV heads"
    return ""


def work_of(op: str, card: Chip, rows: Kernels) -> Work:
    """The work of every row on a chip."""
    f = rows.figures
    made: Mapping[str, Callable[[], Work]] = {
        "gemm": lambda: gemm(card, rows.dtype, f["m"], f["n"], f["k"]),
        "context_attention": lambda: context_attention(card, rows.dtype, rows.kv_bytes, f),
        "generation_attention": lambda: generation_attention(card, rows.dtype, rows.kv_bytes, f),
        "moe": lambda: moe(card, rows.dtype, rows.skew, f),
    }
    return made[op]()
