"""Attention of a batch whose sequences differ in length, from kernels that were measured with equal ones.

Decoding lies between a batch of the mean and a batch of the longest length: mean + share x (longest - mean). The share
is small where many sequences keep every multiprocessor busy, and larger beside the chunk of a prompt. The shares are
medians of what LLMServingSim 2.0 profiled in vLLM (github casys-kaist/LLMServingSim, MIT; RTX 4090, RTX PRO 6000).
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from planner.hardware import GPUType
from planner.perf.operators import Estimate, context_attention_s, generation_attention_s

Array = NDArray[np.float64]
SEQUENCES = (2, 4, 8, 16, 32, 64, 128, 256)
# Decoding alone, by number of sequences.
ALONE = (0.090, 0.080, 0.045, 0.014, 0.035, 0.066, 0.037, 0.011)
# Beside a prompt's chunk, by number of sequences and, across, by how much longer than the mean the longest is.
LONGER = (1.25, 1.6, 2.6, 3.7)
BESIDE = (
    (0.98, 0.98, 0.98, 0.98),
    (0.80, 0.71, 0.56, 0.56),
    (0.74, 0.26, 0.30, 0.43),
    (0.61, 0.16, 0.19, 0.18),
    (0.44, 0.11, 0.11, 0.09),
    (0.29, 0.02, 0.07, 0.04),
    (0.12, 0.00, 0.03, 0.01),
    (0.07, 0.00, 0.01, 0.01),
)


def unequal_share(sequences: float, longest_over_mean: float, beside_prompt: bool = False) -> float:
    """How far from the mean's time to the longest's a batch lies; the ends of the tables hold beyond them."""
    place = np.log2(max(sequences, 1))
    rows = np.log2(SEQUENCES)
    if not beside_prompt:
        return float(np.interp(place, rows, ALONE))
    return float(np.interp(place, rows, [np.interp(longest_over_mean, LONGER, row) for row in BESIDE]))


def decoding_s(
    gpu: GPUType, cached: Array, heads: int, kv_heads: int, width: int, beside_prompt: bool = False
) -> Estimate:
    """One new token of each sequence over its own `cached` tokens, in 16 bits; arrays of one element come back."""
    count, mean, longest = len(cached), float(np.mean(cached)), float(np.max(cached))
    ends = np.array([np.round(mean), longest])
    same = np.ones(2)
    made = generation_attention_s(gpu, count * same, ends, heads * same, kv_heads * same, width * same)
    share = unequal_share(count, longest / max(mean, 1.0), beside_prompt)

    def between(values: Array) -> Array:
        return values[:1] + share * (values[1:] - values[:1])

    watts = between(made.power_w)
    return Estimate(between(made.latency_s), between(made.lo_s), between(made.hi_s), watts, made.source[:1])


def prompts_s(gpu: GPUType, tokens: Array, heads: int, kv_heads: int, width: int) -> Estimate:
    """Causal attention of prompts of `tokens` each, packed into one call; arrays of one element come back.

    They are taken as equal prompts of the length that has as much arithmetic for as many tokens:
    sum of squares over sum.
    """
    total, squares = float(np.sum(tokens)), float(np.sum(np.square(tokens)))
    length = max(round(squares / total), 1)
    batch = max(round(total / length), 1)
    one = np.ones(1)
    made = context_attention_s(gpu, batch * one, length * one, heads * one, kv_heads * one, width * one)
    scale = squares / (batch * length * length)
    return replace(made, latency_s=made.latency_s * scale, lo_s=made.lo_s * scale, hi_s=made.hi_s * scale)
