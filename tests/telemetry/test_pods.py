"""Who has which GPU: asked of a kubelet made of recorded frames, and of nonsense."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.errors import BadRecord
from telemetry.pods import Holder, holders, labels, listed, owners, part_labels
from telemetry.sample import Gpu, Instance
from tests.telemetry.agent_runner import free_port, running
from tests.telemetry.fake_nvml.state import FakeNvml

# What a gRPC server (grpcio 1.76, unary call, unix socket) sent before and after its message, byte by byte.
BEFORE = (
    b"\x00\x00\x18\x04\x00\x00\x00\x00\x00\x00\x04\x00@\x00\x00\x00\x05\x00@\x00\x00\x00\x06\x00\x00@\x00\xfe\x03\x00\x00"
    b"\x00\x01\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00?\x00\x01\x00\x00\x00\x04\x01\x00\x00\x00\x00\x00\x00\x04\x08\x00"
    b"\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x08\x06\x00\x00\x00\x00\x00\x07/\xc0xG\x0eG\x10\x00\x00N\x01\x04\x00\x00"
    b"\x00\x01\x88@\x0ccontent-type\x10application/grpc@\x14grpc-accept-encoding\x17identity, deflate, gzip"
)
TRAILERS = b"\x00\x00\x1e\x01\x05\x00\x00\x00\x01@\x0bgrpc-status\x010\x00\x0cgrpc-message\x00"


def field(number: int, body: bytes) -> bytes:
    """A length-delimited protobuf field."""
    size, length = b"", len(body)
    while length > 0x7F:
        size, length = size + bytes([length & 0x7F | 0x80]), length >> 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + body


def pod(name: str, container: bytes) -> bytes:
    return field(1, field(1, name.encode()) + field(2, b"serving") + field(3, field(1, b"engine") + container))


def devices(resource: str, *ids: str) -> bytes:
    return field(2, field(1, resource.encode()) + b"".join(field(2, one.encode()) for one in ids))


def answer(message: bytes, chunk: int = 16384) -> bytes:
    """The frames of an answer."""
    body = struct.pack(">BI", 0, len(message)) + message
    parts = [body[at : at + chunk] for at in range(0, len(body), chunk)]
    frames = b"".join(struct.pack(">I", len(one))[1:] + b"\0\0\0\0\0\1" + one for one in parts)
    return BEFORE + frames + TRAILERS


@contextmanager
def kubelet(path: Path, said: bytes) -> Iterator[list[bytes]]:
    """A socket that says one thing to everybody; gives what it heard."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def run() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer, suppress(ConnectionError):
                    heard.append(peer.recv(65536))
                    peer.sendall(said)
                    peer.shutdown(socket.SHUT_WR)
                    while peer.recv(65536):
                        """It answers settings and pings until it has what it wants."""

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield heard
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(timeout=5)


def test_pods_are_read_from_an_answer_in_many_frames(tmp_path: Path) -> None:
    message = b"".join(pod(f"chat-{i}", devices("nvidia.com/gpu", f"GPU-{i}")) for i in range(2000))
    with kubelet(tmp_path / "kubelet", answer(message)) as heard:
        found = listed(str(tmp_path / "kubelet"))
    assert found[1999] == Holder("GPU-1999", "serving", "chat-1999", "engine")
    assert len(found) == 2000
    assert heard[0].startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert b"/v1.PodResourcesLister/List" in heard[0]


def test_a_gpu_is_known_by_uuid_by_replica_and_by_the_name_that_dra_gives_it() -> None:
    message = (
        pod("plain", devices("nvidia.com/gpu", "GPU-a") + devices("cpu", "GPU-a"))
        + pod("shared-1", devices("nvidia.com/gpu.shared", "GPU-b::0"))
        + pod("shared-2", devices("nvidia.com/gpu.shared", "GPU-b::1"))
        + pod("claims", claim("gpu-3"))
    )
    gpus = [Gpu(0, "GPU-a", minor=0), Gpu(1, "GPU-b", minor=1), Gpu(2, "GPU-c", minor=3)]
    found = owners(holders(message), gpus)
    assert {gpu: [one.pod for one in ones] for gpu, ones in found.items()} == {
        0: ["plain"], 1: ["shared-1", "shared-2"], 2: ["claims"],
    }  # fmt: skip
    assert labels(found[0]) == (("namespace", "serving"), ("pod", "plain"), ("container", "engine"))
    assert labels(found[1]) == ()  # nobody's alone


