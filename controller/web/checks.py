"""Objects that people send, checked before the cluster sees them: every problem, with its place. Pure.

An API server drops keys that it does not know and leaves the rest to the controller; here they are refused at once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from controller.crds.kinds import KINDS
from controller.crds.rules import broken
from controller.embedded.schema import filled
from controller.manifests.passthrough import refused
from controller.names import API_VERSION
from controller.web.problems import FieldError, said
from planner.catalog import catalogued, gpu
from planner.spec.fields import Catalog, Context, Metadata, Problem
from planner.spec.load import parse
from planner.spec.report import problems_of
from planner.techniques import techniques
from planner.units import got
from planner.yaml_text import NodePath, show_path

Object = Mapping[str, Any]
# A model is a name of the catalogue and nothing else: a path would read files of the controller's own.
_CONTEXT = Context(Catalog(gpu, catalogued, techniques), Path("/nonexistent"))
_SERVERS = (
    "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
    "managedFields", "selfLink", "finalizers", "ownerReferences",
)  # fmt: skip
_KNOWN = ("apiVersion", "kind", "metadata", "spec", "status")
_MOST_PROBLEMS = 1000
_SHAPES = {kind.name: kind for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Checked:
    """An object without what only the cluster says of it, its defaults filled in, and every problem that it has."""

    obj: dict[str, Any]
    problems: tuple[FieldError, ...]


def _nowhere(path: NodePath) -> int | None:
    return None


def checked(
    kind: str,
    plain: Mapping[str, Any],
    line: Callable[[NodePath], int | None] = _nowhere,
    namespace: str = "",
    name: str = "",
) -> Checked:
    """An object of a kind as sent. `namespace`, `name`: what it must be called, where the path says so."""
    meta = plain.get("metadata")
    known = {key: value for key, value in meta.items() if key not in _SERVERS} if isinstance(meta, dict) else meta
    top = {**{key: value for key, value in plain.items() if key != "status"}, "metadata": known}
    found = dict.fromkeys(islice(_problems(kind, top, namespace, name), _MOST_PROBLEMS))
    errors = tuple(said(show_path(path), text, line(path)) for path, text in found)
    if errors:
        return Checked(top, errors)
    if _SHAPES[kind].namespaced:
        top["metadata"] = {**top["metadata"], "namespace": namespace or top["metadata"].get("namespace", "default")}
    else:
        top["metadata"].pop("namespace", None)
    return Checked(filled(top), ())


def _problems(kind: str, top: dict[str, Any], namespace: str, name: str) -> Iterator[Problem]:
    for key in top:
        if key not in _KNOWN:
            yield (key,), f"got the key {got(key)}, allowed: {', '.join(_KNOWN)}"
    if top.get("apiVersion") != API_VERSION:
        yield ("apiVersion",), f"got {_brief(top.get('apiVersion'))}, allowed: {API_VERSION}"
    if top.get("kind") != kind:
        yield ("kind",), f"got {_brief(top.get('kind'))}, allowed: {kind}"
        return
    meta, spec = top.get("metadata"), top.get("spec")
    if not isinstance(meta, dict) or not isinstance(spec, dict):
        for key, value in (("metadata", meta), ("spec", spec)):
            if not isinstance(value, dict):
                yield (key,), f"got {_brief(value)}, allowed: a mapping"
        return
    yield from _meta(kind, meta, namespace, name)
    yield from _spec(kind, meta, spec)


def _meta(kind: str, meta: dict[str, Any], namespace: str, name: str) -> Iterator[Problem]:
    try:
        Metadata.model_validate(meta, context=_CONTEXT)
    except ValidationError as error:
        yield from ((("metadata", *path), text) for path, text in problems_of(error, Metadata))
        return
    if name and meta["name"] != name:
        yield ("metadata", "name"), f"got {got(meta['name'])}, allowed: {name}, as in the path"
    if namespace and meta.get("namespace", namespace) != namespace:
        yield ("metadata", "namespace"), f"got {got(meta['namespace'])}, allowed: {namespace}, as in the path"
    if not _SHAPES[kind].namespaced and meta.get("namespace", "default") != "default":
        yield ("metadata", "namespace"), f"got {got(meta['namespace'])}, allowed: none, since it is of the cluster"


def _spec(kind: str, meta: Object, spec: dict[str, Any]) -> Iterator[Problem]:
    shape = _SHAPES[kind].spec
    try:
        shape.model_validate(spec, context=_CONTEXT)
    except ValidationError as error:
        yield from ((("spec", *path), text) for path, text in problems_of(error, shape))
        return
    head: dict[str, Any] = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "x", **meta}}
    if kind == "GPUService":
        template = (spec.get("serving") or {}).get("podTemplate") or {}
        at = ("spec", "serving", "podTemplate")
        odd = list(_template(template))
        yield from (((*at, *path), text) for path, text in odd)
        if odd:
            return
        for text in refused(template):
            place, _, words = text.partition(": ")
            yield (*at, *place.split(".")), words
        if "trace" not in spec["workload"]:  # a file that would be one of ours: a rule below refuses it
            yield from parse({**head, "spec": spec}, _CONTEXT)[1]
    for one in broken(kind, filled({**head, "spec": spec})):
        yield tuple(one.path.split(".")), one.message


def _template(value: Any) -> Iterator[Problem]:
    """What of a pod template has another form than Kubernetes gives it, as far as anything of ours reads it."""
    for key in ("metadata", "spec"):
        if not isinstance(value.get(key, {}), dict):
            yield (key,), f"got {_brief(value[key])}, allowed: a mapping"
            return
    for key in ("labels", "annotations"):
        if not isinstance(value.get("metadata", {}).get(key, {}), dict):
            yield ("metadata", key), f"got {_brief(value['metadata'][key])}, allowed: a mapping"
    spec = value.get("spec", {})
    for key in ("containers", "initContainers", "volumes", "tolerations", "imagePullSecrets"):
        yield from _rows(spec.get(key), ("spec", key))
    for key in ("containers", "initContainers"):
        for index, one in enumerate(spec.get(key) or () if isinstance(spec.get(key), list) else ()):
            for inner in ("env", "volumeMounts", "ports"):
                if isinstance(one, dict):
                    yield from _rows(one.get(inner), ("spec", key, index, inner))


def _rows(value: object, path: tuple[str | int, ...]) -> Iterator[Problem]:
    if value is None:
        return
    if not isinstance(value, list):
        yield path, f"got {_brief(value)}, allowed: a list"
        return
    for index, one in enumerate(value):
        if not isinstance(one, dict):
            yield (*path, index), f"got {_brief(one)}, allowed: a mapping"


def _brief(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, Sequence) and not isinstance(value, str) else got(value)
