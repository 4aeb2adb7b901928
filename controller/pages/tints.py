"""The colour of each service: the same on every page, and kept whatever others come and go."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from threading import Lock

from controller.pages.style import OTHERS

SLOTS = OTHERS  # colours of services; the one behind them is that of all others together


class Tints:
    """Which colour (an index into `SERIES`) a service has. Its name says which, so that it is the same after a new
    start; where another has that one already, the next that is free."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._of: dict[str, int] = {}

    def of(self, keys: Sequence[str]) -> Mapping[str, int]:
        """Colours of the services that there are; `keys`: in the order in which they were made."""
        with self._lock:
            for key in keys:
                if key not in self._of:
                    self._of[key] = _free(key, {self._of[one] for one in keys if one in self._of})
            return {key: self._of[key] for key in keys}


def _free(key: str, taken: Iterable[int]) -> int:
    first = int.from_bytes(sha256(key.encode()).digest()[:4], "big") % SLOTS
    return next((one for step in range(SLOTS) if (one := (first + step) % SLOTS) not in taken), first)
