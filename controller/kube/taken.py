"""Names that are wanted and that objects of others have: told by their service, and tried again with a back-off."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from controller.kube.applier import NameTaken
from controller.kube.backoff import Backoff

Object = Mapping[str, Any]
_BACKOFF = Backoff(first_s=2.0, most_s=60.0)
_FORGOTTEN_S = 60.0  # what was not tried for so long after it was due is no longer wanted


@dataclass(frozen=True, slots=True)
class _Try:
    words: str
    failures: int
    again_s: float


class Taken:
    """By service. `clock` is in seconds; a service's writes come one after the other."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tries: dict[str, dict[str, _Try]] = {}

    def write(self, key: str, wanted: Object, do: Callable[[], Object]) -> Object | None:
        """Write an object of a service; None where its name is taken, or was so a moment ago."""
        mine = self._tries.setdefault(key, {})
        mark = f"{wanted['kind']}/{wanted['metadata']['name']}"
        last = mine.get(mark)
        if last is not None and self._clock() < last.again_s:
            return None
        try:
            made = do()
        except NameTaken as error:
            failures = 1 if last is None else last.failures + 1
            mine[mark] = _Try(str(error), failures, self._clock() + _BACKOFF.wait_s(failures, random.random))
            return None
        mine.pop(mark, None)
        return made

    def words(self, key: str) -> str:
        """What a service's names are taken by; empty for nothing."""
        now_s = self._clock()
        rows = list(self._tries.get(key, {}).items())
        found = sorted(one.words for _, one in rows if now_s < one.again_s + _FORGOTTEN_S)
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return found[0] + more if found else ""

    def forget(self, key: str) -> None:
        """A service is gone."""
        self._tries.pop(key, None)
