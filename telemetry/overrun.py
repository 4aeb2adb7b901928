"""Overrun: what a GPU or a job takes beyond its allotment, by how much, for how long, and for latency, whether a cap of
ours is the cause. Pure but for its memory.

Power and memory are looked at once a second, latency (the 99th percentile) and rate once in a window of ten. A window
is over its objective because of its clocks where they were held down in at least half of the window's samples.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from telemetry.detectors.overrun import LATENCY, MEMORY, POWER, RATE
from telemetry.fault import Look, Subject
from telemetry.fields import CLOCK_EVENT_MASK, CLOCK_EVENTS
from telemetry.report import Allotment
from telemetry.sample import Gpu, Sample

LOOK_S, WINDOW_S = 1.0, 10.0
POWER_RATIO = 1.05  # as for a limit that is not kept
MEMORY_RATIO = 1.05  # of the request
RATE_RATIO = 1.1  # a plan's rate is a mean; Poisson noise of 100 requests in a window is a tenth
CAUSES = ("hw_power_brake", "hw_thermal", "sw_thermal", "hw_slowdown", "sw_power_cap")  # the first that holds is named
MOST_SERIES, MOST_LATENCIES = 256, 10_000
NODE = ""  # the allotment of the whole node
CLEAN_S = 300.0  # for so long after the last hit, clean looks are given, so that its state can clear
Key = tuple[str, Subject]


@dataclass(frozen=True, slots=True)
class Over:
    """One overrun as it stands: since when, how many times its limit, and for latency what holds the clocks down."""

    since_s: float
    ratio: float
    words: str
    cause: str = ""


@dataclass(slots=True)
class Requests:
    """Requests of one job on one GPU in the window that is open."""

    latencies_s: list[float] = field(default_factory=list)
    count: int = 0
    slo_s: float | None = None

    def p99_s(self) -> float:
        """The 99th percentile by nearest rank."""
        return sorted(self.latencies_s)[math.ceil(0.99 * len(self.latencies_s)) - 1]


class Overruns:
    """All overruns of a node. `allotments` come from the controller, requests from jobs, samples from the loop."""

    def __init__(self) -> None:
        self.allotments: Mapping[str, Allotment] = {}
        self.caps_w: Mapping[str, float] = {}  # granted, by GPU
        self.over: Mapping[Key, Over] = {}
        self._requests: dict[tuple[str, int], Requests] = {}
        self._masks: dict[int, deque[int]] = {}
        self._looked_s = self._window_s = -math.inf
        self._hit_s: dict[Key, float] = {}

    def resume(self, keys: Iterable[Key], now_s: float) -> None:
        """What stood before a restart of the agent: over, unless it is seen again."""
        self._hit_s |= {key: now_s for key in keys if key[0] in (POWER, MEMORY, LATENCY, RATE)}

    def request(self, job: str, gpu: int, latency_s: float, slo_s: float | None = None) -> bool:
        """One request that a job has served; False where there are too many series to keep one more."""
        key = (job, gpu)
        if key not in self._requests and len(self._requests) >= MOST_SERIES:
            return False
        found = self._requests.setdefault(key, Requests())
        found.count += 1
        found.slo_s = slo_s if slo_s is not None else found.slo_s
        if len(found.latencies_s) < MOST_LATENCIES:
            found.latencies_s.append(latency_s)
        return True

    def forget(self, job: str) -> None:
        """The job is over."""
        self._requests = {key: one for key, one in self._requests.items() if key[0] != job}

    def looks(
        self, now_s: float, gpus: Sequence[Gpu], samples: Mapping[int, Sample]
    ) -> list[tuple[str, Subject, Look]]:
        """What is due to be looked at now, most times nothing."""
        if now_s - self._looked_s < LOOK_S and now_s >= self._looked_s:
            return []
        self._looked_s = now_s
        for gpu in gpus:
            mask = samples[gpu.index].get(CLOCK_EVENT_MASK) if gpu.index in samples else None
            if mask is not None:
                self._masks.setdefault(gpu.index, deque(maxlen=int(WINDOW_S / LOOK_S))).append(int(mask))
        found = dict(self._now(now_s, gpus, samples))
        window_s = now_s - self._window_s
        if not 0 <= window_s < WINDOW_S:
            if (
                WINDOW_S <= window_s < 2 * WINDOW_S
            ):  # else it is the first one, or the clock jumped: it may be of any length
                found |= self._windows(now_s, window_s, gpus, samples)
            self._window_s = now_s
            self._requests = {key: Requests(slo_s=one.slo_s) for key, one in self._requests.items() if one.count}
        due = {POWER, MEMORY} | ({LATENCY, RATE} if self._window_s == now_s else set())
        return self._told(now_s, {key: over for key, over in found.items() if over is not None}, set(found), due)

    def _told(
        self, now_s: float, hits: Mapping[Key, Over], seen: set[Key], due: set[str]
    ) -> list[tuple[str, Subject, Look]]:
        """Looks, with clean ones for a while after what was over is not any more (its allotment may be gone)."""
        before = self.over
        kept = {key: over for key, over in before.items() if key[0] not in due}
        still = {
            key: replace(one, since_s=before[key].since_s if key in before else one.since_s)
            for key, one in hits.items()
        }
        self.over = {**kept, **still}
        self._hit_s = {key: at_s for key, at_s in self._hit_s.items() if abs(now_s - at_s) < CLEAN_S}
        self._hit_s |= dict.fromkeys(hits, now_s)
        clean = (seen | {key for key in self._hit_s if key[0] in due}) - set(hits)
        looks = [(*key, Look(True, one.ratio, one.words)) for key, one in hits.items()]
        return looks + [(*key, Look(False)) for key in clean]

    def _now(
        self, now_s: float, gpus: Sequence[Gpu], samples: Mapping[int, Sample]
    ) -> Iterator[tuple[Key, Over | None]]:
        """Power and memory; None = looked at and within."""
        drawn_w = 0.0
        for gpu in gpus:
            sample, given = samples.get(gpu.index), self.allotments.get(gpu.uuid)
            power_w = None if sample is None else sample.get("power_w")
            used_bytes = None if sample is None else sample.get("memory_used_bytes")
            drawn_w += power_w or 0.0
            limits_w = [given.power_w if given else None, self.caps_w.get(gpu.uuid)]
            share_w = min((one for one in limits_w if one is not None), default=None)
            if power_w is not None and share_w is not None:
                yield (POWER, Subject(gpu.index)), _over(now_s, power_w, share_w, POWER_RATIO, "W")
            if used_bytes is not None and given is not None and given.memory_bytes is not None:
                over = _over(now_s, used_bytes, given.memory_bytes, MEMORY_RATIO, "bytes")
                yield (MEMORY, Subject(gpu.index)), over
        node = self.allotments.get(NODE)
        if node is not None and node.power_w is not None:
            yield (POWER, Subject()), _over(now_s, drawn_w, node.power_w, POWER_RATIO, "W")

    def _windows(
        self, now_s: float, window_s: float, gpus: Sequence[Gpu], samples: Mapping[int, Sample]
    ) -> dict[Key, Over | None]:
        """Latency and rate of the window that ends now."""
        by_index = {gpu.index: gpu for gpu in gpus}
        began_s = now_s - window_s
        found: dict[Key, Over | None] = {}
        counts: dict[int, int] = {}
        for (job, index), requests in self._requests.items():
            gpu = by_index.get(index)
            given = self.allotments.get(gpu.uuid) if gpu is not None else None
            counts[index] = counts.get(index, 0) + requests.count
            slo_s = requests.slo_s if requests.slo_s is not None else given.latency_s if given else None
            if slo_s is not None and requests.latencies_s:
                over = _late(began_s, requests.p99_s(), slo_s)
                cause, words = self._cause(samples.get(index))
                if over is not None and cause:
                    over = Over(over.since_s, over.ratio, f"{over.words}; cause: {words}", cause)
                found[LATENCY, Subject(index, "", job)] = over
        for index, gpu in by_index.items():
            given = self.allotments.get(gpu.uuid)
            if given is not None and given.rate_per_s is not None:
                rate_per_s = counts.get(index, 0) / window_s
                over = _over(began_s, rate_per_s, given.rate_per_s, RATE_RATIO, "requests/s")
                found[RATE, Subject(index)] = over
        return found

    def _cause(self, sample: Sample | None) -> tuple[str, str]:
        """What held the clocks down in most of the window; a power limit is a cap where it is below the GPU's own."""
        masks = self._masks.get(sample.gpu, ()) if sample is not None else ()
        for reason in CAUSES:
            if masks and 2 * sum(bool(mask & CLOCK_EVENTS[reason]) for mask in masks) >= len(masks):
                if reason != "sw_power_cap" or sample is None:
                    return reason, f"clocks held down ({reason})"
                limit_w, own_w = sample.get("power_limit_enforced_w"), sample.get("power_limit_default_w")
                if limit_w is not None and own_w is not None and limit_w < own_w - 1.0:
                    return "power_cap", f"power cap of {limit_w:.0f} W, {own_w:.0f} W without"
                return "power_limit", "the GPU's own power limit"
        return "", ""


def _over(since_s: float, got: float, limit: float, ratio: float, unit: str) -> Over | None:
    if got <= ratio * limit:
        return None
    return Over(since_s, got / limit, f"{got:.4g} {unit}, {got / limit:.2f} times the {limit:.4g} {unit} given")


def _late(since_s: float, got_s: float, limit_s: float) -> Over | None:
    if got_s <= limit_s:
        return None
    words = f"slowest 1 % of requests took {got_s:.4g} s with waits in queues, end to end, planned {limit_s:.4g} s"
    return Over(since_s, got_s / limit_s, words)
