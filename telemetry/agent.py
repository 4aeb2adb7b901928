"""What the agent knows: the latest of every GPU, its faults, its Xids. The loop writes it, the pages read it.

Nothing here calls a driver, so that nothing here can hang with one. Mappings that the server's threads read are
replaced, never changed.
"""

import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from telemetry import keep
from telemetry.capping import Capper
from telemetry.detectors.node import HUNG, MISSING, SILENT
from telemetry.fault import FATAL, Look, Subject, Transition
from telemetry.hosts import Accelerator
from telemetry.infiniband import Ports, ports
from telemetry.jobs import Heard, Looks
from telemetry.page import Page
from telemetry.pods import Holder
from telemetry.render import PREFIX, Identity, family, joined, labelled, of_gpu
from telemetry.report import Reply
from telemetry.sample import Driver, Reading, Sample, Xid
from telemetry.settings import Settings
from telemetry.watch import Watch
from telemetry.wire import Count, Hello, Message
from telemetry.xid_pairs import LIVE_S, Pairs
from telemetry.xid_policy import overridden, policy

SILENT_S, HUNG_S = 5.0, 30.0  # of the reader: warn, give up on the driver
STATE_FILE, SAVE_AGAIN_S = "agent.json", 10.0


def most_resident_bytes() -> float:
    """Most memory that this process held. Not the maximum of getrusage: that is inherited from what started us."""
    status = Path("/proc/self/status").read_text("ascii", "replace")
    return 1024.0 * int(status.partition("VmHWM:")[2].split()[0])


