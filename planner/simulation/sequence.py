"""A request on its way through engines."""

import math

NEVER = math.inf


class Sequence:
    """A request in an engine, from when it is offered until its last token is out.

    `known`: tokens that a prefill has to compute (more after a preemption), `computed`: those that are, `paid_s`: what
    they took; `want`: tokens still to be given. `ready`: its KV comes from another pool. `names`: contents of the
    prompt's full blocks, for prefix reuse; `named`: blocks of it that the cache knows by content. `blocks`: KV blocks
    held when it was last counted; while it decodes it holds more, which the engine works out from `joined` (the step)
    and `entered` (tokens). `place`: its order of admission, 0 without one.
    """

    __slots__ = (
        "arrival_s", "blocks", "bucket", "computed", "end", "entered", "first_s", "index", "input", "joined", "known",
        "last_s", "named", "names", "output", "paid_s", "place", "ready", "replica", "seen_s", "want",
    )  # fmt: skip

    def __init__(
        self, index: int, arrival_s: float, inputs: int, outputs: int, bucket: int, names: tuple[int, ...] = ()
    ) -> None:
        self.index, self.arrival_s, self.input, self.output, self.bucket = index, arrival_s, inputs, outputs, bucket
        self.names = names
        self.replica = 0
        self.seen_s = arrival_s
        self.named: list[int] = []
        self.anew()

    def anew(self) -> None:
        """As it came: whatever was computed is gone."""
        self.known, self.want = self.input, self.output
        self.computed = self.end = self.joined = self.entered = self.place = 0
        self.blocks: float = 0
        self.named = []
        self.paid_s = 0.0
        self.ready = False
        self.first_s = self.last_s = NEVER

    def key(self, block: int) -> int:
        """Content of a block: the prompt's own, else one that only this request has."""
        return self.names[block] if block < len(self.names) else -(self.index * 10**7 + block + 1)
