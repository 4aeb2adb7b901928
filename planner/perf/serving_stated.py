"""What the columns of a serving table say, every gap filled by a stated default, nothing turned into demand yet.

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
from planner.perf.formats import known_as
from planner.perf.serving_refusals import refusal_of, sound_rows
from planner.perf.tables import Columns, numbers, words

Array = NDArray[np.float64]
DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        "backend": "vllm",
        "mode": "agg",
        "isl": "1024",
        "osl": "1024",
        "tp_size, pp_size, attention_dp_size, moe_tp_size, moe_ep_size, *_num_workers": "1",
        "batch_size": "concurrency / attention_dp_size, or 1",
        "concurrency": "batch_size x attention_dp_size (decode workers' for disagg), for 0 too",
        "protocol": "sweep at the three pairs of lengths of that sweep, steady elsewhere",
        "gemm_quant_mode": "precision, else the format that model_path ends in, else the published checkpoint's",
        "moe_quant_mode": "gemm_quant_mode",
        "precision": "16-bit KV cache; another than 16 bits: the cache of a checkpoint that was quantised so",
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class Stated:
    """What columns say, gaps filled, nothing refused yet; `layouts`: of the whole, of decode and of prefill workers."""

    names: list[str]
    systems: list[str]
    models: list[Model | None]
    gpus: list[GPUType | None]
    backends: list[str]
    modes: list[str]
    protocols: list[str]
    formats: list[tuple[str, str]]
    precisions: list[str]
    layouts: tuple[dict[str, Array], ...]
    figures: dict[str, Array]

    @property
    def apart(self) -> NDArray[np.bool_]:
        """Rows with prefill workers of their own."""
        return np.array([mode == "disagg" for mode in self.modes])

    @property
    def _all_formats(self) -> list[tuple[str, ...]]:
        """Every format that a row names."""
        return [(*form, *filter(None, (said,))) for form, said in zip(self.formats, self.precisions, strict=True)]

    def refusals(self) -> NDArray[Any]:
        """Why each row cannot be used, "" where it can."""
        every = (self.models, self.gpus, self.backends, self.modes, self.figures, self._all_formats, self.protocols)
        sound = sound_rows(*every)
        return np.array(["" if fits else self._refusal(i) for i, fits in enumerate(sound)], dtype=object)

    def _refusal(self, i: int) -> str:
        who = (self.names[i], self.models[i], self.systems[i], self.gpus[i], self.backends[i], self.modes[i])
        return refusal_of(i, *who, self.figures, self._all_formats[i], self.protocols[i])


def stated(columns: Columns) -> Stated:
    """The columns of a table."""
    names, systems = words(columns, "model_path"), words(columns, "system")
    models = [published(name) if name else None for name in names]
    precisions = words(columns, "precision")
    modes = [mode.lower() for mode in words(columns, "mode", "agg")]
    layouts = tuple(_layout(columns, prefix) for prefix in ("", "decode_", "prefill_"))
    return Stated(
        names=names,
        systems=systems,
        models=models,
        gpus=[_gpu(name) if name else None for name in systems],
        backends=[name.lower() for name in words(columns, "backend", "vllm")],
        modes=modes,
        protocols=[word.lower() for word in words(columns, "protocol")],
        formats=[_formats(columns, i, *said) for i, said in enumerate(zip(models, names, precisions, strict=True))],
        precisions=[known_as(word.lower()) for word in precisions],
        layouts=layouts,
        figures=_figures(columns, np.array([mode == "disagg" for mode in modes]), *layouts),
    )


def _figures(
    columns: Columns,
    apart: NDArray[np.bool_],
    whole: Mapping[str, Array],
    own: Mapping[str, Array],
    first: Mapping[str, Array],
) -> dict[str, Array]:
    """All numbers of the rows."""
    workers = {key: np.where(apart, numbers(columns, f"{key}_num_workers", 1.0), 1.0) for key in ("decode", "prefill")}
    batch = np.where(apart, numbers(columns, "decode_batch_size"), numbers(columns, "batch_size"))
    users = numbers(columns, "concurrency")
    with np.errstate(over="ignore"):  # absurd sizes become infinite, and are refused
        together = own["attention_dp_size"] * workers["decode"]
        ranks = np.where(apart, together, np.maximum(whole["attention_dp_size"], 1.0))
        users = np.where(np.isnan(users) | (users == 0), np.where(np.isnan(batch), 1.0, batch) * ranks, users)
    found: dict[str, Array] = {key: numbers(columns, key, 1024.0) for key in ("isl", "osl")}
    found |= {"batch_size": batch, "concurrency": users, "pp_size": np.where(apart, own["pp_size"], whole["pp_size"])}
    for key in ("tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size"):
        found[key] = np.where(apart, own[key], whole[key])
        found[f"prefill_{key}"] = np.where(apart, first[key], whole[key])
    return found | {f"{key}_num_workers": values for key, values in workers.items()}


def _layout(columns: Columns, prefix: str) -> dict[str, Array]:
    keys = ("tp_size", "pp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
    found = {key: numbers(columns, prefix + key, 1.0) for key in keys}
    # Dense models are written with 0 expert ranks here and there.
    return {key: np.where(values == 0, 1.0, values) for key, values in found.items()}


def _formats(columns: Columns, row: int, found: Model | None, name: str, precision: str) -> tuple[str, str]:
    given = [str(columns[key][row]) if key in columns else "" for key in ("gemm_quant_mode", "moe_quant_mode")]
    given = ["" if value in ("nan", "None") else value.lower() for value in given]
    if found is None:
        return "bf16", "bf16"
    if found.weight_dtype == "mxfp4":
        return "bf16", "mxfp4"  # published so; 16-bit outside the experts
    named = _named(name)  # a catalogued FP8 checkpoint is scaled by blocks
    own = "fp8_block" if found.weight_dtype == "fp8" and named in ("", "fp8") else named or "bf16"
    gemm = known_as(given[0] or precision.lower()) or own
    return gemm, known_as(given[1]) or gemm


@cache
def _named(name: str) -> str:
    """The weight format that a checkpoint's name ends in, "" where it says none."""
    for form, said in _NAMED:
        if re.search(rf"[-_]({said})(?=$|[-_])", name, flags=re.I):
            return form
    return ""


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


_NAMED = (
    ("nvfp4", "nvfp4|fp4"), ("mxfp4", "mxfp4"), ("fp8", "fp8"), ("int4", "w4a16|int4|awq|gptq"), ("int8", "w8a8|int8")
)  # fmt: skip
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
