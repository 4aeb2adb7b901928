"""Plans as people and programs look at them: what runs where, why, at what cost, and what one changes. Pure but for
`history`, which asks the cluster for earlier versions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.kube.rest import ApiError
from controller.specs import key_of
from controller.web.binding import Binding, binding
from controller.web.site import Site
from controller.when import seconds
from planner.plan import ClassLatency, Recipe

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AllocationRow:
    """Equal replicas of one pool in one node group. Latencies are the worst of all request sizes, as predicted;
    `by_class` tells classes apart."""

    recipe: str
    gpu: str
    pool: str
    node_group: str
    zone: str
    replicas: int
    gpus_per_replica: int
    gpus: int
    usd_per_hour: float
    power_w: float
    power_cap_w: float | None
    busy_ratio: float
    techniques: tuple[str, ...]
    engine: str
    max_batch: int
    ttft_s: float | None
    tpot_s: float | None
    e2e_s: float | None
    source: str  # measured, modelled or extrapolated
    by_class: tuple[ClassLatency, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """One outcome of planning: what it was made for, and what it has run. `at_s` 0: not said."""

    decision: str
    at_s: float
    cause: str
    reason: str
    rate_per_s: float | None
    generation: int
    usd_per_hour: float
    power_w: float
    replicas: int
    gpus: int
    allocations: tuple[AllocationRow, ...]


@dataclass(frozen=True, slots=True)
class ChangeOfLimit:
    """A limit set to a new value: one step of the way out of an infeasible problem."""

    kind: str
    target: str
    value: float


@dataclass(frozen=True, slots=True)
class NoPlan:
    """Why there is no plan for what is asked; what ran goes on meanwhile."""

    why: str
    constraints: tuple[str, ...]
    relaxation: str
    changes: tuple[ChangeOfLimit, ...]


@dataclass(frozen=True, slots=True)
class PlanView:
    """A service's plan. `current` is in force; `proposal` waits for a person; `previous` ran before.

    `binding`: limits that the plan stands at, as far as the plan and the cluster show them without planning again.
    """

    key: str
    namespace: str
    name: str
    version: str
    current: Outcome
    infeasible: NoPlan | None
    proposal: Outcome | None
    previous: Outcome | None
    floor_per_s: float | None
    binding: tuple[Binding, ...]


@dataclass(frozen=True, slots=True)
class MoveRow:
    """Replicas of one recipe, pool and node group before and after."""

    recipe: str
    pool: str
    node_group: str
    gpus_per_replica: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class PlanDiff:
    """What one outcome changes of another. Amounts are after less before; `moves` are changed counts alone."""

    key: str
    before: Outcome
    after: Outcome
    moves: tuple[MoveRow, ...]
    usd_per_hour: float
    power_w: float
    gpus: int
    rate_per_s: float | None


@dataclass(frozen=True, slots=True)
class History:
    """Outcomes of a service's plan, the newest first.

    `complete`: whether all that the cluster keeps is here; a Kubernetes cluster keeps one earlier outcome alone.
    """

    key: str
    complete: bool
    outcomes: tuple[Outcome, ...]


def plans(site: Site) -> list[PlanView]:
    """All plans, by namespace and name."""
    return [plan_view(site, one) for one in sorted(site.known.items("plans"), key=key_of)]


def plan(site: Site, key: str) -> PlanView | None:
    """A service's plan; None where it has none."""
    found = site.known.plan(key)
    return None if found is None else plan_view(site, found)


def plan_view(site: Site, obj: Object) -> PlanView:
    """The view of a Plan object."""
    meta, spec = obj["metadata"], obj["spec"]
    floor = spec.get("floorPerSecond")
    return PlanView(
        key=key_of(obj),
        namespace=meta.get("namespace", "default"),
        name=meta["name"],
        version=meta.get("resourceVersion", ""),
        current=outcome(_in_force(spec)),
        infeasible=no_plan(spec.get("infeasible")),
        proposal=outcome(spec["proposal"]) if spec.get("proposal") else None,
        previous=outcome(spec["previous"]) if spec.get("previous") else None,
        floor_per_s=None if floor is None else float(floor),
        binding=binding(site.known, obj),
    )


def _in_force(spec: Object) -> Object:
    return {key: spec[key] for key in ("decisionId", "planned", "allocations", "usdPerHour") if key in spec}


def outcome(spec: Object) -> Outcome:
    """An outcome as a Plan object has it."""
    rows = tuple(allocation(row) for row in spec.get("allocations") or ())
    asked = spec.get("planned") or {}
    rate, cost = asked.get("ratePerSecond"), spec.get("usdPerHour")
    return Outcome(
        decision=str(spec.get("decisionId", "")),
        at_s=seconds(asked["at"]) if asked.get("at") else 0.0,
        cause=str(asked.get("cause", "")),
        reason=str(asked.get("reason", "")),
        rate_per_s=None if rate is None else float(rate),
        generation=int(asked.get("generation", 0)),
        usd_per_hour=sum(row.usd_per_hour for row in rows) if cost is None else float(cost),
        power_w=sum(row.power_w for row in rows),
        replicas=sum(row.replicas for row in rows),
        gpus=sum(row.gpus for row in rows),
        allocations=rows,
    )


