"""Lines between the reader process and the agent, which are also the lines of a recording: one JSON object each.

First {"hello": driver, "gpus": [...], "at_s"}; then {"reading": ...} of a tier of a GPU, {"xid": ...}, and {"count": n,
"at_s"} of GPUs that the driver sees.
"""

import json
import math
from collections.abc import Mapping
from typing import NamedTuple

from telemetry.errors import BadRecord
from telemetry.sample import TIERS, Driver, Gpu, Instance, Reading, Xid

LONGEST_LINE = 1 << 20
MOST = 1 << 16  # of GPUs, codes, links
LAST_S = 1e11  # Unix times end here


class Hello(NamedTuple):
    """What the reader found when it started."""

    driver: Driver
    gpus: tuple[Gpu, ...]
    at_s: float


class Count(NamedTuple):
    """How many GPUs the driver sees."""

    gpus: int
    at_s: float


Message = Hello | Reading | Xid | Count


def encode(message: Message) -> bytes:
    """One line with its end."""
    return (json.dumps(_plain(message), separators=(",", ":")) + "\n").encode()


def scrubbed(message: Message) -> Message:
    """The message without what tells one machine from another: a recording can be shown to anybody."""
    match message:
        case Hello(driver, gpus, at_s):
            bare = (gpu._replace(uuid=f"GPU-{gpu.index:012d}", serial="", pci="", vbios="") for gpu in gpus)
            return Hello(driver._replace(boot_id=""), tuple(bare), at_s)
        case Xid():
            return message._replace(text="")
        case Reading(instances=instances) if instances:
            bare_ones = (one._replace(uuid=f"MIG-{one.gpu_instance}-{one.compute_instance}") for one in instances)
            return message._replace(instances=tuple(bare_ones))
    return message


def _plain(message: Message) -> Mapping[str, object]:
    match message:
        case Hello(driver, gpus, at_s):
            return {"hello": driver._asdict(), "gpus": [_without_owner(gpu) for gpu in gpus], "at_s": at_s}
        case Count(gpus, at_s):
            return {"count": gpus, "at_s": at_s}
        case Xid():
            return {"xid": message._asdict()}
        case Reading(gpu, tier, at_s, values, links, lost, took_s, instances):
            body = {"gpu": gpu, "tier": tier, "at_s": at_s, "values": dict(values), "took_s": took_s}
            more = {"links": links, "lost": lost, "instances": [one._asdict() for one in instances]}
            return {"reading": {**body, **{name: value for name, value in more.items() if value}}}


def _without_owner(gpu: Gpu) -> Mapping[str, object]:
    """Pods are the agent's to know: no reader tells of them."""
    return {name: value for name, value in gpu._asdict().items() if name != "owner"}


def decode(line: bytes) -> Message:
    """The message of a line. Raises BadRecord, saying what is wrong with it."""
    if len(line) > LONGEST_LINE:
        raise BadRecord(f"a line of {len(line):,} bytes; at most {LONGEST_LINE:,} are read")
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"not JSON: {error}") from None
    try:
        message = _message(found)
        _check(message)
        return message
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BadRecord(f"no message of the agent's: {type(error).__name__} {error}") from None


def _instance(row: Mapping[str, object]) -> Instance:
    names = tuple(str(row[name]) for name in ("uuid", "profile"))
    ids = tuple(int(row[name]) for name in ("gpu_instance", "compute_instance"))  # type: ignore[call-overload]
    memory = (float(row[f"memory_{kind}_bytes"]) for kind in ("total", "used", "free"))  # type: ignore[arg-type]
    return Instance(names[0], ids[0], ids[1], names[1], *memory)


def _message(found: Mapping[str, Mapping[str, object]]) -> Message:
    if "reading" in found:
        body = dict(found["reading"])
        if body["tier"] not in TIERS:
            raise ValueError(f"tier is {body['tier']!r}")
        values = _numbers(body.pop("values"))
        links = tuple(map(_numbers, body.pop("links", ())))  # type: ignore[call-overload]
        instances = tuple(map(_instance, body.pop("instances", ())))  # type: ignore[call-overload]
        return Reading(values=values, links=links, instances=instances, **body)  # type: ignore[arg-type]
    if "xid" in found:
        return Xid(**found["xid"])  # type: ignore[arg-type]
    if "hello" in found:
        gpus = tuple(Gpu(**gpu) for gpu in found["gpus"])  # type: ignore[arg-type]
        return Hello(Driver(**found["hello"]), gpus, float(found["at_s"]))  # type: ignore[arg-type]
    return Count(int(found["count"]), float(found["at_s"]))  # type: ignore[call-overload, arg-type]


def _numbers(given: object) -> dict[str, float]:
    """Values by name; what is no finite number is not there."""
    found = {str(name): float(value) for name, value in given.items()}  # type: ignore[attr-defined]
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _check(message: Message) -> None:
    """Raises ValueError where a part is not of its kind: what comes in here is trusted from here on."""
    match message:
        case Reading(gpu=gpu, at_s=at_s, took_s=took_s, lost=lost):
            fits = _index(gpu) and _time(at_s) and _time(took_s) and isinstance(lost, str)
        case Xid(gpu=gpu, code=code, at_s=at_s, source=source, text=text):
            fits = _index(gpu) and _index(code) and _time(at_s) and source in ("nvml", "kmsg") and isinstance(text, str)
        case Count(gpus=gpus, at_s=at_s):
            fits = _index(gpus) and _time(at_s)
        case Hello(driver, found, at_s):
            words = [driver.driver, driver.nvml, driver.boot_id]
            for one in found:
                words += [one.uuid, one.model, one.pci, one.serial, one.vbios, one.architecture]
            whole = all(_index(one.index) and _index(one.links) and isinstance(one.minor, int) for one in found)
            fits = _time(at_s) and whole and all(isinstance(word, str) for word in words)
            fits = fits and all(isinstance(one.mig, bool) for one in found)
    if not fits:
        raise ValueError("a part is not of its kind")


def _index(value: object) -> bool:
    return type(value) is int and 0 <= value < MOST


def _time(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < LAST_S  # type: ignore[operator]
