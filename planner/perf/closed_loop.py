"""TTFT, TPOT and E2E of an engine under load in closed form, for users who wait (closed loop) or arrivals (open loop).

Counted in steps: a step holds a token of every sequence in flight and prompt tokens up to a budget, first come first
served (Agrawal et al., "Sarathi-Serve", arXiv 2403.02310), and lasts `step_s + sequence_s x sequences + token_s x
prompt tokens`. A request of m tokens takes part in its prompt's steps and m - 1 more. So with N users
    requests per step = min(N, sequences allowed) / steps of a request, at most budget / (prompt + m - 1),
and by Little's law N = throughput x (TTFT + (m - 1) TPOT), which gives the wait where the engine is full.
A run starts with all users at once: the first wave's prompts stand in line, and later waves come in bunches that
spread with the spread of lengths. Everything broadcasts; `planner.simulate` is what these forms are held to.
"""

from dataclasses import dataclass
from math import erf

import numpy as np
from numpy.typing import NDArray

from planner.queueing import deviates, wait_quantile_s

Array = NDArray[np.float64]
PERCENTILES = (0.5, 0.9, 0.95, 0.99)
DEVIATES = np.array([deviates(p) for p in PERCENTILES])
# How far apart, in standard deviations of a length, the first and the last of a bunch come after one more wave.
BUNCH_DEVIATIONS = 3.5
# A line of this utilisation is at its longest within a run; beyond, Little's law says how long.
FULLEST = 0.95
# Waits for a place in the batch differ by this share of their mean (by the step-exact loop, equal and unequal lengths).
WAIT_SPREAD = 0.02
PLACES = 32  # in the first wave's line at which it is looked at
_normal = np.vectorize(lambda x: (1 + erf(x / 2**0.5)) / 2, otypes=[float])


@dataclass(frozen=True, slots=True)
class Load:
    """Requests of one kind; `spread_ratio`: standard deviation over mean of the lengths."""

    input_tokens: Array
    output_tokens: Array
    spread_ratio: float = 0.0


@dataclass(frozen=True, slots=True)
class Server:
    """One engine. `sequences`: in flight at most (batch limit or KV memory); `step_tokens`: budget of a step.

    `lookahead`: a step is scheduled while the one before runs. `whole`: prompts are not split between steps.
    """

    step_s: Array
    sequence_s: Array
    token_s: Array
    sequences: Array
    step_tokens: Array
    frontend_s: float = 0.0
    lookahead: bool = True
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Figures:
    """Mean, and percentiles in the order of `PERCENTILES` along the last axis."""

    mean_s: Array
    percentiles_s: Array


@dataclass(frozen=True, slots=True)
class Answer:
    """`overload`: "" or why the load cannot be carried, in words; figures are NaN there."""

    requests_per_s: Array
    in_flight: Array
    ttft: Figures
    tpot: Figures
    e2e: Figures
    overload: NDArray[np.str_]


