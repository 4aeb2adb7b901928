"""The caps that go out with the replies to reports, worked out for whole power domains a few times a second at most.

A cap that was granted counts until its lease is over, whatever its node says; see `controller.caps`. To work out the
caps of thousands of GPUs takes longer than a reply may, so replies only read what was worked out last. While that is
made anew nothing is raised, since the room would be given twice.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from controller.caps import Capped, Shares, drawn_w, grants, shared

LEASE_S = 60.0
EVERY_S = 0.5
_LOG = logging.getLogger("muster")


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
        self._making = False
        self._lock, self._one = threading.Lock(), threading.Lock()
        self.over_w: Mapping[str, float] = {}  # domain -> watts by which what may be drawn is over its budget
        self.shares: Mapping[str, Shares] = {}  # domain -> what its GPUs are to have at last

    def reply(self, gpus: Sequence[str]) -> list[dict[str, object]]:
        """The caps for some GPUs, each with its lease."""
        with self._lock:
            now_s = self._clock()
            rows: list[dict[str, object]] = []
            for uuid in gpus:
                if (watts := self._sent.get(uuid)) is None:
                    continue
                before = self._granted.get(uuid)
                still_w = before[0] if before is not None and before[1] > now_s else 0.0
                if self._making and watts > still_w:
                    if not still_w:
                        continue
                    watts = still_w
                # A lower one is confirmed by the node's own report; until then the higher may be in force.
                self._granted[uuid] = max(watts, still_w), now_s + LEASE_S
                rows.append({"uuid": uuid, "watts": watts, "lease_s": LEASE_S})
            return rows

    def sent(self) -> dict[str, float]:
        """The caps that were worked out last, by GPU."""
        with self._lock:
            return dict(self._sent)

    def confirmed(self, uuid: str, watts: float) -> None:
        """A node read back a limit: what was granted above it is not in force any more."""
        with self._lock:
            before = self._granted.get(uuid)
            sent = self._sent.get(uuid)
            if before is not None and sent is not None and watts <= sent + 0.5:
                self._granted[uuid] = sent, before[1]

    def renew(self) -> None:
        """Work out the caps anew, unless that was just done. Any thread may."""
        with self._one:
            if self._clock() - self._made_s < EVERY_S:
                return
            with self._lock:
                self._making = True
                granted, now_s = dict(self._granted), self._clock()
            try:
                sent, over_w, shares = self._made(granted, now_s)
                with self._lock:
                    self._sent, self.over_w, self.shares, self._made_s = sent, over_w, shares, now_s
                    self._granted = {uuid: one for uuid, one in self._granted.items() if one[1] > now_s}
            finally:
                with self._lock:
                    self._making = False

    def run(self, stop: threading.Event) -> None:
        """Renew until told to stop. What was granted before stays where that fails, until its lease ends."""
        while not stop.wait(EVERY_S):
            try:
                self.renew()
            except Exception:  # a defect in one object must not end the leases of all
                _LOG.exception("caps")

    def _made(
        self, granted: Mapping[str, tuple[float, float]], now_s: float
    ) -> tuple[dict[str, float], dict[str, float], dict[str, Shares]]:
        sent: dict[str, float] = {}
        over_w: dict[str, float] = {}
        shares: dict[str, Shares] = {}
        running = {uuid: watts for uuid, (watts, until_s) in granted.items() if until_s > now_s}
        for domain in self._domains():
            known = [_with_grant(one, running) for one in domain.gpus]
            found = shares[domain.name] = shared(known, domain.budget_w)
            sent |= grants(known, domain.budget_w, found)
            over_w[domain.name] = max(drawn_w(known, found) - domain.budget_w, 0.0)
        return sent, over_w, shares


def _with_grant(one: Capped, running: Mapping[str, float]) -> Capped:
    watts = running.get(one.gpu)
    if watts is None:
        return one
    return replace(one, granted_w=watts)
