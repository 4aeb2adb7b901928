"""One replica with continuous batching, served in jumps: while the same sequences decode, many steps are one sum.

The rules are those of `planner.simulate`, which takes every step by itself: each step has every running sequence's next
token, then prompt tokens up to the budget, first come first served; a step is scheduled while the one before runs; KV
memory that runs out pushes the youngest sequence back. Between two events (a request seen, a prompt, a last token, full
memory) the batch stays as it is and its context grows by a token a sequence and step, so k steps take
    k x (fixed + per token x S) + per token x n x k (k - 1) / 2.
Tokens come at the same times as there, and the same blocks are held.
"""

import math
from collections import deque
from heapq import heappop

from planner.simulation.batch import Batch
from planner.simulation.pace import Pace
from planner.simulation.sequence import NEVER, Sequence

_LONG_S = 1e9


class Engine(Batch):
    """The state of one replica. `done` is emptied by whoever reads it."""

    __slots__ = ("_asked_s", "_before_s", "_busy_s", "_end_s", "_energy_j", "done", "draining")

    def __init__(self, pace: Pace, now_s: float, prefill_only: bool = False) -> None:
        super().__init__(pace, prefill_only)
        self.draining = False
        self.done: list[Sequence] = []
        self._end_s = self._before_s = now_s  # of the last step that was scheduled, and of the one before
        self._asked_s, self._busy_s, self._energy_j = now_s, 0.0, 0.0

    def offer(self, one: Sequence, seen_s: float) -> None:
        """A request that comes at `seen_s`; the scheduler sees it a little later. It must fit (`Pace.holds`)."""
        one.seen_s = seen_s + self.pace.first_s
        self._soon(one, not (self._coming or self._queue or self._partial is not None))
        late = self._coming and self._coming[-1].seen_s > one.seen_s
        self._coming.append(one)
        if late:
            self._coming = deque(sorted(self._coming, key=lambda each: each.seen_s))

    def used(self, now_s: float) -> tuple[float, float]:
        """Share of the time since this was last asked in which steps ran, and mean watts."""
        passed_s = now_s - self._asked_s
        if passed_s <= 0:
            return 0.0, self.pace.idle_w
        busy_s = min(self._busy_s, passed_s)
        left_s = self._busy_s - busy_s  # of a step that goes on; its watts are drawn later, too
        left_j = self._energy_j * left_s / self._busy_s if left_s else 0.0
        energy_j = self._energy_j - left_j + (passed_s - busy_s) * self.pace.idle_w
        self._asked_s, self._busy_s, self._energy_j = now_s, left_s, left_j
        return busy_s / passed_s, energy_j / passed_s

    def next_s(self) -> float:
        """No request ends before this, whatever comes; later where it can be told."""
        if self._landing:
            return self._landing[0][0]
        found_s = NEVER
        if self._finish:
            steps = self._finish[0][0] - self._step
            fixed, slope = self._rates(len(self._finish))
            found_s = self._end_s + steps * fixed + slope * steps * (steps - 1) / 2
        if self._stuck:
            return found_s
        at_s = self._before_s if self.pace.lookahead and self._slots else self._end_s
        if self._queue or self._partial is not None:
            return min(found_s, at_s + self._quick_s)
        if self._coming and self._slots < self.pace.max_sequences:
            return min(found_s, max(self._coming[0].seen_s, at_s) + self._quick_s)
        return found_s

    def advance(self, until_s: float) -> None:
        """Schedule every step whose time to be scheduled comes up to `until_s`."""
        queue, landing, lookahead = self._queue, self._landing, self.pace.lookahead
        while True:
            coming = self._coming
            if self._finish or queue or self._partial is not None:
                at_s = self._before_s if lookahead else self._end_s
            elif landing and not (lookahead and coming and coming[0].seen_s < self._end_s):
                at_s = self._end_s  # nothing to schedule before the last token is out
                if at_s <= until_s:
                    self._before_s = at_s
            elif coming:
                at_s = max(coming[0].seen_s, self._before_s if landing else self._end_s)
                if self._end_s < at_s <= until_s:
                    self._before_s = self._end_s = at_s
            else:
                break
            if at_s > until_s:
                break
            while landing and landing[0][0] <= at_s:
                self._land(landing.popleft()[1])
            while coming and coming[0].seen_s <= at_s:
                queue.append(coming.popleft())
            if self._slots or queue:
                self._schedule(until_s)
        while landing and landing[0][0] <= until_s:
            self._land(landing.popleft()[1])

    def _land(self, one: Sequence) -> None:
        if one.place:
            self._slots -= 1
            self._memory.release(one)
            self._stuck = False
        self.done.append(one)

    def _schedule(self, until_s: float) -> None:
        """The next step, or as many as are alike."""
        count, self._pushed = len(self._finish), False
        if self._memory.free < count and self._memory.free < self._memory.growth(count, self._step, 1):
            self._relieve()
        if not self._queue and self._partial is None:
            if self._finish:
                self._jump(until_s, alone=self._pushed)
            return
        fresh: list[Sequence] = []
        given, added_s = self._prompts(fresh)
        if added_s >= 0:
            self._mixed(given, added_s)
        elif self._finish:
            self._jump(until_s, alone=self._pushed or bool(fresh))
        else:  # nothing is scheduled until a last token is out
            self._before_s = self._end_s
        for one in fresh:
            one.first_s = min(one.first_s, self._end_s)

    def _mixed(self, given: list[Sequence], added_s: float) -> None:
        """One step in which prompts are computed; those that it completes give a token."""
        count, factor = len(self._finish), self.factor
        total_s = self.pace.decode_s[count] + self.pace.context_s[count] * self._context + added_s
        self._before_s = self._end_s
        self._took(total_s / factor, added_s / factor, 1, count)
        for one in given:
            if one.first_s > self._end_s:
                one.first_s = self._end_s
            one.want -= 1
            if one.want > 0 and not self.prefill_only:
                self._join(one, one.known)
            else:
                one.last_s = self._end_s
                self._landing.append((self._end_s, one))

    def _took(self, total_s: float, prompt_s: float, steps: int, count: int) -> None:
        """Time goes on by some steps; sequences that decode grow, and those whose last step it was leave the batch."""
        if count:
            self._memory.grow(count, self._step, steps)
            self._context += count * steps * self.pace.tokens_per_step
        self._end_s += total_s
        self._step += steps
        self._busy_s += total_s
        self._energy_j += prompt_s * self.pace.prompt_w + (total_s - prompt_s) * self.pace.decode_w[count]
        finish = self._finish
        while finish and finish[0][0] <= self._step:
            one = heappop(finish)[2]
            self._leave(one)
            one.last_s = self._end_s
            self._landing.append((self._end_s, one))

    def _rates(self, count: int) -> tuple[float, float]:
        """Seconds of the next step of sequences that decode, and by how much each step takes longer than the last."""
        pace, per_token = self.pace, self.pace.context_s[count] / self.factor
        fixed = pace.decode_s[count] / self.factor + per_token * self._context
        return fixed, per_token * count * pace.tokens_per_step

    def _jump(self, until_s: float, alone: bool) -> None:
        """As many steps alike as come before anything changes; one where it is `alone`."""
        count, end_s, steps = len(self._finish), self._end_s, 1
        fixed, slope = self._rates(count)
        if not alone:
            event_s = until_s
            if self._coming and not self._stuck and self._coming[0].seen_s < event_s:
                event_s = self._coming[0].seen_s
            if self._landing and self._queue and self._landing[0][0] < event_s:
                event_s = self._landing[0][0]
            # Steps are scheduled at the end of the last but one (`lookahead`); those before the event are alike.
            if event_s > end_s:
                most = _steps_within(min(event_s - end_s, _LONG_S), fixed, slope) + (2 if self.pace.lookahead else 1)
                left = self._finish[0][0] - self._step
                steps = self._memory.lasting(count, self._step, left if left < most else most)
        total_s = steps * fixed + slope * steps * (steps - 1) / 2
        last_s = fixed + slope * (steps - 1)
        self._before_s = end_s + total_s - last_s if steps > 1 else end_s  # to the last bit: tokens land then
        self._took(total_s, 0.0, steps, count)


def _steps_within(left_s: float, fixed: float, slope: float) -> int:
    """The most steps that end within some seconds: the root of a square."""
    if slope <= 0:
        return int(left_s / fixed)
    half = fixed - slope / 2
    return int((math.sqrt(half * half + 2 * slope * left_s) - half) / slope)
