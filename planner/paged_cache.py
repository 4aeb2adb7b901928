"""KV cache in blocks with reuse by content, as paged engines keep it.

Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention", arXiv 2309.06180.
A block that is let go keeps its content until its room is needed, oldest first; a prompt that begins with the same
blocks takes them up again. A key names a block's content with all that came before it.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

BLOCK_TOKENS = 16


@dataclass(slots=True)
class PagedCache:
    """`blocks` of `BLOCK_TOKENS` tokens each. Mutable: one engine's state in a simulation."""

    blocks: int
    reuse: bool = True
    _empty: int = field(init=False)
    _idle: "OrderedDict[int, None]" = field(init=False, default_factory=OrderedDict)
    _held: dict[int, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._empty = self.blocks

    @property
    def available(self) -> int:
        """Blocks that can be taken: empty ones and those with content that nobody uses."""
        return self._empty + len(self._idle)

    def reusable(self, keys: Sequence[int]) -> int:
        """How many of the first blocks of a prompt are still there."""
        if not self.reuse:
            return 0
        for count, key in enumerate(keys):
            if key not in self._held and key not in self._idle:
                return count
        return len(keys)

    def idle_among(self, keys: Sequence[int]) -> int:
        """How many of these blocks nobody uses: taking them up leaves so many fewer available."""
        return sum(key in self._idle for key in keys)

    def take_up(self, keys: Sequence[int]) -> None:
        """Use blocks that are there (`reusable`)."""
        for key in keys:
            if key in self._idle:
                del self._idle[key]
                self._held[key] = 1
            else:
                self._held[key] += 1

    def take(self, count: int) -> None:
        """Take so many blocks to write into; the oldest unused content goes first once none is empty."""
        for _ in range(count):
            if self._empty:
                self._empty -= 1
            else:
                self._idle.popitem(last=False)

    def write(self, key: int) -> bool:
        """A taken block is full and has this content; False where the same content is held elsewhere already."""
        if key in self._held or key in self._idle:
            return False
        self._held[key] = 1
        return True

    def let_go(self, keys: Sequence[int], unnamed: int) -> None:
        """Blocks no longer used: named ones keep their content (last blocks go first), unnamed ones are empty."""
        self._empty += unnamed
        for key in reversed(keys):
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]
                if self.reuse:
                    self._idle[key] = None
                else:
                    self._empty += 1
