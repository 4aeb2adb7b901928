"""Many agents on the wire from one process: a job as JSON on the standard input, what came of it on the output."""

import http.client
import json
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from telemetry.report import BRIEF, Report

_CONNECTIONS = 16
_LATE_EVERY = 10  # one in so many reports is sent again afterwards, and must be refused
_XID = {"detector": "xid", "severity": "fatal_gpu", "phase": "confirmed", "gpu": 3, "words": "Xid 79: fell off the bus"}


@dataclass
class Told:
    """What came of reports. `stale`: late ones sent on purpose; `lost`: reports that were not taken."""

    sent: int = 0
    lost: int = 0
    stale: int = 0
    stale_refused: int = 0
    took_s: float = 0.0
    waits_s: list[float] = field(default_factory=list)

    @staticmethod
    def together(parts: Sequence[Mapping[str, Any]]) -> "Told":
        sums = {name: sum(part[name] for part in parts) for name in ("sent", "lost", "stale", "stale_refused")}
        waits_s = sorted(wait_s for part in parts for wait_s in part["waits_s"])
        return Told(**sums, took_s=max(part["took_s"] for part in parts), waits_s=waits_s)

    def at(self, ratio: float) -> float:
        """The wait in seconds that this share of the reports did not exceed."""
        return self.waits_s[min(int(len(self.waits_s) * ratio), len(self.waits_s) - 1)]


class Reporter:
    """One node's agent on a connection that stays open."""

    def __init__(self, port: int, node: str, token: str, connection: http.client.HTTPConnection | None = None) -> None:
        self.node = node
        self._connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=30.0)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        values = {name: 1.0 for name in BRIEF if name != "power_limit_enforced_w"} | {"power_limit_enforced_w": 700.0}
        model = "NVIDIA H100 80GB HBM3"
        self._gpus = [{"gpu": i, "uuid": f"{node}-{i}", "model": model, "values": values} for i in range(8)]

    def tell(self, sequence: int, fault: bool = False) -> int:
        """The status that a report is answered with."""
        faults = [_XID] if fault else []
        body = Report(self.node, "b1", sequence, time.time(), 0, gpus=self._gpus, faults=faults).encoded()
        self._connection.request("POST", "/v1/report", body, self._headers)
        answer = self._connection.getresponse()
        answer.read()
        return answer.status

    def close(self) -> None:
        self._connection.close()


def _some(job: Mapping[str, Any], names: Sequence[str], per_s: float, told: Told) -> None:
    """These nodes in turn on one connection, paced."""
    connection = http.client.HTTPConnection("127.0.0.1", job["port"], timeout=30.0)
    agents = [Reporter(job["port"], name, job["tokens"][name], connection) for name in names]
    began_s = time.monotonic()
    for turn in range(job["rounds"]):
        for agent in agents:
            if per_s:
                time.sleep(max(began_s + told.sent / per_s - time.monotonic(), 0.0))
            sequence, at_s = job["first"] + 2 * turn, time.monotonic()
            told.lost += agent.tell(sequence, job["fault"]) != 200
            told.waits_s.append(time.monotonic() - at_s)
            told.sent += 1
            if job["rounds"] > 1 and told.sent % _LATE_EVERY == 0:
                told.stale += 1
                told.stale_refused += agent.tell(sequence - 1) == 409
    connection.close()


def main() -> None:
    job = json.load(sys.stdin)
    names = sorted(job["tokens"])
    parts = [part for index in range(_CONNECTIONS) if (part := names[index::_CONNECTIONS])]
    told = [Told() for _ in parts]
    began_s = time.monotonic()
    rates = [job["per_s"] * len(part) / len(names) for part in parts]
    rows = zip(parts, rates, told, strict=True)
    threads = [threading.Thread(target=_some, args=(job, *row)) for row in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = Told.together([asdict(one) for one in told])
    whole.took_s = time.monotonic() - began_s
    json.dump(asdict(whole), sys.stdout)


if __name__ == "__main__":
    main()
