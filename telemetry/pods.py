"""Which pod has which GPU, from the kubelet's pod-resources socket.

That socket speaks gRPC, of which this needs one call without arguments: a few frames of HTTP/2 (RFC 9113) and of
protobuf, written out here, take less room in a process that stays than the libraries would (grpcio: 20 MiB). Response
headers are passed over, so that there is no HPACK to decode: an answer counts once its whole message has come.
"""

import re
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from telemetry.errors import BadRecord
from telemetry.sample import Gpu, Instance

DEFAULT_SOCKET = "/var/lib/kubelet/pod-resources/kubelet.sock"
EVERY_S, STEP_S, LONGEST_S = 10.0, 2.0, 5.0
MOST_BYTES = 8 << 20  # kubelets answer up to 16 MiB; 110 pods take 0.1
_METHOD = "/v1.PodResourcesLister/List"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GO_AWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK, _PADDED = 0x1, 0x4, 0x1, 0x8
_DRA_DRIVER = "gpu.nvidia.com"
_WHOLE = re.compile(r"gpu-\d+", re.ASCII)
# MIG devices of NVIDIA's DRA driver, "gpu-MINOR-mig-" and then profile, its number and where in memory it starts
# ("1g18gb-19-0"; made on demand), or that number, start and size ("19-0-1"; made before).
_PART = re.compile(r"gpu-(?P<minor>\d+)-mig-(?:(?P<profile>\d+g[\w-]*)-\d+-\d+|\d+-\d+-\d+)", re.ASCII)


class Holder(NamedTuple):
    """A container that was given a device. `device`: a UUID, or the name that DRA gives it ("gpu-0", a minor, or one
    of `_PART`)."""

    device: str
    namespace: str
    pod: str
    container: str


def listed(path: str) -> list[Holder]:
    """Ask the kubelet. Raises OSError where it does not answer, BadRecord where that is no answer."""
    with socket.socket(socket.AF_UNIX) as kubelet:
        kubelet.settimeout(STEP_S)
        kubelet.connect(path)
        kubelet.sendall(_request())
        message = _answer(kubelet, time.monotonic() + LONGEST_S)
    return list(holders(message))


def owners(found: Iterable[Holder], gpus: Iterable[Gpu]) -> Mapping[int, tuple[Holder, ...]]:
    """Who holds each GPU, by index; replicas of a shared GPU ("UUID::3") are the GPU."""
    index: dict[str, int] = {}
    for gpu in gpus:
        index |= {gpu.uuid: gpu.index, f"gpu-{gpu.minor}": gpu.index}
    by_gpu: dict[int, tuple[Holder, ...]] = {}
    for holder in found:
        number = index.get(holder.device.partition("::")[0])
        if number is not None:
            by_gpu[number] = (*by_gpu.get(number, ()), holder)
    return by_gpu


def part_labels(
    found: Iterable[Holder], instances: Mapping[int, Sequence[Instance]]
) -> Mapping[str, tuple[tuple[str, str], ...]]:
    """Labels for MIG devices, by UUID. `instances`: of each GPU, by its minor.

    DRA names a place on the GPU, which NVML tells to root alone: a device is known by its profile where the GPU has no
    other of it (a name without the profile: where it has no other at all). Else its series go without a pod.
    """
    by_part: dict[str, tuple[Holder, ...]] = {}
    for holder in found:
        uuid = holder.device.partition("::")[0]
        if place := _PART.fullmatch(holder.device):
            own, wanted = instances.get(int(place["minor"]), ()), _plain(place["profile"] or "")
            fit = [one.uuid for one in own if not wanted or _plain(one.profile) == wanted]
            uuid = fit[0] if len(fit) == 1 else ""
        if uuid.startswith("MIG-"):
            by_part[uuid] = (*by_part.get(uuid, ()), holder)
    return {uuid: labels(holders) for uuid, holders in by_part.items()}


def _plain(profile: str) -> str:
    """A profile without what a name of Kubernetes cannot hold."""
    return re.sub(r"[^0-9a-z]", "", profile.lower())


def labels(holders: tuple[Holder, ...]) -> tuple[tuple[str, str], ...]:
    """Labels for the series of a GPU: those of its one holder; a GPU that is shared is nobody's alone."""
    if len(set(holders)) != 1:
        return ()
    only = holders[0]
    return (("namespace", only.namespace), ("pod", only.pod), ("container", only.container))