def closed(users: Array, load: Load, server: Server, waves: int = 10) -> Answer:
    """A run in which each of so many users sends its next request when the last is answered, `waves` requests each."""
    n, prompt, m, start_s = _alike(users, load.input_tokens, load.output_tokens, server.step_s)
    flying = np.minimum(n, server.sequences)
    rate, chunks = _rate(flying, prompt, m, server)
    base_s, own_s = start_s + server.sequence_s * rate * (m - 1), server.token_s * prompt
    group = np.clip(_group(prompt, rate * (m - 1), server), 1.0, flying)
    bunch = _Bunch(flying, rate, base_s, own_s, chunks, group, load.spread_ratio * m)
    # Prompts of a bunch that stays together do not hold each other up; those of the last wave hold up half the users.
    apart = np.where(bunch.deviation > 1, 1 / flying, group / flying)
    tpot_s = base_s + own_s * rate * (1 - apart) * (1 - 1 / (2 * waves))
    place, line_s = _first_wave(n, flying, prompt, server)
    later_s = [_later_wave(wave, bunch, server) for wave in range(1, waves)] or [line_s.mean(axis=-1)]
    # Little's law: what is left of a user's round beside its tokens.
    late_s = n / rate * (base_s + own_s * rate) - (m - 1) * tpot_s
    full = (n > server.sequences) | (flying / (m - 1 + chunks) > rate * (1 + 1e-9))
    waits_s = np.where(full, np.maximum(late_s - later_s[-1], 0.0), 0.0)
    # Of those who start together the last to find a place waits as long as everyone later.
    beyond = np.maximum(place - flying[..., None], 0.0) / np.maximum(n - flying, 1.0)[..., None]
    queued_s = later_s[0][..., None] + waits_s[..., None] * beyond
    line_s = np.where(beyond > 0, queued_s, line_s) + server.frontend_s
    steady_s = np.mean(later_s, axis=0) + waits_s + server.frontend_s
    mean_s = line_s.mean(axis=-1) / waves + steady_s * (1 - 1 / waves)
    wobble = 1 - 1 / flying
    deviation_s = np.sqrt(own_s**2 * rate * chunks * wobble + (WAIT_SPREAD * waits_s) ** 2) + 1e-3 * mean_s
    ttft = Figures(mean_s, _mixed(line_s, steady_s, deviation_s, 1 / waves))
    each_s = own_s * np.sqrt(rate * m * wobble) / np.maximum(m - 1, 1)
    e2e_s = mean_s + (m - 1) * tpot_s
    spread_s = np.hypot(deviation_s, (m - 1) * tpot_s * load.spread_ratio)
    return Answer(
        requests_per_s=n / e2e_s,
        in_flight=rate * (m - 1 + chunks),
        ttft=ttft,
        tpot=_around(np.where(m > 1, tpot_s, 0.0), np.where(m > 1, each_s, 0.0)),
        e2e=_around(e2e_s, spread_s),
        overload=np.full(n.shape, "", dtype=np.str_),
    )


def open_loop(requests_per_s: Array, load: Load, server: Server) -> Answer:
    """Poisson arrivals at a rate; what cannot be carried is said so, with the rate that could."""
    x, prompt, m, start_s = _alike(requests_per_s, load.input_tokens, load.output_tokens, server.step_s)
    most = np.broadcast_to(capacity_per_s(load, server), x.shape)
    slots = np.broadcast_to(np.asarray(server.sequences, dtype=float), x.shape)
    fine = x < most
    carried = np.where(fine, x, 0.5 * most)
    # A step is as long as what comes during it makes it: s = step + (sequence (m - 1) + token prompt) rate s.
    mean_s = start_s / (1 - carried * (server.sequence_s * (m - 1) + server.token_s * prompt))
    rate = carried * mean_s
    chunks, group = _chunks(prompt, rate * (m - 1), server), _group(prompt, rate * (m - 1), server)
    base_s, own_s = start_s + server.sequence_s * rate * (m - 1), server.token_s * prompt
    flying = rate * (m - 1 + chunks)
    # While prompts wait, steps are full: a line served by as many prompts at a time as a step has room for.
    full_s, servers = base_s + own_s * group, np.maximum(group, 1.0)
    serve_s = full_s * servers / group
    busy = np.minimum(carried * full_s / group, FULLEST)
    queue_s = np.stack([wait_quantile_s(busy, servers, serve_s, p, 0.0) for p in PERCENTILES], axis=-1)
    queued_s = mean_wait_s(busy, servers, serve_s) / 2
    # A step in progress must end; with lookahead the next one is already scheduled.
    ahead_s = (base_s / 2 + mean_s * server.lookahead) * np.minimum(flying, 1.0)
    alone_s = server.frontend_s + ahead_s + chunks * base_s + own_s * (1 + rate * chunks)
    first_s = alone_s + queued_s
    first = _around(alone_s, np.sqrt(own_s**2 * rate * (chunks + 1) + mean_s**2 / 12))
    held_s = flying / carried
    slot_s = np.stack([wait_quantile_s(flying / slots, slots, held_s, p) for p in PERCENTILES], axis=-1)
    ttft = Figures(
        first_s + mean_wait_s(flying / slots, slots, held_s), first.percentiles_s + np.maximum(slot_s, queue_s)
    )
    each_s = own_s * np.sqrt(rate * m) / np.maximum(m - 1, 1)
    # The prompts that a request leaves behind in the line are prefilled while it decodes.
    left_s = own_s * carried * queued_s / np.maximum(m - 1, 1)
    token_s = (base_s + left_s) / (1 - carried * own_s)
    tpot = _around(np.where(m > 1, token_s, 0.0), np.where(m > 1, each_s, 0.0))
    e2e_s = ttft.mean_s + (m - 1) * tpot.mean_s
    later_s = ttft.percentiles_s - ttft.mean_s[..., None]
    sides_s = DEVIATES * ((m - 1) * tpot.mean_s * load.spread_ratio)[..., None]
    e2e = Figures(e2e_s, e2e_s[..., None] + np.where(later_s < 0, -1, 1) * np.hypot(later_s, sides_s))
    words = np.where(fine, "", _overload(x, most))
    carried, flying = np.where(fine, x, np.nan), np.where(fine, flying, np.nan)
    return Answer(carried, flying, _clear(ttft, fine), _clear(tpot, fine), _clear(e2e, fine), words)


