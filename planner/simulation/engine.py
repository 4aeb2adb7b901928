"""One replica with continuous batching, served in jumps: while the same sequences decode, many steps are one sum.

The rules are those of `planner.simulate`, which takes every step by itself: each step has every running sequence's next
token, then prompt tokens up to the budget, first come first served; a step is scheduled while the one before runs; KV
memory that runs out pushes the youngest sequence back. Between two events (a request seen, a prompt, a last token, full
memory) the batch stays as it is and its context grows by a token a sequence and step, so k steps take
    k x (fixed + per token x S) + per token x n x k (k - 1) / 2.
Blocks of KV memory are counted as tokens, half a block more for each sequence.
"""

import math
from collections import deque
from heapq import heapify, heappop, heappush

from planner.paged_cache import BLOCK_TOKENS
from planner.simulation.pace import Pace
from planner.simulation.sequence import Sequence

HALF_BLOCK = (BLOCK_TOKENS - 1) / 2 - 1  # the newest token is counted here, and has no place yet
_LONG_S = 1e9


class Engine:
    """The state of one replica. `factor`: its speed over the model's. `done` is emptied by whoever reads it."""

    __slots__ = (
        "_admitted", "_asked_s", "_before_s", "_busy_s", "_coming", "_context", "_end_s", "_energy_j", "_finish",
        "_held_kv", "_landing", "_partial", "_pushed", "_queue", "_running", "_slots", "_step", "done", "draining",
        "factor", "pace", "preemptions", "prefill_only", "steps",
    )  # fmt: skip

    def __init__(self, pace: Pace, now_s: float, prefill_only: bool = False) -> None:
        self.pace, self.factor = pace, 1.0
        self.prefill_only = prefill_only
        self.draining = False
        self.done: list[Sequence] = []
        self.preemptions = self.steps = 0
        self._coming: deque[Sequence] = deque()
        self._queue: deque[Sequence] = deque()
        self._partial: deque[Sequence] = deque()
        self._finish: list[tuple[int, int, Sequence]] = []  # last step, index
        self._running: dict[int, Sequence] = {}
        self._landing: deque[tuple[float, Sequence]] = deque()  # last tokens that are on their way
        self._context = 0  # tokens of all sequences that decode
        self._held_kv = 0.0  # of everything that has KV memory
        self._slots = 0  # sequences that hold a place
        self._step = self._admitted = 0
        self._end_s = self._before_s = now_s
        self._asked_s, self._busy_s, self._energy_j = now_s, 0.0, 0.0
        self._pushed = (
            False  # somebody lost a place at this point: nobody else gets one, and the next step is looked at
        )

    def offer(self, one: Sequence, seen_s: float) -> None:
        """A request that comes at `seen_s`; the scheduler sees it a little later."""
        one.seen_s = seen_s + self.pace.first_s
        late = self._coming and self._coming[-1].seen_s > one.seen_s
        self._coming.append(one)
        if late:
            self._coming = deque(sorted(self._coming, key=lambda each: each.seen_s))

    @property
    def waiting(self) -> int:
        """Requests that hold no place yet."""
        return len(self._queue) + len(self._coming)

    @property
    def running(self) -> int:
        """Requests that hold a place."""
        return self._slots

    @property
    def queued(self) -> int:
        """Requests that are seen and for which there was no place or no room in a step."""
        return len(self._queue)

    @property
    def empty(self) -> bool:
        """Whether nothing is left to do."""
        return not (self._coming or self._queue or self._slots)

    @property
    def kv_ratio(self) -> float:
        """The share of KV memory that is held."""
        return min(self._held_kv / self.pace.kv_tokens, 1.0)

    def everything(self) -> list[Sequence]:
        """All requests that are here: what a replica that dies leaves."""
        landing = [one for _, one in self._landing]
        return [*self._running.values(), *self._partial, *landing, *self._queue, *self._coming]

    def used(self, now_s: float) -> tuple[float, float]:
        """Share of the time since this was last asked in which steps ran, and mean watts."""
        passed_s = now_s - self._asked_s
        if passed_s <= 0:
            return 0.0, self.pace.idle_w
        busy_s = min(self._busy_s, passed_s)
        energy_j = self._energy_j + (passed_s - busy_s) * self.pace.idle_w
        self._asked_s, self._busy_s, self._energy_j = now_s, max(self._busy_s - passed_s, 0.0), 0.0
        return busy_s / passed_s, energy_j / passed_s

    def advance(self, until_s: float) -> None:
        """Schedule every step whose time to be scheduled comes up to `until_s`."""
        coming, queue, landing, lookahead = self._coming, self._queue, self._landing, self.pace.lookahead
        while True:
            if self._slots or queue:
                at_s = self._before_s if lookahead else self._end_s
            elif coming:
                at_s = max(coming[0].seen_s, self._end_s)
                if at_s <= until_s:
                    self._before_s = self._end_s = at_s
            else:
                return
            if at_s > until_s:
                return
            while landing and landing[0][0] <= at_s:
                self._land(landing.popleft()[1])
            while coming and coming[0].seen_s <= at_s:
                queue.append(coming.popleft())
            count = len(self._finish)
            if (queue or self._partial) and self._mixed(count):
                continue
            if count:
                self._jump(count, until_s)
            elif landing:  # nothing is scheduled until a last token is out
                self._before_s = self._end_s

    def _land(self, one: Sequence) -> None:
        self._slots -= 1
        self._held_kv -= one.input + one.output + HALF_BLOCK
        self.done.append(one)

    def _mixed(self, count: int) -> bool:
        """One step with prompt tokens in it; False where no prompt finds room."""
        given, added_s = self._prompts(count)
        if added_s < 0:
            return False
        decoding = count + sum(one.ready for one in given)
        pace, factor = self.pace, self.factor
        total_s = pace.decode_s[decoding] + pace.context_s[decoding] * self._context + added_s
        self._before_s = self._end_s
        self._took(total_s / factor, added_s / factor, 1, decoding)
        self._grow(count, 1)
        for one in given:
            self._first_token(one)
        return True

    def _prompts(self, count: int) -> tuple[list[Sequence], float]:
        """The prompts that a step completes, and seconds that prompt tokens add to it; below 0 where there are none."""
        pace, queue, partial = self.pace, self._queue, self._partial
        budget, room = pace.max_step_tokens - count, pace.kv_tokens - self._held_kv - count
        given: list[Sequence] = []
        added_s, computed = 0.0, 0
        while budget > 0:
            if partial:
                one = partial[0]
            elif queue and self._slots < pace.max_sequences:
                one = queue[0]
                if (one.left if one.ready else min(one.left, budget)) + HALF_BLOCK > room:
                    break
                queue.popleft()
                partial.append(one)
                self._slots += 1
                self._held_kv += HALF_BLOCK
                room -= HALF_BLOCK
                self._admitted += 1
                one.started, one.token_s = self._admitted, pace.token_s(one.known)
            else:
                break
            new = one.left if one.ready or one.left <= budget else budget
            if new > room:
                self._push_back_partial()
                self._pushed = True
                break
            one.left -= new
            room -= new
            computed += new
            self._held_kv += new
            if not one.ready:
                budget -= new
                added_s += new * one.token_s
            if one.left:
                break
            given.append(partial.popleft())
        return given, added_s if computed else -1.0

    def _first_token(self, one: Sequence) -> None:
        """A prompt is complete: it gives a token, and decodes from the next step on."""
        one.first_s = min(one.first_s, self._end_s)
        one.want -= 1
        one.ready = False
        self._held_kv += 1
        if one.want <= 0 or self.prefill_only:
            one.last_s = self._end_s
            self._fit(one)
            self._landing.append((self._end_s, one))
            return
        one.end = self._step + math.ceil(one.want / self.pace.tokens_per_step)
        self._context += one.known + 1
        self._running[one.index] = one
        heappush(self._finish, (one.end, one.index, one))

    def _fit(self, one: Sequence) -> None:
        """What it lets go is what it will have held."""
        self._held_kv += one.input + one.output - (one.known + 1)

    def _took(self, total_s: float, prompt_s: float, steps: int, count: int) -> None:
        """Time goes on by some steps."""
        self._end_s += total_s
        self._step += steps
        self.steps += steps
        self._busy_s += total_s
        self._energy_j += prompt_s * self.pace.prompt_w + (total_s - prompt_s) * self.pace.decode_w[count]

    def _grow(self, count: int, steps: int) -> None:
        """Every sequence that decodes has more context; those whose last step this was leave the batch."""
        per = self.pace.tokens_per_step
        self._context += round(count * steps * per)
        self._held_kv += count * steps * per
        finish = self._finish
        while finish and finish[0][0] <= self._step:
            _, _, one = heappop(finish)
            del self._running[one.index]
            self._context -= one.input + one.output
            one.last_s = self._end_s
            self._landing.append((self._end_s, one))

    def _jump(self, count: int, until_s: float) -> None:
        """As many steps alike as come before anything changes."""
        pace, growth = self.pace, count * self.pace.tokens_per_step
        room = int((pace.kv_tokens - self._held_kv) / growth)
        if self._pushed:
            room, self._pushed = min(room, 1), False
        if room < 1:
            self._relieve(growth)
            count = len(self._finish)
            growth, room = count * pace.tokens_per_step, 1  # nobody is admitted in a step that pushed somebody back
        fixed = (pace.decode_s[count] + pace.context_s[count] * self._context) / self.factor
        slope = pace.context_s[count] * growth / self.factor
        event_s = until_s
        if self._coming and self._coming[0].seen_s < event_s and self._slots < pace.max_sequences:
            event_s = self._coming[0].seen_s
        if self._landing and self._queue and self._landing[0][0] < event_s:
            event_s = self._landing[0][0]
        # Steps are scheduled at the end of the last but one (`lookahead`); those scheduled before the event are alike.
        left_s, ahead = min(event_s - self._end_s, _LONG_S), 2 if pace.lookahead else 1
        most = ahead + _steps_within(left_s, fixed, slope) if left_s > 0 else 1
        steps = min(self._finish[0][0] - self._step, room, most)
        total_s = steps * fixed + slope * steps * (steps - 1) / 2
        self._before_s = self._end_s + total_s - (fixed + slope * (steps - 1))
        self._took(total_s, 0.0, steps, count)
        self._grow(count, steps)

    def _relieve(self, needed: float) -> None:
        """Push the youngest sequences back until there is room for a step; what they had is computed again."""
        while self.pace.kv_tokens - self._held_kv < needed:
            if self._partial:
                self._push_back_partial()
                continue
            if len(self._running) < 2:
                return
            one = max(self._running.values(), key=lambda each: each.started)
            del self._running[one.index]
            self._finish = [row for row in self._finish if row[2] is not one]
            heapify(self._finish)
            one.want = min(round((one.end - self._step) * self.pace.tokens_per_step), one.want)
            held = one.input + one.output - one.want
            self._context -= held
            one.known = one.left = held
            self._push_back(one, held)
            needed = min(needed, len(self._running) * self.pace.tokens_per_step)

    def _push_back_partial(self) -> None:
        """A prompt that is half computed loses what it has."""
        one = self._partial.pop()
        held, one.left = one.known - one.left, one.known
        self._push_back(one, held)

    def _push_back(self, one: Sequence, held: int) -> None:
        self._held_kv -= held + HALF_BLOCK
        self._slots -= 1
        self.preemptions += 1
        self._queue.appendleft(one)


def _steps_within(left_s: float, fixed: float, slope: float) -> int:
    """The most steps that end within some seconds: the root of a square."""
    if slope <= 0:
        return int(left_s / fixed)
    half = fixed - slope / 2
    return int((math.sqrt(half * half + 2 * slope * left_s) - half) / slope)
