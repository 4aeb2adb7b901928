"""YAML files to services, inventories and plans: every problem of a file is found, and named with its line."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from pydantic import ValidationError

from planner.catalog import gpu, model
from planner.errors import BadInput, UnknownName
from planner.hardware import Inventory
from planner.plan import Plan
from planner.service import ServiceSpec
from planner.spec.clusterinventory import ClusterInventory
from planner.spec.convert import NotConverted, inventory, service
from planner.spec.fields import Catalog, Context, Problem
from planner.spec.gpuservice import GPUService
from planner.spec.plan_shape import PlanObject, plan
from planner.spec.report import problems_of
from planner.techniques import techniques
from planner.units import got
from planner.yaml_text import Document, Plain, read

CATALOG = Catalog(gpu, model, techniques)
SHOWN_PROBLEMS = 20
KINDS: Mapping[str, type[GPUService] | type[ClusterInventory] | type[PlanObject]] = {
    "GPUService": GPUService,
    "ClusterInventory": ClusterInventory,
    "Plan": PlanObject,
}
Object: TypeAlias = ServiceSpec | Inventory | Plan


def load_services(path: Path, catalog: Catalog = CATALOG) -> tuple[ServiceSpec, ...]:
    """The services of a file, at least one; raises BadInput with a line for each problem of the file."""
    services = tuple(found for found in load_objects(path, catalog) if isinstance(found, ServiceSpec))
    if not services:
        raise BadInput(f"{path}: got no GPUService, allowed: a file with at least one")
    return services


def load_inventory(path: Path, catalog: Catalog = CATALOG) -> Inventory:
    """The one inventory of a file; raises BadInput with a line for each problem of the file."""
    inventories = [found for found in load_objects(path, catalog) if isinstance(found, Inventory)]
    if not inventories:
        raise BadInput(f"{path}: got no ClusterInventory, allowed: a file with one")
    return inventories[0]


def load_together(specs: Sequence[Path], inventory: Path) -> tuple[tuple[ServiceSpec, ...], Inventory]:
    """The services of all files, and the hardware; raises one BadInput with the problems of every file."""
    services: list[ServiceSpec] = []
    problems: list[str] = []
    hardware = None
    for path in specs:
        try:
            services += load_services(path)
        except BadInput as error:
            problems.append(str(error))
    try:
        hardware = load_inventory(inventory)
    except BadInput as error:
        problems.append(str(error))
    names = [service.name for service in services]
    twins = sorted({name for name in names if names.count(name) > 1})
    problems += [f"got the service name {name!r} twice, allowed: every service once" for name in twins]
    if hardware is None or problems:
        raise BadInput("\n".join(problems))
    return tuple(services), hardware


def validate(path: Path, catalog: Catalog = CATALOG) -> list[str]:
    """Every problem of a file, one line each; none for a file that can be loaded."""
    try:
        return _checked(read(path), Context(catalog, path.parent))[1]
    except BadInput as error:
        return [str(error)]


def load_objects(path: Path, catalog: Catalog = CATALOG) -> list[Object]:
    """Whatever a file holds, in its order; raises BadInput with a line for each problem of the file."""
    objects, lines = _checked(read(path), Context(catalog, path.parent))
    if lines:
        more = [f"{path}: and {len(lines) - SHOWN_PROBLEMS} more problems"] if len(lines) > SHOWN_PROBLEMS else []
        raise BadInput("\n".join(lines[:SHOWN_PROBLEMS] + more))
    return objects


def _checked(documents: Sequence[Document], context: Context) -> tuple[list[Object], list[str]]:
    """What the documents of one file hold, and a line for each of their problems."""
    objects: list[Object] = []
    lines: list[str] = []
    for document in documents:
        found, problems = _object(document, context)
        if found is not None and not problems:
            problems = list(_again(found, objects))
            objects.append(found)
        lines += [f"{document.where(at)}: {text}" for at, text in problems]
    return objects, lines


def _again(found: Object, before: Sequence[Object]) -> Iterator[Problem]:
    """Services are told apart by name; there is one inventory and one plan."""
    if isinstance(found, ServiceSpec):
        if any(isinstance(other, ServiceSpec) and other.name == found.name for other in before):
            yield ("metadata", "name"), f"got {got(found.name)} a second time, allowed: every service once"
    elif any(type(other) is type(found) for other in before):
        kind = "ClusterInventory" if isinstance(found, Inventory) else "Plan"
        yield ("kind",), f"got a second {kind}, allowed: one in a file"


def _object(document: Document, context: Context) -> tuple[Object | None, list[Problem]]:
    """What one document holds, or its problems."""
    return parse(document.root.plain(), context)


def parse(top: Plain, context: Context) -> tuple[Object | None, list[Problem]]:
    """What an object holds that was read already, or its problems, each with its path."""
    if not isinstance(top, dict):
        what = "a list" if isinstance(top, list) else got(top)
        return None, [((), f"got {what}, allowed: a mapping with apiVersion, kind, metadata and spec")]
    kind = top.get("kind")
    shape = KINDS.get(kind) if isinstance(kind, str) else None
    if shape is None:
        return None, [(("kind",), _unknown_kind(kind))]
    try:
        shaped = shape.model_validate(top, context=context)
    except ValidationError as error:
        return None, problems_of(error, shape)
    if isinstance(shaped, PlanObject):
        return plan(shaped), []
    try:
        return (service(shaped, context) if isinstance(shaped, GPUService) else inventory(shaped, context)), []
    except NotConverted as error:
        return None, error.problems


def _unknown_kind(kind: object) -> str:
    if isinstance(kind, str) and len(kind) <= 100:
        return str(UnknownName("kind", kind, KINDS))
    return f"got {'nothing' if kind is None else got(kind)}, allowed: {', '.join(KINDS)}"
