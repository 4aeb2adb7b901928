"""What a simulated fleet tells: requests that ended, where the others are, and how a replica does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.simulation.sequence import Sequence as Request

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """Requests of a service that ended, in order of their end; times in seconds, `bucket` as it was submitted.

    `replica`: the number of the replica that gave the last token, in the order in which the service's were added.
    """

    arrival_s: Floats
    first_s: Floats
    last_s: Floats
    input_tokens: Ints
    output_tokens: Ints
    bucket: Ints
    replica: Ints

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def ttft_s(self) -> Floats:
        """Arrival to first token."""
        return self.first_s - self.arrival_s

    @property
    def tpot_s(self) -> Floats:
        """Mean time of a token after the first; NaN for single tokens."""
        later = np.where(self.output_tokens > 1, self.output_tokens - 1, np.nan)
        return np.asarray((self.last_s - self.first_s) / later)

    @property
    def e2e_s(self) -> Floats:
        """Arrival to last token."""
        return self.last_s - self.arrival_s


@dataclass(frozen=True, slots=True)
class Account:
    """Where a service's requests are: submitted = finished + refused + in flight + waiting. `begun_again` is beside."""

    submitted: int = 0
    finished: int = 0
    refused: int = 0
    in_flight: int = 0
    waiting: int = 0
    begun_again: int = 0
    preemptions: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """A replica now. `busy_ratio` and `power_w` are means since it was last asked."""

    running: int
    waiting: int
    kv_ratio: float
    busy_ratio: float
    power_w: float


def finished(done: Sequence[Request]) -> Finished:
    """Requests that ended, as arrays."""
    ordered = sorted(done, key=lambda one: (one.last_s, one.index))

    def column(name: str) -> Iterator[float]:
        return (getattr(one, name) for one in ordered)

    floats = (np.fromiter(column(name), float, len(ordered)) for name in ("arrival_s", "first_s", "last_s"))
    ints = (np.fromiter(column(name), np.int64, len(ordered)) for name in ("input", "output", "bucket", "replica"))
    return Finished(*floats, *ints)
