"""Who is in the batch of an engine: places and KV memory, given first come first served, taken from the youngest.

The rules are those of `planner.simulate`. What steps take, in seconds, is the business of `planner.simulation.engine`.
"""

import math
from collections import deque
from dataclasses import replace
from heapq import heapify, heappush

from planner.paged_cache import BLOCK_TOKENS
from planner.simulation.memory import Memory
from planner.simulation.pace import Pace
from planner.simulation.sequence import NEVER, Sequence

_NONE: list[int] = []


class Batch:
    """Sequences that wait, whose prompt is computed, that decode, and whose last token is on its way.

    `factor`: speed over the model's. `prefill_only`: a request ends with its prompt.
    """

    __slots__ = (
        "_admitted", "_coming", "_context", "_finish", "_landing", "_memory", "_partial", "_pushed", "_queue",
        "_quick_s", "_running", "_slots", "_step", "_stuck", "factor", "pace", "preemptions", "prefill_only",
    )  # fmt: skip

    def __init__(self, pace: Pace, prefill_only: bool) -> None:
        self.pace, self.factor, self.prefill_only = pace, 1.0, prefill_only
        self.preemptions = 0
        self._memory = Memory(pace.kv_blocks, pace.reuse, pace.tokens_per_step)
        self._coming: deque[Sequence] = deque()
        self._queue: deque[Sequence] = deque()
        self._partial: Sequence | None = None  # the one whose prompt is computed in part
        self._finish: list[tuple[int, int, Sequence]] = []  # of all that decode: last step, index
        self._running: dict[int, Sequence] = {}  # the same by index
        self._landing: deque[tuple[float, Sequence]] = deque()  # last tokens that are on their way
        self._context = 0.0  # tokens of all sequences that decode, with those of the step to come
        self._slots = 0  # sequences that hold a place
        self._step = self._admitted = 0
        self._quick_s = 0.0  # the least that a request takes of those that wait, once its prompt is begun
        self._pushed = False  # a sequence lost its place before this step: nobody else gets one
        self._stuck = False  # requests wait, and no step finds room for their prompts before something ends

    def runs(self, pace: Pace, factor: float) -> None:
        """The engine goes on at another speed: steps that were scheduled stay, and so do its limits."""
        if pace is not self.pace:
            mine = self.pace
            pace = replace(
                pace, max_sequences=mine.max_sequences, max_step_tokens=mine.max_step_tokens, kv_tokens=mine.kv_tokens
            )
        self._quick_s *= pace.quickest_s / factor / (self.pace.quickest_s / self.factor)  # no event may be missed
        self.pace, self.factor = pace, factor

    @property
    def steps(self) -> int:
        """Steps that were scheduled."""
        return self._step

    @property
    def waiting(self) -> int:
        """Requests that hold no place yet."""
        return len(self._queue) + len(self._coming)

    @property
    def running(self) -> int:
        """Requests that hold a place."""
        return self._slots

    @property
    def empty(self) -> bool:
        """Whether nothing is left to do."""
        return not (self._coming or self._queue or self._slots or self._landing)

    @property
    def kv_ratio(self) -> float:
        """The share of KV memory that is held."""
        return 1 - self._memory.free / self._memory.blocks if self._memory.blocks else 0.0

    def everything(self) -> list[Sequence]:
        """All requests that are here: what a replica that dies leaves."""
        landing = [one for _, one in self._landing]
        partial = [] if self._partial is None else [self._partial]
        return [*self._running.values(), *partial, *landing, *self._queue, *self._coming]

    def _prompts(self, fresh: list[Sequence]) -> tuple[list[Sequence], float]:
        """Prompts that the next step completes, and seconds that prompt tokens add to it; below 0 where none has room.

        `fresh`: those that only decode here, from this step on.
        """
        memory, queue, count, pace = self._memory, self._queue, len(self._finish), self.pace
        budget, room = pace.max_step_tokens - count, memory.free - memory.growth(count, self._step, 1)
        given: list[Sequence] = []
        added_s, computed = 0.0, 0
        while budget > 0:
            one, keys = self._partial, _NONE
            if one is None:
                if not queue or self._slots >= pace.max_sequences or (self._pushed and (computed or self._finish)):
                    break
                one = queue[0]
                keys = memory.hits(one) if pace.reuse and not one.ready else _NONE
            cached = one.computed + len(keys) * BLOCK_TOKENS
            new = one.known if one.ready else min(one.known - cached, budget)
            needed = (cached + new + BLOCK_TOKENS - 1) // BLOCK_TOKENS - len(keys) - one.blocks
            room -= needed + (memory.idle_among(keys) if keys else 0)
            if room < 0:
                if one is not self._partial:
                    break
                self._push_back(one)
                room = memory.free - memory.growth(count, self._step, 1)
                continue
            if one is not self._partial:
                self._admit(one, keys)
            if one.ready:
                self._continue(one)
                fresh.append(one)
                budget, count = budget - 1, count + 1
                continue
            added_s += self._compute(one, new, needed)
            computed, budget = computed + new, budget - new
            self._partial = None if one.computed == one.known else one
            if self._partial is None:
                given.append(one)
        self._stuck = not (computed or self._pushed)
        return given, added_s + pace.prompts_s(computed) if computed else -1.0

    def _soon(self, one: Sequence, alone: bool) -> None:
        """A request waits, alone or beside others: so much of its answer is to come after its first token."""
        steps = 0 if self.prefill_only else math.ceil((one.want - 1) / self.pace.tokens_per_step)
        least_s = steps * self.pace.quickest_s / self.factor
        self._quick_s = least_s if alone else min(self._quick_s, least_s)

    def _admit(self, one: Sequence, keys: list[int]) -> None:
        """The first of the queue gets a place."""
        self._queue.popleft()
        self._slots += 1
        self._admitted += 1
        one.place = self._admitted
        if keys:
            self._memory.take_up(one, keys)

    def _compute(self, one: Sequence, new: int, needed: float) -> float:
        """A part of a prompt, in seconds that it adds to a step."""
        memory, prompt_until_s = self._memory, self.pace.prompt_until_s
        before_s = one.paid_s
        if one.computed and not before_s:  # behind blocks that were there
            before_s = prompt_until_s(one.computed)
        memory.take(needed)
        one.blocks += needed
        one.computed += new
        if self.pace.reuse:
            memory.wrote(one)
        one.paid_s = prompt_until_s(one.computed)
        return one.paid_s - before_s

    def _continue(self, one: Sequence) -> None:
        """A request whose prompt came from another pool decodes from this step on, its last prompt token first."""
        one.ready = False
        one.computed = one.known - 1
        one.blocks = -(-one.computed // BLOCK_TOKENS)
        self._memory.take(one.blocks)
        self._join(one, one.computed)

    def _join(self, one: Sequence, tokens: int) -> None:
        """A sequence with so many tokens in the cache decodes from the next step on."""
        self._memory.join(one, self._step, tokens)
        one.end = self._step + math.ceil(one.want / self.pace.tokens_per_step)
        self._context += tokens + 1
        self._running[one.index] = one
        heappush(self._finish, (one.end, one.index, one))

    def _leave(self, one: Sequence) -> None:
        """It decodes no more."""
        del self._running[one.index]
        self._memory.leave(one, self._step)
        self._context -= one.entered + 1 + (self._step - one.joined) * self.pace.tokens_per_step

    def _relieve(self) -> None:
        """In order of admission each takes the block that it needs; where none is left, the youngest gives way."""
        memory, step = self._memory, self._step
        landing = [one for _, one in self._landing if one.place]
        rows = sorted([*self._running.values(), *landing], key=lambda one: one.place)
        if self._partial is not None:
            rows.append(self._partial)
        at, taken = 0, 0.0
        while at < len(rows):
            one = rows[at]
            needed = memory.grows(one, step) if one.index in self._running else 0
            while needed > memory.free - taken:
                last = rows.pop()
                self._evict(last)
                if last is one:
                    break
            else:
                taken += needed
                at += 1

    def _evict(self, one: Sequence) -> None:
        """A sequence loses its place; what it had is computed again."""
        if one.index in self._running:
            self._leave(one)
            self._finish = [row for row in self._finish if row[2] is not one]
            heapify(self._finish)
            one.want = min(round((one.end - self._step) * self.pace.tokens_per_step), one.want)
            one.known = one.input + one.output - one.want
        self._push_back(one)

    def _push_back(self, one: Sequence) -> None:
        if one is self._partial:
            self._partial = None
        self._memory.release(one)
        one.place = 0
        self._slots -= 1
        self._pushed = True
        self.preemptions += 1
        if one.last_s == NEVER:  # else its last token is on its way
            self._soon(one, False)
            self._queue.appendleft(one)
