"""Sequences of unequal length in one decode step: how much longer its attention takes than at their mean length.

Attention of a batch lies between that of equal sequences of the mean and of the longest length; how far was measured
inside vLLM by batch size (`planner.perf.layers`). Engines measured whole were asked for equal lengths, so neither they
nor the roofline know of it. The longest of B sequences is that of B drawn from the service's requests in flight.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from planner.cost import Cost, Op
from planner.model import Model
from planner.perf import layers

Array = NDArray[np.float64]
# Profiles of one GPU; those of tensor parallelism share heads over GPUs and were measured on one type only.
_PROFILES = ("rtx4090_llama-3.1-8b_tp1", "rtxpro6000_llama-3.1-8b_tp1")


@cache
def _measured() -> tuple[Array, Array]:
    """Batch sizes, and how far attention is from that of the mean to that of the longest length there."""
    profiles = [layers.profile(name) for name in _PROFILES]
    return profiles[0].batch, np.mean([profile.unequal_ratio for profile in profiles], axis=0)


def longer(context_tokens: Array, weights: Array, batches: Array, window: int | None = None) -> Array:
    """Factor on the time of a decode step's attention, by batch; 1 where all sequences are equally long.

    `weights`: how many of the sequences in flight have such a context, relative to the others.
    """
    seen = context_tokens if window is None else np.minimum(context_tokens, window)
    order = np.argsort(seen)
    seen, shares = seen[order], weights[order] / weights.sum()
    below = np.minimum(np.cumsum(shares), 1.0)[:, None] ** batches  # chance that none of a batch is longer
    longest = (np.diff(below, axis=0, prepend=0.0) * seen[:, None]).sum(axis=0)
    size, ratio = _measured()
    far = np.interp(batches, size, ratio)
    return np.asarray(1 + far * np.maximum(longest / float(shares @ seen) - 1, 0.0))


def mixed(cost: Cost, model: Model, context_tokens: Array, weights: Array, batches: Array) -> Cost:
    """A cost without techniques whose decode steps hold sequences of these lengths; `batches` as in its figures."""
    if len(weights) < 2:
        return cost
    kinds = [block.attention.window for block in model.blocks if block.attention is not None]
    by_window: Mapping[int | None, Array] = {w: longer(context_tokens, weights, batches, w) for w in set(kinds)}
    factors = iter([by_window[window] for window in kinds])  # ops of a phase stand in the order of the model's blocks

    def slower(op: Op) -> Op:
        if op.name != "attention":
            return op
        factor = next(factors)
        return replace(op, traffic={at: x * factor if at.item == "kv" else x for at, x in op.traffic.items()})

    return cost.map_ops(slower, "decode")
