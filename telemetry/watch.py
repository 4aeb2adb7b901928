"""Runs every detector over what the node's GPUs report, and keeps where each subject stands.

Pure but for its own memory: time comes with the messages. What a node has in common is one fault: when several of its
GPUs fail within ten seconds, the node is said to once (`node_fault`), and it is over when the last of them is well.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from telemetry import machine
from telemetry.detector import Detector, detectors, elsewhere
from telemetry.detectors.links import MENDED
from telemetry.detectors.node import NODE
from telemetry.detectors.presence import LOST
from telemetry.detectors.slowdown import LIMIT, free_to_run
from telemetry.fault import FATAL, Look, Phase, State, Subject, Transition
from telemetry.fields import CLOCK_EVENT_MASK
from telemetry.sample import TIERS, Gpu, Reading, Sample, Xid, merged
from telemetry.view import History, Peer, View
from telemetry.xid_policy import Policy, catalogue, policy

# What detectors ask about over time.
COUNTERS = ("ecc_corrected_volatile_all", "pcie_replays", "hw_thermal_s", "energy_j")
HOT_COUNTER = (
    "ecc_uncorrected_volatile_all"  # lost data is told within a second, with or without an event of the driver
)
ENERGY, RESET_RATIO = "energy_j", 0.9  # a counter that only rises, but for what a sensor may wobble
LINK_COUNTERS = ("crc", *MENDED)
GAUGES = ("utilization_ratio", "power_w", "memory_temperature_c", "sm_clock_hz", CLOCK_EVENT_MASK)
TOGETHER_S = 10.0
FAILS: tuple[Phase, ...] = ("confirmed", "acted")
Standing = tuple[str, Subject]  # a detector's name and what it judges


class Watch:
    """All of one node. `booted_s`: when it came up, Unix time."""

    def __init__(
        self,
        booted_s: float = 0.0,
        table: Mapping[int, Policy] | None = None,
        chosen: tuple[Detector, ...] | None = None,
    ) -> None:
        self.booted_s = booted_s
        self.table = catalogue() if table is None else table
        self.detectors = detectors() if chosen is None else chosen
        self.gpus: Mapping[int, Gpu] = {}
        self.samples: dict[int, Sample] = {}
        self.states: dict[Standing, State] = {}
        self.energies_j: dict[str, float] = {}  # by UUID; kept over restarts, since a reset may need the agent away
        self._by_name = {one.name: one for one in self.detectors}
        asked = [one for one in self.detectors if one.look is not elsewhere]
        self._by_tier = {tier: [one for one in asked if one.tier == tier] for tier in (*TIERS, "xid")}
        self._histories: dict[int, History] = {}
        self._looked_s: dict[tuple[str, int], float] = {}
        self._failing: deque[tuple[float, int]] = deque(maxlen=64)

    def meet(self, gpus: Iterable[Gpu]) -> None:
        """The GPUs that there are."""
        self.gpus = {gpu.index: gpu for gpu in gpus}

    def read(self, reading: Reading) -> list[Transition]:
        """Take in a reading; what changed by it."""
        sample = self.samples[reading.gpu] = merged(self.samples.get(reading.gpu), reading)
        changes = self.recovered(reading.gpu, reading.at_s) if self._began_anew(reading) else []
        history = self._histories.get(reading.gpu)
        if history is None:
            history = self._histories[reading.gpu] = History()
        if not reading.lost:
            _remember(history, reading, sample)
        view = self._view(reading.gpu, sample, reading.at_s)
        return changes + self._look(self._due(reading), view)

    def _began_anew(self, reading: Reading) -> bool:
        """Whether the GPU was reset (or its driver loaded anew) since its last reading: its energy counter fell."""
        energy_j, uuid = reading.values.get(ENERGY), self.gpus[reading.gpu].uuid if reading.gpu in self.gpus else ""
        if energy_j is None or not uuid:
            return False
        fell = energy_j < RESET_RATIO * self.energies_j.get(uuid, 0.0)
        self.energies_j[uuid] = energy_j
        return fell

    def hear(self, xid: Xid) -> list[Transition]:
        """Take in an Xid; what changed by it."""
        found = policy(self.table, xid.code, xid.text)
        history = self._histories.setdefault(xid.gpu, History())
        history.xids.append((xid.at_s, found))
        sample = self.samples.get(xid.gpu) or Sample(xid.gpu, {}, {})
        view = self._view(xid.gpu, sample, xid.at_s)._replace(xids=(found,))
        return self._look(self._by_tier["xid"], view)

    def see(self, name: str, subject: Subject, look: Look, now_s: float) -> list[Transition]:
        """A look that was taken elsewhere (the driver's silence, a job's ranks) at what a detector judges."""
        return list(self._judge(self._by_name[name], subject, look, now_s))

    def recovered(self, gpu: int, now_s: float) -> list[Transition]:
        """The GPU was reset, or the node rebooted: everything about it goes on probation."""
        changes = []
        for key, state in list(self.states.items()):
            if key[1].gpu == gpu:
                changes += self._change(key, machine.recovered(state, now_s), now_s)
        self._histories.pop(gpu, None)
        return changes

    def _apart(self, now_s: float) -> list[Transition]:
        """The node's fault is over when no GPU of it fails any more."""
        node = (NODE, Subject())
        failing = (
            detector.severity in FATAL and subject.gpu >= 0 and state.phase in FAILS
            for detector, subject, state in self.faults()
        )
        if node not in self.states or any(failing):
            return []
        return self._change(node, machine.recovered(self.states[node], now_s), now_s)

    def acted(self, detector: str, subject: Subject, now_s: float) -> list[Transition]:
        """Somebody has acted on a fault."""
        key = (detector, subject)
        return self._change(key, machine.acted(self.states[key], now_s), now_s) if key in self.states else []

    def worked(self, gpu: int, job: str, steps: int, now_s: float) -> None:
        """How many steps of a job a GPU has made by now."""
        self._histories.setdefault(gpu, History()).worked(now_s, job, steps)

    def faults(self) -> Iterator[tuple[Detector, Subject, State]]:
        """Everything that is not healthy."""
        for (name, subject), state in list(self.states.items()):  # other threads ask while the loop goes on
            if state.phase != "healthy" and name in self._by_name:
                yield self._by_name[name], subject, state

    def node_fault(self, now_s: float) -> bool:
        """Whether more than one GPU failed within ten seconds: that is the node."""
        recent = {gpu for at_s, gpu in self._failing if gpu >= 0 and now_s - at_s <= TOGETHER_S}
        return len(recent) > 1

    def _view(self, gpu: int, sample: Sample, now_s: float) -> View:
        known = self.gpus.get(gpu) or Gpu(gpu, "")
        return View(known, now_s, sample, self._histories[gpu], (), self.booted_s, lambda: self._peers(known))

    def _peers(self, gpu: Gpu) -> list[Peer]:
        others = (one for one in self.gpus.values() if one.index != gpu.index and one.model == gpu.model)
        return [
            Peer(self.samples[one.index], self._histories[one.index]) for one in others if one.index in self.samples
        ]

    def _due(self, reading: Reading) -> Iterator[Detector]:
        if reading.lost:  # a GPU that is gone tells nothing of its memory or its links
            asked: Iterable[Detector] = (self._by_name[LOST],) if LOST in self._by_name else ()
        else:
            asked = self._by_tier.get(reading.tier, ())
        looked_s, at_s = self._looked_s, reading.at_s
        for one in asked:
            if one.every_s:
                key = (one.name, reading.gpu)
                # A twentieth early: a poll that comes a little sooner than the last one still counts.
                if at_s - looked_s.get(key, -1e9) < 0.95 * one.every_s:
                    continue
                looked_s[key] = at_s
            yield one

    def _look(self, asked: Iterable[Detector], view: View) -> list[Transition]:
        gpu, states = view.gpu.index, self.states
        changes: list[Transition] = []
        for detector in asked:
            for part, look in detector.look(view).items():
                # Healthy subjects take no room, and nearly all are: a bare tuple finds what a Subject would.
                if look.hit or (states and (detector.name, (gpu, part, "")) in states):
                    changes += self._judge(detector, Subject(gpu, part), look, view.now_s)
        return changes

    def _judge(self, detector: Detector, subject: Subject, look: Look, now_s: float) -> Iterator[Transition]:
        key = (detector.name, subject)
        state = self.states.get(key)
        if state is None:
            if not look.hit:
                return
            state = State()
        yield from self._change(key, machine.looked(state, look, detector.rule, now_s, self.booted_s), now_s)

    def _change(self, key: Standing, after: State, now_s: float) -> list[Transition]:
        before = self.states.get(key, State())
        if after.phase == "healthy" and not any(after.recent):
            self.states.pop(key, None)
        else:
            self.states[key] = after
        if after.phase == before.phase:
            return []
        name, subject = key
        detector = self._by_name[name]
        phases = (before.phase, after.phase)
        told = Transition(name, subject, detector.severity, detector.action, *phases, now_s, after.value, after.words)
        if detector.severity in FATAL and subject.gpu >= 0:
            if after.phase == "confirmed":
                self._failing.append((now_s, subject.gpu))
                return [told, *self._together(now_s)]
            if before.phase in FAILS and after.phase not in FAILS:
                return [told, *self._apart(now_s)]
        return [told]

    def _together(self, now_s: float) -> Iterator[Transition]:
        """The one fault of the node that several GPUs' are, once."""
        gpus = {gpu for at_s, gpu in self._failing if now_s - at_s <= TOGETHER_S}
        if len(gpus) > 1 and NODE in self._by_name:
            words = f"GPUs {', '.join(map(str, sorted(gpus)))} failed within {TOGETHER_S:.0f} s"
            yield from self._judge(self._by_name[NODE], Subject(), Look(True, float(len(gpus)), words), now_s)


def _remember(history: History, reading: Reading, sample: Sample) -> None:
    at_s, read = reading.at_s, reading.values
    if reading.tier != "hot":  # all counters but one are read warm or cold
        history.note(at_s, {name: read[name] for name in COUNTERS if name in read})
        for link, values in enumerate(reading.links):
            history.note(at_s, {name: values[name] for name in LINK_COUNTERS if name in values}, link)
        history.shows_processes |= bool(read.get("process_count"))
        if LIMIT in read:
            history.held_to(read[LIMIT])
        return
    if HOT_COUNTER in read:
        history.note(at_s, {HOT_COUNTER: read[HOT_COUNTER]})
    for name in GAUGES:
        if name in read:
            history.note_gauge(at_s, name, read[name])
    if free_to_run(sample):
        history.clock.note(read.get("sm_clock_hz", 0.0))


def at_rest(states: Mapping[Standing, State]) -> Mapping[Standing, State]:
    """States as they are kept on disk: without looks, which mean nothing after a restart."""
    return {key: replace(state, recent=()) for key, state in states.items() if state.phase != "suspect"}