def capacity_per_s(load: Load, server: Server) -> Array:
    """Requests per second that an engine carries with as many in flight as it may hold."""
    prompt, m = np.asarray(load.input_tokens, dtype=float), np.asarray(load.output_tokens, dtype=float)
    rate, _ = _rate(np.asarray(server.sequences, dtype=float), prompt, m, server)
    return np.asarray(rate / (server.step_s + server.sequence_s * rate * (m - 1) + server.token_s * prompt * rate))


def _alike(*figures: Array) -> tuple[Array, ...]:
    return tuple(np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in figures)))


def _chunks(prompt: Array, decoding: Array, server: Server) -> Array:
    room = np.maximum(server.step_tokens - decoding, 1.0)
    return np.asarray(np.ones_like(room * prompt) if server.whole else np.maximum(np.ceil(prompt / room), 1.0))


def _rate(flying: Array, prompt: Array, m: Array, server: Server) -> tuple[Array, Array]:
    """Requests a step, and the steps of one prompt."""
    chunks = _chunks(prompt, np.minimum(flying, server.step_tokens / 2), server)
    return np.minimum(flying / (m - 1 + chunks), server.step_tokens / (prompt + m - 1)), chunks


def _group(prompt: Array, decoding: Array, server: Server) -> Array:
    """Prompts that a step has room for."""
    room = np.maximum(server.step_tokens - decoding, 1.0) / prompt
    return np.asarray(np.maximum(np.floor(room), 1.0) if server.whole else room)


def _first_wave(n: Array, flying: Array, prompt: Array, server: Server) -> tuple[Array, Array]:
    """Places spread evenly over the line of those who start together (last axis), and seconds to the first token there.

    Places beyond those that may be in flight get the last one's seconds.
    """
    count, length, start_s, each_s, token_s, budget = (
        x[..., None]
        for x in _alike(flying, prompt, server.step_s, server.sequence_s, server.token_s, server.step_tokens)
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


def _mixed(line_s: Array, steady_s: Array, deviation_s: Array, first: float) -> Array:
    """Percentiles of a first wave along its line and of later ones about their mean, by bisection."""
    highest = np.maximum(line_s.max(axis=-1), steady_s + 8 * deviation_s) * 1.01
    out = []
    for p in PERCENTILES:
        low, high = np.zeros_like(steady_s), highest.copy()
        for _ in range(40):
            middle = (low + high) / 2
            below = (line_s <= middle[..., None]).mean(axis=-1) * first
            below = below + (1 - first) * _normal((middle - steady_s) / deviation_s)
            low, high = np.where(below < p, middle, low), np.where(below < p, high, middle)
        out.append(high)
    return np.stack(out, axis=-1)


def _around(mean_s: Array, deviation_s: Array) -> Figures:
    return Figures(mean_s, np.maximum(mean_s[..., None] + DEVIATES * deviation_s[..., None], 0.0))


def mean_wait_s(busy: Array, servers: Array, held_s: Array) -> Array:
    """Mean of what `planner.queueing.wait_quantile_s` gives percentiles of, over all requests."""
    rho = np.clip(busy, 1e-12, 1 - 1e-9)
    return np.asarray(rho ** (np.sqrt(2 * (servers + 1)) - 1) * held_s / (servers * (1 - rho)))


def _clear(figures: Figures, fine: NDArray[np.bool_]) -> Figures:
    return Figures(np.where(fine, figures.mean_s, np.nan), np.where(fine[..., None], figures.percentiles_s, np.nan))


def _overload(offered: Array, most: Array) -> NDArray[np.str_]:
    words = [
        f"overload: {x:.3g} requests/s come, at most {c:.3g} are carried"
        for x, c in zip(offered.flat, most.flat, strict=True)
    ]
    return np.array(words, dtype=np.str_).reshape(offered.shape)
