"""The agent's own process: listens to the reader and the kernel log, judges, answers scrapes.

    python -m telemetry.serve SETTINGS

Started lean (no command line, no numpy): a node has better uses for its memory.
"""

import gc
import hashlib
import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

from telemetry import kmsg
from telemetry.agent import Agent
from telemetry.attached import Attached
from telemetry.child import MOST_LOST, Child, still_there, where_stuck
from telemetry.errors import BadRecord, CannotStart, NvmlUnavailable
from telemetry.fault import Transition
from telemetry.hosts import NVIDIA, accelerators
from telemetry.jobs import LONGEST_RECORD
from telemetry.opening import Record, job_socket, recording, starting
from telemetry.packed import Unpacker
from telemetry.sample import Xid
from telemetry.server import Certificate, Pages, Server
from telemetry.settings import Settings, loaded, token
from telemetry.xid_pairs import LIVE_S, LOOK_BACK_S

RESTART_S = 10.0  # a reader that is silent for this long is replaced, and again after each such time
SLOWEST_START_S = 1.0
# Readings come each second and wake the loop; once they are late, it looks at the clock more often.
WAIT_S, QUIET_S, SOON_S = 1.3, 3.0, 0.3
DRIVERLESS_S = 60.0  # between looks for a driver where there is none to be expected
NO_DRIVER = 3  # how the reader ends without one, and the agent where there is no GPU at all
MOST_RECORDS = 1000
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def jitter_s(node: str, period_s: float) -> float:
    """Where in the period a node polls, so that a fleet does not poll in step."""
    digest = hashlib.sha256(node.encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 * period_s


def booted_s() -> float:
    """When this node came up, Unix time."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def log(changes: list[Transition]) -> None:
    """A line for each change, for whoever collects the logs of the node."""
    for one in changes:
        print(json.dumps({"event": "fault", **asdict(one), "subject": one.subject._asdict()}), flush=True)  # noqa: T201


class Stop:
    """Set by the signals that end the agent, which also wake the loop: else it would wait for the next reading."""

    def __init__(self) -> None:
        self.asked = False
        self.woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, *_: object) -> None:
        self.asked = True


def run(agent: Agent, attached: Attached, stop: Stop) -> None:
    """Listen until told to stop; replace a reader that ends or falls silent. Raises NvmlUnavailable without GPUs."""
    reader = Reader(agent.settings)
    agent.stuck = lambda: where_stuck(reader.child.pid)
    with recording(agent.settings.record) as record, selectors.DefaultSelector() as selector:
        reader.listen(selector)
        kernel = _kernel_log(agent.settings.kmsg)
        jobs = job_socket(agent.settings.jobs)
        if jobs is not None:
            selector.register(jobs, selectors.EVENT_READ, jobs)
        selector.register(stop.woken, selectors.EVENT_READ, stop)
        looked_back = False
        while not stop.asked:
            if (
                kernel is not None and agent.identity.gpus and not looked_back
            ):  # before, nobody knows whose Xids they are
                _read_kernel_log(agent, kernel, live=False)
                selector.register(kernel, selectors.EVENT_READ, None)
                looked_back = True
            for key, _ in selector.select(timeout=WAIT_S if agent.silent_s() < QUIET_S else SOON_S):
                if key.data is None:
                    _read_kernel_log(agent, key.fd, live=True)
                elif key.data is jobs:
                    _hear_jobs(agent, jobs)
                elif key.data is not stop:
                    lines, ended = key.data.read()
                    reader.gone |= ended
                    _take(agent, reader, lines, record)
            log(agent.tick(time.time()))
            attached.tick(log)
            if not agent.identity.gpus:
                agent.driverless |= reader.gone and reader.child.ended() == NO_DRIVER and _no_driver_is_well(agent)
            else:
                agent.driverless = False
            if agent.settings.replay and reader.gone:
                if reader.child.code():
                    raise BadRecord("the recording cannot be played")
                break
            if reader.must_go(agent.silent_s(), DRIVERLESS_S if agent.driverless else SLOWEST_START_S):
                reader.replace(selector)
                agent.restarts += 1
            elif reader.gone:
                time.sleep(0.2)  # it ended just after it began: do not spin
    reader.child.give_up()


def _no_driver_is_well(agent: Agent) -> bool:
    """Whether there is nothing for NVML to read. Raises NvmlUnavailable where there is nothing for anybody."""
    if agent.has_nvidia:
        return False  # its driver is missing or broken: try again, and let the silence be judged
    if not agent.unknown and not agent.settings.allow_no_gpu:
        raise NvmlUnavailable("there is no GPU on this host; --allow-no-gpu serves all the same")
    return True


class Reader:
    """The current reader, and those that were given up and may still be stuck in a driver call."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.offset_s = jitter_s(settings.node, settings.hot_s)
        self.child = Child(settings, self.offset_s)
        self.since_s = time.monotonic()
        self.gone = False
        self.unpacker = Unpacker()
        self.lost: list[Child] = []

    def listen(self, selector: selectors.BaseSelector) -> None:
        """Wait for its lines too."""
        for pipe in self.child.pipes:
            selector.register(pipe.file, selectors.EVENT_READ, pipe)

    def must_go(self, silent_s: float, again_s: float) -> bool:
        """Whether it is time for another one; one that ended gets a successor after `again_s`."""
        age_s = time.monotonic() - self.since_s
        if self.gone:
            return age_s > again_s
        longest_s = max(RESTART_S, 3 * self.settings.hot_s)
        return silent_s > longest_s and age_s > longest_s and len(still_there(self.lost)) < MOST_LOST

    def replace(self, selector: selectors.BaseSelector) -> None:
        """Give this one up and start another."""
        for pipe in self.child.pipes:
            selector.unregister(pipe.file)
        self.child.give_up()
        self.lost = still_there([*self.lost, self.child])
        self.child, self.since_s, self.gone = Child(self.settings, self.offset_s), time.monotonic(), False
        self.listen(selector)


def _take(agent: Agent, reader: Reader, lines: list[bytes], record: Record) -> None:
    for line in lines:
        try:
            message = reader.unpacker.message(line)
        except BadRecord:
            agent.dropped += 1
            continue
        log(agent.hear(message))
        record(message)


def _hear_jobs(agent: Agent, jobs: socket.socket) -> None:
    """What has come, but no more than a flood would leave time for between two looks at the rest."""
    for _ in range(MOST_RECORDS):
        try:
            agent.heard.hear(jobs.recv(LONGEST_RECORD + 1))
        except BlockingIOError:
            return


def _kernel_log(path: str) -> int | None:
    """The kernel log from its start, None where this user may not read it."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None


def _read_kernel_log(agent: Agent, file: int, live: bool) -> None:
    """Xids that were not read before: by the sequence number that the last run kept."""
    by_place = {kmsg.place(gpu.pci): gpu.index for gpu in agent.identity.gpus if gpu.pci}
    start_s, now_s = booted_s(), time.time()
    for record in kmsg.records(lambda: os.read(file, 8192)):
        logged = kmsg.parsed(record)
        if logged is None or logged.sequence <= agent.kernel_sequence or logged.pci not in by_place:
            continue
        agent.kernel_sequence = logged.sequence
        # The kernel's clock drifts from ours, by seconds in weeks: what comes while we listen came now.
        at_s = now_s if live else start_s + logged.since_boot_s
        xid = Xid(by_place[logged.pci], logged.code, at_s, "kmsg", logged.text)
        log(agent.hear_xid(xid, LIVE_S if live else LOOK_BACK_S))


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    try:
        _serve(loaded(sys.argv[1]))
    except NvmlUnavailable as error:
        _end(error, NO_DRIVER)
    except BadRecord as error:
        _end(error, 2)
    except CannotStart as error:  # perhaps it can be used later: whoever started us may try again
        _end(error, 1)


def _end(error: Exception, code: int) -> None:
    print(f"error: {error}", file=sys.stderr)  # noqa: T201
    sys.exit(code)


def _server(agent: Agent) -> Server:
    """The server of the pages, which listens from now on. Raises CannotStart."""
    settings = agent.settings
    # A hung driver must not get the agent restarted: it is well as long as it answers.
    pages = Pages(agent.metrics, lambda: "", agent.ready)
    with starting("--tls-certificate, --tls-key", settings.tls_certificate):
        certificate = Certificate(settings.tls_certificate, settings.tls_key)
    with starting("--token-file", settings.token_file):
        asked_for = token(settings.token_file)
    if settings.token_file and not asked_for:  # an empty one would open the page to everybody
        raise CannotStart(f"--token-file: {settings.token_file} holds no token")
    with starting("--listen", f"{settings.host}:{settings.port}"):
        return Server((settings.host, settings.port), pages, settings.token_file, certificate)


def _serve(settings: Settings) -> None:
    """Serve until told to stop. Raises NvmlUnavailable, BadRecord and CannotStart."""
    boot_id = BOOT_ID.read_text("ascii").strip() if BOOT_ID.exists() else ""
    gc.freeze()  # what is imported stays: do not look through it in the middle of a scrape
    gc.set_threshold(50_000)
    with starting("--state", settings.state):
        agent, stop = Agent(settings, boot_id, booted_s()), Stop()
    found = accelerators(Path(settings.sysfs))
    agent.has_nvidia = any(one.vendor == NVIDIA for one in found)
    agent.unknown = tuple(one for one in found if one.vendor != NVIDIA)
    attached = Attached(agent)
    server = _server(agent)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 5.0}, daemon=True).start()
    attached.start()
    try:
        run(agent, attached, stop)
    finally:
        attached.stop()
        server.server_close()
        agent.save()


if __name__ == "__main__":
    main()
