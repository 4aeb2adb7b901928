"""Rows of a serving table to arrays: models, GPUs, formats and layouts, with every gap filled by a stated default.

Columns are those of published whole-engine measurements: one row is one steady run of an engine at a concurrency.
`DEFAULTS` says what a missing or empty field is taken for. What cannot be used is refused in words, row by row.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.catalog import gpu, model
from planner.errors import UnknownName
from planner.hardware import GPUType
from planner.model import Model
from planner.perf.formats import WEIGHT_BYTES, flops, known_as
from planner.perf.serving_refusals import ENGINES, refusal_of, sound_rows
from planner.perf.steps import Layout, Peaks, Table, table
from planner.perf.tables import Columns, numbers, words

Array = NDArray[np.float64]
__all__ = ["DEFAULTS", "ENGINES", "Rows", "parse", "published"]
DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        "backend": "vllm",
        "mode": "agg",
        "isl": "1024",
        "osl": "1024",
        "tp_size, pp_size, attention_dp_size, moe_tp_size, moe_ep_size, *_num_workers": "1",
        "batch_size": "concurrency / attention_dp_size, or 1",
        "concurrency": "batch_size x attention_dp_size (decode workers' for disagg)",
        "protocol": "sweep at the three pairs of lengths of that sweep, steady elsewhere",
        "gemm_quant_mode, moe_quant_mode, precision": "the format of the published checkpoint",
    }
)
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


@cache
def published(name: str) -> Model | None:
    """The architecture behind a checkpoint's name: itself, or what it was quantised from. None where unknown."""
    stem = name.rsplit("/", 1)[-1]
    bare = re.sub(
        r"[-_](nvfp4|fp8|fp4|mxfp4|bf16|w4a16|w8a8|int4|int8|awq|gptq|dynamic|block|tp\d+)(?=$|[-_])",
        "",
        stem,
        flags=re.I,
    )
    for tried in (name, stem, bare, f"{bare}-Instruct", re.sub(r"[-_]Instruct$", "", bare), _RELATIVES.get(bare, "")):
        try:
            return model(tried) if tried and not tried.endswith(".json") else None
        except UnknownName:
            continue
    return None


# Releases that share an architecture with a row of the catalogue.
_RELATIVES = {"DeepSeek-V3.1": "deepseek-v3", "DeepSeek-R1-0528": "deepseek-r1", "DeepSeek-V3-0324": "deepseek-v3"}


@cache
def _gpu(name: str) -> GPUType | None:
    for tried in (name, name.replace("_", "-")):
        try:
            return gpu(tried)
        except UnknownName:
            continue
    return None


