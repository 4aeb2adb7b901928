"""What runs beside the agent's loop in threads (uplink, capper, the look at pods), and what of it the loop takes in."""

import json
import queue
import time
from collections.abc import Callable
from functools import partial

from telemetry.agent import Agent
from telemetry.capping import Capper
from telemetry.families import FAMILIES
from telemetry.fault import Transition
from telemetry.pods import Pods, labels, owners, part_labels
from telemetry.report import Reply
from telemetry.tell import next_sequence, report
from telemetry.uplink import Uplink, address

AGAIN_S = 1.0  # between looks at whether all threads live
Log = Callable[[list[Transition]], None]


class Attached:
    """The threads that the settings of an agent ask for."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.uplink: Uplink | None = None
        self._replies: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        self._last = 0
        self._started_s = 0.0
        self._whys: dict[str, str] = {}
        settings = agent.settings
        agent.more = tuple(partial(write, agent) for write in FAMILIES)
        if settings.setter:
            agent.capper = Capper(settings.setter)
        self.pods = Pods(settings.pods) if settings.pods else None
        if settings.controller:
            self.uplink = Uplink(
                address(settings.controller), settings.controller_ca, settings.controller_token_file,
                settings.report_s, self._report, self._take,
            )  # fmt: skip
            agent.on_change = self.uplink.wake
            agent.more = (*agent.more, self.uplink.metrics)

    def start(self) -> None:
        """Begin all threads, and anew one that has ended (Python has told why on standard error)."""
        self._started_s = time.monotonic()
        for one in (self.agent.capper, self.pods, self.uplink):
            if one is not None and not one.alive():
                one.start()

    def stop(self) -> None:
        """Tell no more."""
        if self.uplink is not None:
            self.uplink.stop()

    def tick(self, log: Log) -> None:
        """The loop's part: take replies in, judge overrun, follow pods, cut off a slow POST. Never waits."""
        now_s = time.monotonic()
        if self.uplink is not None:
            self.uplink.look(now_s)
        if now_s - self._started_s > AGAIN_S:
            self.start()
        while not self._replies.empty():
            log(self.agent.take(self._replies.get(), time.time()))
        log(self._overruns(time.time()))
        self._meet_pods()
        self._complain()

    def _complain(self) -> None:
        """A line whenever something else goes wrong than before, and when it is over."""
        for who, one in (("controller", self.uplink), ("setter", self.agent.capper), ("pods", self.pods)):
            self._say(who, one.why if one is not None else "")
        self._say("state", self.agent.unsaved)

    def _say(self, who: str, why: str) -> None:
        if why != self._whys.get(who, ""):
            self._whys[who] = why
            print(json.dumps({"event": who, "why": why}), flush=True)  # noqa: T201

    def _overruns(self, now_s: float) -> list[Transition]:
        agent, found = self.agent, self.agent.heard.overruns
        if agent.capper is not None:
            now_boot_s = time.clock_gettime(time.CLOCK_BOOTTIME)
            wanted = agent.capper.wanted.items()
            found.caps_w = {uuid: grant.watts for uuid, grant in wanted if now_boot_s < grant.until_s}
        return agent.judge(found.looks(now_s, agent.identity.gpus, agent.samples), now_s)

    def _meet_pods(self) -> None:
        """Labels of GPUs follow who holds them."""
        if self.pods is None:
            return
        agent, gpus, found = self.agent, self.agent.identity.gpus, self.pods.holders
        agent.holders = owners(found, gpus)
        samples = agent.samples
        instances = {gpu.minor: samples[gpu.index].instances for gpu in gpus if gpu.mig and gpu.index in samples}
        agent.part_labels = part_labels(found, instances)
        owned = tuple(gpu._replace(owner=labels(agent.holders.get(gpu.index, ()))) for gpu in gpus)
        if owned != gpus:
            agent.identity = agent.identity._replace(gpus=owned)

    def _report(self) -> bytes:
        self._last = next_sequence(self._last)
        return report(self.agent, self._last, time.time()).encoded()

    def _take(self, reply: Reply, sent_s: float) -> None:
        """In the uplink's thread: caps do not wait for the loop."""
        if self.agent.capper is not None:
            self.agent.capper.take(reply.caps, sent_s)
        self._replies.put(reply)