def claim(device: str, driver: str = "gpu.nvidia.com") -> bytes:
    return field(5, field(4, field(2, driver.encode()) + field(3, b"node-1") + field(4, device.encode())))


def test_a_mig_device_is_known_by_uuid_and_where_it_is_the_only_one_by_what_dra_says_of_it() -> None:
    many = (("MIG-a", "1g.18gb"), ("MIG-b", "1g.18gb+me"), ("MIG-c", "3g.71gb"))
    instances = {
        2: tuple(Instance(uuid, number, 0, profile) for number, (uuid, profile) in enumerate(many, 1)),
        3: (Instance("MIG-d", 1, 0, "7g.141gb"),),
        4: (Instance("MIG-e", 1, 0, "1g.18gb"), Instance("MIG-f", 2, 0, "1g.18gb")),
    }  # fmt: skip
    message = b"".join(
        pod(name, said)
        for name, said in (
            ("small", claim("gpu-2-mig-1g18gb-19-0")),
            ("media", claim("gpu-2-mig-1g18gb-me-20-1")),
            ("whole", claim("gpu-3-mig-0-0-8")),
            ("one-of-two", claim("gpu-4-mig-1g18gb-19-0")),
            ("nowhere", claim("gpu-9-mig-1g18gb-19-0")),
            ("other", claim("gpu-2-mig-3g71gb-9-4", driver="gpu.example.com")),
            ("plugin", devices("nvidia.com/mig-1g.18gb", "MIG-f")),
            ("turn-1", devices("nvidia.com/mig-3g.71gb.shared", "MIG-c::0")),
            ("turn-2", devices("nvidia.com/mig-3g.71gb.shared", "MIG-c::1")),
        )
    )
    found = part_labels(holders(message), instances)
    assert {uuid: dict(own).get("pod") for uuid, own in found.items()} == {
        "MIG-a": "small", "MIG-b": "media", "MIG-d": "whole", "MIG-f": "plugin", "MIG-c": None,
    }  # fmt: skip
    assert owners(holders(message), [Gpu(0, "GPU-a", minor=2)]) == {}  # a part is not the GPU


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "hung up"),
        (BEFORE + TRAILERS, "refused the call"),
        (BEFORE + b"\xff\xff\xff\0\0\0\0\0\1", "more than"),
        (BEFORE + b"\0\0\4\3\0\0\0\0\1\0\0\0\1", "broke the call off"),
        (BEFORE + b"\0\0\5\0\0\0\0\0\1\1\0\0\0\0", "compressed"),
    ],
)
def test_what_is_no_answer_is_refused_in_words(tmp_path: Path, said: bytes, why: str) -> None:
    with kubelet(tmp_path / "kubelet", said), pytest.raises(BadRecord, match=why):
        listed(str(tmp_path / "kubelet"))


@given(message=st.binary(max_size=200))
def test_no_message_does_harm(message: bytes) -> None:
    with suppress(BadRecord):
        assert all(isinstance(one, Holder) for one in holders(message))


@pytest.mark.nvml
def test_series_carry_the_pod_that_has_the_gpu(nvml: FakeNvml, nvml_library: Path, tmp_path: Path) -> None:
    uuid = bytes(nvml.gpu(4).uuid).decode()
    with (
        kubelet(tmp_path / "kubelet", answer(pod("chat-0", devices("nvidia.com/gpu", uuid)))),
        running(nvml, nvml_library, free_port(), pods=str(tmp_path / "kubelet")) as agent,
    ):
        agent.wait_for(lambda a: len(a.values("muster_gpu_holder")) == 1 and len(a.values("muster_gpu_up")) == 8)
        (mine,) = [labels for labels in agent.values("muster_gpu_power_watts") if 'gpu="4"' in labels]
        assert mine.endswith('namespace="serving",pod="chat-0",container="engine"')
        assert sum("pod=" in labels for labels in agent.values("muster_gpu_power_watts")) == 1
        assert sum("pod=" in labels for labels in agent.values("DCGM_FI_DEV_GPU_TEMP")) == 1
