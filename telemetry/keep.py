"""What survives the agent: faults, counts of Xids and how far the kernel log was read, in one file written whole.

Written beside the old file and renamed over it, so that a kill or a power loss leaves one or the other. After a restart
in the same boot it goes on as it was; after a reboot every fault goes on probation, and so do those of a GPU that was
reset meanwhile.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from telemetry import disk, xid_pairs
from telemetry.fault import State, Subject
from telemetry.sample import Xid
from telemetry.watch import Standing, at_rest

MOST_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Kept:
    """`sequence`: of the last state that was reported. `kernel_sequence`: of the last kernel message that was read."""

    boot_id: str = ""
    sequence: int = 0
    kernel_sequence: int = -1
    gpus: int = 0
    xids: Mapping[tuple[int, int], tuple[int, float]] = field(default_factory=dict)
    states: Mapping[Standing, State] = field(default_factory=dict)
    history_s: float = 0.0  # when the first run began; infinite where there was none
    waiting: tuple[Xid, ...] = ()  # Xids that only one of NVML and the kernel log has told of
    energies_j: Mapping[str, float] = field(default_factory=dict)  # by UUID, to tell that a GPU was reset


def write(path: Path, kept: Kept) -> None:
    """Replace the file. Raises OSError."""
    text = json.dumps(
        {
            "boot_id": kept.boot_id,
            "sequence": kept.sequence,
            "kernel_sequence": kept.kernel_sequence,
            "gpus": kept.gpus,
            "history_s": kept.history_s,
            "xids": [[*key, *value] for key, value in kept.xids.items()],
            "energies_j": dict(kept.energies_j),
            "waiting": [xid_pairs.row(xid) for xid in kept.waiting],
            "states": [
                {"detector": name, "subject": list(subject), **asdict(state)}
                for (name, subject), state in at_rest(kept.states).items()
            ],
        }
    )
    disk.replace(path, text)


def read(path: Path) -> Kept:
    """What was kept; nothing where there is no file, or one that is not ours (it is set aside, not lost)."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("too large")
        found = json.loads(path.read_text("utf-8"))
        states = {}
        for row in found["states"]:
            name, subject = row.pop("detector"), Subject(*row.pop("subject"))
            states[name, subject] = State(**{**row, "recent": tuple(row["recent"])})
        xids = {(int(gpu), int(code)): (int(count), float(last_s)) for gpu, code, count, last_s in found["xids"]}
        sequence, kernel_sequence, gpus = (int(found[name]) for name in ("sequence", "kernel_sequence", "gpus"))
        waiting = tuple(map(xid_pairs.from_row, found.get("waiting", ())))
        history_s = float(found.get("history_s", 0.0))
        energies_j = {str(uuid): float(one) for uuid, one in found.get("energies_j", {}).items()}
        numbers = (sequence, kernel_sequence, gpus)
        return Kept(str(found["boot_id"]), *numbers, xids, states, history_s, waiting, energies_j)
    except FileNotFoundError:
        return Kept(history_s=math.inf)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        path.replace(path.with_suffix(".broken"))
        return Kept()
