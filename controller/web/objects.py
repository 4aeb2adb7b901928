"""Services, inventories and power domains as a person owns them: made, read, replaced, patched and deleted.

Every write is checked whole before the cluster sees it, and names the version that it was decided on.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from fastapi import Response

from controller.crds.rules import alternatives
from controller.embedded.patches import merge
from controller.kube.rest import APPLY, ApiError
from controller.web.asked import Ask, answered, expected, unchanged
from controller.web.documents import Body
from controller.web.problems import FieldError, Refused, invalid, not_found, said

Object = Mapping[str, Any]
MANAGER = "muster-api"
_MOST_MANAGER, _MOST_SAID = 128, 1000
_ONE_OF = "allowed: one of "  # as `controller.crds.rules` says it


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of objects: its name, its plural in the cluster, its part of paths, and what people call one."""

    name: str
    plural: str
    path: str
    called: str
    namespaced: bool = False


SERVICE = Kind("GPUService", "gpuservices", "services", "service", True)
INVENTORY = Kind("ClusterInventory", "clusterinventories", "inventories", "inventory")
DOMAIN = Kind("PowerDomain", "powerdomains", "powerdomains", "power domain")


@dataclass(frozen=True, slots=True)
class Validity:
    """Whether an object could be made as it is, and all that is wrong with it."""

    valid: bool
    errors: tuple[FieldError, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """What was done, in a sentence."""

    said: str


def live(ask: Ask, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
    """An object as the cluster has it now. Raises Refused, ApiError."""
    try:
        return ask.site.objects.request("GET", ask.site.served.need(kind.plural).path(namespace, name))
    except ApiError as error:
        if error.status == 404:
            raise not_found(kind.called, f"{namespace}/{name}" if namespace else name) from None
        raise


def sound(ask: Ask, kind: Kind, body: Body, namespace: str = "", name: str = "") -> dict[str, Any]:
    """An object without problems; raises Refused with all of them."""
    found = ask.web.reader.checked(kind.name, body, namespace, name)
    if found.problems:
        raise invalid(found.problems, kind.name)
    return found.obj


def version(obj: Object) -> str:
    """The version of an object, as its ETag says it."""
    return str(obj["metadata"].get("resourceVersion", ""))


def shown(obj: Object, status: int = 200, **headers: str) -> Response:
    """An object with its ETag; who wrote which field is nobody's business here."""
    meta = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return answered({**obj, "metadata": meta}, status, etag=version(obj), **headers)


def place(kind: Kind, obj: Object) -> str:
    """Where an object is reached."""
    meta = obj["metadata"]
    name = f"{meta['namespace']}/{meta['name']}" if kind.namespaced else meta["name"]
    return f"/api/v1/{kind.path}/{name}"


def get(ask: Ask, kind: Kind, namespace: str, name: str) -> Response:
    """One object, or 304 where the caller has it."""
    ask.need("get", kind.plural, namespace, name)
    found = live(ask, kind, namespace, name)
    if unchanged(ask, version(found)):
        return Response(status_code=304, headers={"ETag": f'"{version(found)}"'})
    return shown(found)


def create(ask: Ask, kind: Kind, dry: bool = False) -> Response:
    """Make an object; `dry`: only say what it would be."""
    body = ask.body()
    obj = sound(ask, kind, body)
    namespace = obj["metadata"].get("namespace", "") if kind.namespaced else ""
    ask.need("create", kind.plural, namespace)
    path = ask.site.served.need(kind.plural).path(namespace)
    made = ask.site.objects.request("POST", path, obj, query={"fieldManager": MANAGER, **_dry(dry)})
    return shown(made) if dry else shown(made, 201, Location=place(kind, made))


def _dry(dry: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry else {}


def replace(ask: Ask, kind: Kind, namespace: str, name: str, dry: bool = False) -> Response:
    """An object in the place of the one there is."""
    ask.need("update", kind.plural, namespace, name)
    obj = sound(ask, kind, ask.body(), namespace, name)
    old = live(ask, kind, namespace, name)
    expected(ask, version(old))
    return shown(replaced(ask, kind, old, obj, dry))


@dataclass(frozen=True, slots=True)
class Patching:
    """How to patch. `manager`, `force`: of server-side apply."""

    manager: str = MANAGER
    force: bool = False
    dry: bool = False


def patch(ask: Ask, kind: Kind, namespace: str, name: str, how: Patching) -> Response:
    """A merge patch (JSON or YAML), or what a writer wants of the object (server-side apply), which may make it."""
    ask.need("patch", kind.plural, namespace, name)
    if ask.request.headers.get("content-type", "").partition(";")[0].strip().lower() == APPLY:
        return _applied(ask, kind, namespace, name, how)
    body = ask.body()
    if problems := _not_patchable(body.plain):
        raise invalid(problems, "the patch")
    old = live(ask, kind, namespace, name)
    expected(ask, version(old))
    made = merge({key: value for key, value in old.items() if key != "status"}, body.plain)
    return shown(
        replaced(ask, kind, old, sound(ask, kind, dataclasses.replace(body, plain=made), namespace, name), how.dry)
    )


def _not_patchable(patch: Object) -> list[FieldError]:
    allowed = {"metadata": ("labels", "annotations", "name", "namespace", "resourceVersion"), "spec": ()}
    found = [
        said(str(key), "got a value, allowed: metadata.labels, metadata.annotations and spec")
        for key in islice(patch, _MOST_SAID)
        if key not in (*allowed, "apiVersion", "kind")
    ]
    if not isinstance(patch.get("spec", {}), Mapping):
        found.append(said("spec", "got no mapping, allowed: a mapping of what changes"))
    meta = patch.get("metadata")
    if meta is not None and not isinstance(meta, Mapping):
        return [*found, said("metadata", "got no mapping, allowed: a mapping with labels and annotations")]
    return found + [
        said(f"metadata.{key}", "got a value, allowed: labels, annotations")
        for key in islice(meta or (), _MOST_SAID)
        if key not in allowed["metadata"]
    ]


def replaced(ask: Ask, kind: Kind, old: Object, obj: dict[str, Any], dry: bool = False) -> dict[str, Any]:
    """Write an object over the version that was looked at."""
    before = old["metadata"]
    kept = {key: before[key] for key in ("finalizers", "ownerReferences", "resourceVersion") if key in before}
    body = {**obj, "metadata": {**obj["metadata"], **kept}}
    path = ask.site.served.need(kind.plural).path(before.get("namespace", ""), before["name"])
    try:
        return ask.site.objects.request("PUT", path, body, query={"fieldManager": MANAGER, **_dry(dry)})
    except ApiError as error:
        if error.status == 409:
            raise Refused(412, "changed-meanwhile", f"{kind.name}: it was changed meanwhile; read it again") from None
        raise


def _applied(ask: Ask, kind: Kind, namespace: str, name: str, how: Patching) -> Response:
    """Server-side apply: what this writer applied before and leaves out now goes, what others wrote stays."""
    if not how.manager or len(how.manager) > _MOST_MANAGER or not how.manager.isprintable():
        words = f"got {how.manager[:60]!r}, allowed: printable text of at most {_MOST_MANAGER} characters"
        raise invalid([said("fieldManager", words)], "parameters")
    body = ask.body()
    obj = _wanted(ask, kind, body, namespace, name)
    try:
        old: Object | None = live(ask, kind, namespace, name)
    except Refused:
        old = None
        ask.need("create", kind.plural, namespace)
    if old is None and ask.request.headers.get("if-match"):
        raise Refused(412, "changed-meanwhile", f"If-Match: {kind.name} {name} is not there")
    if old is not None and ask.request.headers.get("if-match"):
        expected(ask, version(old))
        obj["metadata"]["resourceVersion"] = version(old)
    path = ask.site.served.need(kind.plural).path(namespace, name)
    query = {"fieldManager": how.manager, "force": "true" if how.force else "false"}
    objects = ask.site.objects
    try:
        would = objects.request("PATCH", path, obj, query={**query, "dryRun": "All"}, content_type=APPLY)
    except ApiError as error:
        mixed = [one for one in _mixed(kind, obj, old) if f"{one.path}: {_ONE_OF}" in str(error)]
        raise invalid(mixed, kind.name) if mixed else error from None
    plain = {key: value for key, value in would.items() if key != "status"}
    sound(ask, kind, dataclasses.replace(body, plain=plain), namespace, name)
    made = would if how.dry else objects.request("PATCH", path, obj, query=query, content_type=APPLY)
    return shown(made, 201 if old is None and not how.dry else 200)


def _mixed(kind: Kind, obj: Object, old: Object | None) -> Iterator[FieldError]:
    """Alternatives of which one is applied and another is there: neither is wrong, so say which is whose."""
    for path, keys in alternatives(kind.name):
        mine, there = (_at(path, one) for one in (obj, old))
        applied, live = [key for key in keys if key in mine], [key for key in keys if key in there and key not in mine]
        if applied and live:
            words = f"got {applied[0]} (applied) and {', '.join(live)} (live, which others wrote), {_ONE_OF}"
            way_out = "delete the object first, or apply under another name"
            yield said(".".join(path), f"{words}{', '.join(keys)}; {way_out}")


def _at(path: Sequence[str], obj: Object | None) -> Object:
    found: Any = obj
    for step in path:
        found = found.get(step) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _wanted(ask: Ask, kind: Kind, body: Body, namespace: str, name: str) -> dict[str, Any]:
    """What is applied, as written: defaults that were filled in would be this writer's for ever."""
    sound(ask, kind, body, namespace, name)
    plain, meta = body.plain, body.plain["metadata"]
    kept = {key: meta[key] for key in ("labels", "annotations") if key in meta}
    space = {"namespace": namespace} if kind.namespaced else {}
    return {
        "apiVersion": plain["apiVersion"],
        "kind": kind.name,
        "metadata": {"name": name, **space, **kept},
        "spec": plain["spec"],
    }


def delete(ask: Ask, kind: Kind, namespace: str, name: str) -> Response:
    """Delete an object; what it owns goes with it, in the background."""
    ask.need("delete", kind.plural, namespace, name)
    old = live(ask, kind, namespace, name)
    expected(ask, version(old), required=False)
    body: dict[str, Any] = {"propagationPolicy": "Background"}
    if ask.request.headers.get("if-match", "*").strip() != "*":
        body["preconditions"] = {"resourceVersion": version(old)}
    try:
        ask.site.objects.request("DELETE", ask.site.served.need(kind.plural).path(namespace, name), body)
    except ApiError as error:
        if error.status == 409:
            raise Refused(412, "changed-meanwhile", f"{kind.name}: it was changed meanwhile; read it again") from None
        raise
    return answered(Done(f"{kind.name} {f'{namespace}/{name}' if namespace else name} is deleted"))


def validity(ask: Ask, kind: Kind) -> Response:
    """All that is wrong with an object. Raises Refused for what is none."""
    found = ask.web.reader.checked(kind.name, ask.body()).problems
    return answered(Validity(not found, found))
