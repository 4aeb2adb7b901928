"""A GPU that is reset: what only a reset ends is over, also where the agent was away meanwhile."""

from pathlib import Path

import pytest

from telemetry.agent import Agent
from telemetry.sample import Driver, Gpu, Reading, Xid
from telemetry.settings import Settings
from telemetry.wire import Hello
from tests.telemetry.agent_runner import free_port, running
from tests.telemetry.fake_nvml.state import FakeNvml

NOW_S = 1.8e9
GPUS = (Gpu(0, "GPU-0"), Gpu(1, "GPU-1"))


def started(folder: Path) -> Agent:
    agent = Agent(Settings("node-1", state=str(folder)), "boot", 0.0)
    agent.hear(Hello(Driver(), GPUS, NOW_S))
    return agent


def read(agent: Agent, gpu: int, after_s: float, energy_j: float) -> list[str]:
    """Phases that a reading brings about."""
    return [one.after for one in agent.hear(Reading(gpu, "warm", NOW_S + after_s, {"energy_j": energy_j}))]


def standing(agent: Agent) -> list[tuple[int, str]]:
    return sorted((subject.gpu, state.phase) for _, subject, state in agent.watch.faults())


def test_a_reset_ends_what_only_a_reset_ends_and_of_this_gpu_alone(tmp_path: Path) -> None:
    agent = started(tmp_path)
    for gpu in (0, 1):
        read(agent, gpu, 0.0, 5e6)
        agent.hear_xid(Xid(gpu, 48, NOW_S + 60.0 * gpu, "nvml"))
    assert read(agent, 0, 100.0, 5.1e6) == []
    assert read(agent, 0, 1e6, 5.1e6 * 0.999) == []  # a sensor's wobble, and no time heals it
    assert standing(agent) == [(0, "confirmed"), (1, "confirmed")]
    assert read(agent, 0, 1e6 + 5, 12.0) == ["probation"]
    assert standing(agent) == [(0, "probation"), (1, "confirmed")]
    agent.hear_xid(Xid(0, 48, NOW_S + 1e6 + 10, "nvml"))
    assert standing(agent) == [(0, "confirmed"), (1, "confirmed")]


def test_a_reset_while_the_agent_was_away_is_seen_and_a_mere_restart_is_none(tmp_path: Path) -> None:
    agent = started(tmp_path)
    read(agent, 0, 0.0, 5e6)
    agent.hear_xid(Xid(0, 48, NOW_S, "nvml"))
    agent = started(tmp_path)
    assert read(agent, 0, 10.0, 5e6 + 1.0) == []
    agent.save()
    agent = started(tmp_path)
    assert read(agent, 0, 20.0, 30.0) == ["probation"]


@pytest.mark.nvml
def test_the_running_agent_sees_a_reset(nvml: FakeNvml, nvml_library: Path) -> None:
    nvml.set_field(3, 83, 5_000_000_000)  # mJ
    with running(nvml, nvml_library, free_port(), hot_s=0.1, warm_s=0.2, kmsg="") as agent:
        agent.wait_for(lambda a: len(a.values("muster_gpu_energy_joules_total")) == 8)
        nvml.set_field(3, 4, 1)  # an uncorrectable error
        agent.wait_for(
            lambda a: any("ecc_uncorrected" in one and "confirmed" in one for one in a.values("muster_fault"))
        )
        nvml.set_field(3, 4, 0)
        nvml.set_field(3, 83, 1_000)
        agent.wait_for(
            lambda a: any("ecc_uncorrected" in one and "probation" in one for one in a.values("muster_fault"))
        )
