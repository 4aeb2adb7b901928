"""What is asked of an engine under load and what is said of it, for closed loops and for arrivals; counts of a step.

Counted in steps: a step holds a token of every sequence in flight and prompt tokens up to a budget, first come first
served (Agrawal et al., "Sarathi-Serve", arXiv 2403.02310), and lasts `step_s + sequence_s x sequences + token_s x
prompt tokens`. A request of m tokens takes part in its prompt's steps and m - 1 more. So with N in flight
    requests per step = N / steps of a request, at most budget / (prompt + m - 1).
Everything broadcasts; `planner.simulate` is what these forms are held to.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.queueing import deviates

Array = NDArray[np.float64]
PERCENTILES = (0.5, 0.9, 0.95, 0.99)
DEVIATES = np.array([deviates(p) for p in PERCENTILES])
# A line of this utilisation is at its longest within a run; beyond, Little's law says how long.
FULLEST = 0.95


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


def capacity_per_s(load: Load, server: Server) -> Array:
    """Requests per second that an engine carries with as many in flight as it may hold."""
    prompt, m = np.asarray(load.input_tokens, dtype=float), np.asarray(load.output_tokens, dtype=float)
    rate, _ = requests_per_step(np.asarray(server.sequences, dtype=float), prompt, m, server)
    return np.asarray(rate / (server.step_s + server.sequence_s * rate * (m - 1) + server.token_s * prompt * rate))


def alike(*figures: Array) -> tuple[Array, ...]:
    """All in one shape."""
    return tuple(np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in figures)))


def steps_of_prompt(prompt: Array, decoding: Array, server: Server) -> Array:
    """Steps of one prompt, beside so many sequences that decode."""
    room = np.maximum(server.step_tokens - decoding, 1.0)
    return np.asarray(np.ones_like(room * prompt) if server.whole else np.maximum(np.ceil(prompt / room), 1.0))


def requests_per_step(flying: Array, prompt: Array, m: Array, server: Server) -> tuple[Array, Array]:
    """Requests a step, and the steps of one prompt."""
    chunks = steps_of_prompt(prompt, np.minimum(flying, server.step_tokens / 2), server)
    return np.minimum(flying / (m - 1 + chunks), server.step_tokens / (prompt + m - 1)), chunks


def prompts_per_step(prompt: Array, decoding: Array, server: Server) -> Array:
    """Prompts that a step has room for."""
    room = np.maximum(server.step_tokens - decoding, 1.0) / prompt
    return np.asarray(np.maximum(np.floor(room), 1.0) if server.whole else room)
