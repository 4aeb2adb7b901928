"""Ports of InfiniBand as sysfs shows them (Linux, Documentation/ABI/stable/sysfs-class-infiniband), and what they lack.

Reading sysfs does not hang with a GPU's driver, so the agent reads here itself. Judging is pure, on the clock given.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from telemetry.detectors.infiniband import DOWN, ERRORS, FLAPS
from telemetry.fault import Look, Subject
from telemetry.render import family, labelled
from telemetry.view import Track

DROP_S, FLAP_S = 240.0, 25.0
DAY_S, HOUR_S = 86400.0, 3600.0
MOST_FLAPS = 5
ERRORS_EVERY_S = 60.0
# Of a counter in an hour: ibqueryerrors' defaults.
THRESHOLDS = {
    "symbol_error": 10.0, "link_error_recovery": 10.0, "port_rcv_errors": 10.0, "local_link_integrity_errors": 10.0,
    "excessive_buffer_overrun_errors": 10.0, "port_xmit_discards": 100.0,
}  # fmt: skip
COUNTERS = (*THRESHOLDS, "link_downed")
TRAFFIC = {"sent": "port_xmit_data", "received": "port_rcv_data"}  # in words of four bytes
ACTIVE, PHYSICALLY_UP = 4, 5
GBIT = 1e9 / 8


class Port(NamedTuple):
    """One port as it was read. `counters`: by the file's name; one that is missing is absent."""

    name: str  # "mlx5_0/1"
    up: bool
    rate_bytes_per_s: float
    layer: str
    counters: Mapping[str, float]


def ports(root: Path) -> list[Port]:
    """Every port below sysfs' `root`; none where there is no such hardware."""
    found = []
    for folder in sorted(root.glob("class/infiniband/*/ports/*")):
        state, physical = _number(folder / "state"), _number(folder / "phys_state")
        counters = {name: _number(folder / "counters" / name) for name in (*COUNTERS, *TRAFFIC.values())}
        told = {name: value for name, value in counters.items() if value is not None}
        up = state == ACTIVE and physical in (PHYSICALLY_UP, None)
        rate, layer = (_number(folder / "rate") or 0.0) * GBIT, _text(folder / "link_layer")
        found.append(Port(f"{folder.parts[-3]}/{folder.name}", up, rate, layer, told))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> float | None:
    """The number that a file begins with ("4: ACTIVE", "400 Gb/sec (4X NDR)")."""
    word = _text(path).replace(":", " ").partition(" ")[0]
    try:
        return float(word)
    except ValueError:
        return None


@dataclass(slots=True)
class _Past:
    """What is remembered of a port: a port that was never up is not cabled."""

    was_up: bool = False
    down_since_s: float | None = None
    flaps_s: deque[float] = field(default_factory=lambda: deque(maxlen=64))
    downed: float = 0.0
    errors_s: float = 0.0
    tracks: dict[str, Track] = field(default_factory=dict)


class Ports:
    """All ports of a node."""

    def __init__(self) -> None:
        self.now: list[Port] = []
        self._past: dict[str, _Past] = {}

    def note(self, read: list[Port], now_s: float) -> list[tuple[str, Subject, Look]]:
        """Looks at every port that can be judged."""
        self.now = read
        return [look for port in read for look in self._judge(port, self._past.setdefault(port.name, _Past()), now_s)]

    def _judge(self, port: Port, past: _Past, now_s: float) -> list[tuple[str, Subject, Look]]:
        subject, down_s = Subject(part=port.name), self._down_s(port, past, now_s)
        if not past.was_up:
            return []
        recent = sum(now_s - at_s <= DAY_S for at_s in past.flaps_s)
        found = [
            (DOWN, subject, Look(down_s >= DROP_S, down_s, f"port {port.name} has been down for {down_s:.0f} s")),
            (FLAPS, subject, Look(recent >= MOST_FLAPS, recent, f"port {port.name} went down {recent} times in a day")),
        ]
        if now_s - past.errors_s >= ERRORS_EVERY_S:
            past.errors_s = now_s
            found.append((ERRORS, subject, _errors(port, past)))
        return found

    def _down_s(self, port: Port, past: _Past, now_s: float) -> float:
        """For how long it has been down; notes flaps and counters on the way."""
        for name, value in port.counters.items():
            track = past.tracks.get(name)
            if track is None:
                past.tracks[name] = Track(now_s, value, HOUR_S)
            else:
                track.note(now_s, value)
        times = past.tracks.get("link_downed")
        if times is not None and past.was_up:
            past.flaps_s += [now_s] * min(int(times.last - times.before), MOST_FLAPS)
        if not port.up:
            past.down_since_s = now_s if past.down_since_s is None else past.down_since_s
            return now_s - past.down_since_s
        if past.was_up and past.down_since_s is not None and times is None and now_s - past.down_since_s >= FLAP_S:
            past.flaps_s.append(now_s)
        past.was_up, past.down_since_s = True, None
        return 0.0

    def metrics(self) -> str:
        """The ports' families."""
        up, rates, errors, traffic = [], [], [], []
        for port in self.now:
            device, _, number = port.name.partition("/")
            own = (("device", device), ("port", number))
            up.append((labelled((*own, ("link_layer", port.layer))), float(port.up)))
            rates.append((labelled(own), port.rate_bytes_per_s))
            told = port.counters
            errors += [(labelled((*own, ("kind", kind))), told[kind]) for kind in COUNTERS if kind in told]
            traffic += [(labelled((*own, ("direction", d))), 4.0 * told[n]) for d, n in TRAFFIC.items() if n in told]
        name = "muster_infiniband_port"
        return (
            family(f"{name}_up", "gauge", "1 while a port is active.", up)
            + family(f"{name}_rate_bytes_per_second", "gauge", "Speed of a port, one direction.", rates)
            + family(f"{name}_errors_total", "counter", "Errors of a port by kind.", errors)
            + family(f"{name}_bytes_total", "counter", "Bytes over a port.", traffic)
        )


def _errors(port: Port, past: _Past) -> Look:
    """The counter that is furthest beyond its threshold in the last hour."""
    rises = {name: past.tracks[name].rise(HOUR_S) for name in THRESHOLDS if name in past.tracks}
    worst = max(rises, key=lambda name: rises[name] / THRESHOLDS[name], default="")
    if not worst:
        return Look(False)
    words = f"port {port.name}: {worst} rose by {rises[worst]:,.0f} in an hour, {THRESHOLDS[worst]:.0f} are allowed"
    return Look(rises[worst] > THRESHOLDS[worst], rises[worst], words)
