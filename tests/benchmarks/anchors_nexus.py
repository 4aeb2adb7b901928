"""Nexus (arXiv 2507.06608): what dividing each GPU between prefill and decode gains over chunked prefill on L20s."""

import numpy as np
from numpy.typing import NDArray

from planner.batching import Replica, Sizes, objective, unloaded
from planner.calibration import ENGINES, HBM_RATIO, MAX_UTILISATION_RATIO
from planner.catalog import gpu, model
from planner.cost import Case
from planner.pools import run_of
from planner.roofline import memory_bytes
from planner.service import SLO
from planner.technique import Technique, cost_of
from planner.techniques.chunked_prefill import ChunkedPrefill
from planner.techniques.intra_gpu_split import IntraGPUSplit
from tests.benchmarks.anchor_rows import Figure, computed, explained, given

Array = NDArray[np.float64]
MODELS = ("qwen2.5-3b", "llama-3.1-8b")
# The paper's own inputs: mean tokens in and out.
WORKLOADS = {"Long Data Collections": (5905.0, 180.0), "arXiv": (3832.0, 200.0), "ShareGPT": (496.0, 97.0)}
BATCHES = np.array([[1.0, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]])


def rates_and_gaps(which: str, tokens: tuple[float, float], *techniques: Technique) -> tuple[Array, Array]:
    """Requests a second that each batch carries on an L20 (0 where it does not fit), and seconds between tokens."""
    card = gpu("L20")
    sizes = Sizes(*(np.full((1, 1), n) for n in (*tokens, tokens[0])))
    prompts = np.clip(BATCHES / sizes.output_tokens, 1.0, np.maximum(8192 / sizes.input_tokens, 1.0))
    cost = cost_of(Case(model(which), card, BATCHES, sizes.input_tokens, sizes.output_tokens, prompts), techniques)
    run = run_of(cost, Replica(card, ENGINES["vllm"], sizes, BATCHES, 1))
    fits = np.broadcast_to(memory_bytes(cost, cost.pools[0]) <= HBM_RATIO * card.hbm_bytes, BATCHES.shape)
    gap_s = unloaded(run, sizes, BATCHES, objective([SLO("mean", percentile=0.5)]))[1]
    return np.where(fits, run.requests_per_s, 0.0)[0], gap_s[0]


def gap_gain(which: str, tokens: tuple[float, float]) -> float:
    """How many times shorter the time between tokens is at nearly all that vLLM carries; 0 where Nexus carries less."""
    (vllm, vllm_gap_s), (nexus, nexus_gap_s) = (
        rates_and_gaps(which, tokens, technique) for technique in (ChunkedPrefill(), IntraGPUSplit())
    )
    load = MAX_UTILISATION_RATIO * vllm.max()
    gaps = [
        float(np.where(rate >= load, gap_s, np.inf).min()) for rate, gap_s in ((vllm, vllm_gap_s), (nexus, nexus_gap_s))
    ]
    return gaps[0] / gaps[1]


def figures(row: dict[str, str]) -> list[Figure]:
    """Ours for each figure of a row."""
    split = IntraGPUSplit()
    if row["id"] == "nexus-alpha-beta":
        return [given(split.decode_slowdown), given(split.prefill_slowdown)]
    if row["id"] == "nexus-spf":
        return [given(split.tokens_per_s_waited)]
    if row["id"] == "nexus-workloads":
        return [given(mean) for tokens in WORKLOADS.values() for mean in tokens]
    gain = max(gap_gain(which, tokens) for which in MODELS for tokens in WORKLOADS.values())
    return [
        explained("the latency limits under which throughputs were compared"),
        explained("the request rates at which TTFTs were compared: near saturation the ratio has no bound"),
        computed(gain),
    ]