def recipe_of(row: Object) -> Recipe:
    """How one replica of an allocation runs."""
    degrees = (int(row.get("tp", 1)), int(row.get("pp", 1)), int(row.get("ep", 1)))
    techniques, cap = tuple(row.get("techniques") or ()), row.get("powerCapW")
    return Recipe(
        row["gpu"], *degrees, int(row.get("maxBatch", 1)), techniques, None if cap is None else float(cap),
        int(row.get("dp", 1)), int(row.get("cp", 1)),
    )  # fmt: skip


def allocation(row: Object) -> AllocationRow:
    """An allocation as a Plan object has it."""
    said = row.get("predicted") or {}
    recipe, per = recipe_of(row), int(row.get("gpusPerReplica", 1))
    return AllocationRow(
        recipe=str(recipe),
        gpu=recipe.gpu,
        pool=row.get("pool", "serve"),
        node_group=row.get("nodeGroup", ""),
        zone=row.get("zone", ""),
        replicas=int(row.get("replicas", 0)),
        gpus_per_replica=per,
        gpus=per * int(row.get("replicas", 0)),
        usd_per_hour=float(row.get("usdPerHour") or 0.0),
        power_w=float(row.get("powerW") or 0.0),
        power_cap_w=recipe.power_cap_w,
        busy_ratio=float(row.get("busyRatio", 1.0)),
        techniques=recipe.techniques,
        engine=row.get("engine", ""),
        max_batch=recipe.max_batch,
        ttft_s=said.get("ttftS"),
        tpot_s=said.get("tpotS"),
        e2e_s=said.get("e2eS"),
        source=said.get("source", ""),
        by_class=tuple(
            ClassLatency(one["sloClass"], one["ttftS"], one["tpotS"], one["e2eS"]) for one in said.get("byClass") or ()
        ),
    )


def no_plan(found: Object | None) -> NoPlan | None:
    """Why there is no plan, as a Plan object has it."""
    if not found:
        return None
    changes = (ChangeOfLimit(row["kind"], row["target"], float(row["value"])) for row in found.get("changes") or ())
    return NoPlan(
        found.get("why", ""), tuple(found.get("constraints") or ()), found.get("relaxation", ""), tuple(changes)
    )


def history(site: Site, key: str) -> History | None:
    """Every outcome that the cluster keeps of a service's plan; None where there is no plan. Raises ApiError."""
    space, _, name = key.partition("/")
    path = site.served.need("plans").path(space, name)
    try:
        found = site.objects.request("GET", path, query={"history": "true"} if site.embedded else None)
    except ApiError as error:
        if error.status == 404:
            return None
        raise
    versions = found["items"] if site.embedded else [found]
    specs: list[Object] = []
    for one in versions:
        specs.append(_in_force(one["spec"]))
        if one["spec"].get("previous"):
            specs.append(one["spec"]["previous"])
    return History(key, site.embedded, tuple(_once(outcome(spec) for spec in specs)))


def _once(found: Iterable[Outcome]) -> list[Outcome]:
    """Each outcome once, the newest first: a Plan is written more often than it is decided."""
    seen: dict[tuple[str, float], Outcome] = {}
    for one in found:
        seen.setdefault((one.decision, one.at_s), one)
    return sorted(seen.values(), key=lambda one: -one.at_s)


def diff(key: str, before: Outcome, after: Outcome) -> PlanDiff:
    """What `after` changes of `before`."""
    rates = before.rate_per_s, after.rate_per_s
    return PlanDiff(
        key=key,
        before=before,
        after=after,
        moves=tuple(moves(before.allocations, after.allocations)),
        usd_per_hour=after.usd_per_hour - before.usd_per_hour,
        power_w=after.power_w - before.power_w,
        gpus=after.gpus - before.gpus,
        rate_per_s=None if rates[0] is None or rates[1] is None else rates[1] - rates[0],
    )


def moves(before: Sequence[AllocationRow], after: Sequence[AllocationRow]) -> list[MoveRow]:
    """Every change of a count: first what there is after, in its order, then what is no more."""
    was, now = _counts(before), _counts(after)
    gpus = {_place(row): row.gpus_per_replica for row in (*before, *after)}
    every = dict.fromkeys((*now, *was))
    found = (MoveRow(*place, gpus[place], was.get(place, 0), now.get(place, 0)) for place in every)
    return [move for move in found if move.before != move.after]


def _place(row: AllocationRow) -> tuple[str, str, str]:
    return row.recipe, row.pool, row.node_group


def _counts(rows: Sequence[AllocationRow]) -> dict[tuple[str, str, str], int]:
    counts: dict[tuple[str, str, str], int] = {}
    for row in rows:
        counts[_place(row)] = counts.get(_place(row), 0) + row.replicas
    return counts
