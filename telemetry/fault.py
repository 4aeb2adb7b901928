"""What detectors say and what becomes of it: the nouns that node, controller and pages share.

A detector looks at a subject and hits or does not. One state machine turns looks into phases (`telemetry.machine`):

healthy -> suspect (a first hit) -> confirmed (N of M hits) -> acted (somebody has acted) -> probation -> healthy
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Severity = Literal["info", "app", "degraded", "fatal_gpu", "fatal_node"]
Action = Literal["none", "ticket", "restart_app", "drain", "reset_gpu", "reboot_node", "replace"]
Phase = Literal["healthy", "suspect", "confirmed", "acted", "probation"]
FATAL: tuple[Severity, ...] = ("fatal_gpu", "fatal_node")


class Subject(NamedTuple):
    """What is judged: a GPU (`gpu`), a part of it (`part`: "link 3", "xid 79"), the node (-1), or a job's rank."""

    gpu: int = -1
    part: str = ""
    job: str = ""


class Look(NamedTuple):
    """One look of a detector at a subject: whether it hits, how much of what it measures, and in words."""

    hit: bool
    value: float = 0.0
    words: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """When looks become a fault and when it is over.

    Confirmed after `hits` hits in the last `looks` looks. Over once no look hit for `clear_s` (infinite = only a reset
    or a reboot ends it), then `probation_s` until it is forgotten. Nothing hits within `grace_s` after boot.
    """

    hits: int = 1
    looks: int = 1
    clear_s: float = 300.0
    probation_s: float = 600.0
    grace_s: float = 0.0


@dataclass(frozen=True, slots=True)
class State:
    """Where a subject stands with a detector. `last_hit_s`, `since_s`: Unix time."""

    phase: Phase = "healthy"
    since_s: float = 0.0
    recent: tuple[bool, ...] = ()
    last_hit_s: float = 0.0
    value: float = 0.0
    words: str = ""


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of phase: what is counted, logged, kept on disk and told to the controller."""

    detector: str
    subject: Subject
    severity: Severity
    action: Action
    before: Phase
    after: Phase
    at_s: float
    value: float
    words: str
