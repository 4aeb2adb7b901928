"""What a user adds to the pods of a service, merged into their template; what Muster decides stays as it is."""

from collections.abc import Mapping, Sequence
from typing import Any

from controller.hardware import GPU_RESOURCE

Object = Mapping[str, Any]
_KEYED = {"containers": "name", "initContainers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath"}
_APPENDED = ("tolerations", "imagePullSecrets", "topologySpreadConstraints")


def refused(given: Object) -> list[str]:
    """Fields of a pod template that Muster decides and that nobody else may set, with where to say it instead."""
    found = []
    if any(key.startswith("muster.dev/") for key in (given.get("metadata") or {}).get("labels") or {}):
        found.append("metadata.labels: got a label of muster.dev, allowed: others")
    spec = given.get("spec") or {}
    for key, instead in (("nodeName", "nodeSelector of the inventory's group"), ("affinity", "nodeSelector")):
        if key in spec:
            found.append(f"spec.{key}: got a value, allowed: {instead}")
    for index, one in enumerate(spec.get("containers") or ()):
        if one.get("name") != "engine":
            continue
        found += [
            f"spec.containers[{index}].{key}: got a value, allowed: what the plan says"
            for key in ("command", "args", "image")
            if key in one
        ]
        if GPU_RESOURCE in str(one.get("resources") or ""):
            found.append(f"spec.containers[{index}].resources: got {GPU_RESOURCE}, allowed: cpu and memory")
    return found


def merged(template: Object, given: Object) -> Object:
    """`template` with what is given added: mappings by key, containers and the like by name, tolerations appended."""
    return {key: _value(key, template.get(key), given.get(key)) for key in {**template, **given}}


def _value(key: str, mine: Any, theirs: Any) -> Any:
    if theirs is None:
        return mine
    if mine is None:
        return theirs
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        return merged(mine, theirs)
    if key in _KEYED and isinstance(mine, Sequence) and isinstance(theirs, Sequence):
        return _by(_KEYED[key], mine, theirs)
    if key in _APPENDED:
        return [*mine, *(one for one in theirs if one not in mine)]
    return theirs


def _by(key: str, mine: Sequence[Object], theirs: Sequence[Object]) -> list[Object]:
    given = {one.get(key): one for one in theirs}
    there = [merged(one, given[one.get(key)]) if one.get(key) in given else one for one in mine]
    names = {one.get(key) for one in mine}
    return there + [one for one in theirs if one.get(key) not in names]
