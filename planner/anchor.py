"""What whole-engine measurements make of the roofline: factors on its seconds, by batch, for every way to run a model.

The roofline (`planner.roofline`) costs any technique on any GPU; the serving model (`planner.perf.serving`) was fitted
on measured engines but knows layouts and formats only. At the service's mean sizes both are asked for the same closed
loop of B users. Users of equal requests start together, so part of the prefills falls into TTFT and not into TPOT; but
an engine that is always busy spends n t_decode(B) + B t_prefill on the life of a request, TTFT + n TPOT, whatever the
order. A second loop of the same context with short prompts and long answers tells decoding from prefill. The ratios are
laid over batches, and whatever else a recipe does keeps the roofline's own ratio. What a first token waits for besides
(frontend, scheduling) is what the serving model has left of a lone user's TTFT.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.architecture import parameters
from planner.base import WEIGHT_BYTES, dialect
from planner.calibration import ENGINES, FITTED_ON
from planner.catalog import gpu as gpu_named
from planner.catalog import model as model_named
from planner.corrections import Correction
from planner.cost import Case, Cost, Degrees
from planner.errors import MissingFigure, UnknownName
from planner.hardware import GPUType
from planner.model import Model
from planner.perf.calibrate import corrected
from planner.perf.serving import predict
from planner.plan import Recipe, Source
from planner.roofline import step_time
from planner.service import Engine
from planner.technique import cost_of, sharded
from planner.techniques import techniques

Array = NDArray[np.float64]
# Users of one attention rank and pipeline lane that both models are asked for; between them the logarithm of the factor
# is interpolated.
USERS = np.array([1.0, 4.0, 16.0, 64.0, 256.0])
# Techniques that are a weight format of the serving model. It has no measured rows of the others.
FORMATS: Mapping[str, str] = {"fp8": "fp8", "nvfp4": "nvfp4"}
# What a measured engine does unasked: vLLM and SGLang split prompts unless told not to.
USUAL = ("chunked-prefill",)
WHOLE_PROMPT_TOKENS = 8192.0
# Memory that each further user takes, of what the ones before took: with less, the serving model lets users wait for
# memory, and the two are not comparable.
_SAME_ROOM_RATIO = 0.98
# Weight of "prefill is off by as much as decoding" against the rows: that of one with a tenth of prefill in its life.
_PRIOR = 0.01
_SHORTER = 8.0
_LEAST_BYTES: Mapping[str, float] = {"fp8": 1.0, "nvfp4": 0.5}  # of a weight
_LEAST = 0.1  # of a prefill factor: rows that leave less than that for prefill contradict the roofline's arithmetic


class Key(NamedTuple):
    """What the serving model tells apart; `form` is a technique of `FORMATS` or ""."""

    gpu: str
    split: Degrees
    form: str


@dataclass(frozen=True, slots=True, eq=False)
class Anchor:
    """Factors on the roofline's seconds: of a decode step by batch, of any prefill; `first_s` is added to TTFT.

    `tpot_half`, `ttft_half`: half widths of 90 % intervals in log space, by batch.
    """

    decode: Array
    prefill: float
    first_s: float
    tpot_half: Array
    ttft_half: Array
    source: Source


def key_of(recipe: Recipe) -> Key:
    """What of a recipe the serving model knows; a power cap is the roofline's business."""
    form = next((name for name in recipe.techniques if name in FORMATS), "")
    return Key(recipe.gpu, Degrees(recipe.tp, recipe.pp, recipe.ep, recipe.dp, recipe.cp), form)


def source_of(anchor: Anchor | None, recipe: Recipe, card: GPUType) -> Source:
    """Measured only where all of the recipe is: what the roofline adds is modelled."""
    if anchor is None:
        return "modelled" if card.name in FITTED_ON else "extrapolated"
    known = not set(recipe.techniques) - set(FORMATS) - set(USUAL)
    plain = recipe.pp == 1 and recipe.power_cap_w is None
    return "modelled" if anchor.source == "measured" and not (known and plain) else anchor.source


