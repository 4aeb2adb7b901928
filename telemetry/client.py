"""What a training or serving loop calls, so that the node's agent sees its steps. Standard library alone.

    from telemetry.client import muster_step

    for batch in loader:
        with muster_step() as step:
            with step.compute():
                loss = forward_and_backward(batch)
            optimizer.step()

A server tells each request with `Reporter().request(latency_s)`: what misses its objective is seen, and why.

Datagrams to a unix socket that never wait: where no agent listens, nothing happens. Job and ranks come from MUSTER_JOB
(else SLURM_JOB_ID), RANK, WORLD_SIZE, LOCAL_RANK, and MUSTER_STAGE for pipeline stages.
"""

import atexit
import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping

DEFAULT_SOCKET = "/run/muster/jobs.sock"


class Reporter:
    """Sends records of one rank. `environment` names job and rank."""

    def __init__(self, path: str = "", environment: Mapping[str, str] = os.environ) -> None:
        self.path = path or environment.get("MUSTER_SOCKET", DEFAULT_SOCKET)
        self.job = environment.get("MUSTER_JOB") or environment.get("SLURM_JOB_ID") or f"pid-{os.getpid()}"
        self.rank, self.size = (int(environment.get(name) or d) for name, d in (("RANK", "0"), ("WORLD_SIZE", "1")))
        self.gpu, self.stage = (int(environment.get(name) or "0") for name in ("LOCAL_RANK", "MUSTER_STAGE"))
        self.step = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def send(self, record: Mapping[str, object]) -> bool:
        """Whether the agent took it; a full or missing socket loses the record and no time."""
        try:
            self._socket.sendto(json.dumps(record).encode(), self.path)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Let the socket go."""
        self._socket.close()

    def operation(
        self, comm: str, sequence: int, kind: str, start_s: float, end_s: float | None = None, **more: object
    ) -> bool:
        """One collective as this rank saw it (Unix times); call it at the start, and again with `end_s`."""
        own = {"job": self.job, "rank": self.rank, "gpu": self.gpu, "size": self.size}
        told = {"comm": comm, "sequence": sequence, "kind": kind, "start_s": start_s, "end_s": end_s}
        return self.send({"operation": {**own, **told, **more}})

    def request(self, latency_s: float, slo_s: float | None = None) -> bool:
        """One request that was served, and the latency that it should have kept where the plan does not say."""
        told = {"job": self.job, "gpu": self.gpu, "latency_s": latency_s}
        return self.send({"request": told | ({} if slo_s is None else {"slo_s": slo_s})})

    def done(self) -> bool:
        """This rank's job ends here: silence is no hang any more. `muster_step` says it where the process ends well."""
        return self.send({"done": {"job": self.job, "rank": self.rank}})


class Step:
    """One step; what is computed within `compute` tells a slow rank from one that waits for it."""

    def __init__(self) -> None:
        self.compute_s = 0.0

    @contextlib.contextmanager
    def compute(self) -> Iterator[None]:
        """This rank's own work. On a GPU, synchronise before the end, or only launches are timed."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.compute_s += time.perf_counter() - began


_reporter: Reporter | None = None


def _started() -> Reporter:
    """The process's own reporter, which takes leave at its end."""
    reporter = Reporter()
    atexit.register(_leave, reporter, os.getpid())
    return reporter


def _leave(reporter: Reporter, pid: int) -> None:
    """Not after an error that ended this rank (its peers hang, which must be seen), nor in a fork."""
    if os.getpid() == pid and getattr(sys, "last_value", None) is None:
        reporter.done()


@contextlib.contextmanager
def muster_step(
    number: int | None = None, reporter: Reporter | None = None, slo_s: float | None = None
) -> Iterator[Step]:
    """Report one step of the loop; `number` counts by itself, `slo_s` is the time that it should keep, if any."""
    global _reporter
    if reporter is None:
        reporter = _reporter = _reporter or _started()
    step, began_s = Step(), time.time()
    reporter.step = reporter.step + 1 if number is None else number
    try:
        yield step
    finally:
        ended_s = time.time()
        own = {"job": reporter.job, "rank": reporter.rank, "size": reporter.size, "stage": reporter.stage}
        times = {"start_s": began_s, "end_s": ended_s, "compute_s": step.compute_s or ended_s - began_s}
        times |= {} if slo_s is None else {"slo_s": slo_s}
        reporter.send({"step": {**own, "gpu": reporter.gpu, "step": reporter.step, **times}})
