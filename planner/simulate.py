"""Serves requests step by step as an engine with continuous batching does: the reference that closed forms are held to.

Each step takes every running sequence's next token, then prompt tokens up to the step's budget, first come first
served (Agrawal et al., "Sarathi-Serve", arXiv 2403.02310; vLLM's scheduler). KV blocks that run out push the youngest
sequence back into the queue, to be computed again. With `lookahead`, a step is scheduled while the one before it runs.
No clock and no chance: the same requests give the same answer.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from planner.paged_cache import BLOCK_TOKENS, PagedCache

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Request:
    """`blocks`: contents of the prompt's full blocks, for prefix reuse; none = nothing is shared."""

    arrival_s: float
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine's limits. `frontend_s`: from arrival until the scheduler sees a request. `users`: closed loop."""

    max_sequences: int
    max_step_tokens: int
    kv_blocks: int
    reuse: bool = True
    lookahead: bool = True
    frontend_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """What one step computes: prompt chunks as (new, cached) tokens, and the context of each decoding sequence."""

    chunks: tuple[tuple[int, int], ...]
    contexts: tuple[int, ...]


StepTime = Callable[[Step], float]


@dataclass(frozen=True, slots=True)
class Served:
    """Times of every request, in order of the requests, in seconds; NaN for what never happened."""

    arrival_s: Array
    scheduled_s: Array
    first_token_s: Array
    last_token_s: Array
    output_tokens: Array
    steps: int
    preemptions: int
    refused: tuple[int, ...]

    @property
    def ttft_s(self) -> Array:
        """Arrival to first token."""
        return self.first_token_s - self.arrival_s

    @property
    def tpot_s(self) -> Array:
        """Mean time of a token after the first; NaN for single tokens."""
        later = np.where(self.output_tokens > 1, self.output_tokens - 1, np.nan)
        return (self.last_token_s - self.first_token_s) / later

    @property
    def e2e_s(self) -> Array:
        """Arrival to last token."""
        return self.last_token_s - self.arrival_s


@dataclass(slots=True)
class _Sequence:
    """A request in the engine. `done`: tokens computed; `known`: prompt and tokens generated so far."""

    index: int
    request: Request
    known: int
    done: int = 0
    named: list[int] = field(default_factory=list)
    unnamed: int = 0
    emitted: int = 0

    @property
    def total(self) -> int:
        return self.request.input_tokens + self.request.output_tokens

    def key(self, block: int) -> int:
        """Content of a block: the prompt's own, else one that only this request has."""
        given = self.request.blocks
        return given[block] if block < len(given) else -(self.index * 10**7 + block + 1)


