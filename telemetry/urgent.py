"""Which GPUs the reader looks at before their time: those of an alarm at once, a bad reading a little later again.

Pure. So a fault that needs several looks to be believed is confirmed in seconds while a healthy GPU is read seldom.
"""

import math

from telemetry.sample import Reading

SPACING_S = 0.5  # between readings of one GPU, however many alarms it raises
LOST_AGAIN_S = 0.4  # a lost GPU is tried once more: some answer again
# A link that went down or errs is looked at more: it may only be training. Two looks would do, but the first that
# sees it may come so soon after another that its detector passes it over.
LINKS_AGAIN_S, LINK_LOOKS = 1.8, 3
# Cheap to read and so read hot: what rises here has left traces in the counters that are read seldom.
TELLTALES = ("remapped_uncorrected", "remap_pending", "recovery_action")
MANY_ERRORS = 100.0  # CRC errors between two readings


class Urgent:
    """Due times of extra readings by GPU; of alarms and of readings on the clock that it is given."""

    def __init__(self) -> None:
        self._due_s: dict[int, float] = {}
        self._read_s: dict[int, float] = {}
        self._more: dict[int, int] = {}  # looks at links that are still wanted
        self._telltales: dict[int, float] = {}
        self._links: dict[int, tuple[float, float]] = {}  # links that are up, CRC errors of all
        self._lost: set[int] = set()

    def alarm(self, gpus: bytes, now_s: float) -> None:
        """The driver has sent something of these GPUs."""
        for gpu in set(gpus):
            self._sooner(gpu, max(now_s, self._read_s.get(gpu, -math.inf) + SPACING_S))

    def noticed(self, reading: Reading, now_s: float) -> None:
        """A reading was made: is it one that should be made again soon?"""
        gpu = reading.gpu
        if reading.lost:
            if gpu not in self._lost:
                self._sooner(gpu, now_s + LOST_AGAIN_S)
            self._lost.add(gpu)
            return
        self._lost.discard(gpu)
        if reading.tier == "hot":
            told = sum(reading.values.get(name, 0.0) for name in TELLTALES)
            if told > self._telltales.get(gpu, told):
                self._sooner(gpu, now_s)
            self._telltales[gpu] = told
        if not reading.links:
            return
        up, errors = (sum(link.get(name, 0.0) for link in reading.links) for name in ("up", "crc"))
        up_before, errors_before = self._links.get(gpu, (up, errors))
        erring = errors - errors_before >= MANY_ERRORS and not self._more.get(gpu)
        if up < up_before or erring:
            self._more[gpu] = LINK_LOOKS
        self._links[gpu] = (up, errors)
        if self._more.get(gpu, 0) > 0:
            self._more[gpu] -= 1
            self._sooner(gpu, now_s + LINKS_AGAIN_S)

    def take(self, now_s: float) -> list[int]:
        """GPUs whose time has come."""
        ready = [gpu for gpu, due_s in self._due_s.items() if due_s <= now_s]
        for gpu in ready:
            del self._due_s[gpu]
            self._read_s[gpu] = now_s
        return ready

    def due_s(self) -> float:
        """When the next one is due; infinite where none is."""
        return min(self._due_s.values(), default=math.inf)

    def _sooner(self, gpu: int, due_s: float) -> None:
        self._due_s[gpu] = min(self._due_s.get(gpu, math.inf), due_s)
