"""The shape of kind `Plan`, as `muster plan -o` writes it and as its JSON Schema says, and its way back to a plan.

Keys are those of `planner.view`, in camelCase; figures are plain numbers in the unit that the key names.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from planner.plan import (
    Allocation,
    Change,
    ChangeKind,
    Infeasible,
    Plan,
    Recipe,
    Refusal,
    Status,
)
from planner.service import Bucket, Engine
from planner.spec.fields import Context, CountOrZero, KubernetesObject, Problem, Shape, refused
from planner.spec.plan_figures import MOST_RATIO, EfficiencyShape, Figure, PredictionShape, Ratio, prediction
from planner.units import got

_SHARE_ROW = "[SLO class, input tokens, output tokens, share from 0 to 1]"

Degree = Annotated[int, Field(ge=1, le=1_000_000)]


def _share_row(value: object) -> tuple[Bucket, float]:
    """What a row of `shares` says."""
    match value:
        case [str() as name, int() as inputs, int() as outputs, int() | float() as share] if (
            bool not in map(type, value) and min(inputs, outputs) >= 1 and 0 <= share <= MOST_RATIO
        ):
            return Bucket(name, inputs, outputs), float(share)
    what = f"a list of {len(value)}" if isinstance(value, list) and len(value) != 4 else got(value)
    raise refused([((), f"got {what}, allowed: {_SHARE_ROW}")])


ShareRow = Annotated[
    tuple[Bucket, float],
    PlainValidator(_share_row),
    WithJsonSchema(
        {
            "type": "array",
            "prefixItems": [
                {"type": "string"},
                {"type": "integer", "minimum": 1},
                {"type": "integer", "minimum": 1},
                {"type": "number", "minimum": 0, "maximum": MOST_RATIO},
            ],
            "minItems": 4,
            "maxItems": 4,
        }
    ),
]


class AllocationShape(Shape):
    """Equal replicas of one pool in one node group, and the share of each request size that they carry."""

    service: str
    """Name of the service."""
    model: str
    """Name of the model."""
    pool: str
    """What the replicas do: serve, prefill or decode."""
    node_group: str
    """Node group that they run in."""
    zone: str
    """Zone of the node group."""
    gpu: str
    """GPU type."""
    replicas: CountOrZero
    """How many replicas."""
    gpus_per_replica: Degree
    """GPUs of one replica."""
    tp: Degree
    """Tensor parallelism."""
    pp: Degree
    """Pipeline parallelism."""
    ep: Degree
    """Expert parallelism."""
    dp: Degree = 1
    """Data parallelism of the attention."""
    cp: Degree = 1
    """Context parallelism, among the GPUs of tp."""
    max_batch: Degree
    """Most sequences in flight."""
    techniques: list[str]
    """Techniques in use."""
    power_cap_w: Annotated[float, Field(gt=0)] | None = None
    """Power limit of each GPU in watts."""
    usd_per_hour: Figure
    """Dollars per hour of all replicas."""
    power_w: Figure
    """Watts of all replicas at full load."""
    predicted: PredictionShape
    """What is expected of one replica."""
    shares: list[ShareRow]
    """Rows [SLO class, input tokens, output tokens, share of these requests that the replicas carry]."""
    busy_ratio: Ratio = 1.0
    """What these shares keep busy of all that the replicas could carry at the objective."""
    engine: Engine = "vllm"
    """Engine that runs the replicas."""
    flags: dict[str, str] = Field(default={})
    """What the engine is told: flag without dashes to its value, empty for a switch."""

    def problems(self, context: Context) -> Iterator[Problem]:
        buckets = [bucket for bucket, _ in self.shares]
        if len(set(buckets)) < len(buckets):
            yield ("shares",), "got a request size a second time, allowed: every size once"

    def recipe(self) -> Recipe:
        """How one replica runs."""
        degrees = (self.tp, self.pp, self.ep)
        techniques = tuple(self.techniques)
        return Recipe(self.gpu, *degrees, self.max_batch, techniques, self.power_cap_w, self.dp, self.cp)


class RefusalShape(Shape):
    """A recipe that was not offered to the solver."""

    service: str
    """Name of the service."""
    recipe: str
    """The recipe, or a GPU type."""
    reason: str
    """Why not, in words."""


class ChangeShape(Shape):
    """A constraint set to a new value."""

    kind: ChangeKind
    """What is changed."""
    target: str
    """The node group, power domain or service that it belongs to."""
    value: float
    """The new value."""


class InfeasibleShape(Shape):
    """Why there is no plan."""

    why: str
    """The reason in words."""
    constraints: list[str]
    """Constraints that conflict."""
    relaxation: str
    """The cheapest way out in words."""
    changes: list[ChangeShape] = Field(default=[])
    """The same way out, to be made together."""


class PlanShape(Shape):
    """What runs where, at what cost, and what proves it."""

    status: Status
    """How good the plan is proved to be."""
    usd_per_hour: Figure | None
    """Dollars per hour, commitments whole."""
    bound_usd_per_hour: float | None
    """No plan costs less than this, as far as is proved."""
    gap_ratio: Figure | None
    """Distance from the bound, relative to the cost."""
    power_w: Figure | None
    """Watts of all replicas at full load. GPUs without replicas are not in it; power budgets count theirs at rest."""
    solve_s: Figure
    """Seconds that planning took."""
    allocations: list[AllocationShape]
    """What runs where."""
    refused: list[RefusalShape] = Field(default=[])
    """Recipes that were not offered to the solver."""
    infeasible: InfeasibleShape | None = None
    """Why there is no plan."""
    one_type_usd_per_hour: dict[str, Figure] = Field(default={})
    """GPU type to dollars per hour of the best fleet of it alone."""
    one_type_unknown: list[str] = Field(default=[])
    """GPU types for which time ran out before that was known."""
    idle_cold_start_s: dict[str, Figure] = Field(default={})
    """Service without replicas to the seconds that its first request waits."""
    usable_gpus: dict[str, list[str]] = Field(default={})
    """Service to the GPU types that can serve a part of it."""
    efficiency: dict[str, EfficiencyShape] = Field(default={})
    """Service to its efficiency; it follows from the allocations."""

    def problems(self, context: Context) -> Iterator[Problem]:
        seen: dict[tuple[str, str, str, str], int] = {}
        for index, row in enumerate(self.allocations):
            first = seen.setdefault((row.service, str(row.recipe()), row.pool, row.node_group), index)
            if first != index:
                what = f"the service, recipe, pool and node group of allocations[{first}] again"
                yield ("allocations", index), f"got {what}, allowed: each once"


class PlanObject(KubernetesObject):
    """The answer to a planning problem, as `muster plan -o` writes it and `--current` reads it."""

    kind: Literal["Plan"]
    """What this object is."""
    spec: PlanShape
    """The plan."""


def plan(shape: PlanObject) -> Plan:
    """The plan that a document describes."""
    spec = shape.spec
    return Plan(
        spec.status,
        spec.usd_per_hour,
        spec.bound_usd_per_hour,
        spec.gap_ratio,
        spec.power_w,
        spec.solve_s,
        allocations=tuple(_allocation(row) for row in spec.allocations),
        refused=tuple(Refusal(row.service, row.recipe, row.reason) for row in spec.refused),
        infeasible=None if spec.infeasible is None else _infeasible(spec.infeasible),
        one_type=spec.one_type_usd_per_hour,
        one_type_unknown=tuple(spec.one_type_unknown),
        idle_cold_start_s=spec.idle_cold_start_s,
        usable_gpus={name: tuple(gpus) for name, gpus in spec.usable_gpus.items()},
    )


def _allocation(shape: AllocationShape) -> Allocation:
    return Allocation(
        service=shape.service,
        model=shape.model,
        pool=shape.pool,
        node_group=shape.node_group,
        zone=shape.zone,
        recipe=shape.recipe(),
        replicas=shape.replicas,
        gpus_per_replica=shape.gpus_per_replica,
        usd_per_hour=shape.usd_per_hour,
        power_w=shape.power_w,
        predicted=prediction(shape.predicted),
        shares=dict(shape.shares),
        busy_ratio=shape.busy_ratio,
        engine=shape.engine,
        flags=shape.flags,
    )


def _infeasible(shape: InfeasibleShape) -> Infeasible:
    changes = tuple(Change(row.kind, row.target, row.value) for row in shape.changes)
    return Infeasible(shape.why, tuple(shape.constraints), shape.relaxation, changes)
