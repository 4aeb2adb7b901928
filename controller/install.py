"""Muster's own objects, as the chart renders them: to print, or to apply to a cluster."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from controller.kube.rest import APPLY, Api, ApiError
from planner.errors import BadInput, MusterError
from planner.yaml_text import dump, parse

Object = Mapping[str, Any]
MANAGER = "muster-install"
_CONTROLLER, _AGENTS = "muster-system", "muster-agents"
_NAMES = re.compile(f"{_CONTROLLER}|{_AGENTS}")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_OLDER = {"policy/v1": ("policy/v1beta1",)}
_FIRST = ("Namespace", "CustomResourceDefinition", "ServiceAccount")


@dataclass(frozen=True, slots=True)
class Choices:
    """What may be changed without the chart."""

    namespace: str = _CONTROLLER
    agents_namespace: str = _AGENTS
    controller_image: str = ""
    agent_image: str = ""
    prometheus: str = ""
    crds: bool = True


class NotApplied(MusterError):
    """An object that the API server refused."""


def objects(choices: Choices) -> list[Object]:
    """All objects, those that others need first; raises BadInput for names that no namespace can have."""
    for option, name in (("--namespace", choices.namespace), ("--agents-namespace", choices.agents_namespace)):
        if not _NAME.fullmatch(name):
            raise BadInput(f"{option}: got {name!r}, allowed: at most 63 of a-z, 0-9 and -, no - at either end")
    base = files("deploy")
    found: list[Any] = []
    if choices.crds:
        for file in sorted(base.joinpath("crds").iterdir(), key=lambda one: one.name):
            if file.name.endswith(".yaml") and file.name != "kustomization.yaml":
                found += _read(file.read_bytes(), file.name)
    found += _read(base.joinpath("kustomize/base/muster.yaml").read_bytes(), "muster.yaml")
    changed = [_changed(one, choices) for one in found]
    return sorted(changed, key=lambda one: _FIRST.index(one["kind"]) if one["kind"] in _FIRST else len(_FIRST))


def text(choices: Choices) -> str:
    """All objects as YAML."""
    return "---\n".join(dump(one) for one in objects(choices))  # type: ignore[arg-type]


def apply(api: Api, choices: Choices) -> Iterator[str]:
    """Apply all objects, a line for each; raises NotApplied at the first that is refused."""
    for one in objects(choices):
        meta = one["metadata"]
        named = f"{one['kind']} {meta.get('namespace', '')}{'/' if meta.get('namespace') else ''}{meta['name']}"
        try:
            _applied(api, one)
        except ApiError as error:
            raise NotApplied(f"{named}: {error}") from None
        yield named


def _applied(api: Api, obj: Object) -> None:
    version, path = _found(api, obj)
    wanted = {**obj, "apiVersion": version}
    name = obj["metadata"]["name"]
    if obj["kind"] != "CustomResourceDefinition":
        query = {"fieldManager": MANAGER, "force": "true"}
        api.request("PATCH", f"{path}/{name}", wanted, query=query, content_type=APPLY, timeout_s=30.0)
        return
    # Older servers drop rules in CEL from what they are sent, but refuse them in a server-side apply.
    try:
        live = api.request("GET", f"{path}/{name}")
    except ApiError as error:
        if error.status != 404:
            raise
        api.request("POST", path, wanted, timeout_s=30.0)
        return
    meta = {**wanted["metadata"], "resourceVersion": live["metadata"]["resourceVersion"]}
    api.request("PUT", f"{path}/{name}", {**wanted, "metadata": meta}, timeout_s=30.0)


def _read(data: bytes, name: str) -> list[Any]:
    return [document.root.plain() for document in parse(data, name) if document.root.plain()]


def _changed(value: Any, choices: Choices) -> Any:
    """The object with other names and images in it, wherever they stand."""
    if isinstance(value, Mapping):
        return {key: _changed(one, choices) for key, one in value.items()}
    if isinstance(value, list):
        made = [_changed(one, choices) for one in value]
        if choices.prometheus and "controller" in made and any(str(one).startswith("--tls-key") for one in made):
            made.append(f"--prometheus={choices.prometheus}")
        return made
    if not isinstance(value, str):
        return value
    for image, other in (("muster/controller:", choices.controller_image), ("muster/agent:", choices.agent_image)):
        if other and value.startswith(image):
            return other
    renamed = {_CONTROLLER: choices.namespace, _AGENTS: choices.agents_namespace}
    return _NAMES.sub(lambda found: renamed[found.group()], value)  # at once, so that no name is taken for another


def _found(api: Api, obj: Object) -> tuple[str, str]:
    """The version that is served, and the path of such objects: a group says which resources it has."""
    for version in (obj["apiVersion"], *_OLDER.get(obj["apiVersion"], ())):
        root = f"/{'apis' if '/' in version else 'api'}/{version}"
        try:
            rows = api.request("GET", root)["resources"]
        except ApiError as error:
            if error.status != 404:
                raise
            continue
        for row in rows:
            if row["kind"] == obj["kind"] and "/" not in row["name"]:
                space = f"/namespaces/{obj['metadata']['namespace']}" if row["namespaced"] else ""
                return version, f"{root}{space}/{row['name']}"
    raise NotApplied(f"{obj['kind']}: the API server has none in {obj['apiVersion']}")
