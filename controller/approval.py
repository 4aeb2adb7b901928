"""A plan that waits for a person: what it would change, and saying yes to that very one."""

from collections.abc import Iterable
from dataclasses import dataclass

from controller import names
from controller.kube.rest import MERGE, Api, ApiError
from controller.plans import allocations
from planner.errors import BadInput
from planner.moves import moves

_BASE = f"/apis/{names.API_VERSION}/namespaces"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A decision and what it would change, a line each."""

    decision: str
    words: tuple[str, ...]


def waiting(api: Api, namespace: str, service: str) -> Waiting:
    """What waits for approval; raises BadInput where nothing does."""
    try:
        spec = api.request("GET", f"{_BASE}/{namespace}/plans/{service}")["spec"]
    except ApiError as error:
        if error.status != 404:
            raise
        raise BadInput(f"{namespace}/{service}: got no plan, allowed: a GPUService that Muster has planned") from None
    found = spec.get("proposal")
    if found is None:
        raise nothing_waits(f"{namespace}/{service}")
    changes = moves(allocations(spec.get("allocations") or ()), allocations(found["allocations"]))
    return told(
        f"{namespace}/{service}",
        found["decisionId"],
        (found.get("planned") or {}).get("reason", ""),
        (spec.get("usdPerHour") or 0.0, found.get("usdPerHour") or 0.0),
        [(str(move.recipe), move.node_group, move.pool, move.before, move.after) for move in changes],
    )


def told(
    key: str,
    decision: str,
    why: str,
    usd_per_hour: tuple[float, float],
    changes: Iterable[tuple[str, str, str, int, int]],
) -> Waiting:
    """What waits, in words. `usd_per_hour`: now, and with it; `changes`: recipe, group, pool, and replicas of both."""
    lines = [
        f"  {recipe} in {group} ({pool}): {before} -> {after} replicas"
        for recipe, group, pool, before, after in changes
    ]
    head = f"{key}: decision {decision}: {why}; ${usd_per_hour[1]:.2f}/h, now ${usd_per_hour[0]:.2f}/h"
    return Waiting(decision, (head, *(lines or ["  no replica starts or stops"])))


def nothing_waits(key: str) -> BadInput:
    """What to raise where no plan waits."""
    return BadInput(f"{key}: no plan waits for approval")


def approved(api: Api, namespace: str, service: str, decision: str) -> None:
    """Say yes to a decision; another one that takes its place waits again."""
    patch = {"metadata": {"annotations": {names.APPROVED: decision}}}
    api.request("PATCH", f"{_BASE}/{namespace}/gpuservices/{service}", patch, content_type=MERGE)
