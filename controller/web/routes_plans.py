"""Routes of plans: what is in force and why, what was, how two differ, and what each limit costs."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from controller.web import documented as doc
from controller.web import model
from controller.web.asked import Ask, Asked, Continue, Limit, answered, explored, page, readable
from controller.web.explore import ANSWER_S
from controller.web.model_plans import Outcome
from controller.web.objects import SERVICE, live
from controller.web.problems import Refused, not_found
from controller.web.routes_services import InNamespace, Name, Namespace

router = APIRouter(prefix="/plans", tags=["plans"])
_PLANS = "plans"
Decision = Annotated[str, Query(max_length=63, description="A decision of the history, `current` or `previous`.")]


@router.get("", responses=doc.replies(doc.page_of("PlanView"), "A page of plans."))
def list_plans(ask: Asked, limit: Limit = 100, after: Continue = "", namespace: InNamespace = "") -> Response:
    """Plans in force, by namespace and name."""
    found = ask.view("plans", model.plans)
    if namespace:
        ask.need("list", _PLANS, namespace)
        rows = [one for one in found if one.namespace == namespace]
    else:
        rows = ask.seen(_PLANS, found, lambda one: one.namespace)
    return page(rows, lambda one: one.key, limit, after)


@router.get("/{namespace}/{name}", responses=doc.replies("PlanView", "The plan.", 404))
def get_plan(ask: Asked, namespace: Namespace, name: Name) -> Response:
    """The plan of a service: allocations, cost, power, cause and reason, limits that bind, a proposal that waits."""
    ask.need("get", _PLANS, namespace, name)
    key = f"{namespace}/{name}"
    found = ask.view(f"plan {key}", lambda site: model.plan(site, key))
    if found is None:
        raise not_found("plan", f"{namespace}/{name}")
    return answered(found)


@router.get("/{namespace}/{name}/history", responses=doc.replies("PlanHistory", "Earlier outcomes too.", 404))
def history_of_plan(ask: Asked, namespace: Namespace, name: Name) -> Response:
    """Every outcome that the cluster keeps, the newest first; a Kubernetes cluster keeps one earlier alone."""
    return answered(_history(ask, namespace, name))


@router.get("/{namespace}/{name}/diff", responses=doc.replies("PlanDiff", "What changed.", 404))
def diff_of_plans(
    ask: Asked, namespace: Namespace, name: Name, before: Decision = "previous", after: Decision = "current"
) -> Response:
    """What one outcome changes of another: replicas, cost, power."""
    found = _history(ask, namespace, name)
    old, new = _chosen(found, before), _chosen(found, after)
    return answered(model.diff(found.key, old, new))


@router.get("/{namespace}/{name}/explain", responses=doc.replies("Explained", "What each limit costs.", 404))
def explain_plan(ask: Asked, namespace: Namespace, name: Name) -> Response:
    """What one more GPU, looser objectives or more power would save; worked out now. Comes after 5 s at most, with what
    is known by then (`complete` says whether that is all)."""
    ask.need("get", SERVICE.plural, namespace, name)
    obj = live(ask, SERVICE, namespace, name)
    readable(ask, obj)
    return answered(explored(lambda: ask.web.explorer.explain(ask.site, obj, longest_s=ANSWER_S)))


def _history(ask: Ask, namespace: str, name: str) -> model.History:
    ask.need("get", _PLANS, namespace, name)
    found = model.history(ask.site, f"{namespace}/{name}")
    if found is None:
        raise not_found("plan", f"{namespace}/{name}")
    return found


def _chosen(found: model.History, decision: str) -> Outcome:
    """An outcome of the history. Raises Refused."""
    place = {"current": 0, "previous": 1}.get(decision)
    rows = [one for one in found.outcomes if one.decision == decision] if place is None else found.outcomes[place:]
    if not rows:
        known = ", ".join(dict.fromkeys(one.decision for one in found.outcomes[:10]))
        raise Refused(404, "not-found", f"decision: got {decision!r}, allowed: one of {known}, current, previous")
    return rows[0]
