"""The caps that go out with the replies to reports, worked out for whole power domains a few times a second at most.

A cap that was granted counts until its lease is over, whatever its node says; see `controller.caps`.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from controller.caps import Capped, grants

LEASE_S = 60.0
_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Domain:
    """A power domain: its budget, and what each of its GPUs is to have (`granted_w` left out)."""

    name: str
    budget_w: float
    gpus: Sequence[Capped]


class Grants:
    """What is granted to whom. `domains` gives what is wanted now; `clock` is monotonic."""

    def __init__(self, domains: Callable[[], Sequence[Domain]], clock: Callable[[], float]) -> None:
        self._domains, self._clock = domains, clock
        self._granted: dict[str, tuple[float, float]] = {}  # GPU -> watts, and until when they may be in force
        self._sent: Mapping[str, float] = {}
        self._made_s = float("-inf")
        self._lock = threading.Lock()
        self.over_w: dict[str, float] = {}  # domain -> watts by which what may be drawn is over its budget

    def reply(self, gpus: Sequence[str]) -> list[dict[str, object]]:
        """The caps for some GPUs, each with its lease."""
        with self._lock:
            now_s = self._clock()
            if now_s - self._made_s >= _EVERY_S:
                self._made_s = now_s
                self._make(now_s)
            rows: list[dict[str, object]] = []
            for uuid in gpus:
                if (watts := self._sent.get(uuid)) is None:
                    continue
                before = self._granted.get(uuid)
                still_w = before[0] if before is not None and before[1] > now_s else 0.0
                # A lower one is confirmed by the node's own report; until then the higher may be in force.
                self._granted[uuid] = max(watts, still_w), now_s + LEASE_S
                rows.append({"uuid": uuid, "watts": watts, "lease_s": LEASE_S})
            return rows

    def confirmed(self, uuid: str, watts: float) -> None:
        """A node read back a limit: what was granted above it is not in force any more."""
        with self._lock:
            before = self._granted.get(uuid)
            sent = self._sent.get(uuid)
            if before is not None and sent is not None and watts <= sent + 0.5:
                self._granted[uuid] = sent, before[1]

    def _make(self, now_s: float) -> None:
        sent: dict[str, float] = {}
        for domain in self._domains():
            known = [self._with_grant(one, now_s) for one in domain.gpus]
            sent |= grants(known, domain.budget_w)
            self.over_w[domain.name] = max(sum(one.counts_w for one in known) - domain.budget_w, 0.0)
        self._sent = sent

    def _with_grant(self, one: Capped, now_s: float) -> Capped:
        before = self._granted.get(one.gpu)
        granted = before[0] if before is not None and before[1] > now_s else None
        return Capped(one.gpu, one.wanted_w, one.reported_w, one.safe_w, granted, one.fresh)
