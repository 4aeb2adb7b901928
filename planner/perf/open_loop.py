"""TTFT, TPOT and E2E with percentiles of requests that arrive at an engine at a rate (an open loop)."""

import numpy as np
from numpy.typing import NDArray

from planner.perf.under_load import (
    DEVIATES,
    FULLEST,
    PERCENTILES,
    Answer,
    Array,
    Figures,
    Load,
    Server,
    alike,
    capacity_per_s,
    prompts_per_step,
    steps_of_prompt,
)
from planner.queueing import mean_wait_s, wait_quantile_s
from planner.units import rate_words

# Time that drifts in an open loop is skewed to the right, by about one (by the step-exact loop): Cornish and Fisher.
SKEWED = DEVIATES + (DEVIATES**2 - 1) / 6
# Squared coefficient of variation of how often a place gets free, of lives that do not feed back (by the same loop).
SLOT_SCV = 0.5
# Correlation of TTFT with the rest of a life, by how much lives feed back (by the step-exact loop).
TOGETHER = 0.6


def open_loop(requests_per_s: Array, load: Load, server: Server) -> Answer:
    """Poisson arrivals at a rate; what cannot be carried is said so, with the rate that could."""
    x, prompt, m, start_s = alike(requests_per_s, load.input_tokens, load.output_tokens, server.step_s)
    most = np.broadcast_to(capacity_per_s(load, server), x.shape)
    slots = np.broadcast_to(np.asarray(server.sequences, dtype=float), x.shape)
    fine = x < most
    carried = np.where(fine, x, 0.5 * most)
    # A step is as long as what comes during it makes it: s = step + (sequence (m - 1) + token prompt) rate s.
    mean_s = start_s / (1 - carried * (server.sequence_s * (m - 1) + server.token_s * prompt))
    rate = carried * mean_s
    chunks, group = steps_of_prompt(prompt, rate * (m - 1), server), prompts_per_step(prompt, rate * (m - 1), server)
    base_s, own_s = start_s + server.sequence_s * rate * (m - 1), server.token_s * prompt
    flying = rate * (m - 1 + chunks)
    # While prompts wait, steps are full: a line served by as many prompts at a time as a step has room for.
    full_s, servers = base_s + own_s * group, np.maximum(group, 1.0)
    serve_s = full_s * servers / group
    busy = np.minimum(carried * full_s / group, FULLEST)
    queue_s = np.stack([wait_quantile_s(busy, servers, serve_s, p, 0.0) for p in PERCENTILES], axis=-1)
    queued_s = mean_wait_s(busy, servers, serve_s, 0.0)
    deviation_s, feedback = _drift(flying, slots, own_s, server.sequence_s * (m - 1), carried)
    drift_s = deviation_s / np.maximum(m - 1, 1)
    # A step in progress must end; with lookahead the next one is already scheduled.
    ahead_s = (base_s / 2 + mean_s * server.lookahead) * np.minimum(flying, 1.0)
    alone_s = server.frontend_s + ahead_s + chunks * base_s + own_s * (1 + rate * chunks)
    seen_s = (chunks + 0.5 + server.lookahead) * drift_s
    first = _around(alone_s, np.sqrt(own_s**2 * rate * (chunks + 1) + mean_s**2 / 12 + seen_s**2))
    # How many are in flight drifts, as if as many fewer were independent of each other; what is carried stays.
    places = np.maximum(slots * (1 - feedback), 1.0)
    slot = (carried / most, places, places / most)
    vary = SLOT_SCV * (1 - feedback)
    slot_s = np.stack([wait_quantile_s(*slot, p, vary) for p in PERCENTILES], axis=-1)
    first_s = np.asarray(alone_s + queued_s + mean_wait_s(*slot, vary))
    ttft = Figures(first_s, first.percentiles_s + np.maximum(slot_s, queue_s))
    # The prompts that a request leaves behind in the line are prefilled while it decodes.
    left_s = own_s * carried * queued_s / np.maximum(m - 1, 1)
    token_s, drift_s = (np.where(m > 1, x, 0.0) for x in ((base_s + left_s) / (1 - carried * own_s), drift_s))
    tpot = Figures(token_s, np.maximum(token_s[..., None] + SKEWED * drift_s[..., None], 0.0))
    written_s = (m - 1) * token_s
    sides_s = np.hypot(SKEWED * deviation_s[..., None], DEVIATES * (written_s * load.spread_ratio)[..., None])
    e2e = _sum(ttft, written_s, np.sign(SKEWED) * sides_s, TOGETHER * feedback)
    words = np.where(fine, "", _overload(x, most))
    carried, flying = np.where(fine, x, np.nan), np.where(fine, flying, np.nan)
    return Answer(carried, flying, _clear(ttft, fine), _clear(tpot, fine), _clear(e2e, fine), words)


def _drift(flying: Array, slots: Array, own_s: Array, beside_s: Array, requests_per_s: Array) -> tuple[Array, Array]:
    """Standard deviation of the time that a request writes for, and how much lives that lengthen lengthen others.

    Each arrival lengthens the lives of those in flight by its prompt's time, and by what its sequence adds to their
    steps: that is a Poisson sum over one life, and more are in flight as long as lives are longer, up to the places.
    """
    feedback = requests_per_s * (own_s + beside_s)
    met = own_s**2 + own_s * beside_s + beside_s**2 * 2 / 3
    most = (slots - flying) / (SKEWED[2] * np.sqrt(flying / (1 - feedback)))
    return np.sqrt(flying * met) / (1 - feedback) * np.clip(most, 0.0, 1.0), feedback


def _sum(ttft: Figures, written_s: Array, sides_s: Array, correlation: Array) -> Figures:
    """E2E from TTFT and the mean time that a request writes for, `sides_s` off that at each percentile."""
    first_s = ttft.percentiles_s - ttft.mean_s[..., None]
    square = first_s**2 + sides_s**2 + 2 * correlation[..., None] * first_s * sides_s
    mean_s = ttft.mean_s + written_s
    return Figures(mean_s, mean_s[..., None] + np.sign(first_s + sides_s) * np.sqrt(np.maximum(square, 0.0)))


def _around(mean_s: Array, deviation_s: Array) -> Figures:
    return Figures(mean_s, np.maximum(mean_s[..., None] + DEVIATES * deviation_s[..., None], 0.0))


def _clear(figures: Figures, fine: NDArray[np.bool_]) -> Figures:
    return Figures(np.where(fine, figures.mean_s, np.nan), np.where(fine[..., None], figures.percentiles_s, np.nan))


def _overload(offered: Array, most: Array) -> NDArray[np.str_]:
    words = [
        f"overload: {rate_words(x)} requests/s come, at most {rate_words(c)} are carried"
        for x, c in zip(offered.flat, most.flat, strict=True)
    ]
    return np.array(words, dtype=np.str_).reshape(offered.shape)
