"""Step times from layers timed inside an engine: dense operators by tokens, attention by chunk, cache and batch.

Attention of sequences of unequal length lies between that of equal ones of the mean and of the longest length; the
share was measured (LLMServingSim 2.0 profiles, github casys-kaist/LLMServingSim, MIT).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.errors import UnknownName
from planner.perf.stored import meta_of, stored
from planner.simulate import Step

Array = NDArray[np.float64]
AXES = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """One model on one GPU type and degree. Times in seconds.

    `dense_s` by `tokens`, all layers and embeddings; `per_sequence_s` (head, sampler) by `sequences`; `attention_s`
    of all layers over the grid of `axes`. `unequal_ratio`: how far from mean to longest, by sequences in
    `batch`. `step_s`, `request_s`: what the engine adds to a step and for each sequence in it.
    """

    name: str
    tokens: Array
    dense_s: Array
    sequences: Array
    per_sequence_s: Array
    axes: tuple[Array, ...]
    attention_s: Array
    batch: Array
    unequal_ratio: Array
    step_s: float
    request_s: float

    def time_s(self, step: Step) -> float:
        """Seconds of one step."""
        chunk = float(sum(new for new, _ in step.chunks))
        count = len(step.contexts)
        tokens, rows = chunk + count, len(step.chunks) + count
        dense = _line(tokens, self.tokens, self.dense_s) + _line(rows, self.sequences, self.per_sequence_s)
        # Chunks are profiled one at a time: several are one of their size, behind the cache that they meet on average.
        met = sum(new * cached for new, cached in step.chunks) / chunk if chunk else 0.0
        mean, longest = (sum(step.contexts) / count, max(step.contexts)) if count else (0.0, 0)
        attention = self._attention(chunk, met, count, mean)
        if longest > 1.05 * mean:
            more = self._attention(chunk, met, count, longest) - attention
            attention += float(np.interp(count, self.batch, self.unequal_ratio)) * max(more, 0.0)
        return float(dense + attention + self.step_s + self.request_s * rows)

    def _attention(self, chunk: float, met: float, count: float, context: float) -> float:
        """Multilinear between the points of the grid, in the logarithm of one more than each coordinate's distance."""
        value = self.attention_s
        for axis, x in zip(self.axes, (chunk, met, float(count), context), strict=True):
            i = min(max(int(np.searchsorted(axis, x)) - 1, 0), len(axis) - 2)
            share = (x - axis[i]) / (axis[i + 1] - axis[i])
            value = value[i] * (1 - share) + value[i + 1] * share
        return float(value)


def _line(x: float, xs: Array, ys: Array) -> float:
    """Between points, and on beyond the last one by the mean slope of the last quarter."""
    if x <= xs[-1]:
        return float(np.interp(x, xs, ys))
    back = max(len(xs) // 4, 1)
    return float(ys[-1] + (x - xs[-1]) * (ys[-1] - ys[-1 - back]) / (xs[-1] - xs[-1 - back]))


def meta() -> Mapping[str, Any]:
    """What the profiles come from."""
    return meta_of("layers")


def names() -> tuple[str, ...]:
    """Profiles that are shipped."""
    return tuple(meta()["profiles"])


@cache
def profile(name: str) -> Profile:
    """A shipped profile by its name, such as rtx4090_llama-3.1-8b_tp1; raises UnknownName."""
    if name not in names():
        raise UnknownName("layer profile", name, names())
    return unpacked(name, stored("layers"))


def unpacked(name: str, arrays: Mapping[str, NDArray[Any]]) -> Profile:
    """A profile from its arrays."""
    held = {key.partition(":")[2]: x for key, x in arrays.items() if key.startswith(f"{name}:")}
    step_s, request_s = (float(x) for x in held["numbers"])
    return Profile(
        name,
        held["tokens"],
        held["dense_s"],
        held["sequences"],
        held["per_sequence_s"],
        tuple(held[axis] for axis in AXES),
        held["attention_s"],
        held["batch"],
        held["unequal_ratio"],
        step_s,
        request_s,
    )
