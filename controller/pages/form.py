"""The form for the common case: some fields of a service, read from its YAML and written into it. Pure."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from controller.embedded.schema import bare
from planner.yaml_text import dump

Object = Mapping[str, Any]
Path = tuple[str | int, ...]

START = """apiVersion: muster.dev/v1alpha1
kind: GPUService
metadata:
  name: my-service
  namespace: default
spec:
  model: meta-llama/Llama-3.1-8B-Instruct
  workload:
    ratePerSecond: 10
    buckets:
      - {inputTokens: 512, outputTokens: 128, share: 1}
  slos:
    - {name: interactive, ttft: 500ms, tpot: 50ms, percentile: p95}
"""


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `path`: where its value is. `number`: written as one. `choices`: what a select offers."""

    id: str
    label: str
    path: Path
    group: Literal["Service", "Load", "Objective", "Limits"]
    number: bool = False
    choices: tuple[str, ...] = ()
    hint: str = ""


FIELDS = (
    Field("name", "Name", ("metadata", "name"), "Service"),
    Field("namespace", "Namespace", ("metadata", "namespace"), "Service"),
    Field("model", "Model", ("spec", "model"), "Service", hint="a name of the catalogue"),
    Field("rate", "Requests per second", ("spec", "workload", "ratePerSecond"), "Load", number=True),
    Field("input", "Prompt, tokens", ("spec", "workload", "buckets", 0, "inputTokens"), "Load", number=True),
    Field("output", "Answer, tokens", ("spec", "workload", "buckets", 0, "outputTokens"), "Load", number=True),
    Field("ttft", "First token within", ("spec", "slos", 0, "ttft"), "Objective", hint="none, or 500ms"),
    Field("tpot", "Each further token within", ("spec", "slos", 0, "tpot"), "Objective", hint="none, or 50ms"),
    Field("percentile", "For this share", ("spec", "slos", 0, "percentile"), "Objective",
          choices=("p50", "p90", "p95", "p99")),
    Field("budget", "Budget per hour", ("spec", "constraints", "budgetPerHour"), "Limits", hint="none, or $40"),
    Field("priority", "Priority", ("spec", "priority"), "Limits", number=True, hint="0"),
    Field("approval", "New plans", ("spec", "approval"), "Limits", choices=("Auto", "Manual")),
)  # fmt: skip
BY_ID = {one.id: one for one in FIELDS}
_MOST_SHOWN = 60
_SIZES: Path = ("spec", "workload", "buckets")
_UNSAID: tuple[Path, ...] = (
    (*_SIZES, 0, "share"),
    ("spec", "slos", 0, "name"),
)  # which a field makes along with its own
_DEFAULTS = {"approval": "Auto", "percentile": "p95"}


def values(plain: Object) -> dict[str, str]:
    """What each field shows for a service; empty for what it does not say."""
    return {one.id: _shown(_get(plain, one.path), one) for one in FIELDS}


def several(plain: Object) -> int:
    """How many sizes of requests a service names: the form has one pair of fields, for the first."""
    rows = _get(plain, _SIZES)
    return len(rows) if isinstance(rows, list) else 0


def beyond(plain: Object) -> list[str]:
    """What the spec says that no field shows, such as `deployment: batch`; `several` counts sizes of requests."""
    spec = _get(plain, ("spec",))
    return list(_beyond(spec, ("spec",))) if isinstance(spec, Mapping) else []


def _beyond(node: Any, path: Path) -> Iterator[str]:
    if any(one.path == path for one in FIELDS) or path in _UNSAID:
        return
    if any(one.path[: len(path)] == path for one in FIELDS) and isinstance(node, Mapping | list):
        for key, inner in enumerate(node) if isinstance(node, list) else node.items():
            if path != _SIZES or key == 0:
                yield from _beyond(inner, (*path, key))
        return
    name = _named(path[1:])
    yield name if isinstance(node, Mapping | list) else f"{name}: {str(node)[:_MOST_SHOWN]}"


def changed(plain: Object, field: Field, value: str) -> dict[str, Any]:
    """The service with a field set; an empty value takes it out."""
    made: dict[str, Any] = copy.deepcopy(dict(plain))
    text = value.strip()
    if text == "" or (not _has(plain, field.path) and text == _DEFAULTS.get(field.id)):
        _drop(made, field.path)
    else:
        _set(made, field.path, _number(text) if field.number else text)
    return made


def editable(obj: Object) -> str:
    """A service of the cluster as a person edits it: without what the cluster says of it."""
    meta = {key: obj["metadata"][key] for key in ("name", "namespace", "labels") if obj["metadata"].get(key)}
    return dump({"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": meta, "spec": bare(obj)["spec"]})


def field_at(path: str) -> Field | None:
    """The field at a path as faults name it, such as `spec.slos[0].ttft`."""
    return next((one for one in FIELDS if _named(one.path) == path), None)


def _named(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _shown(value: Any, field: Field) -> str:
    if value is None:
        return _DEFAULTS.get(field.id, "")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _number(text: str) -> Any:
    """A number where it is one, the text itself for the checker to refuse where it is none."""
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number == int(number) else number


def _get(node: Any, path: Path) -> Any:
    for part in path:
        if isinstance(part, int):
            node = node[part] if isinstance(node, list) and part < len(node) else None
        else:
            node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _has(plain: Object, path: Path) -> bool:
    return _get(plain, path) is not None


def _set(node: Any, path: Path, value: Any) -> None:
    for part, after in pairwise(path):
        fresh: Any = [] if isinstance(after, int) else {}
        if isinstance(part, int):
            if part >= len(node):
                node.append(fresh)
            node = node[part]
        else:
            if not isinstance(node.get(part), list | dict):
                node[part] = fresh
            node = node[part]
    last = path[-1]
    if isinstance(last, str):
        node[last] = value
        if path[:-1] == ("spec", "slos", 0):
            node.setdefault("name", "interactive")
        if path[:-1] == ("spec", "workload", "buckets", 0):
            node.setdefault("share", 1)


def _drop(node: Any, path: Path) -> None:
    """Take a value out, and what it leaves empty."""
    parent = _get(node, path[:-1])
    if isinstance(parent, dict) and path[-1] in parent:
        del parent[path[-1]]
        if not parent and len(path) > 2 and isinstance(path[-2], str):
            _drop(node, path[:-1])
