"""Caps that end by themselves: what each GPU is held to, until when, and what it falls to then. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

LONGEST_LEASE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Lease:
    """A limit of `watts` until `until_s`, on the clock that does not jump (seconds since boot)."""

    watts: float
    until_s: float


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may be set: the driver's range, and `safe_w`, which a GPU falls to when its lease ends."""

    min_w: float
    max_w: float
    safe_w: float

    def clamped(self, watts: float) -> float:
        """The nearest limit that may be set."""
        return min(max(watts, self.min_w), self.max_w)


@dataclass(frozen=True, slots=True)
class Caps:
    """Leases by GPU, and GPUs that were under one and are now at their safe limit."""

    leases: Mapping[str, Lease] = field(default_factory=dict)
    fallen: frozenset[str] = frozenset()

    def granted(self, uuid: str, watts: float, lease_s: float, now_s: float) -> "Caps":
        """With one more lease; it takes the place of the GPU's last."""
        until_s = now_s + min(lease_s, LONGEST_LEASE_S)
        return replace(self, leases={**self.leases, uuid: Lease(watts, until_s)}, fallen=self.fallen - {uuid})

    def ended(self, now_s: float) -> tuple[str, ...]:
        """GPUs whose lease is over."""
        return tuple(uuid for uuid, lease in self.leases.items() if now_s >= lease.until_s)

    def fell(self, uuid: str) -> "Caps":
        """After a lease ended: the safe limit is in force until somebody grants another."""
        left = {other: lease for other, lease in self.leases.items() if other != uuid}
        return replace(self, leases=left, fallen=self.fallen | {uuid})

    def freed(self, uuid: str) -> "Caps":
        """Without any limit of ours."""
        left = {other: lease for other, lease in self.leases.items() if other != uuid}
        return replace(self, leases=left, fallen=self.fallen - {uuid})

    def next_end_s(self) -> float:
        """When the next lease ends; infinite without one."""
        return min((lease.until_s for lease in self.leases.values()), default=math.inf)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A rate limit: at most `size` at once, `per_s` in the long run."""

    size: float = 10.0
    per_s: float = 1.0
    left: float = 10.0
    at_s: float = -math.inf

    def taken(self, now_s: float) -> "Bucket | None":
        """After one more; None where that is one too many."""
        filled = self.size if math.isinf(self.at_s) else min(self.size, self.left + (now_s - self.at_s) * self.per_s)
        return replace(self, left=filled - 1.0, at_s=now_s) if filled >= 1.0 else None
