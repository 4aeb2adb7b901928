"""How an API server changes objects: merge patches, strategic merge patches, and server-side apply. Pure."""

from collections.abc import Mapping
from typing import Any

Object = Mapping[str, Any]
_MERGED_BY = {"conditions": "type", "containers": "name"}  # lists that a strategic patch merges, by what


def merge(live: Any, patch: Any) -> Any:
    """RFC 7386: null takes a key away, a list is one value."""
    if not isinstance(patch, Mapping):
        return patch
    made = dict(live) if isinstance(live, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        else:
            made[key] = merge(made.get(key), value)
    return made


def strategic(live: Any, patch: Any, key: str = "") -> Any:
    """A merge patch in which some lists are merged by a key of their entries."""
    if isinstance(patch, Mapping):
        made = dict(live) if isinstance(live, Mapping) else {}
        for name, value in patch.items():
            if value is None:
                made.pop(name, None)
            else:
                made[name] = strategic(made.get(name), value, name)
        return made
    if isinstance(patch, list) and (by := _MERGED_BY.get(key)) is not None:
        rows = {row[by]: row for row in live or ()}
        for row in patch:
            rows[row[by]] = strategic(rows.get(row[by]), row)
        return list(rows.values())
    return patch


def apply(live: Any, before: Any, wanted: Any) -> Any:
    """What a writer wants laid over an object; what it wanted `before` and no longer does goes. A list is one value."""
    if not isinstance(wanted, Mapping):
        return wanted
    made = dict(live) if isinstance(live, Mapping) else {}
    for key in before if isinstance(before, Mapping) else ():
        if key not in wanted:
            made.pop(key, None)
    for key, value in wanted.items():
        earlier = before.get(key) if isinstance(before, Mapping) else None
        made[key] = apply(made.get(key), earlier, value)
    return made
