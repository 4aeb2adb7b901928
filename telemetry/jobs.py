"""Takes in what jobs tell the agent, and judges it: records in, looks out. Pure but for its memory.

A record is one JSON datagram: {"step": ...}, {"operation": ...}, {"request": ...} or
{"done": {"job", "rank"}} (`telemetry.client` sends them). What is no record is counted and passed over; no sender can
make the agent wait or grow. A job that is killed says no more: after an hour without a word it is forgotten.
"""

import json
import math
from collections.abc import Iterable, Mapping

from telemetry.collectives import Jobs as Communicators
from telemetry.collectives import Operation
from telemetry.detectors.jobs import COMMUNICATION_HANG, COMMUNICATION_SLOW, HANG, STRAGGLER
from telemetry.errors import BadRecord
from telemetry.fault import Look, Subject
from telemetry.overrun import Overruns
from telemetry.steps import StepDone, Steps

LONGEST_RECORD = 8192
LONGEST_NAME = 128
CLEAN_S = 900.0  # for so long after the last hit, clean looks are given, so that its state can clear
FORGOTTEN_S = 3600.0
Looks = list[tuple[str, Subject, Look]]
_VERDICTS = {
    "communication_hang": COMMUNICATION_HANG,
    "other_hang": COMMUNICATION_HANG,
    "communication_slow": COMMUNICATION_SLOW,
    "other_slow": STRAGGLER,
}


