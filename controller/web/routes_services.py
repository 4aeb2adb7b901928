"""Routes of services: the objects, whether one is good, and what it would get."""

import re
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from controller import names
from controller.kube.rest import MERGE
from controller.specs import key_of
from controller.web import documented as doc
from controller.web import model
from controller.web.asked import Ask, Asked, Continue, Limit, answered, explored, once, page, readable
from controller.web.documents import JSON_TYPES, YAML_TYPES
from controller.web.explore import ANSWER_S
from controller.web.objects import (
    MANAGER,
    SERVICE,
    Done,
    Patching,
    create,
    delete,
    get,
    live,
    patch,
    replace,
    sound,
    validity,
    version,
)
from controller.web.problems import Refused, invalid, not_found, said

router = APIRouter(prefix="/services", tags=["services"])
_DNS = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
Namespace = Annotated[str, Path(pattern=_DNS, description="Namespace.", examples=["default"])]
Name = Annotated[str, Path(pattern=_DNS, description="Name.", examples=["chat"])]
InNamespace = Annotated[str, Query(pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$", description="Only these.")]
Manager = Annotated[str, Query(alias="fieldManager", min_length=1, max_length=128, description="Who applies.")]
Force = Annotated[bool, Query(description="Take over fields that another applied.")]
Dry = Annotated[bool, Query(alias="dryRun", description="Only say what it would be; nothing is stored.")]
PATCHES = ("application/merge-patch+json", "application/apply-patch+yaml", JSON_TYPES[0], YAML_TYPES[0])
_OBJECT = "GPUServiceObject"


@router.get("", responses=doc.replies(doc.page_of(_OBJECT), "A page of services."))
def list_services(ask: Asked, limit: Limit = 100, after: Continue = "", namespace: InNamespace = "") -> Response:
    """Services as objects, by namespace and name."""
    found = ask.site.known.items("gpuservices")
    if namespace:
        ask.need("list", SERVICE.plural, namespace)
        rows = [one for one in found if one["metadata"].get("namespace") == namespace]
    else:
        rows = ask.seen(SERVICE.plural, found, lambda one: str(one["metadata"].get("namespace", "")))
    return page(sorted(rows, key=key_of), key_of, limit, after)


@router.post(
    "",
    status_code=201,
    responses=doc.replies(_OBJECT, "The service as made.", 404, 409, 415, status=201, headers=doc.ETAG)
    | doc.also(200, _OBJECT, "The service as it would be made, with dryRun."),
    openapi_extra=doc.with_parameters(doc.takes("GPUService"), doc.KEY),
)
def create_service(ask: Asked, dry: Dry = False) -> Response:
    """Make a service. It is planned at once, and applied unless its spec says `approval: Manual`."""
    return once(ask, lambda: create(ask, SERVICE, dry))


@router.post(
    "/validate", responses=doc.replies("Validity", "What is wrong with it.", 415), openapi_extra=doc.takes("Anything")
)
def validate_service(ask: Asked) -> Response:
    """All that is wrong with a service, with paths and lines; nothing is stored."""
    ask.need("get", SERVICE.plural, _space(ask))
    return validity(ask, SERVICE)


@router.post(
    "/plan", responses=doc.replies("DryRun", "The plan it would get.", 415), openapi_extra=doc.takes("GPUService")
)
def plan_service(ask: Asked) -> Response:
    """The plan that a service would get now, on what the others leave; nothing is stored or applied."""
    obj = sound(ask, SERVICE, ask.body())
    ask.need("get", SERVICE.plural, obj["metadata"]["namespace"])
    sees = partial(ask.may, "list", SERVICE.plural)
    return answered(explored(lambda: ask.web.explorer.dry_run(ask.site, obj, sees, longest_s=ANSWER_S)))


@router.post(
    "/curves", responses=doc.replies("Curves", "Cost at other rates and objectives.", 415),
    openapi_extra=doc.takes("GPUService"),
)  # fmt: skip
def curves_of_service(ask: Asked) -> Response:
    """What a service would cost at other rates and with other objectives; nothing is stored or applied. Comes after 5 s
    at most, with the points that are known by then (`complete` says whether that is all)."""
    obj = sound(ask, SERVICE, ask.body())
    ask.need("get", SERVICE.plural, obj["metadata"]["namespace"])
    return answered(explored(lambda: ask.web.explorer.curves(ask.site, obj, longest_s=ANSWER_S)))


@router.get(
    "/{namespace}/{name}",
    responses=doc.replies(_OBJECT, "The service.", 304, 404, headers=doc.ETAG),
    openapi_extra=doc.with_parameters({}, doc.IF_NONE_MATCH),
)
def get_service(ask: Asked, namespace: Namespace, name: Name) -> Response:
    """One service as the cluster has it."""
    return get(ask, SERVICE, namespace, name)


@router.put(
    "/{namespace}/{name}",
    responses=doc.replies(_OBJECT, "The service as replaced.", 404, 409, 412, 415, 428, headers=doc.ETAG),
    openapi_extra=doc.with_parameters(doc.takes("GPUService"), doc.IF_MATCH),
)
def replace_service(ask: Asked, namespace: Namespace, name: Name, dry: Dry = False) -> Response:
    """Another service in its place; If-Match names the version that you read."""
    return replace(ask, SERVICE, namespace, name, dry)


@router.patch(
    "/{namespace}/{name}",
    responses=doc.replies(_OBJECT, "The service as patched.", 404, 409, 412, 415, 428, headers=doc.ETAG)
    | doc.also(201, _OBJECT, "The service as made by applying it.", doc.ETAG),
    openapi_extra=doc.with_parameters(doc.takes("GPUServicePatch", *PATCHES), doc.IF_MATCH),
)
def patch_service(
    ask: Asked, namespace: Namespace, name: Name, manager: Manager = MANAGER, force: Force = False, dry: Dry = False
) -> Response:
    """Merge a patch into a service (If-Match is needed), or apply what you want of it as Kubernetes does."""
    return patch(ask, SERVICE, namespace, name, Patching(manager, force, dry))


@router.delete(
    "/{namespace}/{name}",
    responses=doc.replies("Done", "It is deleted.", 404, 412),
    openapi_extra=doc.with_parameters({}, doc.IF_MATCH),
)
def delete_service(ask: Asked, namespace: Namespace, name: Name) -> Response:
    """Delete a service and all that was made for it."""
    return delete(ask, SERVICE, namespace, name)


@router.get("/{namespace}/{name}/view", responses=doc.replies("ServiceDetail", "All of it.", 404))
def view_service(ask: Asked, namespace: Namespace, name: Name) -> Response:
    """State and why, rates and latencies against plan and objective, replicas, routing weights, plan."""
    ask.need("get", SERVICE.plural, namespace, name)
    key = f"{namespace}/{name}"
    found = ask.view(f"service {key}", lambda site: model.service(site, key))
    if found is None:
        raise not_found("service", f"{namespace}/{name}")
    return answered(found)


@router.post(
    "/{namespace}/{name}/approve",
    responses=doc.replies("Done", "The plan may be applied.", 404, 409, 415),
    openapi_extra=doc.with_parameters(doc.takes("Approval"), doc.KEY),
)
def approve_plan(ask: Asked, namespace: Namespace, name: Name) -> Response:
    """Say yes to the plan that waits; another that takes its place waits again."""
    ask.need("patch", SERVICE.plural, namespace, name)
    return once(ask, lambda: _approved(ask, namespace, name))


def _approved(ask: Ask, namespace: str, name: str) -> Response:
    decision = ask.body().plain.get("decision")
    if not isinstance(decision, str) or not decision:
        raise invalid([said("decision", f"got {decision!r:.60}, allowed: the decision that waits")])
    old = live(ask, SERVICE, namespace, name)
    plan = model.plan(ask.site, f"{namespace}/{name}")
    waits = None if plan is None or plan.proposal is None else plan.proposal.decision
    if waits != decision:
        raise Refused(
            409, "conflict", f"decision: got {decision[:60]}, allowed: {waits or 'none, since no plan waits'}"
        )
    body = {"metadata": {"annotations": {names.APPROVED: decision}, "resourceVersion": version(old)}}
    path = ask.site.served.need(SERVICE.plural).path(namespace, name)
    ask.site.objects.request("PATCH", path, body, content_type=MERGE)
    return answered(Done(f"{namespace}/{name}: decision {decision} is approved"))


@router.get("/{namespace}/{name}/curves", responses=doc.replies("Curves", "Cost at other rates and objectives.", 404))
def curves_of_running_service(ask: Asked, namespace: Namespace, name: Name) -> Response:
    """What a service would cost at other rates and with other objectives. Comes after 5 s at most, with the points that
    are known by then (`complete` says whether that is all)."""
    ask.need("get", SERVICE.plural, namespace, name)
    obj = live(ask, SERVICE, namespace, name)
    readable(ask, obj)
    return answered(explored(lambda: ask.web.explorer.curves(ask.site, obj, longest_s=ANSWER_S)))


def _space(ask: Ask) -> str:
    """The namespace of an object that may be anything."""
    try:
        meta = ask.body().plain.get("metadata")
    except Refused:
        return "default"
    space = meta.get("namespace") if isinstance(meta, dict) else None
    return space if isinstance(space, str) and re.fullmatch(_DNS, space) else "default"
