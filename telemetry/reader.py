"""The process that reads GPUs, and its fork that waits for the driver's events. Either may hang; the agent does not.

    python -m telemetry.reader HOT_S WARM_S COLD_S OFFSET_S EVENTS_FD

Lines of `telemetry.wire` go to standard output, events to EVENTS_FD. Each process ends when nobody reads its lines.
"""

import contextlib
import gc
import os
import select
import sys
import time
from collections.abc import Callable, Sequence

from telemetry.errors import NvmlUnavailable
from telemetry.nvml.device import Device, opened
from telemetry.nvml.events import Events
from telemetry.nvml.library import count, start
from telemetry.packed import line
from telemetry.sample import Reading, Tier, Xid
from telemetry.urgent import Urgent
from telemetry.wire import Count, Hello, Message

EVENT_WAIT_MS = 5000
NO_DRIVER = 3  # exit code
Send = Callable[[Sequence[Message]], None]  # several in one go wake the agent once


def main() -> None:
    """Fork the process that waits for events, then read until nobody listens."""
    hot_s, warm_s, cold_s, offset_s = map(float, sys.argv[1:5])
    events = int(sys.argv[5])
    gc.freeze()  # what is imported stays: both processes share it for as long as nobody touches it
    gc.set_threshold(10_000)
    alarms, alarm = os.pipe()
    if os.fork() == 0:
        os.close(1)
        os.close(alarms)
        os.set_blocking(alarm, False)
        _finish(lambda: wait_for_events(_sender(events), alarm))
    os.close(events)
    os.close(alarm)
    periods_s: dict[Tier, float] = {"hot": hot_s, "warm": warm_s, "cold": cold_s}
    _finish(lambda: read_for_ever(_sender(1), periods_s, offset_s, alarms))


def _finish(work: Callable[[], None]) -> None:
    try:
        work()
    except NvmlUnavailable as error:
        print(error, file=sys.stderr)  # noqa: T201 - the agent reads this
        os._exit(NO_DRIVER)
    except BrokenPipeError:
        os._exit(0)


def _sender(file: int) -> Send:
    def send(messages: Sequence[Message]) -> None:
        lines = memoryview(b"".join(map(line, messages)))
        while lines:
            lines = lines[os.write(file, lines) :]

    return send


def read_for_ever(send: Send, periods_s: dict[Tier, float], offset_s: float, alarms: int) -> None:
    """Every tier of every GPU at its period, on a grid that starts `offset_s` after whole periods of the clock.

    `alarms`: a pipe with a byte for each GPU that the driver has sent an event of: that one is read at once.
    """
    driver = start()
    devices: list[Device | None] = [opened(index) for index in range(count())]
    send([Hello(driver, tuple(device.gpu for device in devices if device is not None), time.time())])
    due: dict[Tier, float] = dict.fromkeys(periods_s, 0.0)
    urgent = Urgent()
    while True:
        now = time.monotonic()
        for tier, period_s in periods_s.items():
            if now >= due[tier]:
                messages: list[Message] = []
                for index in range(len(devices)):
                    messages += _read(devices, index, tier, urgent)
                if tier == "cold":
                    messages.append(Count(count(), time.time()))
                send(messages)
                due[tier] = _next(time.monotonic(), period_s, offset_s)
        for index in urgent.take(time.monotonic()):
            send(_read(devices, index, "warm", urgent))
        wait_s = min(urgent.due_s(), *due.values()) - time.monotonic()
        if select.select([alarms], [], [], max(wait_s, 0.0))[0]:
            gpus = os.read(alarms, 1 << 12)
            if not gpus:
                return  # the fork is gone: the agent starts both anew
            urgent.alarm(gpus, time.monotonic())


def _next(now: float, period_s: float, offset_s: float) -> float:
    return (now - offset_s) // period_s * period_s + period_s + offset_s


def _read(devices: list[Device | None], index: int, tier: Tier, urgent: Urgent) -> list[Reading]:
    """One tier of one GPU. One that was lost is opened again: perhaps it was reset meanwhile."""
    if devices[index] is None and tier != "cold":
        devices[index] = opened(index)
    device = devices[index]
    if device is not None:
        reading = device.read(tier)
    elif tier != "cold":
        reading = Reading(index, tier, time.time(), lost="no handle")
    else:
        return []
    urgent.noticed(reading, time.monotonic())
    if reading.lost:
        devices[index] = None
    return [reading]


def wait_for_events(send: Send, alarm: int) -> None:
    """Send each Xid as it comes, and have its GPU read. What came before the start is the kernel log's to tell."""
    start()
    waiting = Events()
    while True:
        event = waiting.next(EVENT_WAIT_MS)
        if event is None:
            send([Count(waiting.gpus, time.time())])  # a sign of life, and the way to notice that nobody reads
            continue
        if event.xid is not None:
            send([Xid(event.gpu, event.xid, time.time(), "nvml")])
        with contextlib.suppress(BlockingIOError):  # full: the reader has enough to do
            os.write(alarm, bytes([event.gpu]))


if __name__ == "__main__":
    main()
