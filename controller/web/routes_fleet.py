"""Routes of the fleet: nodes, GPUs, inventories, power domains, and all of it at a glance."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from controller.web import documented as doc
from controller.web import model
from controller.web.asked import Ask, Asked, Continue, Limit, answered, expected, page
from controller.web.documents import Body
from controller.web.objects import DOMAIN, live, replaced, shown, sound, version
from controller.web.problems import invalid, not_found, said
from planner.units import POWER

router = APIRouter(tags=["fleet"])
_NODE = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
NodeName = Annotated[str, Path(pattern=_NODE, description="Name of a node.", examples=["big-0"])]
DomainName = Annotated[str, Path(pattern=_NODE, description="Name of a power domain.", examples=["rack-1"])]
Group = Annotated[str, Query(max_length=63, description="Only those of a node group.")]


@router.get("/overview", responses=doc.replies("Overview", "The fleet now."))
def get_overview(ask: Asked) -> Response:
    """Cost, power against budget, objectives met, GPUs in use, what changed last and why."""
    _fleet(ask)
    ask.need("list", "gpuservices")
    return answered(ask.view("overview", lambda site: model.overview(site, _nodes(ask))))


@router.get("/nodes", responses=doc.replies(doc.page_of("NodeRow"), "A page of nodes."))
def list_nodes(ask: Asked, limit: Limit = 100, after: Continue = "", group: Group = "") -> Response:
    """Nodes that have GPUs, by name, with their GPUs, faults and placements."""
    _fleet(ask)
    rows = sorted((row for row in _nodes(ask) if group in ("", row.group)), key=lambda row: row.name)
    return page(rows, lambda row: row.name, limit, after)


@router.get("/nodes/{node}", responses=doc.replies("NodeRow", "The node.", 404))
def get_node(ask: Asked, node: NodeName) -> Response:
    """One node with its GPUs, faults and placements."""
    _fleet(ask)
    found = model.node(ask.site, node)
    if found is None:
        raise not_found("node", node)
    return answered(found)


@router.get("/gpus", responses=doc.replies(doc.page_of("GpuTile"), "A page of GPUs."))
def list_gpus(ask: Asked, limit: Limit = 100, after: Continue = "", group: Group = "") -> Response:
    """GPUs with load, temperature, power and health, by node and index."""
    _fleet(ask)
    rows = [tile for tile in model.tiles(_nodes(ask)) if group in ("", tile.group)]
    return page(sorted(rows, key=_place), _place, limit, after)


def _place(tile: model.GpuTile) -> str:
    return f"{tile.node}/{tile.index:05d}"


@router.get("/powerdomains", responses=doc.replies(doc.page_of("DomainRow"), "A page of power domains."))
def list_domains(ask: Asked, limit: Limit = 100, after: Continue = "") -> Response:
    """Power domains with budget, what is drawn, what may be, and the caps by priority."""
    ask.need("list", DOMAIN.plural)
    return page(ask.view("domains", lambda site: model.domains(site, _nodes(ask))), lambda row: row.name, limit, after)


@router.get("/powerdomains/{name}/view", responses=doc.replies("DomainRow", "The power domain.", 404))
def view_domain(ask: Asked, name: DomainName) -> Response:
    """One power domain as it is."""
    ask.need("get", DOMAIN.plural, name=name)
    found = model.domain(ask.site, name)
    if found is None:
        raise not_found("power domain", name)
    return answered(found)


@router.put(
    "/powerdomains/{name}/budget",
    responses=doc.replies("PowerDomainObject", "The power domain.", 404, 409, 412, 415, 428, headers=doc.ETAG),
    openapi_extra=doc.with_parameters(doc.takes("Budget"), doc.IF_MATCH),
)
def set_budget(ask: Asked, name: DomainName) -> Response:
    """Another budget: caps go down at once where it is lower, and services that no longer fit are planned anew."""
    ask.need("update", DOMAIN.plural, name=name)
    sent = ask.body()
    if strange := [key for key in sent.plain if key != "budget"]:
        raise invalid([said(str(strange[0]), "got a value, allowed: budget")])
    if not isinstance(sent.plain.get("budget"), str):
        words = f"got {sent.plain.get('budget')!r:.60}, allowed: {POWER.allowed}"
        raise invalid([said("budget", words)])
    old = live(ask, DOMAIN, "", name)
    expected(ask, version(old))
    made = {**old, "spec": {**old["spec"], "budget": sent.plain.get("budget")}}
    return shown(replaced(ask, DOMAIN, old, sound(ask, DOMAIN, Body(made), "", name)))


def _nodes(ask: Ask) -> list[model.NodeRow]:
    return ask.view("nodes", model.nodes)


def _fleet(ask: Ask) -> None:
    """Nodes are of the cluster: who sees them sees whose replicas they run."""
    ask.need("list", "nodes", group="")
