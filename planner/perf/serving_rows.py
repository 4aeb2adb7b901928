"""Rows of a serving table to arrays: models, GPUs, formats and layouts, with every gap filled by a stated default.

Columns are those of published whole-engine measurements: one row is one steady run of an engine at a concurrency.
`DEFAULTS` says what a missing or empty field is taken for. What cannot be used is refused in words, row by row.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.catalog import gpu, model
from planner.hardware import GPUType
from planner.model import Model
from planner.perf.formats import WEIGHT_BYTES, flops
from planner.perf.serving_refusals import ENGINES
from planner.perf.serving_stated import DEFAULTS, published, stated
from planner.perf.steps import Layout, Peaks, Table, table
from planner.perf.tables import Columns, words

Array = NDArray[np.float64]
__all__ = ["DEFAULTS", "ENGINES", "Rows", "parse", "published"]
# Lengths of the InferenceX sweep: ten prompts a user, 80 to 100 % of the stated lengths (its benchmark scripts).
SWEEP = ((1024, 1024), (1024, 8192), (8192, 1024))


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Usable rows as arrays, one entry a row; `refusal` is "" there. Rows that are refused hold harmless values."""

    refusal: NDArray[Any]
    models: tuple[Model, ...]
    gpus: tuple[GPUType, ...]
    table: Table
    peaks: Peaks
    engine: NDArray[np.int64]
    version: NDArray[Any]
    gemm_format: NDArray[Any]
    moe_format: NDArray[Any]
    disaggregated: NDArray[np.bool_]
    routed: NDArray[np.bool_]
    latent: NDArray[np.bool_]
    input_tokens: Array
    output_tokens: Array
    concurrency: Array
    pp: Array
    decode: Layout
    prefill: Layout
    decode_workers: Array
    prefill_workers: Array
    day: Array
    sweep: NDArray[np.bool_]  # made as the InferenceX sweep makes its runs

    @property
    def gpus_used(self) -> Array:
        """GPUs of the deployment of each row."""
        decode = self.decode.tp * self.decode.dp * self.pp * self.decode_workers
        prefill = self.prefill.tp * self.prefill.dp * self.pp * self.prefill_workers
        return decode + np.where(self.disaggregated, prefill, 0.0)


def parse(columns: Columns) -> Rows:
    """Every row of the columns, the unusable ones with a refusal."""
    said = stated(columns)
    refusal = said.refusals()
    fine, apart = refusal == "", said.apart
    some, card = model("llama-3.1-8b"), gpu("H100-SXM")
    kept = tuple(m if ok and m else some for m, ok in zip(said.models, fine, strict=True))
    cards = tuple(g if ok and g else card for g, ok in zip(said.gpus, fine, strict=True))
    gemm, moe = (
        np.array([form[i] if ok else "bf16" for form, ok in zip(said.formats, fine, strict=True)], dtype=object)
        for i in range(2)
    )
    engine = np.array([ENGINES.index(b) if ok else 0 for b, ok in zip(said.backends, fine, strict=True)])
    safe = {key: np.where(fine, values, 1.0) for key, values in said.figures.items()}
    routed = np.array([any(b.ffn and b.ffn.experts for b in m.blocks) for m in kept])
    latent = np.array([any(b.attention and b.attention.kind == "mla" for b in m.blocks) for m in kept])
    whole, own, first = (
        _normal({key: np.where(fine, values, 1.0) for key, values in parts.items()}, routed) for parts in said.layouts
    )
    quantised = np.array([word not in ("", "bf16") for word in said.precisions]) & fine & (moe != "mxfp4")
    four_bit = np.array(["fp4" in g.flops_per_s for g in cards])
    versions = zip(said.backends, words(columns, "backend_version"), strict=True)
    return Rows(
        refusal=refusal,
        models=kept,
        gpus=cards,
        table=_table(kept),
        peaks=_peaks(cards, gemm, moe, quantised & ((engine < 2) | four_bit)),
        engine=engine,
        version=np.array([f"{backend}:{version}" for backend, version in versions], dtype=object),
        gemm_format=gemm,
        moe_format=moe,
        disaggregated=apart & fine,
        routed=routed,
        latent=latent,
        input_tokens=safe["isl"],
        output_tokens=safe["osl"],
        concurrency=safe["concurrency"],
        pp=safe["pp_size"],
        decode=_either(apart, own, whole),
        prefill=_either(apart, first, whole),
        decode_workers=safe["decode_num_workers"],
        prefill_workers=safe["prefill_num_workers"],
        day=np.array([_day(word) for word in words(columns, "measured_on")]),
        sweep=_sweep(said.protocols, safe["isl"], safe["osl"]),
    )


