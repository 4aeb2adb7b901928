"""The kinds as they live in a cluster: specs of the planner's own shapes, and the status that Muster writes."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from planner.spec.clusterinventory import CommitmentShape, LinkShape
from planner.spec.fields import Bandwidth, CountOrZero, DNSLabel, EnergyPrice, GPUName, Label, Power, Price, Shape
from planner.spec.gpuservice import ServiceShape
from planner.spec.plan_figures import Figure
from planner.spec.plan_shape import AllocationShape, InfeasibleShape

GROUP, VERSION = "muster.dev", "v1alpha1"


class ConditionShape(Shape):
    """One aspect of the state."""

    type: Label
    """Which aspect."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    observed_generation: CountOrZero = 0
    """Generation of the spec that this is said of."""
    last_transition_time: Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})]
    """When the status last changed."""
    reason: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]{0,127}$")]
    """Why, in one word that stays."""
    message: Annotated[str, Field(max_length=4096)]
    """Why, for people."""


class StatusShape(Shape):
    """What Muster last saw and did."""

    observed_generation: CountOrZero | None = None
    """Generation of the spec that this status is of."""
    conditions: Annotated[list[ConditionShape], Field(max_length=16)] | None = None
    """The state by aspect."""


class ServiceStatus(StatusShape):
    """What runs for a service."""

    desired_replicas: CountOrZero | None = None
    """Replicas of the plan."""
    replicas: CountOrZero | None = None
    """Replicas there are."""
    ready_replicas: CountOrZero | None = None
    """Replicas that serve."""
    selector: Annotated[str, Field(max_length=1024)] | None = None
    """Label selector of the pods, for the scale subresource."""
    gpus: CountOrZero | None = None
    """GPUs of all replicas."""
    slo: Annotated[str, Field(max_length=64)] | None = None
    """Whether the latency objectives are met, as observed."""
    plan: Annotated[str, Field(max_length=63)] | None = None
    """Decision that the objects follow; `-` before the first."""
    why: Annotated[str, Field(max_length=80)] | None = None
    """In few words what keeps the service from being as asked; `-` where nothing does."""
    power_w: Figure | None = None
    """Watts of all replicas at full load. GPUs without replicas are not in it; power budgets count theirs at rest."""
    usd_per_hour: Figure | None = None
    """Dollars per hour of all replicas."""


class PlannedShape(Shape):
    """What a plan was made for: another state of these is a reason to plan again."""

    generation: CountOrZero
    """Generation of the service's spec."""
    rate_per_second: Figure
    """Requests per second, all sizes together."""
    at: Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})]
    """When it was made."""
    since: Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})] | None = None
    """When replicas were last moved or more was planned for, where that was before."""
    cause: Annotated[str, Field(max_length=64)]
    """Law that asked for it, such as rate_step."""
    reason: Annotated[str, Field(max_length=4096)]
    """Why, for people."""
    hardware: Annotated[str, Field(max_length=64)] | None = None
    """Digest of the nodes that it could use."""
    prices: Annotated[str, Field(max_length=64)] | None = None
    """Digest of the prices that it was made with."""
    faulty: list[str] = Field(default=[], max_length=1000)
    """Nodes that were out for faults."""
    power: Annotated[str, Field(max_length=64)] | None = None
    """Digest of the budgets of power domains."""
    quota: Annotated[str, Field(max_length=64)] | None = None
    """Digest of the quotas of the namespace, and the GPUs that others left of them."""
    input_ratio: Figure | None = None
    """Mean tokens of prompts over those of the spec, where they were seen to differ."""
    output_ratio: Figure | None = None
    """The same of answers."""


class OutcomeShape(Shape):
    """An earlier or a proposed outcome of planning."""

    decision_id: Label
    """The decision."""
    planned: PlannedShape | None = None
    """What it was made for."""
    allocations: Annotated[list[AllocationShape], Field(max_length=256)]
    """What runs where."""
    usd_per_hour: Figure | None = None
    """Dollars per hour of this service."""


