"""Builds and drives the fake NVML library: a file of state that the library maps, and the knobs of every GPU in it."""

import atexit
import ctypes
import mmap
import os
import platform
import subprocess
import tempfile
from functools import cache
from pathlib import Path

MAX_GPUS, MAX_LINKS, MAX_FIELDS, MAX_EVENTS, MAX_PROCESSES = 16, 18, 320, 1024, 8
MAX_INSTANCES = 7
MAGIC = 0x4E564D4C
LOST, NEEDS_RESET, NOT_SUPPORTED = 15, 16, 3
XID_EVENT = 8
DOUBLE, UNSIGNED, UNSIGNED_LONG = 0, 1, 3
SOURCE = Path(__file__).with_name("nvml.c")
_LIBC = ctypes.CDLL(None)
_FUTEX, _FUTEX_WAKE = {"x86_64": 202, "aarch64": 98}[platform.machine()], 1
u32, u64, i32 = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int32


class Field(ctypes.Structure):
    _fields_ = (("supported", u32), ("type", u32), ("value", u64))


class Event(ctypes.Structure):
    _fields_ = (("gpu", u32), ("pad", u32), ("type", u64), ("data", u64))


class Process(ctypes.Structure):
    _fields_ = (("pid", u32), ("pad", u32), ("memory", u64))


class Instance(ctypes.Structure):
    _fields_ = (
        ("uuid", ctypes.c_char * 96), ("profile", ctypes.c_char * 32), ("present", u32), ("gi", u32), ("ci", u32),
        ("pad", u32), ("total", u64), ("used", u64),
    )  # fmt: skip


def _words(*names: str) -> list[tuple[str, type]]:
    return [(name, u32) for name in names]


class Gpu(ctypes.Structure):
    """Mirror of `Gpu` in nvml.c."""

    _fields_ = (
        *((name, ctypes.c_char * size) for name, size in
          (("uuid", 96), ("name", 96), ("pci", 32), ("serial", 32), ("vbios", 32))),
        *_words("error", "hang", "delay_us", "calls", "utilization", "memory_utilization"),
        *((f"memory_{name}", u64) for name in ("total", "used", "free", "reserved")),
        ("temperature", i32), ("margin", i32),
        *_words("sm_clock", "memory_clock", "sm_clock_max", "memory_clock_max", "locked_clock"),
        ("reasons", u64),
        *_words("pstate", "pcie_generation", "pcie_width", "pcie_generation_max", "pcie_width_max"),
        *_words("limit_mw", "limit_min_mw", "limit_max_mw", "limit_default_mw", "may_set", "ignores_limit"),
        ("banks", u32 * 5),
        *_words("fabric_state", "architecture", "mig", "gpm_supported", "processes"),
        ("gpm", ctypes.c_double * 4),
        ("links", u32), ("link_up", u32 * MAX_LINKS),
        ("process", Process * MAX_PROCESSES),
        ("field", Field * MAX_FIELDS),
        ("link_field", (u64 * MAX_FIELDS) * MAX_LINKS),
        ("instance", Instance * MAX_INSTANCES),
    )  # fmt: skip


class State(ctypes.Structure):
    """Mirror of `State` in nvml.c."""

    _fields_ = (
        *_words("magic", "count", "init_error", "hang"),
        ("events", u64),
        ("event", Event * MAX_EVENTS),
        ("gpu", Gpu * MAX_GPUS),
    )


# An idle H200 as one was read: field id -> (value type, value).
_FIELDS = {
    185: (UNSIGNED, 76_500), 186: (UNSIGNED, 76_800), 83: (UNSIGNED_LONG, 5_000_000), 82: (UNSIGNED, 38),
    74: (UNSIGNED_LONG, 0), 75: (UNSIGNED_LONG, 0), 76: (UNSIGNED_LONG, 0), 77: (UNSIGNED_LONG, 0),
    79: (UNSIGNED_LONG, 0), 269: (UNSIGNED_LONG, 0), 270: (UNSIGNED_LONG, 0), 271: (UNSIGNED_LONG, 0),
    187: (UNSIGNED, 200_000), 188: (UNSIGNED, 700_000), 189: (UNSIGNED, 700_000), 190: (UNSIGNED, 700_000),
    192: (UNSIGNED, 700_000), 94: (UNSIGNED, 0), 230: (UNSIGNED, 0), 197: (UNSIGNED_LONG, 0), 198: (UNSIGNED_LONG, 0),
    138: (UNSIGNED_LONG, 0), 139: (UNSIGNED_LONG, 0),
    **{i: (UNSIGNED_LONG, 0) for i in (3, 4, 5, 6, 11, 12)},
    **{i: (UNSIGNED, 0) for i in (142, 143, 144, 145)},
    **{i: (UNSIGNED, 0) for i in range(173, 184)},
}  # fmt: skip
_LINK_FIELDS = {161: 0, 162: 0, 163: 0, 164: 26_562}


