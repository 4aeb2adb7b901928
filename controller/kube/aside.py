"""Services whose planning failed: set aside, each for a time of its own, so that the others are planned meanwhile."""

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass

from controller.kube.backoff import Backoff

_BACKOFF = Backoff(first_s=15.0, most_s=1800.0)


@dataclass(frozen=True, slots=True)
class _Failed:
    generation: int  # of the spec: who changed it has it planned at once
    failures: int
    again_s: float


class Aside:
    """Of one thread. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failed: dict[str, _Failed] = {}
        self._alone: set[str] = set()

    def waits(self, key: str, generation: int) -> bool:
        """Whether a service is set aside now."""
        found = self._failed.get(key)
        return found is not None and found.generation == generation and self._clock() < found.again_s

    def alone(self, key: str) -> bool:
        """Whether a service is to be planned by itself: it failed, by itself or together with others."""
        return key in self._alone or key in self._failed

    def one_of(self, keys: list[str]) -> None:
        """One of several services made planning fail; which, is found by planning each alone."""
        self._alone |= set(keys)

    def failed(self, key: str, generation: int) -> float:
        """Set a service aside that failed alone; gives for how long."""
        before = self._failed.get(key)
        failures = before.failures + 1 if before is not None and before.generation == generation else 1
        wait_s = _BACKOFF.wait_s(failures, random.random)
        self._failed[key] = _Failed(generation, failures, self._clock() + wait_s)
        self._alone.discard(key)
        return wait_s

    def answered(self, key: str) -> None:
        """A service was planned."""
        self._failed.pop(key, None)
        self._alone.discard(key)

    def keep(self, keys: Collection[str]) -> None:
        """Forget all services but these."""
        for key in [*self._failed, *self._alone]:
            if key not in keys:
                self.answered(key)
