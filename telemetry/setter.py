"""The one process that may be root: sets power limits and locks clocks for the agent, and nothing else.

    python -m telemetry.setter SETTINGS

A unix socket, one JSON object a line each way: {"verb": "set_limit", "uuid", "watts", "lease_s"}, {"verb": "lock",
"uuid", "hertz"}, {"verb": "reset", "uuid"}. The peer's user id is checked, limits are clamped, calls are rate-limited
and audited, and what was set is read back. Every limit is a lease: when it ends without another, the GPU falls to its
safe limit, also when agent and controller are dead; leases are on disk, so that a restart changes nothing. Whatever
lifts a limit that is ours (a driver loaded anew, another tool), it is set again within seconds.

Where the disk takes nothing more, leases end all the same, and nothing above the safe limit is granted. `lock` is for
an operator's own tools; Muster's agent never sends it. It is no lease: clocks stay locked until `reset`, or until the
driver is loaded anew. A lock only ever slows a GPU down.
"""

import json
import math
import os
import pwd
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from logging import makeLogRecord
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Protocol

from telemetry import disk, lease_file
from telemetry.lease import Bounds, Bucket, Caps
from telemetry.setter_socket import MOST_CLIENTS, Reply, serve

AUDIT_BYTES = 8 << 20  # then the file is put aside as FILE.1 and begun anew
CLOSE_W = 1.0  # the driver keeps whole watts
HOLD_S = 2.0  # between looks at whether limits are still in force


class Hardware(Protocol):
    """What the setter sets (`telemetry.nvml.limits`)."""

    def uuids(self) -> tuple[str, ...]: ...
    def bounds_w(self, uuid: str) -> tuple[float, float]: ...
    def default_w(self, uuid: str) -> float: ...
    def enforced_w(self, uuid: str) -> float: ...
    def set_w(self, uuid: str, watts: float) -> None: ...
    def lock_hz(self, uuid: str, hertz: float) -> None: ...


@dataclass(frozen=True, slots=True)
class SetterSettings:
    """`safe_ratio`: of the default limit, what a GPU falls to. `state`: file for leases.

    `users`: ids that may ask, `names`: users by name, who need not exist yet. `group`: whose socket it is too.
    """

    path: str
    state: str
    users: tuple[int, ...]
    safe_ratio: float = 0.7
    audit: str = ""
    names: tuple[str, ...] = ()
    group: int = -1

    def allows(self, user: int) -> bool:
        """Whether a user may ask."""
        if user in self.users:
            return True
        try:
            return bool(self.names) and pwd.getpwuid(user).pw_name in self.names
        except KeyError:
            return False


