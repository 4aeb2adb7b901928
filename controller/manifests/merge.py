"""What a user adds to the pods of a service, merged into their template; `passthrough.py` refuses what must stay."""

from collections.abc import Mapping, Sequence
from typing import Any

Object = Mapping[str, Any]
_KEYED = {
    "containers": "name", "initContainers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath",
    "resourceClaims": "name", "claims": "name",
}  # fmt: skip
_EITHER = {"value": "valueFrom", "valueFrom": "value"}  # of a variable of the environment: not both
_APPENDED = ("tolerations", "imagePullSecrets", "topologySpreadConstraints", "ports")


def merged(template: Object, given: Object) -> Object:
    """`template` with what is given added: mappings by key, containers and the like by name, tolerations appended."""
    kept = {key: value for key, value in template.items() if _EITHER.get(key) not in given}
    return {key: _value(key, kept.get(key), given.get(key)) for key in {**kept, **given}}


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
