"""TTFT, TPOT and E2E with percentiles of users who share an engine and wait for their answers (a closed loop).

With N users, by Little's law N = throughput x (TTFT + (m - 1) TPOT), which gives the wait where the engine is full.
A run starts with all users at once: the first wave's prompts stand in line, and later waves come in bunches that
spread with the spread of lengths. After the last requests of a run no prompts come, so that they are written sooner.
Percentiles are those of this population: the first wave by its place in line, those between, and the last.
"""

from dataclasses import dataclass

import numpy as np

from planner.perf.under_load import (
    FULLEST,
    PERCENTILES,
    Answer,
    Array,
    Figures,
    Load,
    Server,
    alike,
    prompts_per_step,
    requests_per_step,
)
from planner.queueing import deviates

# How far apart, in standard deviations of a length, the first and the last of a bunch come after one more wave.
BUNCH_DEVIATIONS = 3.5
# Waits for a place in the batch differ by this share of their mean (by the step-exact loop, equal and unequal lengths).
WAIT_SPREAD = 0.02
# Mean difference of two lengths, in standard deviations: how many more prompts the longer life meets of each user.
LIVES_APART = 1.13
PLACES = 32  # in a wave's line at which it is looked at
NORMAL = np.array([deviates((i + 0.5) / 24) for i in range(24)])  # a normal distribution as so many equal shares
NORMAL /= NORMAL.std()


def closed(users: Array, load: Load, server: Server, waves: int = 10) -> Answer:
    """A run in which each of so many users sends its next request when the last is answered, `waves` requests each."""
    n, prompt, m, start_s = alike(users, load.input_tokens, load.output_tokens, server.step_s)
    flying = np.minimum(n, server.sequences)
    rate, chunks = requests_per_step(flying, prompt, m, server)
    base_s, own_s = start_s + server.sequence_s * rate * (m - 1), server.token_s * prompt
    group = np.clip(prompts_per_step(prompt, rate * (m - 1), server), 1.0, flying)
    bunch = _Bunch(flying, rate, base_s, own_s, chunks, group, load.spread_ratio * m)
    # Prompts of a bunch that stays together do not hold each other up.
    apart = np.where(bunch.deviation > 1, 1 / flying, group / flying)
    place, line_s = _first_wave(n, flying, prompt, server)
    share, left = _kinds(n, flying, place, waves)
    tpots_s = base_s[..., None] + (own_s * rate * (1 - apart))[..., None] * left
    tpot_s = (share * tpots_s).sum(axis=-1)
    later_s = [_later_wave(wave, bunch, server) for wave in range(1, waves)] or [line_s.mean(axis=-1)]
    # Little's law: what is left of a user's round beside its tokens.
    late_s = n / rate * (base_s + own_s * rate) - (m - 1) * tpot_s
    full = (n > server.sequences) | (flying / (m - 1 + chunks) > rate * (1 + 1e-9))
    waits_s = np.where(full, np.maximum(late_s - later_s[-1], 0.0), 0.0)
    # Of those who start together the last to find a place waits as long as everyone later.
    beyond = np.maximum(place - flying[..., None], 0.0) / np.maximum(n - flying, 1.0)[..., None]
    line_s = np.where(beyond > 0, later_s[0][..., None] + waits_s[..., None] * beyond, line_s)
    steady_s = np.mean(later_s, axis=0) + waits_s
    ttfts_s = np.concatenate([line_s, np.repeat(steady_s[..., None], PLACES + 1, axis=-1)], axis=-1) + server.frontend_s
    company = 1 - 1 / flying  # a user alone meets nobody
    deviation_s = np.sqrt(own_s**2 * rate * chunks * company + (WAIT_SPREAD * waits_s) ** 2)
    deviations_s = np.where(np.arange(2 * PLACES + 1) < PLACES, 0.0, deviation_s[..., None])
    # In a life everyone else sends one prompt, but to those who live longer or shorter.
    each_s = own_s * np.sqrt(flying * min(LIVES_APART * load.spread_ratio, 1.0)) * company
    written_s = (m - 1)[..., None] * tpots_s
    lives_s = np.hypot(each_s[..., None], written_s * load.spread_ratio)
    e2e = _population(share, ttfts_s + written_s, np.hypot(deviations_s, lives_s))
    many, between = (m > 1)[..., None], np.maximum(m - 1, 1)
    return Answer(
        requests_per_s=n / e2e.mean_s,
        in_flight=rate * (m - 1 + chunks),
        ttft=_population(share, ttfts_s, deviations_s),
        tpot=_population(share, tpots_s * many, (each_s / between)[..., None] * many),
        e2e=e2e,
        overload=np.full(n.shape, "", dtype=np.str_),
    )