class _State:
    """The scheduler: who waits, who runs, what is in the cache."""

    def __init__(self, requests: Sequence[Request], engine: Engine) -> None:
        self.engine = engine
        self.cache = PagedCache(engine.kv_blocks, engine.reuse)
        self.sequences = [_Sequence(i, r, r.input_tokens) for i, r in enumerate(requests)]
        self.waiting: deque[_Sequence] = deque()
        self.running: list[_Sequence] = []
        self.preemptions = 0
        self.scheduled_s = np.full(len(requests), np.nan)

    def schedule(self, now_s: float) -> tuple[Step, list[_Sequence]]:
        """The next step, and the sequences that give a token in it."""
        budget = self.engine.max_step_tokens
        chunks: list[tuple[int, int]] = []
        contexts: list[int] = []
        giving: list[_Sequence] = []
        pushed_back = False
        at = 0
        while at < len(self.running) and budget > 0:
            one = self.running[at]
            new = min(one.known - one.done, budget)
            if new <= 0:  # all its tokens are on their way
                at += 1
                continue
            while not self._room(one, new):
                pushed_back = True
                last = self.running.pop()
                self._push_back(last)
                if last is one:
                    break
            else:
                budget -= new
                self._advance(one, new, chunks, contexts, giving)
                at += 1
        if not pushed_back or not (chunks or contexts):  # all were pushed back: the oldest begins again
            self._admit(now_s, budget, chunks, contexts, giving)
        return Step(tuple(chunks), tuple(contexts)), giving

    def _admit(
        self, now_s: float, budget: int, chunks: list[tuple[int, int]], contexts: list[int], giving: list[_Sequence]
    ) -> None:
        while self.waiting and budget > 0 and len(self.running) < self.engine.max_sequences:
            one = self.waiting[0]
            # The last token must be computed, even where all of a prompt is there.
            keys = [one.key(i) for i in range((one.known - 1) // BLOCK_TOKENS)]
            hit = self.cache.reusable(keys)
            new = min(one.known - hit * BLOCK_TOKENS, budget)
            needed = math.ceil((hit * BLOCK_TOKENS + new) / BLOCK_TOKENS) - hit
            if needed > self.cache.available - self.cache.idle_among(keys[:hit]):
                return
            self.waiting.popleft()
            self.cache.take_up(keys[:hit])
            one.named, one.unnamed, one.done = keys[:hit], 0, hit * BLOCK_TOKENS
            self.running.append(one)
            if np.isnan(self.scheduled_s[one.index]):
                self.scheduled_s[one.index] = now_s
            self._room(one, new)
            budget -= new
            self._advance(one, new, chunks, contexts, giving)

    def _room(self, one: _Sequence, new: int) -> bool:
        """Take the blocks that `new` more tokens need, if there are as many."""
        needed = math.ceil((one.done + new) / BLOCK_TOKENS) - len(one.named) - one.unnamed
        if needed > self.cache.available:
            return False
        if needed > 0:
            self.cache.take(needed)
            one.unnamed += needed
        return True

    def _advance(
        self,
        one: _Sequence,
        new: int,
        chunks: list[tuple[int, int]],
        contexts: list[int],
        giving: list[_Sequence],
    ) -> None:
        if new == 1 and one.done >= one.request.input_tokens:
            contexts.append(one.done + 1)
        else:
            chunks.append((new, one.done))
        one.done += new
        while one.unnamed and (len(one.named) + 1) * BLOCK_TOKENS <= one.done:
            if not self.cache.write(one.key(len(one.named))):
                break  # the same content is held by another: this copy stays unnamed
            one.named.append(one.key(len(one.named)))
            one.unnamed -= 1
        if one.done == one.known:
            giving.append(one)
            if one.known < one.total - 1:
                one.known += 1  # the token it gives is the next step's input

    def _push_back(self, one: _Sequence) -> None:
        self.cache.let_go(one.named, one.unnamed)
        one.named, one.unnamed, one.done = [], 0, 0
        self.waiting.appendleft(one)
        self.preemptions += 1

    def finish(self, one: _Sequence) -> None:
        """The last token is out: its blocks are free."""
        if one in self.running:
            self.running.remove(one)
        elif one in self.waiting:
            self.waiting.remove(one)
        self.cache.let_go(one.named, one.unnamed)
        one.named, one.unnamed = [], 0


def serve(requests: Sequence[Request], engine: Engine, step_time: StepTime, users: int | None = None) -> Served:
    """Serve all requests. Open loop at their arrival times; with `users`, closed loop in their order.

    A request that could never fit is refused (`Served.refused`).
    """
    state = _State(requests, engine)
    blocks = [math.ceil((r.input_tokens + r.output_tokens) / BLOCK_TOKENS) for r in requests]
    refused = tuple(i for i, needed in enumerate(blocks) if needed > engine.kv_blocks or requests[i].output_tokens < 1)
    order = [i for i in range(len(requests)) if i not in set(refused)]
    arrival_s = np.array([r.arrival_s for r in requests], dtype=float)
    if users is None:
        order.sort(key=lambda i: arrival_s[i])
        coming = deque((arrival_s[i] + engine.frontend_s, i) for i in order)
        later: deque[int] = deque()
    else:
        arrival_s[:] = 0.0
        coming = deque((engine.frontend_s, i) for i in order[:users])
        later = deque(order[users:])
    first_s, last_s = np.full(len(requests), np.nan), np.full(len(requests), np.nan)
    flying: deque[tuple[float, list[_Sequence]]] = deque()
    now_s, free_s, steps = 0.0, 0.0, 0
    while coming or flying or state.waiting or state.running:
        if len(flying) > engine.lookahead:
            now_s = max(now_s, flying[0][0])
            _land(state, *flying.popleft(), first_s, last_s, arrival_s, coming, later, engine)
        while coming and coming[0][0] <= now_s:
            state.waiting.append(state.sequences[coming.popleft()[1]])
        step, giving = state.schedule(now_s)
        if step.chunks or step.contexts:
            free_s = max(now_s, free_s) + step_time(step)
            steps += 1
            flying.append((free_s, giving))
        elif flying and not (coming and coming[0][0] < flying[0][0]):
            now_s = max(now_s, flying[0][0])
            _land(state, *flying.popleft(), first_s, last_s, arrival_s, coming, later, engine)
        elif coming:
            now_s = max(now_s, coming[0][0])
        elif state.waiting or state.running:
            raise AssertionError("sequences wait, nothing runs, and nothing comes")
    outputs = np.array([r.output_tokens for r in requests], dtype=float)
    return Served(arrival_s, state.scheduled_s, first_s, last_s, outputs, steps, state.preemptions, refused)


def _land(
    state: _State,
    when_s: float,
    giving: list[_Sequence],
    first_s: Array,
    last_s: Array,
    arrival_s: Array,
    coming: deque[tuple[float, int]],
    later: deque[int],
    engine: Engine,
) -> None:
    """Tokens of a step come out; finished requests leave, and in a closed loop the next user's request arrives."""
    for one in giving:
        one.emitted += 1
        if one.emitted == 1:
            first_s[one.index] = when_s
        if one.emitted == one.request.output_tokens:
            last_s[one.index] = when_s
            state.finish(one)
            if later:
                following = later.popleft()
                arrival_s[following] = when_s
                coming.append((when_s + engine.frontend_s, following))
