"""Predicts the power of a serving engine and its joules per output token, with 90 % intervals and a source.

A step's seconds and watts are sums over what it waits for (`planner.perf.energy_terms`); small forests correct both
from measured engines. `measured`: model and GPU are among those measured; `modelled`: the model is new;
`extrapolated`: the GPU is new or the load far above all measured, and the forests stay out of it.

Read are the columns of `planner.perf.energy_rows.READ`: the configuration, and of what ML.ENERGY observed only the
load, `avg_batch_size` and `avg_output_len` (where they are empty: the limit `max_num_seqs` or what memory holds, and
the task's usual length). Power, energy, latency and throughput are what is asked for: a table may hold them, nothing
here looks at them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.perf import trees
from planner.perf.conformal import interval
from planner.perf.energy_demand import demand, terms
from planner.perf.energy_rows import Row, read
from planner.perf.energy_terms import Coefficients, Terms, draw_ratio, features, shares, step_s
from planner.perf.stored import stored, told
from planner.power import idle_w

Array = NDArray[np.float64]
LOADS = ("gpus", "batch", "input_tokens", "output_tokens")
FAR_RATIO = 2.0  # beyond so many times the largest measured load
SOURCES = ("measured", "modelled", "extrapolated")
ADDED = (
    "power_w", "power_lo_w", "power_hi_w", "joules_per_token", "joules_per_token_lo", "joules_per_token_hi",
    "assumed_input_tokens", "source", "refusal",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """The shipped model: coefficients of the sums, and the ratios by which forests correct both."""

    coefficients: Coefficients
    step_forest: trees.Forest
    draw_forest: trees.Forest
    meta: Mapping[str, Any]


def unpacked(arrays: Mapping[str, NDArray[Any]]) -> Fitted:
    """A model from its arrays."""
    step, draw = (trees.unpack(arrays, name) for name in ("step", "draw"))
    coefficients = Coefficients(*(arrays[field.name] for field in fields(Coefficients)))
    return Fitted(coefficients, step, draw, told(arrays))


@cache
def fitted() -> Fitted:
    """The shipped model, read once."""
    return unpacked(stored("energy"))


def estimate(model: Fitted, asked: Terms, learned: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Seconds of a step and watts of one GPU; the forests correct the rows that `learned` marks."""
    sums = model.coefficients
    x = features(asked, sums)
    more_s, more_w = (
        np.where(learned, trees.predict(forest, x), 1.0) for forest in (model.step_forest, model.draw_forest)
    )
    seconds = step_s(asked, sums) * more_s
    watts = asked.rated_w * draw_ratio(asked, shares(asked, sums), sums) * more_w
    return seconds, np.clip(watts, asked.idle_w, asked.rated_w)


def predict(columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The columns of `ADDED` for every row; a row that cannot be predicted has its reason in `refusal`, and no number.

    Power is that of all GPUs of the row, without hosts and fans. Tokens are output tokens, the prefill of their
    prompts included; `assumed_input_tokens` is the prompt length taken for the task, where the row states none.
    """
    found, refusals, assumed = read(columns)
    out: dict[str, NDArray[Any]] = {name: np.full(len(found), np.nan) for name in ADDED[:6]}
    out |= {"assumed_input_tokens": assumed, "source": np.full(len(found), "", dtype=object)}
    out["refusal"] = np.array(refusals, dtype=object)
    rows = [row for row in found if row is not None]
    if not rows:
        return out
    model = fitted()
    at = np.array([row is not None for row in found])
    kinds = np.array([_source(row, model.meta) for row in rows], dtype=object)
    asked = demand(rows)
    seconds, watts = estimate(model, terms(asked), kinds != SOURCES[2])
    power = watts * np.array([row.gpus for row in rows])
    answers = {"power": power, "joules_per_token": power * seconds / asked.batch}
    for name, values in answers.items():
        unit = "_w" if name == "power" else ""
        low, high = interval(values, half_widths(name, kinds, rows, model.meta))
        if name == "power":
            at_rest, rated = np.array([(row.gpus * idle_w(row.gpu), row.gpus * row.gpu.tdp_w) for row in rows]).T
            low, high = np.clip(low, at_rest, rated), np.clip(high, at_rest, rated)
        for suffix, ends in (("", values), ("_lo", low), ("_hi", high)):
            out[f"{name}{suffix}{unit}"][at] = ends
    out["source"][at] = kinds
    return out


def half_widths(name: str, kinds: NDArray[Any], rows: list[Row], meta: Mapping[str, Any]) -> Array:
    """Half widths in log space: of rows left out likewise, on the same GPU if it was measured, else of all."""
    widths = meta["half_widths"]
    keys = [f"{name}:{kind}:{row.gpu.name}" for kind, row in zip(kinds, rows, strict=True)]
    alike = [f"{name}:{kind}:" for kind in kinds]
    return np.array([widths.get(key, widths[other]) for key, other in zip(keys, alike, strict=True)])


def _source(row: Row, meta: Mapping[str, Any]) -> str:
    far = any(getattr(row, name) > FAR_RATIO * most for name, most in meta["most"].items())
    if far or row.gpu.name not in meta["gpus"]:
        return SOURCES[2]
    return SOURCES[0] if row.known and row.model.name in meta["models"] else SOURCES[1]