def _first_wave(n: Array, flying: Array, prompt: Array, server: Server) -> tuple[Array, Array]:
    """Places spread evenly over the line of those who start together (last axis), and seconds to the first token there.

    Places beyond those that may be in flight get the last one's seconds.
    """
    count, length, start_s, each_s, token_s, budget = (
        x[..., None]
        for x in alike(flying, prompt, server.step_s, server.sequence_s, server.token_s, server.step_tokens)
    )
    place = np.ceil(n[..., None] * (np.arange(PLACES) + 0.5) / PLACES)
    k = np.minimum(place, count)
    room = budget - np.minimum(k / 2, 0.5 * budget)  # those before are decoding already
    if server.whole:
        room = np.maximum(np.floor(room / length), 1.0) * length
    steps = np.ceil(k * length / room - 1e-9)
    tokens = np.minimum(steps * room, count * length)
    return place, np.asarray(steps * (start_s + each_s * k / 2) + token_s * tokens)


@dataclass(frozen=True, slots=True)
class _Bunch:
    """The users once the first line has dissolved; `deviation`: of a length, in steps."""

    flying: Array
    rate: Array
    base_s: Array
    own_s: Array
    chunks: Array
    group: Array
    deviation: Array


def _later_wave(wave: int, b: _Bunch, server: Server) -> Array:
    """Mean seconds to the first token of a later wave: users come in a bunch whose width in steps grows by the wave."""
    dissolves = b.deviation > 1
    width = np.minimum(b.flying / b.rate, b.flying / b.group + BUNCH_DEVIATIONS * b.deviation * wave**0.5)
    crowd = np.maximum(b.flying / width, b.rate)  # prompts a step while the bunch comes
    others = np.where(dissolves, crowd * b.chunks, np.minimum(crowd * b.chunks, b.group - 1))
    busy = np.minimum(crowd / b.group, FULLEST)
    line_s = np.where(dissolves, busy**2 / (2 * (1 - busy)), 0.0) * (b.base_s + b.own_s * b.group)
    met = (b.flying > b.group) | dissolves
    ahead_s = np.where(met & server.lookahead, b.base_s + b.own_s * np.minimum(crowd, b.group), 0.0)
    company = 1 - 1 / b.flying  # a user alone meets nobody
    return np.asarray(b.chunks * b.base_s + b.own_s + (b.own_s * others + line_s + ahead_s) * company)


def _kinds(n: Array, flying: Array, place: Array, waves: int) -> tuple[Array, Array]:
    """Kinds of requests of a run (last axis): the first wave by place, those between, those after whom none come.

    Their shares, and of the prompts that others send in a life those that still come.
    """
    apart = (np.arange(PLACES) + 0.5) / PLACES
    first = np.full((*n.shape, PLACES), 1 / waves / PLACES)
    last = np.repeat((flying / n / waves / PLACES * (waves > 1))[..., None], PLACES, axis=-1)
    between = 1 - first.sum(axis=-1) - last.sum(axis=-1)
    behind = np.clip((n[..., None] - place) / flying[..., None], 0.0, 1.0) if waves == 1 else np.ones_like(first)
    left = np.concatenate([behind, np.ones_like(between[..., None]), np.ones_like(last) * (1 - apart)], axis=-1)
    return np.concatenate([first, between[..., None], last], axis=-1), left


def _population(share: Array, centres_s: Array, deviations_s: Array) -> Figures:
    """Kinds of requests by share (last axis), each normal about its centre."""
    values = (centres_s[..., None] + np.broadcast_to(deviations_s, centres_s.shape)[..., None] * NORMAL).clip(min=0.0)
    each = np.broadcast_to(share[..., None] / len(NORMAL), values.shape)
    values, each = (x.reshape(*share.shape[:-1], -1) for x in (values, each))
    order = values.argsort(axis=-1)
    values, each = np.take_along_axis(values, order, -1), np.take_along_axis(each, order, -1)
    below = each.cumsum(axis=-1) - each / 2
    out = []
    for p in PERCENTILES:
        at = (below < p).sum(axis=-1, keepdims=True).clip(1, values.shape[-1] - 1)
        (low, high), (before, after) = (
            (np.take_along_axis(x, at - 1, -1)[..., 0], np.take_along_axis(x, at, -1)[..., 0]) for x in (values, below)
        )
        out.append(low + (high - low) * ((p - before) / np.maximum(after - before, 1e-12)).clip(0.0, 1.0))
    return Figures(np.asarray((share * centres_s).sum(axis=-1)), np.stack(out, axis=-1))
