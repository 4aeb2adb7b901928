"""Leases on disk: what the next setter must know of those that this one granted."""

import json
from dataclasses import asdict
from pathlib import Path

from telemetry import disk
from telemetry.lease import Caps, Lease


def write(path: Path, caps: Caps) -> None:
    """Replace the file. Raises OSError."""
    leases = {uuid: asdict(lease) for uuid, lease in caps.leases.items()}
    disk.replace(path, json.dumps({"boot_id": _boot_id(), "leases": leases, "fallen": sorted(caps.fallen)}))


def read(path: Path) -> Caps:
    """Leases of this boot; after another boot a GPU that had one is at its safe limit, as nobody knows better."""
    try:
        found = json.loads(path.read_text("utf-8"))
        leases = {str(uuid): Lease(float(one["watts"]), float(one["until_s"])) for uuid, one in found["leases"].items()}
        fallen = frozenset(map(str, found["fallen"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Caps()
    return Caps(leases, fallen) if found.get("boot_id") == _boot_id() else Caps({}, fallen | frozenset(leases))


def _boot_id() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text("ascii").strip() if path.exists() else ""
