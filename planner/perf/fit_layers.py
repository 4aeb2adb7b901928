"""Packs layer profiles taken inside an engine: `muster fit layers --data DIR`."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.errors import BadInput
from planner.perf.layers import AXES
from planner.perf.tables import Columns, read

Array = NDArray[np.float64]
SOURCE = "LLMServingSim 2.0 layer profiles in vLLM (github casys-kaist/LLMServingSim, MIT)"
LAYERS = 32.0  # of Llama-3.1-8B, the only model profiled
TWICE = ("layernorm",)
LARGE = 16.0
ONCE = ("embedding", "final_layernorm")
# What the engine adds to a step and per sequence: nothing. The layers were timed with their launches, and the engine
# schedules a step while the one before it runs; two replayed runs agree (tests/benchmarks/replay.py).
STEP_S, REQUEST_S = 0.0, 0.0


def fit(data: Path) -> dict[str, NDArray[Any]]:
    """Every profile found."""
    folder = data / "operators"
    arrays: dict[str, NDArray[Any]] = {}
    digests: dict[str, str] = {}
    found: list[str] = []
    for dense in sorted(folder.glob("vllm_*_dense.parquet")):
        name = dense.stem.removeprefix("vllm_").removesuffix("_dense")
        parts = {
            kind: folder / f"vllm_{name}_{kind}.parquet" for kind in ("dense", "per_sequence", "attention", "skew")
        }
        arrays |= {f"{name}:{key}": x.astype(np.float32) for key, x in _packed(parts).items()}
        digests |= {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in parts.values()}
        found.append(name)
    if not found:
        raise BadInput(f"{folder}: got no profile of layers (vllm_*_dense.parquet and its kin)")
    meta = {"source": SOURCE, "inputs_sha256": digests, "rows": len(digests), "profiles": found, "cross_validation": {}}
    return {**arrays, "meta": np.array(json.dumps(meta, sort_keys=True))}


def _packed(parts: dict[str, Path]) -> dict[str, Array]:
    dense, sequence, attention, skew = (read(parts[key]) for key in ("dense", "per_sequence", "attention", "skew"))
    tokens = np.unique(dense["tokens"])
    total = np.zeros(len(tokens))
    for layer in np.unique(dense["layer"].astype(str)):
        mine = dense["layer"] == layer
        times = 1.0 if layer in ONCE else LAYERS * (2 if layer in TWICE else 1)
        total += times * np.interp(tokens, dense["tokens"][mine], dense["time_us"][mine])
    rows = np.unique(sequence["sequences"])
    heads = sum(
        np.interp(rows, sequence["sequences"][sequence["layer"] == k], sequence["time_us"][sequence["layer"] == k])
        for k in ("lm_head", "sampler")
    )
    axes, grid = _grid(attention)
    batch, unequal = _unequal(skew)
    return {
        "tokens": tokens,
        "dense_s": total / 1e6,
        "sequences": rows,
        "per_sequence_s": np.asarray(heads) / 1e6,
        **dict(zip(AXES, axes, strict=True)),
        "attention_s": LAYERS * grid / 1e6,
        "batch": batch,
        "unequal_ratio": unequal,
        "numbers": np.array([STEP_S, REQUEST_S]),
    }


def _grid(attention: Columns) -> tuple[list[Array], Array]:
    """A full grid over powers of two; what no run covered goes on in a line along the cache, then the batch."""
    axes = [np.unique(attention[axis]) for axis in AXES]
    axes = [axis[(axis == 0) | (np.log2(np.maximum(axis, 1)) % 1 == 0)] for axis in axes]
    grid = np.full([len(axis) for axis in axes], np.nan)
    at = [np.searchsorted(axis, attention[name]) for axis, name in zip(axes, AXES, strict=True)]
    inside = np.all(
        [axis[np.minimum(i, len(axis) - 1)] == attention[n] for axis, i, n in zip(axes, at, AXES, strict=True)], axis=0
    )
    grid[tuple(i[inside] for i in at)] = attention["time_us"][inside]
    grid[0, :, 0, :] = np.where(np.isnan(grid[0, :, 0, :]), 0.0, grid[0, :, 0, :])
    # No prompt, or no decoding sequence: its cache does not matter.
    grid[0] = grid[0, :1]
    grid[:, :, 0] = grid[:, :, 0, :1]
    for axis in (3, 1, 2, 0):
        grid = _continued(grid, axes[axis], axis)
    return axes, grid


def _continued(grid: Array, xs: Array, axis: int) -> Array:
    lines = np.moveaxis(grid, axis, -1).copy()
    flat = lines.reshape(-1, len(xs))
    for line in flat:
        have = np.flatnonzero(~np.isnan(line))
        if len(have) < 2 or len(have) == len(xs):
            continue
        inside = np.interp(xs, xs[have], line[have])
        low, high = have[-2], have[-1]
        slope = max((line[high] - line[low]) / (xs[high] - xs[low]), 0.0)
        beyond = line[high] + slope * (xs - xs[high])
        line[:] = np.where(xs > xs[high], beyond, inside)
    return np.moveaxis(flat.reshape(lines.shape), -1, axis)


def _unequal(skew: Columns) -> tuple[Array, Array]:
    """The median share by batch, where the longest cache is at most four times the mean; all large batches are one."""
    alpha, usual = np.clip(skew["alpha"], 0.0, 1.0), skew["kv_big"] <= 4 * skew["kv_mean"]
    small = [n for n in np.unique(skew["n"]) if n < LARGE]
    shares = [np.nanmedian(alpha[usual & (skew["n"] == n)]) for n in small]
    return np.array([*small, LARGE]), np.array([*shares, np.nanmedian(alpha[usual & (skew["n"] >= LARGE)])])
