"""From the controller's caps to the setter's socket: what to ask for (pure), and the thread that asks.

Leases are renewed only by replies of the controller: what it stops granting, the setter lets end. The thread works
towards what was granted last, so a setter that was away is asked again until the lease is over.
"""

import json
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from telemetry.render import family, labelled, number
from telemetry.report import Cap

WAIT_S = 5.0  # for the setter's answers
RETRY_S = 1.0
RENEW_S = 1.0  # a lease that ends no more than this later is not worth a request
LONGEST_ANSWER = 4096
BUCKETS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
Result = Literal["ok", "refused", "unreachable"]
RESULTS: tuple[Result, ...] = ("ok", "refused", "unreachable")


@dataclass(frozen=True, slots=True)
class Grant:
    """A cap as granted: until when (seconds since boot), and when the reply came."""

    watts: float
    until_s: float
    came_s: float


@dataclass(frozen=True, slots=True)
class Held:
    """What the setter has confirmed: what was asked for, what the driver holds, and what it falls to afterwards."""

    asked_w: float
    enforced_w: float
    until_s: float
    safe_w: float = 0.0


def granted(caps: Iterable[Cap], sent_s: float, now_s: float, before: Mapping[str, Grant]) -> dict[str, Grant]:
    """Grants of a reply to a report sent at `sent_s`: leases count from then, so that a slow network shortens them."""
    found = {}
    for cap in caps:
        last = before.get(cap.uuid)
        came_s = last.came_s if last is not None and last.watts == cap.watts else now_s
        found[cap.uuid] = Grant(cap.watts, sent_s + cap.lease_s, came_s)
    return found


def due(wanted: Mapping[str, Grant], held: Mapping[str, Held], now_s: float) -> dict[str, Grant]:
    """What the setter must still be asked for; what lowers a limit comes first, so that sums stay in budget."""
    found = {}
    for uuid, grant in wanted.items():
        has = held.get(uuid)
        if now_s < grant.until_s and (
            has is None or has.asked_w != grant.watts or grant.until_s - has.until_s > RENEW_S
        ):
            found[uuid] = grant
    return dict(sorted(found.items(), key=lambda item: item[1].watts - _now_w(held.get(item[0]))))


def _now_w(held: Held | None) -> float:
    return held.enforced_w if held is not None else 0.0


def request(uuid: str, grant: Grant, now_s: float) -> bytes:
    """A line for the setter."""
    asked = {"verb": "set_limit", "uuid": uuid, "watts": grant.watts, "lease_s": grant.until_s - now_s}
    return json.dumps(asked).encode() + b"\n"


class Capper:
    """Holds this node's GPUs to the caps that were granted, through the setter at `path`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.wanted: Mapping[str, Grant] = {}
        self.held: Mapping[str, Held] = {}
        self.results: dict[Result, int] = dict.fromkeys(RESULTS, 0)
        self.applied_s: list[float] = [0.0] * (len(BUCKETS_S) + 1)  # counts by bucket, the last above all
        self.applied_sum_s = 0.0
        self.why = ""
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin in a thread, which ends with the process."""
        self._thread = threading.Thread(target=self._run, name="capper", daemon=True)
        self._thread.start()

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def take(self, caps: Iterable[Cap], sent_s: float) -> None:
        """Hold the GPUs to these from now on."""
        self.wanted = granted(caps, sent_s, time.clock_gettime(time.CLOCK_BOOTTIME), self.wanted)
        self._woken.set()

    def rows(self) -> list[dict[str, object]]:
        """Caps in force, for the report."""
        now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        return [
            {"uuid": uuid, "watts": watts, "source": source, "left_s": max(self.held[uuid].until_s - now_s, 0.0)}
            for uuid, (source, watts) in self._in_force(now_s).items()
        ]

    def metrics(self, labels: Mapping[str, str]) -> str:
        """Caps and how setting them went; `labels`: of each GPU by uuid."""
        in_force = self._in_force(time.clock_gettime(time.CLOCK_BOOTTIME))
        rows = [
            (f'{labels[uuid]},source="{source}"', watts) for uuid, (source, watts) in in_force.items() if uuid in labels
        ]
        sets = [(labelled([("result", name)]), float(count)) for name, count in self.results.items()]
        return (
            family("muster_cap_watts", "gauge", "The cap in force and whom it comes from.", rows)
            + family("muster_cap_set_total", "counter", "Requests to the setter by what came of them.", sets)
            + self._histogram()
        )

    def _histogram(self) -> str:
        name, so_far, lines = "muster_cap_apply_seconds", 0.0, []
        for edge, count in zip((*BUCKETS_S, float("inf")), self.applied_s, strict=True):
            so_far += count
            lines.append(f'{name}_bucket{{le="{number(edge)}"}} {number(so_far)}\n')
        head = f"# HELP {name} From the controller's reply to the limit read back.\n# TYPE {name} histogram\n"
        return f"{head}{''.join(lines)}{name}_sum {number(self.applied_sum_s)}\n{name}_count {number(so_far)}\n"

    def _in_force(self, now_s: float) -> dict[str, tuple[str, float]]:
        found = {}
        for uuid, held in self.held.items():
            if now_s < held.until_s:
                found[uuid] = ("controller", held.enforced_w)
            elif held.safe_w:
                found[uuid] = ("safe", held.safe_w)
        return found

    def _run(self) -> None:
        failed = False
        while True:
            self._woken.wait(RETRY_S if failed else None)
            self._woken.clear()
            now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
            wanted = due(self.wanted, self.held, now_s)
            failed = bool(wanted) and not self._ask(wanted)

    def _ask(self, wanted: Mapping[str, Grant]) -> bool:
        """Ask over one connection; whether all were answered. What is refused waits for the controller's next reply."""
        all_well = True
        try:
            with socket.socket(socket.AF_UNIX) as setter:
                setter.settimeout(WAIT_S)
                setter.connect(self.path)
                with setter.makefile("rb") as answers:
                    for uuid, grant in wanted.items():
                        setter.sendall(request(uuid, grant, time.clock_gettime(time.CLOCK_BOOTTIME)))
                        all_well &= self._answered(uuid, grant, answers.readline(LONGEST_ANSWER))
        except OSError as error:
            self.results["unreachable"] += 1
            self.why = f"the setter at {self.path}: {error}"
            return False
        if all_well:
            self.why = ""
        return True

    def _answered(self, uuid: str, grant: Grant, line: bytes) -> bool:
        try:
            answer = json.loads(line)
            well, why = answer["ok"] is True, str(answer.get("why", ""))
            watts, safe_w = float(answer.get("watts", grant.watts)), float(answer.get("safe_watts", 0.0))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ConnectionError("it answered what is no answer") from None
        self.results["ok" if well else "refused"] += 1
        if not well:
            self.why = why
            return False
        before = self.held.get(uuid)
        if before is None or before.asked_w != grant.watts:
            took_s = max(time.clock_gettime(time.CLOCK_BOOTTIME) - grant.came_s, 0.0)
            self.applied_s[sum(took_s > edge for edge in BUCKETS_S)] += 1
            self.applied_sum_s += took_s
        self.held = {**self.held, uuid: Held(grant.watts, watts, grant.until_s, safe_w)}
        return True
