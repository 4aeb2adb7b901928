"""What agents tell: a body checked at the edge, put in order, and read as the state of a node. Pure.

Whatever the bytes, the outcome is a report or a refusal in one line. The node's name in a report counts only if it is
the one that its token was bound to: who asks for that is `identity`, given by whoever checked the token.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from controller.brake import NodeState
from planner.errors import MusterError

MAX_BYTES = 4 << 20
_MOST_GPUS, _MOST_FAULTS, _MOST_PODS = 256, 1024, 256
_OUT_PHASES = ("confirmed", "acted")
_SHOWN_FAULTS = 3

Word = Annotated[str, Field(max_length=256)]
Words = Annotated[str, Field(max_length=4096)]


class BadReport(MusterError):
    """A report that cannot be used."""


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Fault(_Row):
    """One fault of a node, as its agent's state machine has it. `gpu` -1: the node."""

    detector: Word
    severity: Literal["info", "app", "degraded", "fatal_gpu", "fatal_node"]
    action: Word = "none"
    phase: Literal["healthy", "suspect", "confirmed", "acted", "probation"]
    gpu: int = Field(ge=-1, lt=1 << 16)
    uuid: Word = ""
    part: Word = ""
    job: Word = ""
    since_s: float = 0.0
    words: Words = ""

    @property
    def out(self) -> bool:
        """Whether it takes its GPU out of service."""
        return self.severity in ("fatal_gpu", "fatal_node") and self.phase in _OUT_PHASES


class Gpu(_Row):
    """One GPU: whether the driver has it, and what it reads."""

    gpu: int = Field(ge=0, lt=1 << 16)
    uuid: Word
    model: Word = ""
    up: bool = True
    at_s: float = 0.0
    values: dict[Word, float] = Field(default_factory=dict, max_length=64)
    pods: tuple[tuple[Word, Word, Word], ...] = Field(default=(), max_length=_MOST_PODS)  # namespace, pod, container


class CapRow(_Row):
    """A power limit that is in force on a GPU."""

    uuid: Word
    watts: float | None = None
    limit_w: float | None = None


class Overrun(_Row):
    """More than was planned, and for how long."""

    kind: Word
    gpu: int = -1
    uuid: Word = ""
    job: Word = ""
    ratio: float | None = None
    for_s: float | None = None
    cause: Words = ""
    words: Words = ""


class Report(_Row):
    """A node's whole state."""

    schema_: Literal[1] = Field(alias="schema")
    node: Word = Field(min_length=1)
    boot_id: Word
    sequence: int = Field(ge=0, lt=1 << 63)
    sent_s: float
    changes: int = Field(default=0, ge=0)
    agent: Word = ""
    driver: Word = ""
    driver_hung: bool = False
    node_fault: bool = False
    gpus: tuple[Gpu, ...] = Field(default=(), max_length=_MOST_GPUS)
    faults: tuple[Fault, ...] = Field(default=(), max_length=_MOST_FAULTS)
    caps: tuple[CapRow, ...] = Field(default=(), max_length=_MOST_GPUS)
    overruns: tuple[Overrun, ...] = Field(default=(), max_length=_MOST_FAULTS)


def parse(body: bytes) -> Report:
    """The report in a body. Raises BadReport: what, got, where."""
    if len(body) > MAX_BYTES:
        raise BadReport(f"a report of {len(body):,} bytes, allowed: up to {MAX_BYTES:,}")
    try:
        return Report.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise BadReport(f"{where}: {first['msg']}{more}") from None


@dataclass(frozen=True, slots=True)
class Kept:
    """The last report of a node, and when it came by the controller's clock."""

    report: Report
    came_s: float
    faulty_since_s: float = 0.0
    well_since_s: float = 0.0


