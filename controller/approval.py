"""A plan that waits for a person: what it would change, and saying yes to that very one."""

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
        raise BadInput(f"{namespace}/{service}: no plan waits for approval")
    changes = moves(allocations(spec.get("allocations") or ()), allocations(found["allocations"]))
    lines = [
        f"  {move.recipe} in {move.node_group} ({move.pool}): {move.before} -> {move.after} replicas"
        for move in changes
    ]
    cost = f"${found.get('usdPerHour') or 0.0:.2f}/h, now ${spec.get('usdPerHour') or 0.0:.2f}/h"
    why = (found.get("planned") or {}).get("reason", "")
    head = f"{namespace}/{service}: decision {found['decisionId']}: {why}; {cost}"
    return Waiting(found["decisionId"], (head, *(lines or ["  no replica starts or stops"])))


def approved(api: Api, namespace: str, service: str, decision: str) -> None:
    """Say yes to a decision; another one that takes its place waits again."""
    patch = {"metadata": {"annotations": {names.APPROVED: decision}}}
    api.request("PATCH", f"{_BASE}/{namespace}/gpuservices/{service}", patch, content_type=MERGE)
