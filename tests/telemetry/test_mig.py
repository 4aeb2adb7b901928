"""GPUs that are split: who their parts are and what memory they have, and no load that nobody can tell."""

from pathlib import Path

import pytest

from telemetry.sample import Instance, Reading, merged
from telemetry.wire import decode, encode, scrubbed
from tests.telemetry.agent_runner import free_port, running
from tests.telemetry.fake_nvml.state import FakeNvml
from tests.telemetry.test_pods import answer, devices, kubelet, pod

GIB = 1 << 30


@pytest.mark.nvml
def test_mig_devices_have_an_identity_and_memory_and_come_and_go(nvml: FakeNvml, nvml_library: Path) -> None:
    nvml.split(2, 0, "1g.18gb", 18 * GIB).used = 3 * GIB
    second = nvml.split(2, 4, "2g.35gb", 35 * GIB)
    with running(nvml, nvml_library, free_port(), warm_s=0.2) as agent:
        agent.wait_for(lambda a: len(a.values("muster_gpu_instance_info")) == 2)
        first = 'gpu="2",uuid="GPU-00000000-0000-0000-0000-000000000002",instance="MIG-2-0",gi="1",ci="0"'
        assert f'{first},profile="1g.18gb"' in agent.values("muster_gpu_instance_info")
        assert agent.values("muster_gpu_instance_memory_used_bytes")[first] == 3 * GIB
        assert agent.values("muster_gpu_instance_memory_free_bytes")[first] == 15 * GIB
        split = [labels for labels in agent.values("muster_gpu_utilization_ratio") if 'gpu="2"' in labels]
        assert split == []
        assert len(agent.values("muster_gpu_utilization_ratio")) == 7
        second.present = 0
        agent.wait_for(lambda a: len(a.values("muster_gpu_instance_info")) == 1)


@pytest.mark.nvml
def test_a_mig_device_carries_the_pod_that_has_it(nvml: FakeNvml, nvml_library: Path, tmp_path: Path) -> None:
    nvml.split(2, 0, "1g.18gb", 18 * GIB)
    nvml.split(2, 1, "1g.18gb", 18 * GIB)
    said = answer(pod("chat-0", devices("nvidia.com/mig-1g.18gb", "MIG-2-1")))
    with (
        kubelet(tmp_path / "kubelet", said),
        running(nvml, nvml_library, free_port(), warm_s=0.2, pods=str(tmp_path / "kubelet")) as agent,
    ):
        agent.wait_for(lambda a: 'pod="chat-0"' in str(a.values("muster_gpu_instance_info")))
        (mine,) = [labels for labels in agent.values("muster_gpu_instance_info") if "pod=" in labels]
    assert 'instance="MIG-2-1"' in mine


def test_instances_travel_and_a_recording_does_not_name_them() -> None:
    one = Instance("MIG-secret", 3, 0, "1g.18gb", 18.0, 3.0, 15.0)
    reading = Reading(0, "warm", 1.0, {"power_w": 5.0}, instances=(one,))
    assert decode(encode(reading)) == reading
    assert b"secret" not in encode(scrubbed(reading))
    sample = merged(merged(None, reading), Reading(0, "hot", 2.0, {"power_w": 6.0}))
    assert sample.instances == (one,)
    assert merged(sample, Reading(0, "warm", 3.0)).instances == ()