class Agent:
    """One node. `booted_s`: when it came up, Unix time."""

    def __init__(self, settings: Settings, boot_id: str, booted_s: float) -> None:
        self.settings = settings
        self.boot_id = boot_id
        self.identity = Identity(settings.node, Driver(), (), settings.dcgm)
        self._page = Page(self.identity)
        self.watch = Watch(booted_s, overridden(settings.xids))
        self.heard = Heard()
        self.samples: Mapping[int, Sample] = {}
        self.xids: Mapping[tuple[int, int], tuple[int, float]] = {}  # (GPU, code) -> count, last time
        self.transitions: Mapping[tuple[str, str], int] = {}
        self.heard_s = time.monotonic()
        self.dropped = self.restarts = self.counted = self.expected = 0
        self.sequence, self.kernel_sequence = 0, -1
        self._pairs = Pairs()
        self.ports, self._ports_s = Ports(), 0.0
        self.stuck: Callable[[], str] = str  # where the reader hangs, for whoever knows
        self.poll_s: dict[str, tuple[int, float]] = {}
        self._xid_page: tuple[Mapping[tuple[int, int], tuple[int, float]], Identity | None, str] = ({}, None, "")
        self.unknown: tuple[Accelerator, ...] = ()  # accelerators that nobody reads
        self.has_nvidia = False  # by the PCI bus
        self.driverless = False  # there is nothing for NVML to read, and that is as it should be
        self.holders: Mapping[int, tuple[Holder, ...]] = {}  # of GPUs, by index
        self.part_labels: Mapping[str, tuple[tuple[str, str], ...]] = {}  # of MIG devices' holders, by UUID
        self.capper: Capper | None = None
        self.more: tuple[Callable[[], str], ...] = ()  # families that others write
        self.on_change: Callable[[], None] = lambda: None
        self.history_s = 0.0  # Xids that the kernel logged before are from before the first run
        self.unsaved, self._tried_s = "", 0.0  # why the state is not on disk
        self._path = Path(settings.state) / STATE_FILE if settings.state else None
        if self._path is not None:
            self._resume(keep.read(self._path), time.time())
            if self.history_s == math.inf:
                self.history_s = time.time()
                self.save()  # so that the next run knows of this one

    def hear(self, message: Message) -> list[Transition]:
        """Take in one message of the reader; what changed by it."""
        if isinstance(message, Hello | Reading):  # what waits for events may live on while a call hangs
            self.heard_s = time.monotonic()
        match message:
            case Hello(driver, gpus, _):
                self.identity = Identity(self.settings.node, driver, gpus, self.settings.dcgm)
                self.watch.meet(gpus)
                self.expected = max(self.expected, len(gpus))
                return self._count(len(gpus), message.at_s)
            case Count(gpus, at_s):
                return self._count(gpus, at_s)
            case Xid():
                return self.hear_xid(message)
            case Reading():
                return self._read(message)

    def hear_xid(self, xid: Xid, within_s: float = LIVE_S) -> list[Transition]:
        """Count an Xid once, whoever tells of it first; the kernel log's words may still change what it means.

        The first run on a node finds Xids of before in the log, that somebody may have cured since: they are counted,
        and what is still wrong shows in the GPU itself. A later run was only away for a while: it acts on all that came
        since the first one, and so does one that keeps no state or finds its state broken.
        """
        key = (xid.gpu, xid.code)
        count, _ = self.xids.get(key, (0, 0.0))
        again = self._pairs.again(xid, within_s)
        if again and policy(self.watch.table, xid.code, xid.text) == policy(self.watch.table, xid.code):
            return []
        self.xids = {**self.xids, key: (count + (not again), xid.at_s)}
        changes = [] if xid.at_s < self.history_s else self.watch.hear(xid)
        self._noted(changes)
        self.save()
        return changes

    def tick(self, now_s: float) -> list[Transition]:
        """Judge the driver's silence, and what jobs have told."""
        if self.driverless:
            self.heard_s = time.monotonic()
        if self.unsaved and time.monotonic() - self._tried_s > SAVE_AGAIN_S:
            self.save()
        silent_s = self.silent_s()
        words = f"the driver has not answered for {silent_s:.0f} s"
        if self.hung() and (where := self.stuck()):
            words += f"; {where}"
        changes = self._see(SILENT, self.hung(), silent_s, words, now_s)
        changes += self._see(HUNG, silent_s > max(HUNG_S, 3 * self.settings.hot_s), silent_s, words, now_s)
        for name, subject, look in [*self.heard.looks(now_s), *self._look_at_ports(now_s)]:
            changes += self._noted(self.watch.see(name, subject, look, now_s))
        return changes

    def _look_at_ports(self, now_s: float) -> Looks:
        if abs(now_s - self._ports_s) < self.settings.warm_s:
            return []
        self._ports_s = now_s
        return self.ports.note(ports(Path(self.settings.sysfs)), now_s)

    def hung(self) -> bool:
        """Whether the driver is silent for too long; who asks it seldom must wait longer."""
        return self.silent_s() > max(SILENT_S, 2 * self.settings.hot_s)

    def judge(self, looks: Looks, now_s: float) -> list[Transition]:
        """Looks that were taken elsewhere."""
        return [
            change
            for name, subject, look in looks
            for change in self._noted(self.watch.see(name, subject, look, now_s))
        ]

    def take(self, reply: Reply, now_s: float) -> list[Transition]:
        """What the controller has answered, but for the caps, which are on their way to the setter."""
        self.heard.overruns.allotments = {one.uuid: one for one in reply.allotments}
        return [
            change for name, subject in reply.acted for change in self._noted(self.watch.acted(name, subject, now_s))
        ]

    def silent_s(self) -> float:
        """Seconds since the reader said anything."""
        return time.monotonic() - self.heard_s

    def save(self) -> None:
        """Put on disk what must survive. A disk that takes nothing is told of and tried again; the watch goes on."""
        if self._path is None:
            return
        numbers = (self.sequence, self.kernel_sequence, self.expected)
        xids, states, waiting = self.xids, self.watch.states, self._pairs.waiting()
        kept = keep.Kept(self.boot_id, *numbers, xids, states, self.history_s, waiting, self.watch.energies_j)
        self._tried_s = time.monotonic()
        try:
            keep.write(self._path, kept)
        except OSError as error:
            self.unsaved = f"faults would not survive a restart: {self._path}: {error.strerror}"
        else:
            self.unsaved = ""

    def metrics(self) -> bytes:
        """The page /metrics."""
        page = self._page
        if page.identity is not self.identity:
            page = self._page = Page(self.identity)
        more = [self.ports.metrics(), *(write() for write in self.more)]
        own = "".join([self._xid_families(), self._faults(), *self._own(), *more])
        return b"".join([*page.parts(self.samples), own.encode()])

    def ready(self) -> str:
        """Empty once every GPU was read, else why not."""
        if self.driverless:
            return ""
        missing = [gpu.index for gpu in self.identity.gpus if gpu.index not in self.samples]
        return f"not read yet: GPUs {missing}" if missing else "" if self.identity.gpus else "no GPU was read yet"

    def _resume(self, kept: keep.Kept, now_s: float) -> None:
        self.history_s = kept.history_s
        self.sequence, self.expected, self.xids = kept.sequence, kept.gpus, dict(kept.xids)
        self.watch.states.update(kept.states)
        self.heard.resume(kept.states, now_s)
        self.heard.overruns.resume(kept.states, now_s)
        if kept.boot_id == self.boot_id:
            self.kernel_sequence, self._pairs = kept.kernel_sequence, Pairs(kept.waiting)
            self.watch.energies_j.update(kept.energies_j)
        else:
            for gpu in {subject.gpu for _, subject in kept.states}:
                self.watch.recovered(gpu, now_s)

    def _read(self, reading: Reading) -> list[Transition]:
        if reading.tier == "warm" and reading.gpu in self.heard.steps.made:
            self.watch.worked(reading.gpu, *self.heard.steps.made[reading.gpu], reading.at_s)
        changes = self.watch.read(reading)
        self.samples = {**self.samples, reading.gpu: self.watch.samples[reading.gpu]}
        polls, spent_s = self.poll_s.get(reading.tier, (0, 0.0))
        self.poll_s[reading.tier] = (polls + 1, spent_s + reading.took_s)
        return self._noted(changes)

    def _count(self, gpus: int, at_s: float) -> list[Transition]:
        self.counted = gpus
        words = f"the driver sees {gpus} GPUs, {self.expected} were there"
        return self._see(MISSING, gpus < self.expected, float(self.expected - gpus), words, at_s)

    def _see(self, name: str, hit: bool, value: float, words: str, now_s: float) -> list[Transition]:
        return self._noted(self.watch.see(name, Subject(), Look(hit, value, words), now_s))

    def _noted(self, changes: list[Transition]) -> list[Transition]:
        if changes:
            counts = dict(self.transitions)
            for one in changes:
                counts[one.detector, one.after] = counts.get((one.detector, one.after), 0) + 1
            self.transitions = counts
            self.sequence += len(changes)
            self.save()
            self.on_change()
        return changes

    def _labels(self, gpu: int) -> tuple[tuple[str, str], ...]:
        return next((of_gpu(one) for one in self.identity.gpus if one.index == gpu), ())

    def _xid_families(self) -> str:
        """Every Xid seen, and zeros for the fatal ones: a rate misses the first event of a new series."""
        if self._xid_page[:2] == (self.xids, self.identity):
            return self._xid_page[2]
        seen = dict(self.xids)
        for one in self.watch.table.values():
            if one.meaning in FATAL:
                for gpu in self.identity.gpus:
                    seen.setdefault((gpu.index, one.xid), (0, 0.0))
        counts, times, own = [], [], {gpu.index: of_gpu(gpu) for gpu in self.identity.gpus}
        for (index, code), (count, last_s) in sorted(seen.items()):
            meaning = policy(self.watch.table, code).meaning
            labels = joined((*own.get(index, ()), ("xid", str(code)), ("severity", meaning)))
            counts.append((labels, float(count)))
            if count:
                times.append((labels, last_s))
        page = family(f"{PREFIX}xid_events_total", "counter", "Xids by code and what they mean.", counts) + family(
            f"{PREFIX}xid_last_timestamp_seconds", "gauge", "When the last Xid of a code came, Unix time.", times
        )
        self._xid_page = (dict(self.xids), self.identity, page)
        return page

    def _faults(self) -> str:
        rows, values = [], []
        for detector, subject, state in list(self.watch.faults()):
            own: dict[str, str] = {"detector": detector.name, "severity": detector.severity}
            own |= {"part": subject.part, "job": subject.job}
            labels = joined((*self._labels(subject.gpu), *own.items()))
            rows.append((f'{labels},phase="{state.phase}"', 1.0))
            values.append((labels, state.value))
        counts = [
            (labelled((("detector", name), ("phase", phase))), float(count))
            for (name, phase), count in sorted(self.transitions.items())
        ]
        return (
            family("muster_fault", "gauge", "1 for each fault, by the phase that it is in.", rows)
            + family("muster_fault_value", "gauge", "What the detector measured at its last hit.", values)
            + family("muster_fault_transitions_total", "counter", "Changes of phase by detector.", counts)
        )

    def _own(self) -> list[str]:
        silent_s, used = self.silent_s(), os.times()
        polls = [(labelled([("tier", tier)]), float(count)) for tier, (count, _) in sorted(self.poll_s.items())]
        spent = [(labelled([("tier", tier)]), spent_s) for tier, (_, spent_s) in sorted(self.poll_s.items())]
        singles = (
            ("gpus", "gauge", "GPUs that the driver sees.", float(self.counted)),
            ("driver_silent_seconds", "gauge", "Time since the driver last answered.", silent_s),
            ("driver_hung", "gauge", "1 once the driver is silent for too long.", float(self.hung())),
            ("reader_restarts_total", "counter", "Readers that were replaced.", float(self.restarts)),
            ("state_unsaved", "gauge", "1 while the state cannot be put on disk.", float(bool(self.unsaved))),
            ("dropped_total", "counter", "Lines of the reader that made no sense.", float(self.dropped)),
            ("job_records_total", "counter", "Records of jobs.", float(self.heard.records)),
            ("job_records_refused_total", "counter", "What jobs sent that was none.", float(self.heard.refused)),
            ("cpu_seconds_total", "counter", "CPU time of the agent itself.", used.user + used.system),
            ("resident_memory_max_bytes", "gauge", "Most memory that the agent held.", most_resident_bytes()),
        )
        return [
            family("muster_agent_polls_total", "counter", "Readings of a GPU by tier.", polls),
            family("muster_agent_poll_seconds_total", "counter", "Time spent in readings by tier.", spent),
            *(family(f"muster_agent_{name}", kind, words, [("", value)]) for name, kind, words, value in singles),
        ]