class Heard:
    """All jobs of a node."""

    def __init__(self) -> None:
        self.steps = Steps()
        self.communicators = Communicators()
        self.overruns = Overruns()
        self.records = self.refused = 0
        self._gpus: dict[tuple[str, int], int] = {}
        self._hit_s: dict[tuple[str, Subject], float] = {}
        self._fresh: set[str] = set()  # jobs that were heard of since the last look
        self._heard_s: dict[str, float] = {}

    def resume(self, keys: Iterable[tuple[str, Subject]], now_s: float) -> None:
        """What stood before a restart of the agent: over, unless it is seen again."""
        own = {HANG, *_VERDICTS.values()}
        self._hit_s |= {key: now_s for key in keys if key[0] in own}

    def hear(self, record: bytes) -> None:
        """Take in one datagram."""
        try:
            self._take(record)
            self.records += 1
        except BadRecord:
            self.refused += 1

    def looks(self, now_s: float) -> Looks:
        """What is wrong now, and a clean look at everything that was wrong before and is not any more."""
        self._forget_the_silent(now_s)
        found: dict[tuple[str, Subject], Look] = {}
        for slow in self.steps.slow():
            words = f"rank {slow.rank} of {slow.job} computes {slow.ratio:.2f} times as long as its peers"
            found[STRAGGLER, self._subject(slow.job, slow.rank)] = Look(True, slow.ratio, words)
        for hung in self.steps.hung(now_s):
            who = f"ranks {', '.join(map(str, hung.ranks[:8]))} are behind" if hung.ranks else "all ranks alike"
            words = f"{hung.job} has ended no step for {hung.silent_s:.0f} s: {who}"
            for rank in hung.ranks[:8] or (-1,):
                found[HANG, self._subject(hung.job, rank)] = Look(True, hung.silent_s, words)
        for finding in self.communicators.findings(now_s):
            for rank in finding.ranks[:8]:
                key = (_VERDICTS[finding.verdict], self._subject(finding.job, rank))
                found[key] = Look(True, finding.value, finding.words)
        self._hit_s = {key: at_s for key, at_s in self._hit_s.items() if abs(now_s - at_s) < CLEAN_S}
        clean = {key: Look(False) for key in set(self._hit_s) - set(found)}
        self._hit_s |= dict.fromkeys(found, now_s)
        return [(name, subject, look) for (name, subject), look in {**found, **clean}.items()]

    def _forget_the_silent(self, now_s: float) -> None:
        self._heard_s |= dict.fromkeys(self._fresh, now_s)
        self._fresh.clear()
        for job in [job for job, at_s in self._heard_s.items() if now_s - at_s > FORGOTTEN_S]:
            self._forget(job)

    def _forget(self, job: str) -> None:
        self.steps.forget(job)
        self.communicators.forget(job)
        self.overruns.forget(job)
        self._gpus = {key: gpu for key, gpu in self._gpus.items() if key[0] != job}
        self._fresh.discard(job)
        self._heard_s.pop(job, None)

    def _known(self, job: str, rank: int, gpu: int) -> None:
        """A record of a job that was taken in."""
        self._gpus[job, rank] = gpu
        self._fresh.add(job)

    def _subject(self, job: str, rank: int) -> Subject:
        part = f"rank {rank}" if rank >= 0 else ""
        return Subject(self._gpus.get((job, rank), -1), part, job)

    def _take(self, record: bytes) -> None:
        if len(record) > LONGEST_RECORD:
            raise BadRecord(f"{len(record)} bytes, at most {LONGEST_RECORD} are read")
        try:
            found = json.loads(record)
        except (ValueError, RecursionError) as error:
            raise BadRecord(str(error)) from None
        if not isinstance(found, dict) or len(found) != 1:
            raise BadRecord("allowed is an object with one of step, operation, request, done")
        (kind, body), *_ = found.items()
        if not isinstance(body, dict):
            raise BadRecord(f"{kind} is no object")
        if kind == "step":
            self._step(body)
        elif kind == "operation":
            self._operation(body)
        elif kind == "done":
            job, rank = _name(body, "job"), None if body.get("rank") is None else _whole(body, "rank")
            if self.steps.forget(job, rank):
                self._forget(job)
        elif kind == "request":
            self._request(body)
        else:
            raise BadRecord(f"got {str(kind)[:40]!r}, allowed: step, operation, request, done")

    def _request(self, body: Mapping[str, object]) -> None:
        self._served(_name(body, "job"), _whole(body, "gpu", -1), _number(body, "latency_s"), body)

    def _served(self, job: str, gpu: int, latency_s: float, body: Mapping[str, object]) -> None:
        """A request, or a step that has a time to keep."""
        slo_s = None if body.get("slo_s") is None else _number(body, "slo_s")
        if slo_s == 0.0:
            raise BadRecord("slo_s is 0, allowed are numbers above 0")
        if not self.overruns.request(job, gpu, latency_s, slo_s):
            raise BadRecord("too many jobs that serve requests")
        self._fresh.add(job)

    def _step(self, body: Mapping[str, object]) -> None:
        job, rank = _name(body, "job"), _whole(body, "rank")
        times = (_number(body, "start_s"), _number(body, "end_s"), _number(body, "compute_s"))
        gpu = _whole(body, "gpu", -1)
        size, stage, step = _whole(body, "size", 1), _whole(body, "stage", 0), _whole(body, "step")
        if not self.steps.note(StepDone(job, rank, size, stage, step, *times, gpu)):
            raise BadRecord("too many jobs, ranks or steps")
        self._known(job, rank, gpu)
        if body.get("slo_s") is not None:
            self._served(job, gpu, max(times[1] - times[0], 0.0), body)

    def _operation(self, body: Mapping[str, object]) -> None:
        job, comm, size = _name(body, "job"), _name(body, "comm"), _whole(body, "size")
        if not 0 < size <= 1 << 16:
            raise BadRecord(f"size is {size}, allowed are 1 to 65536")
        rank, gpu = _whole(body, "rank"), _whole(body, "gpu", -1)
        end_s = None if body.get("end_s") is None else _number(body, "end_s")
        peer = None if body.get("peer") is None else _whole(body, "peer")
        for one in (rank, peer):
            if one is not None and not 0 <= one < size:
                raise BadRecord(f"rank or peer is {one}, allowed are 0 to size - 1, here {size - 1}")
        size_bytes = _number(body, "bytes") if "bytes" in body else 0.0
        kind, sequence, start_s = _name(body, "kind"), _whole(body, "sequence"), _number(body, "start_s")
        told = Operation(job, comm, sequence, kind, rank, start_s, end_s, size_bytes, peer, gpu=gpu)
        if not self.communicators.note(told, size):
            raise BadRecord("too many communicators or records of them")
        self._known(job, rank, gpu)


def _name(body: Mapping[str, object], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME:
        raise BadRecord(f"{key} is {str(value)[:40]!r}, allowed is a name of up to {LONGEST_NAME} characters")
    return value


def _whole(body: Mapping[str, object], key: str, default: int | None = None) -> int:
    value = body.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not -1 <= value < 1 << 53:
        raise BadRecord(f"{key} is {str(value)[:40]!r}, allowed is a whole number")
    return value


def _number(body: Mapping[str, object], key: str) -> float:
    value = body.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise BadRecord(f"{key} is {str(value)[:40]!r}, allowed are numbers of at least 0")
    return float(value)