def take(report: Report, identity: str, before: Kept | None, now_s: float) -> Kept:
    """The node after a report. Raises BadReport for another node's, and for one that is older than what is known.

    Reports are ordered by the node's own count, not by clocks: within one boot the sequence rises; of a boot that was
    left, `sent_s` tells a straggler.
    """
    if report.node != identity:
        raise BadReport(f"node: got {report.node}, allowed: {identity}, which the token is bound to")
    if before is not None:
        last = before.report
        if report.boot_id == last.boot_id and report.sequence <= last.sequence:
            raise BadReport(f"sequence: got {report.sequence}, allowed: above {last.sequence}")
        if report.boot_id != last.boot_id and report.sent_s < last.sent_s:
            raise BadReport(f"boot_id: got {report.boot_id}, which is over: {last.boot_id} was heard later")
    was = bool(before and fault_words(before.report))
    now = bool(fault_words(report))
    kept = before or Kept(report, now_s, now_s, now_s)
    return replace(
        kept,
        report=report,
        came_s=now_s,
        faulty_since_s=now_s if now and not was else kept.faulty_since_s,
        well_since_s=now_s if was and not now else kept.well_since_s,
    )


def escalated(report: Report, detectors: Collection[str]) -> Report:
    """The report with what some detectors find taken as a reason to take the GPU out, as its operator wants it."""
    if not any(one.detector in detectors and one.severity == "degraded" for one in report.faults):
        return report
    faults = tuple(
        one.model_copy(update={"severity": "fatal_gpu"})
        if one.detector in detectors and one.severity == "degraded"
        else one
        for one in report.faults
    )
    return report.model_copy(update={"faults": faults})


def fault_words(report: Report) -> str:
    """What takes the node out of service, in words; empty where nothing does."""
    out = sorted({_named(fault) for fault in report.faults if fault.out})
    missing = [f"GPU {gpu.gpu} is lost" for gpu in report.gpus if not gpu.up]
    hung = ["the driver does not answer"] if report.driver_hung else []
    every = [*hung, *out, *(words for words in missing if not out)]
    more = f" and {len(every) - _SHOWN_FAULTS} more" if len(every) > _SHOWN_FAULTS else ""
    return "; ".join(every[:_SHOWN_FAULTS]) + more


def overrun_words(report: Report, service_of: Callable[[str, str], str] = lambda space, pod: "") -> str:
    """What is more than was planned, and whose. `service_of`: the service of a pod; empty for none of ours."""
    pods = {gpu.gpu: gpu.pods for gpu in report.gpus}
    found = []
    for one in report.overruns:
        services = sorted({service_of(space, pod) for space, pod, _ in pods.get(one.gpu, ())} - {""})
        whose = ", ".join(services) or one.job
        where = f"GPU {one.gpu}" if one.gpu >= 0 else ""
        place = " on ".join(part for part in (whose, where) if part)
        found.append(": ".join(part for part in (place, one.words or one.kind) if part))
    more = f" and {len(found) - _SHOWN_FAULTS} more" if len(found) > _SHOWN_FAULTS else ""
    return "; ".join(found[:_SHOWN_FAULTS]) + more


def _named(fault: Fault) -> str:
    where = "node" if fault.gpu < 0 else f"GPU {fault.gpu}"
    return f"{where}: {fault.words or fault.part or fault.detector}"


def state(name: str, kept: Kept | None, out: NodeState | None = None) -> NodeState:
    """A node for the brake. `out`: what the node itself carries (since when it is out, its burn-in, its returns)."""
    known = out or NodeState(name)
    if kept is None:
        return known
    return replace(
        known,
        fault=fault_words(kept.report),
        faulty_since_s=kept.faulty_since_s,
        well_since_s=kept.well_since_s,
        heard_s=kept.came_s,
    )


def caps_in_force(kept: Mapping[str, Kept]) -> dict[str, float]:
    """The power limit of every GPU by UUID that its agent last read back, in watts."""
    return {
        gpu.uuid: gpu.values["power_limit_enforced_w"]
        for one in kept.values()
        for gpu in one.report.gpus
        if "power_limit_enforced_w" in gpu.values
    }
