"""The wire to the controller: what the agent tells (all of it, every time) and what it may be told. Pure.

A report is the whole state of the node, so that one that is lost costs nothing. `boot_id` and `sequence` order the
reports of a node: the sequence is milliseconds since boot, so it rises over restarts of the agent with nothing kept.

A reply is {"caps": [{"uuid", "watts", "lease_s"}], "acted": [{"detector", "gpu", "part", "job"}], "allotments":
[{"uuid", "power_w", "memory_bytes", "latency_s", "rate_per_s"}], "next_s"}. Every key may be absent, unknown ones are
passed over, and a reply with anything wrong in it is refused whole. Caps are all that there are: one that is not there
any more is not renewed. An allotment is what the plan gives a GPU (uuid "" = the node), which `telemetry.overrun`
compares with. `next_s` asks for the next report: who steers power by caps wants it each second.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from telemetry.errors import BadRecord
from telemetry.fault import Subject
from telemetry.lease import LONGEST_LEASE_S

SCHEMA = 1
MOST_REPLY_BYTES = 1 << 18
MOST_ROWS, LONGEST_NAME = 1024, 256
SOONEST_S, LATEST_S = 0.2, 60.0  # of the next report
MOST_WATTS = 1e5  # a rack; no GPU has as much
BRIEF = (
    "utilization_ratio", "memory_used_bytes", "memory_total_bytes", "power_w", "energy_j", "temperature_c",
    "memory_temperature_c", "sm_clock_hz", "clock_event_mask", "power_limit_enforced_w", "sm_active_ratio",
    "tensor_active_ratio", "dram_active_ratio", "recovery_action",
)  # fmt: skip
Row = Mapping[str, object]
Noun = TypeVar("Noun")


@dataclass(frozen=True, slots=True)
class Report:
    """A node's state. Rows are objects of plain values; times are Unix times, durations end in `_s` too.

    `changes`: how often anything changed its phase, over restarts. `unknown`: accelerators whose health nobody reads.
    """

    node: str
    boot_id: str
    sequence: int
    sent_s: float
    changes: int
    agent: str = ""
    driver: str = ""
    driver_hung: bool = False
    node_fault: bool = False
    gpus: Sequence[Row] = ()
    faults: Sequence[Row] = ()
    xids: Sequence[Row] = ()
    caps: Sequence[Row] = ()
    overruns: Sequence[Row] = ()
    unknown: Sequence[Row] = ()

    def encoded(self) -> bytes:
        """As the body of a POST."""
        own = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps({"schema": SCHEMA, **own}, separators=(",", ":")).encode()


def brief(values: Mapping[str, float]) -> dict[str, float]:
    """What the controller plans with; what is no number is left out."""
    return {name: values[name] for name in BRIEF if name in values and math.isfinite(values[name])}


@dataclass(frozen=True, slots=True)
class Cap:
    """A power limit for a GPU, and for how long from when it was asked for."""

    uuid: str
    watts: float
    lease_s: float


@dataclass(frozen=True, slots=True)
class Allotment:
    """What the plan gives one GPU, or the node (uuid ""); None = it does not say."""

    uuid: str
    power_w: float | None = None
    memory_bytes: float | None = None
    latency_s: float | None = None
    rate_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What a controller answers."""

    caps: tuple[Cap, ...] = ()
    acted: tuple[tuple[str, Subject], ...] = ()
    allotments: tuple[Allotment, ...] = ()
    next_s: float | None = None


def reply(body: bytes) -> Reply:
    """The reply in a body. Raises BadRecord, saying what is wrong with it."""
    if len(body) > MOST_REPLY_BYTES:
        raise BadRecord(f"a reply of more than {MOST_REPLY_BYTES:,} bytes")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"the reply is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadRecord("the reply is no object")
    caps, allotments = _all(found, "caps", _cap), _all(found, "allotments", _allotment)
    _each_once("caps", (one.uuid for one in caps))
    _each_once("allotments", (one.uuid for one in allotments))
    next_s = None if found.get("next_s") is None else max(_positive(found, "next_s", LATEST_S), SOONEST_S)
    return Reply(caps, _all(found, "acted", _acted), allotments, next_s)


def _all(found: Row, key: str, noun: Callable[[Row], Noun]) -> tuple[Noun, ...]:
    rows = found.get(key, [])
    if not isinstance(rows, list) or len(rows) > MOST_ROWS:
        raise BadRecord(f"{key} is no list of at most {MOST_ROWS}")
    if not all(isinstance(row, dict) for row in rows):
        raise BadRecord(f"{key} holds what is no object")
    try:
        return tuple(map(noun, rows))
    except BadRecord as error:
        raise BadRecord(f"{key}: {error}") from None


def _each_once(key: str, uuids: Iterable[str]) -> None:
    listed = list(uuids)
    if len(set(listed)) < len(listed):
        raise BadRecord(f"{key} names a GPU twice")


def _cap(row: Row) -> Cap:
    uuid = _word(row, "uuid")
    if not uuid:
        raise BadRecord("uuid is empty")
    return Cap(uuid, _positive(row, "watts", MOST_WATTS), _positive(row, "lease_s", LONGEST_LEASE_S))


def _acted(row: Row) -> tuple[str, Subject]:
    gpu = row.get("gpu", -1)
    if not isinstance(gpu, int) or isinstance(gpu, bool) or not -1 <= gpu < 1 << 16:
        raise BadRecord(f"gpu is {str(gpu)[:40]!r}, allowed is an index or -1")
    return _word(row, "detector"), Subject(gpu, _word(row, "part", ""), _word(row, "job", ""))


def _allotment(row: Row) -> Allotment:
    def perhaps(key: str, most: float) -> float | None:
        return None if row.get(key) is None else _positive(row, key, most)

    return Allotment(
        _word(row, "uuid"), perhaps("power_w", MOST_WATTS), perhaps("memory_bytes", 1e15), perhaps("latency_s", 1e6),
        perhaps("rate_per_s", 1e9),
    )  # fmt: skip


def _word(row: Row, key: str, default: str | None = None) -> str:
    value = row.get(key, default)
    if not isinstance(value, str) or len(value) > LONGEST_NAME:
        raise BadRecord(f"{key} is {str(value)[:40]!r}, allowed is a word of up to {LONGEST_NAME} characters")
    return value


def _positive(row: Row, key: str, most: float) -> float:
    value = row.get(key)
    # Compared before it is made a float: a whole number may be too large for one. NaN fails both comparisons.
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= most:
        raise BadRecord(f"{key} is {str(value)[:40]!r}, allowed are numbers above 0 up to {most:g}")
    return float(value)