def parse(columns: Columns) -> Rows:
    """Every row of the columns, the unusable ones with a refusal."""
    names, systems = words(columns, "model_path"), words(columns, "system")
    n = len(names)
    models = [published(name) if name else None for name in names]
    gpus = [_gpu(name) if name else None for name in systems]
    backends = [name.lower() for name in words(columns, "backend", "vllm")]
    modes = [mode.lower() for mode in words(columns, "mode", "agg")]
    sizes = {key: numbers(columns, key, 1024.0) for key in ("isl", "osl")}
    apart = np.array([mode == "disagg" for mode in modes])
    whole, own, first = (_layout(columns, prefix) for prefix in ("", "decode_", "prefill_"))
    workers = {key: np.where(apart, numbers(columns, f"{key}_num_workers", 1.0), 1.0) for key in ("decode", "prefill")}
    batch = np.where(apart, numbers(columns, "decode_batch_size"), numbers(columns, "batch_size"))
    ranks = np.where(apart, own["attention_dp_size"] * workers["decode"], np.maximum(whole["attention_dp_size"], 1.0))
    users = numbers(columns, "concurrency")
    with np.errstate(over="ignore"):  # absurd sizes become infinite, and are refused
        users = np.where(np.isnan(users) | (users == 0), np.where(np.isnan(batch), 1.0, batch) * ranks, users)
    pp = np.where(apart, own["pp_size"], whole["pp_size"])
    checked: dict[str, Array] = {**sizes, "batch_size": batch, "concurrency": users, "pp_size": pp}
    for key in ("tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size"):
        checked[key] = np.where(apart, own[key], whole[key])
        checked[f"prefill_{key}"] = np.where(apart, first[key], whole[key])
    for key, values in workers.items():
        checked[f"{key}_num_workers"] = values
    formats = [_formats(columns, i, models[i]) for i in range(n)]
    protocols = [word.lower() for word in words(columns, "protocol")]
    sound = sound_rows(models, gpus, backends, modes, checked, formats, protocols)
    refusal = np.array(
        [
            ""
            if fits
            else refusal_of(
                i, names[i], models[i], systems[i], gpus[i], backends[i], modes[i], checked, form, protocols[i]
            )
            for i, (fits, form) in enumerate(zip(sound, formats, strict=True))
        ],
        dtype=object,
    )
    fine = refusal == ""
    some, card = model("llama-3.1-8b"), gpu("H100-SXM")
    kept = tuple(m if ok and m else some for m, ok in zip(models, fine, strict=True))
    cards = tuple(g if ok and g else card for g, ok in zip(gpus, fine, strict=True))
    gemm = np.array([f[0] if ok else "bf16" for f, ok in zip(formats, fine, strict=True)], dtype=object)
    moe = np.array([f[1] if ok else "bf16" for f, ok in zip(formats, fine, strict=True)], dtype=object)
    engine = np.array([ENGINES.index(b) if ok else 0 for b, ok in zip(backends, fine, strict=True)])
    safe = {key: np.where(fine, values, 1.0) for key, values in checked.items()}
    routed = np.array([any(b.ffn and b.ffn.experts for b in m.blocks) for m in kept])
    latent = np.array([any(b.attention and b.attention.kind == "mla" for b in m.blocks) for m in kept])

    def normal(parts: Mapping[str, Array]) -> Layout:
        return _normal({key: np.where(fine, values, 1.0) for key, values in parts.items()}, routed)

    whole_layout, own_layout, first_layout = normal(whole), normal(own), normal(first)
    quantised = np.array([bool(word) for word in words(columns, "precision")]) & fine & (moe != "mxfp4")
    four_bit = np.array(["fp4" in g.flops_per_s for g in cards])
    return Rows(
        refusal=refusal,
        models=kept,
        gpus=cards,
        table=_table(kept),
        peaks=_peaks(cards, gemm, moe, quantised & ((engine < 2) | four_bit)),
        engine=engine,
        version=np.array(
            [f"{b}:{v}" for b, v in zip(backends, words(columns, "backend_version"), strict=True)], dtype=object
        ),
        gemm_format=gemm,
        moe_format=moe,
        disaggregated=apart & fine,
        routed=routed,
        latent=latent,
        input_tokens=safe["isl"],
        output_tokens=safe["osl"],
        concurrency=safe["concurrency"],
        pp=safe["pp_size"],
        decode=_either(apart, own_layout, whole_layout),
        prefill=_either(apart, first_layout, whole_layout),
        decode_workers=safe["decode_num_workers"],
        prefill_workers=safe["prefill_num_workers"],
        day=np.array([_day(word) for word in words(columns, "measured_on")]),
        sweep=_sweep(protocols, safe["isl"], safe["osl"]),
    )


def _sweep(protocols: list[str], inputs: Array, outputs: Array) -> NDArray[np.bool_]:
    standard = np.logical_or.reduce([(inputs == i) & (outputs == o) for i, o in SWEEP])
    stated = np.array(protocols, dtype=np.str_)
    return np.asarray(np.where(stated == "", standard, stated == "sweep"))


def _layout(columns: Columns, prefix: str) -> dict[str, Array]:
    keys = ("tp_size", "pp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
    found = {key: numbers(columns, prefix + key, 1.0) for key in keys}
    # Dense models are written with 0 expert ranks here and there.
    return {key: np.where(values == 0, 1.0, values) for key, values in found.items()}


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


def _formats(columns: Columns, row: int, found: Model | None) -> tuple[str, str]:
    given = [str(columns[key][row]) if key in columns else "" for key in ("gemm_quant_mode", "moe_quant_mode")]
    given = ["" if value in ("nan", "None") else value.lower() for value in given]
    if found is None:
        return "bf16", "bf16"
    if found.weight_dtype == "mxfp4":
        return "bf16", "mxfp4"  # published so; 16-bit outside the experts
    own = "fp8_block" if found.weight_dtype == "fp8" else "bf16"
    gemm = known_as(given[0]) or own
    return gemm, known_as(given[1]) or gemm


def _day(word: str) -> float:
    """Days since 2024-01-01 of an ISO date, -1 for none."""
    match = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)", word[:10])
    if match is None:
        return -1.0
    year, month, day = (int(part) for part in match.groups())
    return (year - 2024) * 365.25 + (month - 1) * 30.44 + day