class Setter:
    """Answers requests; `tick` lets leases end. `now_s` is the clock since boot."""

    def __init__(
        self, hardware: Hardware, settings: SetterSettings, now_s: float, audit: Callable[[str], None]
    ) -> None:
        self.hardware = hardware
        self.settings = settings
        self.audit = audit
        self.bounds: dict[str, Bounds] = {}
        self.default_w: dict[str, float] = {}
        self.buckets: dict[str, Bucket] = {}
        self.unusable: dict[str, str] = {}  # GPUs without limits, and why
        self.caps = lease_file.read(Path(settings.state))
        self._held_s, self._unsaved = now_s, False
        self._meet(now_s)

    def answer(self, line: bytes, user: int, now_s: float) -> Reply:
        """The reply to a request of a user; refusals are words."""
        if not self.settings.allows(user):
            return self._refused(user, line, f"user {user} may not set limits")
        try:
            asked = json.loads(line)
            verb, uuid = asked["verb"], asked["uuid"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return self._refused(user, line, 'got no {"verb", "uuid"} object')
        if not (isinstance(verb, str) and isinstance(uuid, str)):
            return self._refused(user, line, "verb and uuid are words")
        if uuid not in self.bounds:
            return self._refused(user, line, self.unusable.get(uuid, "no such GPU here"))
        verbs = {"set_limit": self._set_limit, "lock": self._lock, "reset": self._reset}
        if verb not in verbs:
            return self._refused(user, line, f"verb is {str(verb)[:40]!r}, allowed: {', '.join(verbs)}")
        bucket = self.buckets[uuid].taken(now_s)
        if bucket is None:
            return self._refused(user, line, "too many requests for this GPU")
        self.buckets[uuid] = bucket
        before = self.caps.leases.get(uuid)
        try:
            reply = verbs[verb](uuid, asked, now_s)
        except (ValueError, TypeError, KeyError) as error:
            return self._refused(user, line, f"{type(error).__name__}: {error}")
        after = self.caps.leases.get(uuid)
        if not (reply["ok"] and before and after and before.watts == after.watts):  # a mere renewal is no news
            self.audit(json.dumps({"user": user, "asked": asked, "reply": dict(reply)}))
        return reply

    def tick(self, now_s: float) -> float:
        """Let leases end; when the next one does."""
        for uuid in self.caps.ended(now_s):
            self.caps = self.caps.fell(uuid)
            self._save(self.caps)  # a disk that is full holds nobody up: the lease on it is as much at its end
            if uuid in self.bounds:
                reply = self._set(uuid, self.bounds[uuid].safe_w)
                self.audit(json.dumps({"lease_ended": uuid, "reply": dict(reply)}))
        if now_s - self._held_s >= HOLD_S:
            self._held_s = now_s
            self._meet(now_s)
            self._hold()
        return self.caps.next_end_s()

    def _hold(self) -> None:
        """Set again what is above its limit; a lower limit is somebody else's and as safe."""
        if self._unsaved:
            self._save(self.caps)
        limits_w = {uuid: lease.watts for uuid, lease in self.caps.leases.items()}
        limits_w |= {uuid: self.bounds[uuid].safe_w for uuid in self.caps.fallen if uuid in self.bounds}
        for uuid, watts in limits_w.items():
            try:
                lifted = uuid in self.bounds and self.hardware.enforced_w(uuid) > watts + CLOSE_W
            except Exception:  # as in _set
                continue
            if lifted:
                self.audit(json.dumps({"set_again": uuid, "reply": dict(self._set(uuid, watts))}))

    def _set_limit(self, uuid: str, asked: Mapping[str, float], now_s: float) -> Reply:
        watts, lease_s = float(asked["watts"]), float(asked["lease_s"])
        if not (math.isfinite(watts) and math.isfinite(lease_s)) or watts <= 0 or lease_s <= 0:
            raise ValueError(f"got {watts} W for {lease_s} s, allowed are positive numbers")
        watts = self.bounds[uuid].clamped(watts)
        caps, safe_w = self.caps.granted(uuid, watts, lease_s, now_s), self.bounds[uuid].safe_w
        why = self._save(caps)  # first the lease, then the limit: a kill in between leaves a lease that ends
        if why and watts > safe_w:  # what the next setter would not know of must do no harm if it stays
            return {"ok": False, "why": why}
        self.caps = caps
        return {**self._set(uuid, watts), "safe_watts": safe_w}

    def _lock(self, uuid: str, asked: Mapping[str, float], now_s: float) -> Reply:
        hertz = float(asked["hertz"])
        if not 0 <= hertz <= 1e10:
            raise ValueError(f"got {hertz} Hz, allowed are 0 (free) to 10 GHz")
        why = self._lock_hz(uuid, hertz)
        return {"ok": False, "why": why} if why else {"ok": True}

    def _reset(self, uuid: str, asked: Mapping[str, float], now_s: float) -> Reply:
        caps = self.caps.freed(uuid)
        why = self._save(caps)
        if why:
            return {"ok": False, "why": why}
        self.caps = caps
        self._lock_hz(uuid, 0.0)  # a GPU whose clocks cannot be locked has none to free
        return self._set(uuid, self.default_w[uuid])

    def _lock_hz(self, uuid: str, hertz: float) -> str:
        """Why clocks could not be locked; empty where they were."""
        try:
            self.hardware.lock_hz(uuid, hertz)
        except Exception as error:  # as in _set
            return str(error)
        return ""

    def _set(self, uuid: str, watts: float) -> Reply:
        """Set and read back."""
        try:
            self.hardware.set_w(uuid, watts)
            enforced_w = self.hardware.enforced_w(uuid)
        except Exception as error:  # whatever the driver says must not end the process that holds the leases
            return {"ok": False, "why": str(error)}
        if abs(enforced_w - watts) > CLOSE_W:
            why = f"asked for {watts:.0f} W, the driver holds {enforced_w:.0f} W"
            return {"ok": False, "why": why, "watts": enforced_w}
        return {"ok": True, "watts": enforced_w}

    def _meet(self, now_s: float) -> None:
        """Take in the GPUs that can be set by now: one may have been lost until it was reset; hold it to its lease."""
        for uuid in self.hardware.uuids():
            if uuid in self.bounds:
                continue
            try:
                (low_w, high_w), default_w = self.hardware.bounds_w(uuid), self.hardware.default_w(uuid)
            except Exception as error:  # as in _set; the others must not go without their limits
                if self.unusable.get(uuid) != str(error):
                    self.unusable[uuid] = str(error)
                    self.audit(json.dumps({"no_limits": uuid, "why": str(error)}))
                continue
            safe_w = float(round(self.settings.safe_ratio * default_w))
            self.bounds[uuid] = Bounds(low_w, high_w, min(max(safe_w, low_w), high_w))
            self.default_w[uuid], self.buckets[uuid] = default_w, Bucket()
            lease = self.caps.leases.get(uuid)
            if lease is not None and now_s < lease.until_s:
                self._set(uuid, lease.watts)
            elif uuid in self.caps.fallen:
                self._set(uuid, self.bounds[uuid].safe_w)

    def _refused(self, user: int, line: bytes, why: str) -> Reply:
        self.audit(json.dumps({"user": user, "refused": why, "line": line[:200].decode("utf-8", "replace")}))
        return {"ok": False, "why": why}

    def _save(self, caps: Caps) -> str:
        """Why leases could not be put on disk; empty where they were."""
        try:
            lease_file.write(Path(self.settings.state), caps)
        except OSError as error:
            self._unsaved = True
            return f"leases cannot be kept in {self.settings.state}: {error.strerror}"
        self._unsaved = False
        return ""


def main() -> None:
    """Serve until SIGTERM. Limits stay as they are: whoever comes next finds the leases on disk."""
    from telemetry.nvml.limits import Limits, NvmlError

    try:
        limits = Limits()
    except NvmlError as error:
        sys.exit(f"error: NVML cannot be used: {error}; is an NVIDIA driver loaded on this host?")
    given = json.loads(sys.argv[1])
    lists = {name: tuple(given.get(name, ())) for name in ("users", "names")}
    settings = SetterSettings(**{**given, **lists})
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, _: stopped.append(signum))
    os.umask(0o117)  # the socket is for its owner and group
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            disk.make_way(Path(settings.path))
            listener.bind(settings.path)
        except OSError as error:
            sys.exit(f"error: --socket: {settings.path}: {error.strerror or error}")
        if settings.group >= 0:
            os.chown(settings.path, -1, settings.group)
        listener.listen(MOST_CLIENTS)
        audit = RotatingFileHandler(settings.audit or os.devnull, "a", AUDIT_BYTES if settings.audit else 0, 1, "utf-8")
        with closing(audit):
            now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
            setter = Setter(limits, settings, now_s, lambda line: audit.emit(makeLogRecord({"msg": line})))
            serve(listener, setter.answer, setter.tick, lambda: bool(stopped))


if __name__ == "__main__":
    main()