class PlanSpec(Shape):
    """One service's part of a decision about the fleet."""

    service: DNSLabel
    """Name of the GPUService, in the same namespace."""
    decision_id: Label
    """The decision; the plans of all services that it made share it."""
    epoch: CountOrZero = 0
    """Leadership under which the plan was written."""
    allocations: Annotated[list[AllocationShape], Field(max_length=256)]
    """What runs where."""
    infeasible: InfeasibleShape | None = None
    """Why there is no plan."""
    usd_per_hour: Figure | None = None
    """Dollars per hour of this service."""
    planned: PlannedShape | None = None
    """What the plan was made for."""
    floor_per_second: Figure | None = None
    """Requests per second that stay ready while the plan is being applied."""
    part_per_second: Figure | None = None
    """Requests per second that the allocations are for, where what is asked for does not fit as a whole."""
    proposal: OutcomeShape | None = None
    """A plan that waits for a person's approval."""
    previous: OutcomeShape | None = None
    """What ran before, to go back to."""


class GroupShape(Shape):
    """What nodes cannot say of themselves; how many there are and what GPUs they have, they do."""

    name: Label
    """Name of the group."""
    node_selector: Annotated[dict[str, str], Field(min_length=1, max_length=32)] | None = None
    """Labels of the nodes that belong to it; left out, all nodes whose product label says the gpu."""
    gpu: GPUName | None = None
    """GPU type, by catalogue name or alias; left out, as the nodes' labels say."""
    zone: Label | None = None
    """Zone; left out, as the nodes' labels say."""
    price_per_hour: Price | None = None
    """Dollars per GPU and hour, such as $2.40. Left out: the catalogue's published on-demand price."""
    owned: bool = False
    """Owned nodes cost their energy only."""
    spot: bool = False
    """Spot nodes may be taken away at any time."""
    power_domain: Label | None = None
    """The PowerDomain that feeds these nodes."""
    commitment: CommitmentShape | None = None
    """GPUs that are already paid for; the others cost pricePerHour."""
    network_bandwidth: Bandwidth | None = None
    """One node to other nodes, one direction, such as 100Gbps."""


class InventorySpec(Shape):
    """Prices, zones and networks of the cluster's nodes."""

    node_groups: Annotated[list[GroupShape], Field(min_length=1, max_length=256)]
    """Groups of nodes, by label."""
    links: list[LinkShape] = Field(default=[], max_length=256)
    """Networks between zones."""
    energy_price: EnergyPrice | None = None
    """Price of energy, such as $0.12/kWh. Left out: energy is not counted."""


class DomainSpec(Shape):
    """What the GPUs behind one breaker may draw."""

    budget: Power
    """Most that its GPUs may draw together, such as 40kW."""


class DomainStatus(StatusShape):
    """The caps in force."""

    capped_w: Figure | None = None
    """Sum of the power caps in force, in watts."""
    gpus: CountOrZero | None = None
    """GPUs in the domain."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`; with priority 1 of `-o wide` only."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind and how kubectl knows it."""

    name: str
    plural: str
    short: str
    namespaced: bool
    spec: type[Shape]
    status: type[StatusShape]
    columns: tuple[Column, ...]
    scale: dict[str, str] | None = None


def _reason(condition: str) -> Column:
    return Column("Reason", f'.status.conditions[?(@.type=="{condition}")].reason')


KINDS = (
    Kind(
        "GPUService", "gpuservices", "gsvc", True, ServiceShape, ServiceStatus,
        (
            Column("Model", ".spec.model"), Column("Desired", ".status.desiredReplicas", "integer"),
            Column("Ready", ".status.readyReplicas", "integer"),
            Column("GPUs", ".status.gpus", "integer"),
            Column("SLO", ".status.slo"),
            Column("Plan", ".status.plan"),
            _reason("Ready"), Column("Why", ".status.why"),
            Column("Power", ".status.powerW", "number", 1), Column("Cost", ".status.usdPerHour", "number", 1),
        ),
        # To scale a service is to set its floor: how many replicas run above it is the plan's to say.
        {
            "specReplicasPath": ".spec.constraints.minReplicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    ),
    Kind(
        "Plan", "plans", "gplan", True, PlanSpec, StatusShape,
        (
            Column("Service", ".spec.service"), Column("Decision", ".spec.decisionId"), _reason("Applied"),
            Column("Cost", ".spec.usdPerHour", "number", 1),
        ),
    ),
    Kind(
        "ClusterInventory", "clusterinventories", "ginv", False, InventorySpec, StatusShape, (_reason("Accepted"),)
    ),
    Kind(
        "PowerDomain", "powerdomains", "pdom", False, DomainSpec, DomainStatus,
        (
            Column("Budget", ".spec.budget"), Column("Capped", ".status.cappedW", "number"),
            Column("GPUs", ".status.gpus", "integer"), _reason("Accepted"),
        ),
    ),
)  # fmt: skip
