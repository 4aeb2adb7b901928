"""How much one caller may ask: a bucket of requests for each, and a bounded memory of what was answered to a key."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_BODY_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """`per_s`, `burst`: requests of one token. `unknown_per_s`: of one address whose tokens nobody vouches for.
    `modest_per_s`: of one connection that comes before those that ask for more.

    `streams`: streams of events at once. `glance_s`: how old an answer may be that many get. `at_once`: requests that
    are worked on at once, each counted for `turn_s` at most.
    """

    body_bytes: int = MAX_BODY_BYTES
    per_s: float = 250.0
    burst: float = 500.0
    unknown_per_s: float = 10.0
    unknown_burst: float = 50.0
    modest_per_s: float = 5.0
    modest_burst: float = 20.0
    streams: int = 256
    glance_s: float = 0.25
    at_once: int = 3
    turn_s: float = 0.1


class Buckets:
    """A bucket for each caller: it holds `burst` requests and fills by `per_s`. Thread-safe; `now_s` is monotonic.

    The most recent callers are remembered; who is forgotten has a full bucket again.
    """

    def __init__(self, per_s: float, burst: float, most: int = 10_000) -> None:
        self._per_s, self._burst, self._most = per_s, burst, most
        self._rows: OrderedDict[str, tuple[float, float]] = OrderedDict()  # caller -> requests left, and when
        self._lock = threading.Lock()

    def wait_s(self, caller: str, now_s: float, left_over: float = 0.0) -> float:
        """Take a request out of a caller's bucket: 0, or, where there is none, the seconds until there is one.

        `left_over`: what must stay in the bucket, for others of the caller."""
        with self._lock:
            left, at_s = self._rows.pop(caller, (self._burst, now_s))
            left = min(left + (now_s - at_s) * self._per_s, self._burst)
            allowed = left >= 1.0 + left_over
            self._rows[caller] = (left - 1.0 if allowed else left), now_s
            while len(self._rows) > self._most:
                self._rows.popitem(last=False)
            return 0.0 if allowed else (1.0 + left_over - left) / self._per_s

    def empty(self, caller: str, now_s: float) -> float:
        """The seconds until a caller has a request, without taking one."""
        with self._lock:
            left, at_s = self._rows.get(caller, (self._burst, now_s))
        left = min(left + (now_s - at_s) * self._per_s, self._burst)
        return 0.0 if left >= 1.0 else (1.0 - left) / self._per_s


@dataclass(frozen=True, slots=True)
class Said:
    """What was answered to a request with a key. `asked`: a digest of the request."""

    asked: str
    status: int = 0
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def pending(self) -> bool:
        """Whether the first request with the key is still being worked on."""
        return self.status == 0


class Answers:
    """Answers by idempotency key, for a day at most and as many as fit. Thread-safe; `now_s` is monotonic."""

    def __init__(self, most: int = 4096, keep_s: float = 86_400.0) -> None:
        self._most, self._keep_s = most, keep_s
        self._rows: OrderedDict[str, tuple[Said, float]] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, key: str, asked: str, now_s: float) -> Said | None:
        """What is known of a key; None where the caller is the first, and then must `end` or `forget` it."""
        with self._lock:
            found = self._rows.get(key)
            if found is not None and now_s - found[1] < self._keep_s:
                return found[0]
            self._rows.pop(key, None)
            self._rows[key] = Said(asked), now_s
            while len(self._rows) > self._most:
                self._rows.popitem(last=False)
            return None

    def end(self, key: str, said: Said, now_s: float) -> None:
        """Keep an answer."""
        with self._lock:
            if key in self._rows:
                self._rows[key] = said, now_s

    def forget(self, key: str) -> None:
        """Nothing came of the first request."""
        with self._lock:
            self._rows.pop(key, None)
