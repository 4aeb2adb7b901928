"""Columns of operator tables to the work of kernels, with a refusal in words for rows that make no sense."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.perf.op_features import (
    DTYPES,
    GENERATIONS,
    KERNELS,
    Chip,
    Work,
    context_attention,
    gemm,
    generation,
    generation_attention,
    moe,
)
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
MOST, MOST_SKEW = 1e9, 10.0
# What tables call a kernel contains -> library, the first that fits.
_LIBRARIES = (
    ("marlin", "marlin"), ("oaitriton", "oaitriton"), ("modular", "modular"), ("trtllm", "trtllm"),
    ("deepgemm", "deepgemm"), ("cutedsl", "cutedsl"), ("cutlass", "cutlass"), ("triton", "triton"),
    ("fused_moe", "triton"), ("fa4", "fa4"), ("fa3", "fa3"), ("flash_attn", "fa2"), ("flashinfer", "flashinfer"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Kernels:
    """Rows of one operator: figures by name, dtypes, and a refusal ("" for usable rows, whose figures are sound)."""

    figures: dict[str, Array]
    dtype: NDArray[Any]
    kv_bytes: Array
    skew: Array
    kernel: Array  # position in KERNELS, -1 where the table does not say
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
    dtypes = _coded(words(columns, _DTYPE[op], "bfloat16"), lambda word: _ALIASES.get(word, word))
    caches = _coded(words(columns, "kv_cache_dtype", "bfloat16"), lambda word: _ALIASES.get(word, word))
    laws = np.array(words(columns, "distribution", "balanced"), dtype=object)
    skews = _coded(laws.tolist(), _skew).astype(float)
    refusal = _figures_refused(op, figures)
    for wrong, say in _oddities(op, figures, dtypes, caches, laws, skews):
        for i in np.flatnonzero(wrong & (refusal == "")):
            refusal[i] = say(int(i))
    fine = refusal == ""
    return Kernels(
        {name: np.where(fine, values, 1.0) for name, values in figures.items()},
        np.where(fine, dtypes, "bfloat16"),
        np.where(caches == "fp8", 1.0, 2.0),
        np.where(fine, skews, 0.0),
        _coded(words(columns, "kernel_source"), lambda word: kernel_code(op, word)).astype(float),
        refusal,
    )


def _coded(values: list[str], code: Callable[[str], object]) -> NDArray[Any]:
    """A code for each word; every different word is looked up once."""
    known = {word: code(word) for word in set(values)}
    return np.array([known[word] for word in values], dtype=object)


def kernel_code(op: str, source: str) -> int:
    """Position in `KERNELS` of the library that a table names, -1 where it names none that we know."""
    said = source.lower()
    found = next((library for part, library in _LIBRARIES if part in said), None)
    if found is None and op == "gemm" and said:
        found = "cublas"
    return -1 if found is None else KERNELS.index(found)


def usual_kernel(op: str, card: Chip, dtype: str, head_dim: float) -> str:
    """The library that engines choose for a dtype on a GPU, where a table does not say: as in the measured tables."""
    made = GENERATIONS[int(generation(card.gpu))]
    if op == "gemm":
        return {"bfloat16": "cublas", "fp8_block": "deepgemm", "nvfp4": "cutedsl"}.get(dtype, "cutlass")
    if op == "moe":
        if dtype == "int4" or (dtype == "mxfp4" and made in ("ampere", "ada")):
            return "marlin"
        if made == "blackwell":
            return "trtllm"
        hopper = {"fp8": "cutlass", "fp8_block": "cutlass", "mxfp4": "oaitriton"}
        return hopper.get(dtype, "triton") if made == "hopper" else "triton"
    if made == "blackwell":
        return "triton" if head_dim == 192 else "trtllm"
    if made == "hopper":
        return "fa4" if head_dim > 256 else "fa3"
    return "fa2"


def _figures_refused(op: str, figures: dict[str, Array]) -> NDArray[Any]:
    """Words for what is missing, no whole number, or out of bounds; "" elsewhere."""
    column_of = {name: column for column, (name, _) in _COLUMNS[op].items()}
    refusal = np.full(len(next(iter(figures.values()))), "", dtype=object)
    for name, values in figures.items():
        least = 0 if name in _MAY_BE_ZERO else 1
        with np.errstate(invalid="ignore"):
            wrong = ~((values >= least) & (values <= MOST) & (values == np.floor(values)))
        for i in np.flatnonzero(wrong & (refusal == "")):
            allowed = f"allowed are whole numbers from {least} to {MOST:g}"
            shown = f"{values[i]:g}" if np.isfinite(values[i]) else "no finite number"
            refusal[i] = f"{column_of[name]} is " + ("missing" if np.isnan(values[i]) else f"{shown}, {allowed}")
    return refusal


def _oddities(
    op: str, figures: dict[str, Array], dtypes: NDArray[Any], caches: NDArray[Any], laws: NDArray[Any], skews: Array
) -> Iterator[tuple[NDArray[np.bool_], Callable[[int], str]]]:
    """Masks of rows that make no sense, and what to say of one of them."""
    yield ~np.isin(dtypes, DTYPES), lambda i: f"unknown dtype {str(dtypes[i])[:40]!r}: known are {', '.join(DTYPES)}"
    yield (
        ~np.isin(caches, ("bfloat16", "fp8")),
        lambda i: f"unknown KV cache dtype {str(caches[i])[:40]!r}: known are bfloat16, fp8",
    )
    yield (
        ~(np.isfinite(skews) & (skews >= 0) & (skews <= MOST_SKEW)),
        lambda i: f"unknown distribution {str(laws[i])[:40]!r}: balanced or power_law_EXPONENT (0 to {MOST_SKEW:g})",
    )
    if op == "moe":
        yield (
            figures["per_token"] > figures["experts"],
            lambda i: f"topk is {figures['per_token'][i]:g} of {figures['experts'][i]:g} experts",
        )
        yield (
            figures["ep"] > figures["experts"],
            lambda i: f"moe_ep_size is {figures['ep'][i]:g} for {figures['experts'][i]:g} experts",
        )
        yield (
            figures["tp"] > figures["inter"],
            lambda i: f"moe_tp_size is {figures['tp'][i]:g} for inter_size {figures['inter'][i]:g}",
        )
    if "heads" in figures:
        with np.errstate(invalid="ignore", divide="ignore"):
            uneven = figures["heads"] % figures["kv_heads"] != 0
        yield (
            uneven,
            lambda i: f"{figures['heads'][i]:g} heads do not divide over {figures['kv_heads'][i]:g} KV heads",
        )


def _skew(law: str) -> float:
    if law in ("balanced", "uniform"):
        return 0.0
    head, _, exponent = law.rpartition("_")
    try:
        return float(exponent) if head == "power_law" else np.nan
    except ValueError:
        return np.nan


def work_of(op: str, card: Chip, rows: Kernels) -> Work:
    """The work of every row on a chip."""
    f = rows.figures
    code = _kernels_on(op, card, rows)
    made: Mapping[str, Callable[[], Work]] = {
        "gemm": lambda: gemm(card, rows.dtype, code, f["m"], f["n"], f["k"]),
        "context_attention": lambda: context_attention(card, rows.dtype, code, rows.kv_bytes, f),
        "generation_attention": lambda: generation_attention(card, rows.dtype, code, rows.kv_bytes, f),
        "moe": lambda: moe(card, rows.dtype, code, rows.skew, f),
    }
    return made[op]()


def _kernels_on(op: str, card: Chip, rows: Kernels) -> Array:
    """Codes of libraries, the usual one where a row names none."""
    width = rows.figures.get("head_dim", np.zeros(len(rows.kernel)))
    code = rows.kernel.copy()
    for dtype in set(rows.dtype.tolist()):
        for head_dim in np.unique(width[code < 0]):
            these = (code < 0) & (rows.dtype == dtype) & (width == head_dim)
            code[these] = KERNELS.index(usual_kernel(op, card, dtype, float(head_dim)))
    return code