class Pods:
    """Asks every few seconds in a thread of its own, which ends with the process."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.holders: tuple[Holder, ...] = ()
        self.failures = 0
        self.why = ""
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin in a thread."""
        self._thread = threading.Thread(target=self._run, name="pods", daemon=True)
        self._thread.start()

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        while True:
            try:
                self.holders, self.why = tuple(listed(self.path)), ""
            except (OSError, BadRecord) as error:
                # What was known stays: a kubelet that restarts has not taken anybody's GPU away.
                self.failures, self.why = self.failures + 1, str(error)
            time.sleep(EVERY_S)


def holders(message: bytes) -> Iterator[Holder]:
    """Everybody in a ListPodResourcesResponse who has a device of NVIDIA's. Raises BadRecord."""
    for pod in _inner(message, 1):
        name, namespace = _word(pod, 1), _word(pod, 2)
        for container in _inner(pod, 3):
            own = _word(container, 1)
            for devices in _inner(container, 2):
                if _word(devices, 1).startswith("nvidia.com/"):
                    for device in _inner(devices, 2):
                        yield Holder(device.decode("utf-8", "replace"), namespace, name, own)
            for claim in (claim for dynamic in _inner(container, 5) for claim in _inner(dynamic, 4)):
                device_name = _word(claim, 4)
                if _word(claim, 2) == _DRA_DRIVER and (_WHOLE.fullmatch(device_name) or _PART.fullmatch(device_name)):
                    yield Holder(device_name, namespace, name, own)


def _inner(message: bytes, wanted: int) -> Iterator[bytes]:
    """The length-delimited fields of one number in a protobuf message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == 2:
            size, at = _varint(message, at)
            if at + size > len(message):
                raise BadRecord("a protobuf field is longer than its message")
            if number == wanted:
                yield message[at : at + size]
            at += size
        elif kind == 0:
            _, at = _varint(message, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise BadRecord(f"protobuf wire type {kind}")


def _word(message: bytes, number: int) -> str:
    found = list(_inner(message, number))
    return found[-1].decode("utf-8", "replace") if found else ""


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise BadRecord("a protobuf number does not end")


def _request() -> bytes:
    """The whole client side: preface, settings, room for a large answer, headers, an empty message."""
    headers = {
        ":method": "POST", ":scheme": "http", ":path": _METHOD, ":authority": "localhost",
        "content-type": "application/grpc", "te": "trailers",
    }  # fmt: skip
    # HPACK: literal, not indexed, new name (RFC 7541, 6.2.2); all lengths are below 127.
    block = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in headers.items()
    )
    room = struct.pack(">I", MOST_BYTES)
    settings = struct.pack(">HI", 0x2, 0) + struct.pack(">HI", 0x4, MOST_BYTES)  # no push; window of a stream
    return b"".join(
        (
            _PREFACE,
            _frame(_SETTINGS, 0, 0, settings),
            _frame(_WINDOW_UPDATE, 0, 0, room),
            _frame(_HEADERS, _END_HEADERS, 1, block),
            _frame(_DATA, _END_STREAM, 1, bytes(5)),
        )
    )


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream) + body


def _answer(kubelet: socket.socket, until_s: float) -> bytes:
    """The one message of the answer."""
    data = b""
    while True:
        head = _exactly(kubelet, 9, until_s)
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        size = int.from_bytes(head[:3], "big")
        if size + len(data) > MOST_BYTES:
            raise BadRecord(f"an answer of more than {MOST_BYTES:,} bytes")
        body = _exactly(kubelet, size, until_s)
        if kind == _SETTINGS and not flags & _ACK:
            kubelet.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            kubelet.sendall(_frame(_PING, _ACK, 0, body))
        elif kind == _DATA:
            data += body[1 : len(body) - body[0]] if flags & _PADDED and body else body
        elif kind in (_RESET, _GO_AWAY):
            raise BadRecord("the kubelet broke the call off")
        whole = len(data) >= 5 and len(data) - 5 >= int.from_bytes(data[1:5], "big")
        if whole:
            if data[0]:
                raise BadRecord("a compressed answer, which was not asked for")
            return data[5 : 5 + int.from_bytes(data[1:5], "big")]
        if stream == 1 and kind in (_DATA, _HEADERS) and flags & _END_STREAM:
            raise BadRecord("the kubelet refused the call; it needs version 1.20 or newer")


def _exactly(kubelet: socket.socket, size: int, until_s: float) -> bytes:
    chunks = []
    while size:
        if time.monotonic() > until_s:
            raise BadRecord(f"the kubelet took more than {LONGEST_S:.0f} s")
        chunk = kubelet.recv(min(size, 1 << 16))
        if not chunk:
            raise BadRecord("the kubelet hung up")
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)
