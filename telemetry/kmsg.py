"""Xids in the kernel log: their text, and what NVML's events do not tell (NVLink 5 words, what came before)."""

import re
from collections.abc import Callable
from typing import NamedTuple

_HEAD = re.compile(r"\d{1,9},(\d{1,19}),(\d{1,19})[,;]", re.ASCII)
_XID = re.compile(r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)[^)]*\): (\d{1,4})(?!\d)(?:, (.*))?", re.ASCII)
LONGEST_TEXT = 400


class Logged(NamedTuple):
    """An Xid as the kernel logged it: seconds since boot, PCI address (no domain's zeros, no function), text."""

    sequence: int
    since_boot_s: float
    pci: str
    code: int
    text: str


def parsed(record: str) -> Logged | None:
    """The Xid in a record of /dev/kmsg ("priority,sequence,microseconds,flags;text"), None where there is none."""
    head, found = _HEAD.match(record), _XID.search(record)
    if head is None or found is None:
        return None
    said = (found[3] or "").splitlines()[0][:LONGEST_TEXT] if found[3] else ""
    return Logged(int(head[1]), int(head[2]) / 1e6, place(found[1]), int(found[2]), said)


def place(pci: str) -> str:
    """A PCI address in one form, whoever wrote it: domain of four digits, bus, device; no function."""
    parts = pci.lower().partition(".")[0].split(":")
    domain = parts[-3][-4:] if len(parts) > 2 else "0000"
    return ":".join([domain.rjust(4, "0"), *parts[-2:]])


def records(read: Callable[[], bytes]) -> list[str]:
    """All lines that are there now; `read` gives some each time and raises BlockingIOError when there are no more.

    The kernel gives one record each time, whose further lines are not of interest; a pipe in its place may give more.
    It says EPIPE where it has overwritten records that we had not read: the rest is read on.
    """
    found: list[str] = []
    while True:
        try:
            text = read()
        except BlockingIOError:
            return found
        except BrokenPipeError:
            continue
        if not text:
            return found
        found += text.decode("utf-8", "replace").splitlines()
