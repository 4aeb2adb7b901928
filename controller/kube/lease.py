"""Who leads, by a coordination.k8s.io/v1 Lease: pure decisions on a monotonic clock.

A follower does not compare the lease's times with its own clock: it measures for how long it saw the record unchanged.
A leader counts its deadline from before the renewal was sent, since the server may have stored it at once; it has to
stop `renew_s` after that, `lease_s - renew_s` before anyone else may take over. `leaseTransitions` grows with each
change of leader and is the fencing epoch. Every write must carry the resourceVersion read, so that of two candidates
only one succeeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

Verdict = Literal["take", "renew", "wait"]


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a lease runs, when its holder must have renewed, and how often it tries."""

    lease_s: int = 15
    renew_s: float = 10.0
    retry_s: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.retry_s < self.renew_s < self.lease_s:
            raise ValueError(
                f"lease: want 0 < retry_s < renew_s < lease_s, got retry_s={self.retry_s}, "
                f"renew_s={self.renew_s}, lease_s={self.lease_s}"
            )


@dataclass(frozen=True, slots=True)
class Seen:
    """A lease's spec as last read, and since when (monotonic) it was seen unchanged."""

    spec: Mapping[str, Any]
    since_s: float


def see(before: Seen | None, spec: Mapping[str, Any], now_s: float) -> Seen:
    """What is known after reading `spec`: the same record keeps the time at which it was first seen."""
    return before if before is not None and before.spec == spec else Seen(dict(spec), now_s)


def decide(seen: Seen, me: str, leading: bool, now_s: float, terms: Terms) -> Verdict:
    """What to do about the lease. One that names `me` from an earlier life is waited for or taken, never renewed."""
    holder = seen.spec.get("holderIdentity") or ""
    if holder == me and leading:
        return "renew"
    return "take" if not holder or left_s(seen, now_s, terms) < 0 else "wait"


def left_s(seen: Seen, now_s: float, terms: Terms) -> float:
    """For how long a lease that nobody renews still runs."""
    return seen.since_s + float(seen.spec.get("leaseDurationSeconds") or terms.lease_s) - now_s


def may_write(sent_s: float, now_s: float, terms: Terms) -> bool:
    """Whether a leader may still write: `sent_s` is when it sent the last renewal that succeeded."""
    return now_s < sent_s + terms.renew_s


def epoch(spec: Mapping[str, Any]) -> int:
    """The fencing epoch of a lease."""
    return int(spec.get("leaseTransitions") or 0)


def taken(spec: Mapping[str, Any], me: str, terms: Terms, wall: datetime) -> dict[str, Any]:
    """The spec that makes `me` the leader; the epoch grows even if `me` led before, as that life's writes are old."""
    at = micro_time(wall)
    return {
        "holderIdentity": me,
        "leaseDurationSeconds": terms.lease_s,
        "acquireTime": at,
        "renewTime": at,
        "leaseTransitions": epoch(spec) + 1,
    }


def renewed(spec: Mapping[str, Any], wall: datetime) -> dict[str, Any]:
    """The spec with a new renewal time."""
    return {**spec, "renewTime": micro_time(wall)}


def released(spec: Mapping[str, Any], wall: datetime) -> dict[str, Any]:
    """The spec that lets anyone take over at once; the epoch stays and grows when it is taken."""
    return {**spec, "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": micro_time(wall)}


def micro_time(wall: datetime) -> str:
    """A MicroTime, always with six digits: the API server refuses one without."""
    return wall.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
