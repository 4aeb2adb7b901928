"""Caps from a controller over HTTPS to the (fake) driver: in force soon, renewed only by it, safe whoever is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from telemetry.settings import Settings
from tests.telemetry.agent_runner import HOST, Running, free_port
from tests.telemetry.controller_stub import Stub, controller, self_signed
from tests.telemetry.fake_nvml.state import FakeNvml

pytestmark = pytest.mark.nvml
SAFE_W, FULL_W = 490.0, 700.0  # 0.7 of the default
LEASE_S = 1.0


class Node:
    """An agent and a setter that can be killed and started again."""

    def __init__(self, nvml: FakeNvml, library: Path, folder: Path, url: str, ca: Path, report_s: float) -> None:
        self.nvml, self.environment = nvml, nvml.environment(library)
        self.setter_socket = str(folder / "setter")
        setter = {"path": self.setter_socket, "state": str(folder / "leases"), "users": [os.getuid()]}
        more = {"controller": url, "controller_ca": str(ca), "report_s": report_s, "setter": self.setter_socket}
        self.port = free_port()
        settings = Settings("node-1", HOST, self.port, state=str(folder), kmsg="", **more)  # type: ignore[arg-type]
        self.commands = {
            "agent": [sys.executable, "-m", "telemetry.serve", settings.dumped()],
            "setter": [sys.executable, "-m", "telemetry.setter", json.dumps(setter)],
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, who: str) -> None:
        self.processes[who] = subprocess.Popen(self.commands[who], env=self.environment, stdout=subprocess.DEVNULL)

    def kill(self, who: str) -> None:
        self.processes[who].send_signal(signal.SIGKILL)
        self.processes[who].wait(timeout=10)

    def watts(self) -> list[float]:
        return [self.nvml.gpu(i).limit_mw / 1e3 for i in range(8)]


@contextmanager
def node(nvml: FakeNvml, library: Path, folder: Path, url: str, ca: Path, report_s: float = 0.2) -> Iterator[Node]:
    one = Node(nvml, library, folder, url, ca, report_s)
    try:
        for who in one.commands:
            one.start(who)
        yield one
    finally:
        for process in one.processes.values():
            process.kill()
            process.wait(timeout=10)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls"))


def grants(nvml: FakeNvml, watts: float) -> dict[str, object]:
    uuids = [bytes(nvml.gpu(i).uuid).decode() for i in range(8)]
    return {"caps": [{"uuid": uuid, "watts": watts, "lease_s": LEASE_S} for uuid in uuids]}


def wait(told: Callable[[], bool], within_s: float = 20.0) -> float:
    began = time.monotonic()
    while not told():
        assert time.monotonic() - began < within_s, f"not within {within_s} s"
        time.sleep(0.002)
    return time.monotonic() - began


def test_a_cap_is_in_force_within_two_seconds_and_safe_when_the_controller_falls_silent(
    nvml: FakeNvml, nvml_library: Path, certificate: Path, tmp_path: Path
) -> None:
    with controller(certificate) as stub, node(nvml, nvml_library, tmp_path, stub.url, certificate) as one:
        took_s = []
        for watts in (600.0, 350.0, 650.0, 400.0):
            asked_s = time.monotonic()
            _grant(stub, nvml, watts)
            wait(lambda watts=watts: one.watts() == [watts] * 8)  # type: ignore[misc]
            took_s.append(time.monotonic() - asked_s)
        assert max(took_s[1:]) < 2.0  # the first waits for the processes to start
        agent = Running(one.processes["agent"], one.port)
        agent.wait_for(lambda a: len(a.values("muster_cap_watts")) == 8)
        families = {one.name: one for one in text_string_to_metric_families(agent.get())}
        assert families["muster_cap_apply_seconds"].type == "histogram"
        assert {v for k, v in agent.values("muster_cap_watts").items() if 'source="controller"' in k} == {400.0}
        assert agent.values("muster_cap_apply_seconds_count")[""] == 8 * len(took_s)
        assert agent.values("muster_cap_set_total")['result="ok"'] >= 8 * len(took_s)
        time.sleep(1.5 * LEASE_S)
        assert one.watts() == [400.0] * 8  # the controller renews
        stub.answer = lambda report: {}  # it does not any more
        assert wait(lambda: one.watts() == [SAFE_W] * 8) < LEASE_S + 1.0
        agent.wait_for(lambda a: 'source="safe"' in str(a.values("muster_cap_watts")))
        assert stub.wait_for(lambda report: any(cap["source"] == "safe" for cap in report["caps"]))


def _grant(stub: Stub, nvml: FakeNvml, watts: float) -> None:
    stub.answer = lambda report: grants(nvml, watts)


def test_a_limit_never_exceeds_what_was_granted_last_or_is_safe_whoever_is_killed_when(
    nvml: FakeNvml, nvml_library: Path, certificate: Path, tmp_path: Path
) -> None:
    dice, port, before = random.Random(7), free_port(), FULL_W
    with node(nvml, nvml_library, tmp_path, f"https://127.0.0.1:{port}", certificate) as one:
        for granted in (600.0, 320.0, 560.0):
            highest = killed_on_the_way(one, nvml, (certificate, port), granted, dice)
            assert highest <= max(SAFE_W, before, granted)
            before = granted
        wait(lambda: one.watts() == [SAFE_W] * 8)  # silence
        with controller(certificate, port) as stub:  # everybody is back
            _grant(stub, nvml, 320.0)
            wait(lambda: one.watts() == [320.0] * 8)
        one.kill("agent")
        assert wait(lambda: one.watts() == [SAFE_W] * 8) < LEASE_S + 1.0


def killed_on_the_way(one: Node, nvml: FakeNvml, at: tuple[Path, int], granted: float, dice: random.Random) -> float:
    """The highest limit of any GPU while a controller grants and agent or setter is killed at a moment of the dice's.

    Once the grant is in force the controller dies, for a moment of the dice's too.
    """
    highest, who = 0.0, dice.choice(["agent", "setter"])
    killed_s = time.monotonic() + dice.uniform(0.0, 0.4)

    def in_force() -> bool:
        nonlocal highest, killed_s
        now = one.watts()
        highest = max(highest, *now)
        if time.monotonic() > killed_s:
            one.kill(who)
            one.start(who)
            killed_s = float("inf")
        return killed_s == float("inf") and now == [granted] * 8

    with controller(*at) as stub:
        _grant(stub, nvml, granted)
        wait(in_force)
    gone_s = time.monotonic() + dice.uniform(0.0, LEASE_S)
    while time.monotonic() < gone_s:
        in_force()
        time.sleep(0.002)
    return highest


def test_a_gpu_that_refuses_is_told_and_holds_nobody_else_up(
    nvml: FakeNvml, nvml_library: Path, certificate: Path, tmp_path: Path
) -> None:
    nvml.gpu(0).may_set = 0
    with controller(certificate) as stub, node(nvml, nvml_library, tmp_path, stub.url, certificate) as one:
        _grant(stub, nvml, 350.0)
        wait(lambda: one.watts() == [FULL_W] + [350.0] * 7)
        agent = Running(one.processes["agent"], one.port)
        agent.wait_for(lambda a: a.values("muster_cap_set_total")['result="refused"'] >= 1)
        # A report may be of the moment in which some of them are set.
        assert len(stub.wait_for(lambda report: len(report["caps"]) >= 7)["caps"]) == 7
        nvml.gpu(0).may_set = 1
        wait(lambda: one.watts() == [350.0] * 8)
