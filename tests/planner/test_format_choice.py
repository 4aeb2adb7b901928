"""Which format a deployment is best off with: no rule says so, the cost model finds what was measured.

"Give Me BF16 or Give Me Death", arXiv 2411.02355: 4-bit weights for requests answered one at a time, and for continuous
batching on mid-tier GPUs; 8-bit weights and activations for continuous batching on high-end GPUs.
"""

import numpy as np
import pytest

from planner.batching import Mask, Replica, Sizes, Steady, steady
from planner.calibration import ENGINES, HBM_RATIO
from planner.catalog import gpu, model
from planner.cost import Case
from planner.roofline import memory_bytes
from planner.technique import cost_of
from planner.techniques import techniques

ONE = np.ones((1, 1))
BATCHES = np.array([[1.0, 2, 4, 8, 16, 32, 64, 128, 256]])
EIGHT_BITS = {"A10": "w8a8-int8", "RTX-A6000": "w8a8-int8", "A100": "w8a8-int8", "H100": "fp8"}


def run(card: str, name: str, prompt: float, answer: float) -> tuple[Steady, Mask]:
    """Llama-3.1-8B on one GPU by batch, and where it fits."""
    here = Case(model("llama-3.1-8b"), gpu(card), BATCHES, prompt * ONE, answer * ONE, ONE)
    cost = cost_of(here, [techniques()[name]()] if name else [])
    fits = np.broadcast_to(memory_bytes(cost, cost.pools[0]), BATCHES.shape) < HBM_RATIO * gpu(card).hbm_bytes
    sizes = Sizes(prompt * ONE, answer * ONE, prompt * ONE)
    return steady(cost, Replica(gpu(card), ENGINES["vllm"], sizes, BATCHES, 1)), fits


def alone_s(card: str, name: str) -> float:
    """Seconds of a request that has the GPU to itself."""
    made, _ = run(card, name, 512.0, 256.0)
    return float(made.prompt_s[0, 0] + 256 * made.decode_s[0, 0])


def most_per_s(card: str, name: str, prompt: float = 512.0, answer: float = 256.0) -> float:
    """Requests per second at the best batch that fits."""
    made, fits = run(card, name, prompt, answer)
    return float(np.where(fits, made.requests_per_s, 0.0).max())


@pytest.mark.parametrize(("card", "eight"), EIGHT_BITS.items())
def test_one_request_at_a_time_is_answered_fastest_with_4_bit_weights(card: str, eight: str) -> None:
    assert alone_s(card, "w4a16") < alone_s(card, eight) < alone_s(card, "")


@pytest.mark.parametrize("card", ["A100", "H100"])
@pytest.mark.parametrize("sizes", [(512.0, 256.0), (2048.0, 128.0)])
def test_continuous_batching_on_a_high_end_gpu_carries_most_with_8_bit_weights_and_activations(
    card: str, sizes: tuple[float, float]
) -> None:
    most = {name: most_per_s(card, name, *sizes) for name in ("", "w4a16", EIGHT_BITS[card])}
    assert max(most, key=lambda name: most[name]) == EIGHT_BITS[card]


def test_on_a_small_gpu_continuous_batching_carries_most_with_4_bit_weights_which_leave_room() -> None:
    most = {name: most_per_s("A10", name) for name in ("", "w4a16", "w8a8-int8")}
    assert most["w4a16"] > most["w8a8-int8"] > most[""]
