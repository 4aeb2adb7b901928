"""Plans as objects of a cluster: one for each service, written from a decision and read back to the last bit. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from controller import names
from controller.decision import CONTEXT
from controller.specs import key_of
from controller.trigger import Planned
from controller.when import seconds, text
from planner.errors import BadInput
from planner.plan import Allocation, Plan, uncapped
from planner.service import Bucket
from planner.spec.load import parse
from planner.spec.plan_file import plan_document
from planner.yaml_text import show_path

Object = Mapping[str, Any]
_SIZES = ("inputRatio", "outputRatio")
_SHARE = ("sloClass", "inputTokens", "outputTokens", "share")
_EMPTY = {
    "status": "feasible", "usdPerHour": None, "boundUsdPerHour": None, "gapRatio": None, "powerW": None, "solveS": 0.0,
}  # fmt: skip


def read(document: Object) -> Plan:
    """The plan of an object of kind Plan as planning writes it; raises BadInput."""
    found, problems = parse(dict(document), CONTEXT)
    if problems or not isinstance(found, Plan):
        raise BadInput("; ".join(f"plan: {show_path(path)}: {said}" for path, said in problems))
    return found


def by_service(plan: Plan, group_of: Mapping[str, str]) -> dict[str, tuple[Allocation, ...]]:
    """Each service's allocations in the groups of the cluster: parts of one group are put together again."""
    found: dict[str, dict[tuple[str, str, str], Allocation]] = {}
    for one in plan.allocations:
        group = group_of.get(one.node_group, one.node_group)
        mine = found.setdefault(one.service, {})
        key = (str(one.recipe), one.pool, group)
        mine[key] = _joined(mine.get(key), replace(one, node_group=group))
    return {name: tuple(rows.values()) for name, rows in found.items()}


def _joined(a: Allocation | None, b: Allocation) -> Allocation:
    if a is None:
        return b
    count = a.replicas + b.replicas
    shares = {bucket: a.shares.get(bucket, 0.0) + b.shares.get(bucket, 0.0) for bucket in {**a.shares, **b.shares}}
    return replace(
        a if a.replicas >= b.replicas else b,
        replicas=count,
        usd_per_hour=a.usd_per_hour + b.usd_per_hour,
        power_w=a.power_w + b.power_w,
        shares=shares,
        busy_ratio=(a.replicas * a.busy_ratio + b.replicas * b.busy_ratio) / count if count else 0.0,
    )


def merged(allocations: Sequence[Allocation]) -> tuple[Allocation, ...]:
    """Allocations without their caps; those that then are of one kind are one."""
    found: dict[tuple[str, str, str], Allocation] = {}
    for one in allocations:
        recipe = uncapped(one.recipe)
        key = (str(recipe), one.pool, one.node_group)
        found[key] = _joined(found.get(key), one if recipe is one.recipe else replace(one, recipe=recipe))
    return tuple(found.values())


def rows(allocations: Sequence[Allocation]) -> list[Object]:
    """Allocations as a Plan object has them; a row of shares is a mapping there."""
    plan = Plan("feasible", None, None, None, None, 0.0, tuple(allocations))
    made: Any = plan_document(plan, "plan")["spec"]
    return [
        {**_said(row), "shares": [dict(zip(_SHARE, share, strict=True)) for share in row["shares"]]}
        for row in made["allocations"]
    ]


def _said(value: Any) -> Any:
    """Without what is None: a server takes no null where a schema says number."""
    if isinstance(value, Mapping):
        return {key: _said(one) for key, one in value.items() if one is not None}
    return value


def allocations(found: Sequence[Object]) -> tuple[Allocation, ...]:
    """The allocations behind `rows`; raises BadInput."""
    plain = [{**row, "shares": [[share[key] for key in _SHARE] for share in row["shares"]]} for row in found]
    head = {"apiVersion": names.API_VERSION, "kind": "Plan", "metadata": {"name": "plan"}}
    return read({**head, "spec": {**_EMPTY, "allocations": plain}}).allocations


def plan_object(service: Object, spec: Object) -> Object:
    """The Plan of a service: owned by it, so that it goes with it."""
    meta = service["metadata"]
    return {
        "apiVersion": names.API_VERSION,
        "kind": "Plan",
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "labels": names.labels(meta["name"]),
            "ownerReferences": [owner(service)],
        },
        "spec": {"service": meta["name"], **spec},
    }


def owner(service: Object) -> Object:
    """The reference that makes a service the owner of an object."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "GPUService",
        "name": service["metadata"]["name"],
        "uid": service["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def planned_row(planned: Planned, cause: str, reason: str) -> Object:
    """What a plan was made for, as the object has it."""
    return {
        "generation": planned.generation,
        "ratePerSecond": planned.rate_per_s,
        "at": text(planned.at_s),
        "cause": cause,
        "reason": reason[:4096],
        "hardware": planned.hardware,
        "prices": planned.prices,
        "faulty": sorted(planned.faulty),
        **({"power": planned.power} if planned.power else {}),
        **({"quota": planned.quota} if planned.quota else {}),
        **({} if planned.since_s is None else {"since": text(planned.since_s)}),
        **({} if planned.sizes == (1.0, 1.0) else dict(zip(_SIZES, planned.sizes, strict=True))),
    }


def planned(plan: Object) -> Planned | None:
    """What a Plan object was made for; of a proposal where one waits, since it answers the latest question."""
    spec = plan["spec"]
    row = (spec.get("proposal") or {}).get("planned") or spec.get("planned")
    if row is None:
        return None
    return Planned(
        rate_per_s=float(row["ratePerSecond"]),
        at_s=seconds(row["at"]),
        generation=row["generation"],
        hardware=row.get("hardware", ""),
        prices=row.get("prices", ""),
        faulty=frozenset(row.get("faulty") or ()),
        power=row.get("power", ""),
        quota=row.get("quota", ""),
        sizes=(float(row.get("inputRatio", 1.0)), float(row.get("outputRatio", 1.0))),
        since_s=seconds(row["since"]) if "since" in row else None,
    )


def counts(rows: Iterable[Allocation]) -> Counter[tuple[str, str, str]]:
    """Replicas by node group, recipe without its cap, and pool."""
    found: Counter[tuple[str, str, str]] = Counter()
    for one in rows:
        found[one.node_group, str(uncapped(one.recipe)), one.pool] += one.replicas
    return found


def rate_of(shares: Mapping[Bucket, float], rates_per_s: Mapping[Bucket, float]) -> float:
    """Requests/s that shares of a workload's buckets are."""
    return sum(rates_per_s.get(bucket, 0.0) * share for bucket, share in shares.items())


def carried_for(spec: Object) -> float:
    """Requests/s that the allocations of a Plan's spec are for: all that was asked for, or the part that fits."""
    return float(spec.get("partPerSecond") or (spec.get("planned") or {}).get("ratePerSecond") or 0.0)


def service_key(plan: Object) -> str:
    """The service that a Plan object is of."""
    return key_of(plan)