def anchors(
    model: Model,
    gpus: Mapping[str, GPUType],
    engine: Engine,
    keys: Collection[Key],
    mean_tokens: tuple[float, float],
    batches: Array,
    corrections: Sequence[Correction] = (),
) -> dict[Key, Anchor]:
    """An anchor for each key that the serving model answers, in one call of it; the others keep the plain roofline.

    `mean_tokens`: input and output tokens of a request. `batches`: sequences in flight per pipeline lane. A model or a
    GPU that is not, figure for figure, the one of that name in the catalogue is not what was measured. `corrections`:
    what was learnt of deployments that run already.
    """
    known = [key for key in keys if _usable(model, gpus[key.gpu], key)] if _published(model) else []
    if not known:
        return {}
    sizes = _loops(*mean_tokens, model.max_context)
    columns = _columns(model, engine, known, sizes)
    raw = predict(columns)
    predicted = corrected(columns, raw, corrections)
    own = {key for key, rows in zip(known, _by_key(predicted["tpot_s"] != raw["tpot_s"]), strict=True) if rows.any()}
    made: dict[Key, Anchor] = {}
    costs: dict[tuple[Degrees, str, str, str], Cost] = {}
    for row, key in enumerate(known):
        figures = {name: _by_key(values)[row].reshape(2, -1) for name, values in predicted.items()}
        if (figures["refusal"] != "").any():
            continue
        try:
            decode_s, prefill_s = _roofline_s(model, gpus[key.gpu], engine, key, sizes, costs)
        except MissingFigure:
            continue
        made[key] = _anchor(figures, decode_s, prefill_s, sizes, USERS * key.split.dp, batches)
    return {key: anchor if key in own else _as_published(key, anchor, made) for key, anchor in made.items()}


def _by_key(values: NDArray[Any]) -> NDArray[Any]:
    return values.reshape(-1, 2 * len(USERS))


def _as_published(key: Key, own: Anchor, made: Mapping[Key, Anchor]) -> Anchor:
    """The factors of the published format with split experts where they are known: the rest is left to the roofline.

    Rows of two formats, or of experts that are whole and that are split, differ by a few percent of noise: enough for
    a recipe to win where it cannot. How sure the serving model is of the key itself, it says.
    """
    whole = key.split._replace(ep=1) if key.split.dp == 1 else key.split
    alike = [made[other] for other in (key._replace(form="", split=whole), key._replace(form="")) if other in made]
    plain = alike[0] if alike else own
    return replace(plain, tpot_half=own.tpot_half, ttft_half=own.ttft_half, source=own.source)


def _loops(inputs: float, outputs: float, most: float) -> Array:
    """(loop, input or output tokens): the service's mean, and the same context from a short prompt.

    Round thousands of input tokens mark another load generator in the published runs, so they are avoided.
    """
    context = inputs + outputs / 2
    short = max(inputs / _SHORTER, 1.0)
    sizes = np.array([[inputs, outputs], [short, max(min(2 * (context - short), most - short - 1), 1.0)]])
    sizes[:, 0] += np.mod(sizes[:, 0], 1000) == 0
    return sizes


def _columns(model: Model, engine: Engine, keys: list[Key], sizes: Array) -> dict[str, NDArray[Any]]:
    """Rows of the serving model: keys x loops x users."""
    each = 2 * len(USERS)
    tp, pp, ep, dp = (
        np.repeat([float(getattr(key.split, name)) for key in keys], each) for name in ("tp", "pp", "ep", "dp")
    )
    users = np.tile(USERS, 2 * len(keys)) * dp
    rows: dict[str, list[Any]] = {
        "model_path": [model.name] * len(keys),
        "system": [key.gpu for key in keys],
        "backend": [engine] * len(keys),
        "protocol": ["steady"] * len(keys),
        "gemm_quant_mode": [FORMATS.get(key.form, "") for key in keys],
    }
    return {
        **{name: np.repeat(np.array(values, dtype=object), each) for name, values in rows.items()},
        "tp_size": tp,
        "pp_size": pp,
        "attention_dp_size": dp,
        "moe_tp_size": tp * dp / ep,
        "moe_ep_size": ep,
        "isl": np.tile(np.repeat(sizes[:, 0], len(USERS)), len(keys)),
        "osl": np.tile(np.repeat(sizes[:, 1], len(USERS)), len(keys)),
        "batch_size": users / dp,
        "concurrency": users * pp,
    }


