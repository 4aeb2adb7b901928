"""Leads while it holds a Lease, and says for how long it still may write.

Requests to the Lease are short, so that a frozen network cannot hold the loop; the deadline counts from before the last
renewal that succeeded was sent. Whoever finds `may_write` false must not write, and a process that led and lost should
end: `on_lost` is called once.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from controller.kube import lease
from controller.kube.discovery import Resource
from controller.kube.rest import Api, ApiError

_REQUEST_S = 2.0
_LATER_S = 0.01


def uptime_s() -> float:
    """A monotonic clock that goes on while the machine sleeps, unlike `time.monotonic`."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Elector:
    """A candidate for the Lease `name`. `on_led` is called with the epoch each time it begins to lead."""

    def __init__(
        self,
        api: Api,
        leases: Resource,
        namespace: str,
        name: str,
        identity: str,
        *,
        terms: lease.Terms | None = None,
        on_led: Callable[[int], None],
        on_lost: Callable[[], None],
        clock: Callable[[], float] = uptime_s,
    ) -> None:
        self._api, self._path, self._all = api, leases.path(namespace, name), leases.path(namespace)
        self._made = {
            "apiVersion": leases.version,
            "kind": leases.kind,
            "metadata": {"name": name, "namespace": namespace},
        }
        self._me, self.terms, self._clock = identity, terms or lease.Terms(), clock
        self._on_led, self._on_lost = on_led, on_lost
        self._seen: lease.Seen | None = None
        self._sent_s = float("-inf")
        self.epoch: int | None = None
        self.failing = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="elector", daemon=True)

    @property
    def lease(self) -> dict[str, Any]:
        """The Lease, as far as it is the same for all candidates."""
        return {**self._made}

    def may_write(self) -> bool:
        """Whether this process leads, now."""
        return self.epoch is not None and lease.may_write(self._sent_s, self._clock(), self.terms)

    @property
    def holder(self) -> str:
        """Who held the lease when it was last looked at; empty for nobody."""
        return "" if self._seen is None else str(self._seen.spec.get("holderIdentity") or "")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop leading and let another take over at once; writes must have ended before."""
        self._stopped.set()
        self._thread.join()
        if self.may_write():
            self._release()
        self.epoch = None

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.step()
            if self.epoch is not None and not self.may_write():
                self.epoch = None
                self._on_lost()
            self._stopped.wait(self._wait_s())

    def _wait_s(self) -> float:
        """Until the next look; a follower looks as soon as the lease that it saw would run out."""
        if self._seen is None or self.epoch is not None:
            return self.terms.retry_s
        left_s = lease.left_s(self._seen, self._clock(), self.terms) + _LATER_S
        return min(left_s, self.terms.retry_s) if left_s > 0 else self.terms.retry_s

    def step(self) -> None:
        """Look at the Lease once and take, renew or leave it; trouble is tried again by the next step."""
        try:
            self._look()
            self.failing = False
        except ApiError as error:
            # Somebody else wrote first, or the server does not answer: the deadline goes on running.
            self.failing = error.status != 409

    def _look(self) -> None:
        found = self._get()
        now_s = self._clock()
        self._seen = lease.see(self._seen, found.get("spec") or {}, now_s)
        if self.epoch is not None and self._seen.spec.get("holderIdentity") != self._me:
            self._sent_s = float("-inf")  # somebody took it: stop at once
        verdict = lease.decide(self._seen, self._me, self.epoch is not None, now_s, self.terms)
        if verdict == "renew" and self.may_write():
            self._put(found, lease.renewed(self._seen.spec, datetime.now(UTC)))
        elif verdict == "take" and self.epoch is None:
            spec = lease.taken(self._seen.spec, self._me, self.terms, datetime.now(UTC))
            self._put(found, spec)
            self.epoch = lease.epoch(spec)
            self._on_led(self.epoch)

    def _get(self) -> dict[str, Any]:
        try:
            return self._api.request("GET", self._path, timeout_s=_REQUEST_S)
        except ApiError as error:
            if error.status != 404:
                raise
            return self._api.request("POST", self._all, self._made, timeout_s=_REQUEST_S)

    def _put(self, found: dict[str, Any], spec: dict[str, Any]) -> None:
        """Write the Lease as it was read but for `spec`; the resource version makes that fail if it changed since."""
        sent_s = self._clock()
        stored = self._api.request("PUT", self._path, {**found, "spec": spec}, timeout_s=_REQUEST_S)
        self._seen = lease.Seen(dict(stored["spec"]), sent_s)
        self._sent_s = sent_s

    def _release(self) -> None:
        try:
            found = self._get()
            if (found.get("spec") or {}).get("holderIdentity") == self._me:
                self._put(found, lease.released(found["spec"], datetime.now(UTC)))
        except ApiError:
            return  # it runs out by itself
