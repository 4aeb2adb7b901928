"""What each Xid means: `data/xid.csv`, with the owner's overrides on top.

The table holds NVIDIA's catalogue of Xids (docs.nvidia.com/deploy/xid-errors, snapshot of 2025-10-29 as carried by
leptonai/gpud, Apache-2.0; 173 to 176 from nverror.h of open-gpu-kernel-modules 595.45.04, MIT) with a severity that is
our reading of it. Sources disagree (gpud reboots for what NVIDIA calls the application's fault), so it is data.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Literal, cast, get_args

from telemetry.errors import BadRecord
from telemetry.fault import Action, Severity
from telemetry.tables import table

Meaning = Severity | Literal["ignore"]
MEANINGS: tuple[str, ...] = ("ignore", *get_args(Severity))
ACTIONS: Mapping[Meaning, Action] = MappingProxyType(
    {
        "ignore": "none",
        "info": "none",
        "app": "restart_app",
        "degraded": "ticket",
        "fatal_gpu": "reset_gpu",
        "fatal_node": "reboot_node",
    }
)
# NVLink 5 (Blackwell): codes 144 to 150 are decided by two words in the kernel log, not by the code.
NVLINK5 = range(144, 151)
_WORDS = re.compile(r"\((0x[0-9a-fA-F]{1,8}) (0x[0-9a-fA-F]{1,8})")


@dataclass(frozen=True, slots=True)
class Policy:
    """An Xid's name, what it means here, and what to do about it. `own`: as the owner wants it, whatever words say."""

    xid: int
    name: str
    meaning: Meaning
    action: Action
    own: bool = False


UNKNOWN = Policy(-1, "UNKNOWN", "degraded", "ticket")  # a code that the catalogue does not have: look, do not touch


@cache
def catalogue() -> Mapping[int, Policy]:
    """The shipped table."""
    found = {}
    for row in table("xid.csv"):
        meaning = cast(Meaning, row["severity"])
        found[int(row["xid"])] = Policy(int(row["xid"]), row["mnemonic"], meaning, ACTIONS[meaning])
    return MappingProxyType(found)


def overridden(wanted: Mapping[str, str]) -> Mapping[int, Policy]:
    """The table with meanings of the owner's: code -> one of MEANINGS. Raises BadRecord for what is neither."""
    table = dict(catalogue())
    for code, meaning in wanted.items():
        if not code.isdigit() or int(code) > 10_000:
            raise BadRecord(f"xid override {code!r}: allowed are codes up to 10000")
        if meaning not in MEANINGS:
            raise BadRecord(f"xid override {code}: got {meaning!r}, allowed: {', '.join(MEANINGS)}")
        chosen = cast(Meaning, meaning)
        before = table.get(int(code), replace(UNKNOWN, xid=int(code)))
        table[int(code)] = replace(before, meaning=chosen, action=ACTIONS[chosen], own=True)
    return MappingProxyType(table)


def policy(table: Mapping[int, Policy], code: int, text: str = "") -> Policy:
    """What an Xid means, by its code and, for NVLink 5, by the words that the kernel logged with it."""
    found = table.get(code) or replace(UNKNOWN, xid=code)
    if code in NVLINK5 and not found.own and (words := _WORDS.search(text)):
        decided = _nvlink5(code, int(words[1], 16), int(words[2], 16))
        if decided is not None:
            return replace(found, meaning=decided, action=ACTIONS[decided])
    return found


def _nvlink5(code: int, interrupt: int, status: int) -> Meaning | None:
    """By the catalogue's decode rules; None where none fits. Statuses are numbers in some units and bits in others:
    the rule with just this status counts, else the gravest whose bit is set."""
    here = [
        (wanted, meaning)
        for rule, patterns, wanted, meaning in _rules()
        if rule == code and any(_fits(one, interrupt) for one in patterns)
    ]
    same = [meaning for wanted, meaning in here if wanted == status]
    found = same or [meaning for wanted, meaning in here if wanted & status]
    return max(found, key=MEANINGS.index, default=None)


@cache
def _rules() -> tuple[tuple[int, tuple[str, ...], int, Meaning], ...]:
    meanings: Mapping[str, Meaning] = {"IGNORE": "ignore", "RESET_GPU": "fatal_gpu", "XID_154_EVAL": "degraded"}
    found = []
    for row in table("nvlink5.csv"):
        patterns = tuple(row[f"intrinfo_pattern_{v}"] for v in ("v1", "v2") if row[f"intrinfo_pattern_{v}"])
        found.append((int(row["xid"]), patterns, int(row["error_status"], 16), meanings[row["resolution"]]))
    return tuple(found)


def _fits(pattern: str, word: int) -> bool:
    bits = f"{word:0{len(pattern)}b}"
    return len(bits) == len(pattern) and all(wanted in ("-", bit) for wanted, bit in zip(pattern, bits, strict=True))