def _roofline_s(
    model: Model,
    card: GPUType,
    engine: Engine,
    key: Key,
    sizes: Array,
    costs: dict[tuple[Degrees, str, str, str], Cost],
) -> tuple[Array, Array]:
    """Seconds of a decode step and of one prompt's prefill by (loop, users), with the key's format alone."""
    inputs, outputs = sizes[:, :1], sizes[:, 1:]
    users = USERS[None, :] * key.split.dp
    prompts = np.clip(users / outputs, 1.0, np.maximum(WHOLE_PROMPT_TOKENS / inputs, 1.0))
    case = Case(model, card, users, inputs, outputs, prompts, *key.split)
    kind = (key.split, *dialect(model, card))
    if kind not in costs:
        costs[kind] = sharded(case)
    cost = cost_of(case, [techniques()[key.form]()] if key.form else [], costs[kind])
    decode, prefill = (step_time(cost.phases[name], card, ENGINES[engine]).total_s for name in ("decode", "prefill"))
    shape = (2, len(USERS))
    return np.broadcast_to(decode, shape), np.broadcast_to(prefill / prompts, shape)


def _anchor(
    figures: Mapping[str, NDArray[Any]], decode_s: Array, prefill_s: Array, sizes: Array, users: Array, batches: Array
) -> Anchor:
    """The factors of one key; figures are by (loop, users)."""
    tpot_s, ttft_s = (figures[name].astype(float) for name in ("tpot_s", "ttft_s"))
    at = np.flatnonzero(_roomy(figures["hbm_bytes"].astype(float)))
    falls = users / sizes[:, 1:]  # prefills on each decode step
    decode = tpot_s[1] / (decode_s[1] + falls[1] * prefill_s[1])
    usual = float(np.exp(np.log(decode[at]).mean()))
    prefill, first_s = usual, 0.0
    for _ in range(2):  # what a lone first token waits for besides is known once prefill is, and the other way round
        first_s = max(float(ttft_s[0, 0] - decode[0] * decode_s[0, 0] - prefill * prefill_s[0, 0]), 0.0)
        # A request's life in the service's own loop is its tokens' steps and everyone's prefill, first_s apart: least
        # squares over the users, relative to life.
        life_s = ttft_s[0] - first_s + sizes[0, 1] * tpot_s[0]
        share = (users * prefill_s[0] / life_s)[at]
        left = (1 - decode * sizes[0, 1] * decode_s[0] / life_s)[at]
        prefill = float(share @ left + _PRIOR * usual) / float(share @ share + _PRIOR)

    def over_batches(values: Array) -> Array:
        return np.interp(np.log(batches), np.log(users[at]), values[at])

    return Anchor(
        decode=np.exp(_percents(over_batches(np.log(decode)))),
        prefill=math.exp(_percents(math.log(max(prefill, _LEAST)))),
        first_s=first_s,
        tpot_half=over_batches(np.log(figures["tpot_hi_s"].astype(float) / tpot_s)[0]),
        ttft_half=over_batches(np.log(figures["ttft_hi_s"].astype(float) / ttft_s)[0]),
        source=figures["source"].tolist()[0][len(USERS) // 2],
    )


def _roomy(hbm_bytes: Array) -> NDArray[np.bool_]:
    """Whether as many users as asked for are in flight, in both loops; the first always is."""
    each = np.diff(hbm_bytes, axis=1) / np.diff(USERS)
    fits = (each >= _SAME_ROOM_RATIO * np.maximum.accumulate(each, axis=1)).all(axis=0)
    return np.concatenate([[True], np.logical_and.accumulate(fits)])


def _percents(log_factor: Any) -> Any:
    """To the percent: finer differences are noise, and would keep recipes apart that are the same."""
    return np.round(log_factor, 2)


def _published(model: Model) -> bool:
    try:
        return model_named(model.name) == model
    except UnknownName:
        return False


def _usable(model: Model, card: GPUType, key: Key) -> bool:
    """Whether it is worth asking: the GPU is the catalogue's, can use the format, and holds its weights at least."""
    try:
        same = gpu_named(card.name) == card
    except UnknownName:
        return False
    if not same or (key.form and techniques()[key.form]().objection(Case(model, card))):
        return False
    each_bytes = _LEAST_BYTES[key.form] if key.form else WEIGHT_BYTES[model.weight_dtype]
    return parameters(model) * each_bytes <= card.hbm_bytes * key.split.tp * key.split.pp * key.split.dp
