"""kill -9 at any time: Xids are counted once each, by NVML's event or by the kernel log, and the agent is soon back."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from telemetry.agent import Agent
from telemetry.sample import Driver, Gpu, Xid
from telemetry.settings import Settings
from telemetry.wire import Hello
from telemetry.xid_pairs import LOOK_BACK_S, Pairs
from tests.telemetry.agent_runner import Running, free_port, running
from tests.telemetry.fake_nvml.state import FakeNvml


class KernelLog:
    """A pipe in place of /dev/kmsg; after a restart it tells everything again, as the kernel does."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._records: list[bytes] = []

    def log(self, gpu: int, code: int) -> None:
        """An Xid, now."""
        at_us = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
        text = f"NVRM: Xid (PCI:0000:{gpu + 1:02x}:00): {code}, pid=1, name=python"
        self._records.append(f"6,{len(self._records)},{at_us},-;{text}\n".encode())
        os.write(self._file, self._records[-1])

    def again(self) -> None:
        """All of it, for a reader that has just opened it; nothing is left of what the last one did not read."""
        try:
            while os.read(self._file, 1 << 16):
                pass
        except BlockingIOError:
            pass
        os.write(self._file, b"".join(self._records))


@contextmanager
def killed(nvml: FakeNvml, library: Path, state: Path, log: KernelLog) -> Iterator[Running]:
    """An agent that is killed at the end of the block."""
    log.again()
    with running(nvml, library, free_port(), state=str(state), kmsg=str(log.path)) as agent:
        agent.wait_for(lambda a: len(a.values("muster_gpu_power_watts")) == 8)
        try:
            yield agent
        finally:
            os.kill(agent.process.pid, signal.SIGKILL)


def total(agent: Running) -> float:
    return sum(agent.values("muster_gpu_xid_events_total").values())


@pytest.mark.nvml
def test_no_xid_is_lost_or_counted_twice_over_kills(nvml: FakeNvml, nvml_library: Path, tmp_path: Path) -> None:
    log, sent = KernelLog(tmp_path / "kmsg"), 0
    for turn in range(3):
        with killed(nvml, nvml_library, tmp_path, log) as agent:
            agent.wait_for(lambda a, wanted=sent: total(a) == wanted)  # type: ignore[misc]
            time.sleep(1.0)  # the process that waits for events has registered
            for gpu in range(8):
                log.log(gpu, 94)
                nvml.push_xid(gpu, 94)
                sent += 1
                time.sleep(0.003 * turn)
            if turn:  # killed when all is told; the first time in the midst of it
                agent.wait_for(lambda a, wanted=sent: total(a) == wanted)  # type: ignore[misc]
        log.log(turn, 31)  # while no agent runs
        sent += 1
    with killed(nvml, nvml_library, tmp_path, log) as agent:
        agent.wait_for(lambda a: total(a) == sent)
        time.sleep(0.5)
        assert total(agent) == sent


@pytest.mark.nvml
def test_a_killed_agent_knows_its_faults_and_serves_again_within_a_second(
    nvml: FakeNvml, nvml_library: Path, tmp_path: Path
) -> None:
    log = KernelLog(tmp_path / "kmsg")
    with killed(nvml, nvml_library, tmp_path, log) as agent:
        time.sleep(1.0)
        nvml.push_xid(3, 79)
        agent.wait_for(lambda a: "xid_fatal_node" in a.get())
        time.sleep(0.2)  # it is on the page a moment before it is on the disk
    began = time.monotonic()
    with killed(nvml, nvml_library, tmp_path, log) as agent:
        took_s = time.monotonic() - began
        assert 'part="xid 79"' in agent.get()
    assert took_s < 3.0  # a second on a machine that has nothing else to do: tests.benchmarks.agent


@pytest.mark.nvml
def test_a_first_run_counts_xids_of_before_and_a_later_one_acts_on_those_it_was_away_for(
    nvml: FakeNvml, nvml_library: Path, tmp_path: Path
) -> None:
    log = KernelLog(tmp_path / "kmsg")
    log.log(3, 79)
    with killed(nvml, nvml_library, tmp_path, log) as agent:
        agent.wait_for(lambda a: total(a) == 1)
        time.sleep(0.5)
        assert "xid_fatal_node" not in agent.get()
    log.log(2, 79)
    with killed(nvml, nvml_library, tmp_path, log) as agent:
        agent.wait_for(lambda a: "xid_fatal_node" in a.get())
        page = agent.get()
        assert total(agent) == 2
        assert not [line for line in page.splitlines() if 'gpu="3"' in line and 'part="xid 79"' in line]


@pytest.mark.nvml
def test_a_killed_reader_is_replaced_and_nothing_is_counted_twice(
    nvml: FakeNvml, nvml_library: Path, tmp_path: Path
) -> None:
    log = KernelLog(tmp_path / "kmsg")
    with killed(nvml, nvml_library, tmp_path, log) as agent:
        time.sleep(1.0)
        log.log(0, 94)
        nvml.push_xid(0, 94)
        agent.wait_for(lambda a: total(a) == 1)
        children = Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children")
        os.kill(int(children.read_text("ascii").split()[0]), signal.SIGKILL)
        log.log(0, 94)  # NVML's event of this one finds nobody
        agent.wait_for(lambda a: a.values("muster_agent_reader_restarts_total")[""] == 1)
        agent.wait_for(lambda a: total(a) == 2)
        assert total(agent) == 2


def xid(source: str, at_s: float, code: int = 94) -> Xid:
    return Xid(0, code, at_s, source)  # type: ignore[arg-type]


def test_a_burst_of_equal_xids_is_counted_right_whoever_is_first() -> None:
    pairs = Pairs()
    told = ("kmsg", "kmsg", "nvml", "kmsg", "nvml", "nvml", "nvml")
    assert [pairs.again(xid(source, turn * 0.1)) for turn, source in enumerate(told)] == [
        False, False, True, False, True, True, False,
    ]  # fmt: skip


def test_a_line_of_the_look_back_answers_an_event_by_the_kernels_drifting_clock() -> None:
    assert not Pairs([xid("nvml", 100.0)]).again(xid("kmsg", 130.0))
    assert Pairs([xid("nvml", 100.0)]).again(xid("kmsg", 130.0), LOOK_BACK_S)
    assert not Pairs([xid("nvml", 100.0)]).again(xid("kmsg", 200.0), LOOK_BACK_S)
    assert not Pairs([xid("nvml", 100.0)]).again(xid("kmsg", 100.0, code=31))


def test_a_kill_after_every_message_changes_no_count(tmp_path: Path) -> None:
    def started() -> Agent:
        agent = Agent(Settings("node-1", state=str(tmp_path)), "boot-1", 0.0)
        agent.hear(Hello(Driver(), (Gpu(0, "GPU-0"),), 1e9))
        return agent

    told = [xid(source, 1e9 + turn * 10.0 + 0.2 * late) for turn in range(20) for late, source in
            enumerate(("nvml", "kmsg") if turn % 2 else ("kmsg", "nvml"))]  # fmt: skip
    for one in told:
        started().hear_xid(one)  # and killed: nothing more is saved
    assert started().xids[0, 94][0] == 20
