"""How long to wait after failures in a row: exponential, bounded, with jitter so that many clients spread out."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """`first_s` after the first failure, `factor` times more after each further one, at most `most_s`.

    `jitter_ratio` is the share of the wait that is drawn at random and taken off, so that `most_s` stays a bound.
    """

    first_s: float = 0.2
    most_s: float = 30.0
    factor: float = 2.0
    jitter_ratio: float = 0.5

    def wait_s(self, failures: int, draw: Callable[[], float], retry_after_s: float = 0.0) -> float:
        """The wait after `failures` failures in a row; `draw` gives [0, 1); never less than the server asked for."""
        if failures <= 0:
            return max(0.0, retry_after_s)
        wait_s = self.first_s
        for _ in range(failures - 1):  # not a power: that overflows in a long outage
            if wait_s >= self.most_s:
                break
            wait_s *= self.factor
        wait_s = min(wait_s, self.most_s)
        return max(wait_s * (1.0 - self.jitter_ratio * draw()), retry_after_s)
