"""Worlds that are a little other than this one: an objective looser, one GPU more, more power. Pure, on snapshots."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from controller.specs import key_of
from planner.units import DURATION, POWER

Object = Mapping[str, Any]
Kind = Literal["gpu", "slo", "power"]
Variation = tuple[Kind, str, str, Object]
"""What is loosened, of what, in words, and the snapshot."""

_LOOSER = 1.25
_MORE_POWER = 1.1
_MOST_GROUPS = 12
_LATENCIES = ("ttft", "tpot", "e2e")


def variations(snapshot: Object) -> list[Variation]:
    """A snapshot of one service with each limit loosened by itself."""
    return [*_more_gpus(snapshot), *_looser(snapshot), *_more_power(snapshot)]


def loosened(obj: Object, factor: float) -> Object:
    """A service with all its latency objectives times a factor."""
    if factor == 1.0:
        return obj
    slos = [
        {**slo, **{key: f"{DURATION.parse(slo[key]) * factor:.6f}s" for key in _LATENCIES if slo.get(key)}}
        for slo in obj["spec"].get("slos") or ()
    ]
    return {**obj, "spec": {**obj["spec"], **({"slos": slos} if slos else {})}}


def _more_gpus(snapshot: Object) -> Iterator[Variation]:
    """One GPU more of each kind of node group, as a node of its own."""
    seen: set[tuple[object, ...]] = set()
    for row in snapshot["hardware"]["spec"]["nodeGroups"]:
        alike = (row["gpu"], row.get("pricePerHour"), row.get("powerDomain"), row["zone"])
        if alike in seen or len(seen) >= _MOST_GROUPS:
            continue
        seen.add(alike)
        one = {key: value for key, value in row.items() if key != "commitment"}
        more = {**one, "name": f"{row['name']}.more", "nodes": 1, "gpusPerNode": 1}
        groups = [*snapshot["hardware"]["spec"]["nodeGroups"], more]
        yield "gpu", row["name"], f"one more {row['gpu']} in {row['name']}", _with(snapshot, nodeGroups=groups)


def _looser(snapshot: Object) -> Iterator[Variation]:
    [asked] = snapshot["services"]
    if asked["object"]["spec"].get("slos"):
        words = f"latency objectives {_LOOSER - 1:.0%} looser"
        changed = {**asked, "object": loosened(asked["object"], _LOOSER)}
        yield "slo", key_of(asked["object"]), words, {**snapshot, "services": [changed]}


def _more_power(snapshot: Object) -> Iterator[Variation]:
    domains = snapshot["hardware"]["spec"].get("powerDomains") or ()
    for row in domains:
        more = f"{POWER.parse(row['budget']) * _MORE_POWER:.6g}W"
        changed = [{**one, "budget": more} if one is row else one for one in domains]
        words = f"{_MORE_POWER - 1:.0%} more power in {row['name']}"
        yield "power", row["name"], words, _with(snapshot, powerDomains=changed)


def _with(snapshot: Object, **spec: object) -> Object:
    hardware = snapshot["hardware"]
    return {**snapshot, "hardware": {**hardware, "spec": {**hardware["spec"], **spec}}}
