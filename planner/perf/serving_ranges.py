"""What was measured of each engine, model and GPU, so that nothing else is called measured."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.perf.serving_rows import ENGINES, Rows

Array = NDArray[np.float64]
# Within a factor of two of what was measured, a row still counts as measured: the steps of the published sweeps.
REACH = 2.0
Ranges = Mapping[str, Mapping[str, Any]]


def _sizes(rows: Rows) -> dict[str, Array]:
    ranks = rows.decode.dp * rows.decode_workers * rows.pp
    return {
        "users": rows.concurrency / ranks,
        "isl": rows.input_tokens,
        "osl": rows.output_tokens,
        "decode_workers": rows.decode_workers,
        "prefill_workers": rows.prefill_workers,
    }


def _kinds(rows: Rows) -> dict[str, NDArray[Any]]:
    """What has no distance: seen or never seen."""
    return {
        "tp": rows.decode.tp,
        "dp": rows.decode.dp,
        "moe_ep": rows.decode.moe_ep,
        "pp": rows.pp,
        "prefill_tp": rows.prefill.tp,
        "prefill_dp": rows.prefill.dp,
        "disaggregated": rows.disaggregated.astype(float),
        "gemm_format": rows.gemm_format,
        "moe_format": np.where(rows.routed, rows.moe_format, ""),
    }


def _keys(rows: Rows) -> NDArray[np.str_]:
    names = np.array(ENGINES)[rows.engine]
    return np.array([f"{e}|{m.name}|{g.name}" for e, m, g in zip(names, rows.models, rows.gpus, strict=True)])


def measured_ranges(rows: Rows) -> dict[str, dict[str, Any]]:
    """By engine, model and GPU: least and most of every size, and every kind that was seen."""
    keys, sizes, kinds = _keys(rows), _sizes(rows), _kinds(rows)
    return {
        str(key): {name: [float(x[keys == key].min()), float(x[keys == key].max())] for name, x in sizes.items()}
        | {name: np.unique(x[keys == key].astype(str)).tolist() for name, x in kinds.items()}
        for key in np.unique(keys)
    }


def within(rows: Rows, ranges: Ranges) -> NDArray[np.bool_]:
    """Rows whose engine, model and GPU were measured together, at such sizes (within `REACH`) and in such kinds."""
    keys, sizes, kinds = _keys(rows), _sizes(rows), _kinds(rows)
    out = np.zeros(len(keys), dtype=bool)
    for key in set(keys.tolist()) & set(ranges):
        seen, here = ranges[key], np.flatnonzero(keys == key)
        fine = np.ones(len(here), dtype=bool)
        for name, x in sizes.items():
            fine &= (x[here] >= seen[name][0] / REACH) & (x[here] <= seen[name][1] * REACH)
        for name, values in kinds.items():
            fine &= np.isin(values[here].astype(str), seen[name])
        out[here] = fine
    return out
