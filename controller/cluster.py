"""What a cluster is to the controller: what runs now, and the actions that change it.

The Kubernetes adapter and the embedded cluster implement `Cluster`; everything that decides is pure and sees `Live`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from planner.service import Bucket


@dataclass(frozen=True, slots=True)
class Kind:
    """Equal replicas of one pool of a recipe of a service in a node group; one child object of the service.

    `name` is unique in the cluster and changes with anything that would restart the replicas (image, flags, recipe),
    so that a change of those is a new kind beside the old one, never a restart in place.
    `per_s`: requests/s of the service's planned mix that one ready replica carries at the objective.
    `shares`: what one replica carries of each bucket, 0 to 1.
    """

    name: str
    service: str
    recipe: str
    pool: str
    node_group: str
    gpus: int
    per_s: float
    shares: Mapping[Bucket, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Running:
    """A kind as the cluster has it: how many replicas it was told to run, have a place, and serve.

    `leaving`: replicas told to stop that still hold their GPUs. `stalled`: replicas past their deadline to serve; they
    no longer count as starting, or one image that cannot be pulled would stop the whole fleet from moving.
    `stranded`: replicas that serve on nodes that are out or lost, and are to have others beside them before they go.
    `lost`: those that serve no more on nodes that are lost; they are there still, and counted nowhere else.
    """

    kind: Kind
    replicas: int
    bound: int = 0
    ready: int = 0
    leaving: int = 0
    stalled: int = 0
    stranded: int = 0
    lost: int = 0

    @property
    def moving(self) -> int:
        """Replicas between two states: starting or stopping."""
        return max(self.replicas - self.ready - self.stalled, 0) + self.leaving


@dataclass(frozen=True, slots=True)
class Node:
    """A node that may take replicas: its GPUs without faulty ones, and those held by replicas bound to it."""

    name: str
    group: str
    gpus: int
    held: int = 0
    open: bool = True

    @property
    def free(self) -> int:
        """GPUs that a new replica could have."""
        return max(self.gpus - self.held, 0) if self.open else 0


HoldReason = Literal["RivalAutoscaler", "NoSpareCapacity", "FleetBudgetSpent"]


@dataclass(frozen=True, slots=True)
class Hold:
    """Why what is decided for a service is not done now: a reason of the condition RebalanceHeld, and words."""

    reason: HoldReason
    text: str

    def __str__(self) -> str:
        return self.text


Weights = Mapping[Bucket, Mapping[str, float]]
"""For each bucket, the share of its requests for each kind by name; shares of a bucket sum to 1."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """GPUs that the services of a namespace may hold between them by one of its quotas, all but the `exempt`."""

    name: str  # with a slash, which no node group has
    namespace: str
    gpus: int
    exempt: frozenset[str] = frozenset()

    def on(self, service: str) -> bool:
        """Whether it binds a service."""
        return service.partition("/")[0] == self.namespace and service not in self.exempt


@dataclass(frozen=True, slots=True)
class Live:
    """The cluster at one moment."""

    running: tuple[Running, ...] = ()
    nodes: tuple[Node, ...] = ()
    weights: Mapping[str, Weights] = field(default_factory=dict)  # by service
    allowances: tuple[Allowance, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """How many replicas of a kind there are to be."""

    kind: Kind
    replicas: int


@dataclass(frozen=True, slots=True)
class Disruption:
    """What a service bears while it is rebalanced. A higher `priority` starts first."""

    max_unavailable: int = 0
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Desired:
    """One decision for the fleet.

    `floor_per_s`: for each service the capacity that must stay ready: the lesser of what its last plan was to carry
    and what was ready when this decision was made. It is stored with the decision, so that it does not sink with each
    round that looks at it. `most_moving`: replicas of the fleet that may start or stop at once.
    """

    decision: str
    targets: tuple[Target, ...]
    floor_per_s: Mapping[str, float] = field(default_factory=dict)
    disruption: Mapping[str, Disruption] = field(default_factory=dict)
    most_moving: int = 8


@dataclass(frozen=True, slots=True)
class Scale:
    """Have so many replicas of a kind; 0 removes it."""

    kind: Kind
    replicas: int
    why: str


@dataclass(frozen=True, slots=True)
class Route:
    """Give a service's router these weights."""

    service: str
    weights: Weights


Action = Scale | Route


class Cluster(Protocol):
    """Where actions are done. `act` may be repeated: doing an action twice is doing it once."""

    def observe(self) -> Live:
        """What runs now."""

    def act(self, actions: Sequence[Action]) -> None:
        """Do them in their order."""
