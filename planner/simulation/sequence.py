"""A request on its way through engines."""

import math

NEVER = math.inf


class Sequence:
    """A request in an engine. `left`: prompt tokens still to compute; `ready`: its KV came from another pool."""

    __slots__ = (
        "arrival_s", "bucket", "end", "first_s", "index", "input", "known", "last_s", "left", "output", "ready",
        "replica", "seen_s", "started", "token_s", "want",
    )  # fmt: skip

    def __init__(self, index: int, arrival_s: float, inputs: int, outputs: int, bucket: int) -> None:
        self.index, self.arrival_s, self.input, self.output, self.bucket = index, arrival_s, inputs, outputs, bucket
        self.first_s = self.last_s = NEVER
        self.seen_s = arrival_s
        self.known = inputs  # tokens that a prefill has to compute: more after a preemption
        self.want = outputs  # tokens that are still to be given
        self.left, self.end, self.started = inputs, 0, 0
        self.token_s = 0.0
        self.ready = False
        self.replica = ""