class FakeNvml:
    """`count` idle H200s behind a library of their own; change what `gpu(i)` holds and every process sees it."""

    def __init__(self, folder: Path, count: int = 8) -> None:
        self.path = folder / "nvml.state"
        self.path.write_bytes(bytes(ctypes.sizeof(State)))
        with self.path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self.state = State.from_buffer(self._map)
        self.state.count = count
        for index in range(count):
            _idle(self.gpu(index), index)
        self.state.magic = MAGIC

    def gpu(self, index: int) -> Gpu:
        """The knobs of one GPU."""
        found: Gpu = self.state.gpu[index]
        return found

    def set_field(self, index: int, field_id: int, value: int) -> None:
        """A field value, which becomes supported by that."""
        field = self.gpu(index).field[field_id]
        field.value = value
        field.supported = field.supported or 1
        field.type = field.type or UNSIGNED_LONG

    def set_link(self, index: int, link: int, field_id: int, value: int) -> None:
        """A field value of one NVLink."""
        self.gpu(index).link_field[link][field_id] = value

    def split(self, index: int, slot: int, profile: str, total_bytes: int) -> Instance:
        """A MIG device on a GPU, which is in MIG mode by that; GPU instance `slot` + 1, compute instance 0."""
        self.gpu(index).mig = 1
        found: Instance = self.gpu(index).instance[slot]
        found.uuid, found.profile = f"MIG-{index}-{slot}".encode(), profile.encode()
        found.gi, found.ci, found.total, found.used, found.present = slot + 1, 0, total_bytes, 0, 1
        return found

    def push_xid(self, index: int, code: int) -> None:
        """An Xid, as the driver sends it to whoever has registered."""
        self.push_event(index, XID_EVENT, code)

    def push_event(self, index: int, kind: int, data: int) -> None:
        """An event of any kind."""
        event = self.state.event[self.state.events % MAX_EVENTS]
        event.gpu, event.type, event.data = index, kind, data
        self.state.events += 1  # last: readers look at this, and sleep on it
        address = ctypes.addressof(self.state) + State.events.offset
        _LIBC.syscall(_FUTEX, ctypes.c_void_p(address), _FUTEX_WAKE, 1 << 30, None, None, 0)

    def environment(self, library: Path) -> dict[str, str]:
        """What a process needs to load this library, and to start as fast as an installed package does."""
        own = {"LD_LIBRARY_PATH": str(library.parent), "NVML_FAKE_STATE": str(self.path)}
        return {**os.environ, **own, "PYTHONPYCACHEPREFIX": bytecode(), "PYTHONDONTWRITEBYTECODE": ""}


@cache
def bytecode() -> str:
    """A folder for the bytecode of all processes that are started in this run: compiling takes time and memory."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return folder.name


def build(folder: Path) -> Path:
    """Compile the library. Raises CalledProcessError with the compiler's words."""
    library = folder / "libnvidia-ml.so.1"
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1"]
    subprocess.run(["gcc", *flags, "-o", str(library), str(SOURCE)], check=True, capture_output=True, text=True)
    return library


def _idle(gpu: Gpu, index: int) -> None:
    gpu.uuid = f"GPU-00000000-0000-0000-0000-{index:012d}".encode()
    gpu.name, gpu.pci = b"NVIDIA H200", f"00000000:{index + 1:02X}:00.0".encode()
    gpu.serial, gpu.vbios = f"{1650000000000 + index}".encode(), b"96.00.00.00.01"
    gpu.memory_total, gpu.memory_reserved = 150_754_820_096, 700_000_000
    gpu.memory_used, gpu.memory_free = 0, 150_754_820_096 - 700_000_000
    gpu.temperature, gpu.margin = 30, 55
    gpu.sm_clock, gpu.memory_clock, gpu.sm_clock_max, gpu.memory_clock_max = 345, 3201, 1980, 3201
    gpu.reasons, gpu.pstate = 1, 0
    gpu.pcie_generation = gpu.pcie_generation_max = 5
    gpu.pcie_width = gpu.pcie_width_max = 16
    gpu.limit_mw = gpu.limit_max_mw = gpu.limit_default_mw = 700_000
    gpu.limit_min_mw, gpu.may_set = 200_000, 1
    gpu.banks[0] = 3072
    gpu.fabric_state, gpu.architecture, gpu.gpm_supported = 3, 9, 1
    gpu.links = MAX_LINKS
    for link in range(MAX_LINKS):
        gpu.link_up[link] = 1
        for field_id, value in _LINK_FIELDS.items():
            gpu.field[field_id].supported, gpu.field[field_id].type = 2, UNSIGNED_LONG
            gpu.link_field[link][field_id] = value
    for field_id, (kind, value) in _FIELDS.items():
        gpu.field[field_id].supported, gpu.field[field_id].type = 1, kind
        gpu.field[field_id].value = value
