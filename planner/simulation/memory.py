"""KV blocks of one engine, counted to the block over many steps at once.

A sequence that decodes takes a block whenever its tokens fill the last one, every 16th step. Which steps those are is
one of 16 phases, so how many blocks any number of steps takes follows from how many sequences are in each phase.
With reuse, blocks are kept by content as `planner.paged_cache` does it.
"""

import math

from planner.paged_cache import BLOCK_TOKENS, PagedCache
from planner.simulation.sequence import Sequence


class Memory:
    """`free`: blocks that can be taken. Engines that give several tokens a step have their blocks counted in parts."""

    __slots__ = ("_cache", "_per_step", "_phases", "blocks", "free")

    def __init__(self, blocks: int, reuse: bool, tokens_per_step: float = 1.0) -> None:
        self.blocks = blocks
        self.free: float = blocks
        self._cache = PagedCache(blocks) if reuse else None
        self._per_step = 0.0 if tokens_per_step == 1 else tokens_per_step / BLOCK_TOKENS
        self._phases = [0] * (2 * BLOCK_TOKENS)  # twice in a row, so that no range of steps is cut

    def hits(self, one: Sequence) -> list[int]:
        """The first blocks of a prompt that are there; its last token is computed in any case."""
        if self._cache is None:
            return []
        keys = [one.key(i) for i in range((one.known - 1) // BLOCK_TOKENS)]
        return keys[: self._cache.reusable(keys)]

    def idle_among(self, keys: list[int]) -> int:
        """How many of these blocks count as free until they are taken up."""
        return 0 if self._cache is None or not keys else self._cache.idle_among(keys)

    def take_up(self, one: Sequence, keys: list[int]) -> None:
        """A prompt begins with blocks that are there."""
        one.named, one.blocks, one.computed = keys, len(keys), len(keys) * BLOCK_TOKENS
        if self._cache is not None:
            self._cache.take_up(keys)
            self.free = self._cache.available

    def take(self, count: float) -> None:
        """So many blocks are written into from now on."""
        self.free -= count
        if self._cache is not None:
            self._cache.take(math.ceil(count))

    def wrote(self, one: Sequence) -> None:
        """Blocks that became full are known by content, unless another has the same."""
        if self._cache is not None:
            while (len(one.named) + 1) * BLOCK_TOKENS <= one.computed:
                if not self._cache.write(key := one.key(len(one.named))):
                    return
                one.named.append(key)

    def release(self, one: Sequence) -> None:
        """Its blocks are free, those with content for as long as nobody needs their room."""
        if self._cache is None:
            self.free += one.blocks
        else:
            self.wrote(one)
            self._cache.let_go(one.named, math.ceil(one.blocks) - len(one.named))
            self.free = self._cache.available
            one.named = []
        one.blocks, one.computed, one.paid_s = 0, 0, 0.0

    def join(self, one: Sequence, step: int, tokens: int) -> None:
        """A sequence with so many tokens in the cache decodes from this step on."""
        one.joined, one.entered = step, tokens
        self._shift((step - tokens) % BLOCK_TOKENS, 1)

    def leave(self, one: Sequence, step: int) -> None:
        """It decodes no more; `blocks` and `computed` are what it holds before this step."""
        self._shift((one.joined - one.entered) % BLOCK_TOKENS, -1)
        taken = step - one.joined
        if self._per_step:
            one.blocks += taken * self._per_step
            one.computed = one.entered
        else:
            one.computed = one.entered + taken
            one.blocks = -(-one.computed // BLOCK_TOKENS)

    def grows(self, one: Sequence, step: int) -> float:
        """Blocks that a sequence takes in a step."""
        return self._per_step or int((step - one.joined + one.entered) % BLOCK_TOKENS == 0)

    def growth(self, count: int, step: int, steps: int) -> float:
        """Blocks that all `count` sequences that decode take in some steps from `step` on."""
        if self._per_step:
            return count * steps * self._per_step
        at = step % BLOCK_TOKENS
        if steps == 1:
            return self._phases[at]
        rounds, rest = divmod(steps, BLOCK_TOKENS)
        return rounds * count + sum(self._phases[at : at + rest])

    def grow(self, count: int, step: int, steps: int) -> None:
        """Those steps were taken."""
        self.take(self.growth(count, step, steps))

    def lasting(self, count: int, step: int, most: int) -> int:
        """How many steps from `step` on find room, up to `most`."""
        if self.free >= count * (most // BLOCK_TOKENS + 1):
            return most
        if self._per_step:
            return min(int(self.free / (count * self._per_step)), most)
        rounds, left = divmod(int(self.free), count)
        at = step % BLOCK_TOKENS
        for more in range(BLOCK_TOKENS):
            left -= self._phases[at + more]
            if left < 0:
                return min(rounds * BLOCK_TOKENS + more, most)
        return most

    def _shift(self, phase: int, by: int) -> None:
        self._phases[phase] += by
        self._phases[phase + BLOCK_TOKENS] += by