def _sweep(protocols: list[str], inputs: Array, outputs: Array) -> NDArray[np.bool_]:
    standard = np.logical_or.reduce([(inputs == i) & (outputs == o) for i, o in SWEEP])
    stated = np.array(protocols, dtype=np.str_)
    return np.asarray(np.where(stated == "", standard, stated == "sweep"))


def _normal(parts: Mapping[str, Array], routed: NDArray[np.bool_]) -> Layout:
    """Degrees that multiply up: the published rows write some of them in more than one way.

    Attention ranks of dp x ep with as many expert ranks twice over are dp = ep (such rows repeat others, to the digit);
    where experts span more GPUs than attention does, attention has that many more ranks.
    """
    tp, dp, moe_tp, moe_ep = (parts[key] for key in ("tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size"))
    twice = (dp > 1) & (moe_tp == moe_ep) & (dp == moe_tp * moe_ep) & (moe_tp > 1)
    dp, moe_tp = np.where(twice, moe_ep, dp), np.where(twice, 1.0, moe_tp)
    experts_on = moe_tp * moe_ep
    dp = np.where(routed & (experts_on > tp * dp), np.maximum(experts_on / tp, 1.0), dp)
    moe_tp = np.where(routed & (experts_on < tp * dp), np.maximum(tp * dp / moe_ep, 1.0), moe_tp)
    return Layout(tp, dp, np.where(routed, moe_tp, 1.0), np.where(routed, moe_ep, 1.0))


def _either(choice: NDArray[np.bool_], one: Layout, other: Layout) -> Layout:
    return Layout(*(np.where(choice, getattr(one, k), getattr(other, k)) for k in ("tp", "dp", "moe_tp", "moe_ep")))


def _table(models: tuple[Model, ...]) -> Table:
    # By identity: equal models are one object here, and to hash an architecture takes longer than to predict it.
    unique = {id(m): m for m in models}
    at = {key: i for i, key in enumerate(unique)}
    rows, made = np.array([at[id(m)] for m in models]), table(list(unique.values()))
    return Table(**{name: getattr(made, name)[rows] for name in Table.__slots__})


def _peaks(cards: tuple[GPUType, ...], gemm: NDArray[Any], moe: NDArray[Any], kv_fp8: NDArray[np.bool_]) -> Peaks:
    return Peaks(
        gemm_flops_per_s=np.array([flops(g, f) for g, f in zip(cards, gemm, strict=True)]),
        moe_flops_per_s=np.array([flops(g, f) for g, f in zip(cards, moe, strict=True)]),
        attention_flops_per_s=np.array([flops(g, "bf16") for g in cards]),
        hbm_bytes_per_s=np.array([g.hbm_bytes_per_s for g in cards]),
        link_bytes_per_s=np.array([g.scale_up_bytes_per_s or g.pcie_bytes_per_s or 32e9 for g in cards]),
        gemm_weight_bytes=np.array([WEIGHT_BYTES[f] for f in gemm]),
        moe_weight_bytes=np.array([WEIGHT_BYTES[f] for f in moe]),
        # vLLM and TensorRT-LLM keep the KV cache in FP8 where the checkpoint is quantised by its publisher so, SGLang
        # on Blackwell alone (runs that hold twice the users that 16 bits would have room for).
        kv_bytes=np.where(kv_fp8, 1.0, 2.0),
    )


def _day(word: str) -> float:
    """Days since 2024-01-01 of an ISO date, -1 for none."""
    match = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)", word[:10])
    if match is None:
        return -1.0
    year, month, day = (int(part) for part in match.groups())
    return (year - 2024) * 365.25 + (month - 1) * 30.44 + day
