"""Events as people look at them, from the cluster's own; asked of the cluster, since nobody keeps them in memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.web.site import Site
from controller.when import seconds

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EventRow:
    """Something that happened to `kind` `about` (namespace/name, or a name). `count`: how often until `last_s`.

    `version` rises with every write of the cluster: whoever has seen one asks for those after it.
    """

    id: str
    version: int
    at_s: float
    last_s: float
    type: str  # Normal, Warning
    reason: str
    note: str
    kind: str
    namespace: str  # of what it is about; empty for what belongs to the cluster
    about: str
    count: int


def events(site: Site, after: int = 0) -> list[EventRow]:
    """Events of ours written after a version, the newest first. Raises ApiError, NotServed."""
    found = site.objects.request("GET", site.served.need("events").root).get("items", ())
    rows = [event_row(one) for one in found if str(one.get("reportingController", "")).startswith("muster.dev/")]
    return sorted((row for row in rows if row.version > after), key=lambda row: (-row.last_s, -row.version))


def event_row(obj: Object) -> EventRow:
    """The view of an Event."""
    meta, about = obj["metadata"], obj.get("regarding") or {}
    at_s = seconds(obj["eventTime"]) if obj.get("eventTime") else 0.0
    series = obj.get("series") or {}
    space, version = about.get("namespace", ""), str(meta.get("resourceVersion", ""))
    return EventRow(
        id=str(meta.get("uid") or meta["name"]),
        version=int(version) if version.isdecimal() else 0,
        at_s=at_s,
        last_s=seconds(series["lastObservedTime"]) if series.get("lastObservedTime") else at_s,
        type=obj.get("type", ""),
        reason=obj.get("reason", ""),
        note=obj.get("note", ""),
        kind=about.get("kind", ""),
        namespace=space,
        about=f"{space}/{about.get('name', '')}" if space else about.get("name", ""),
        count=int(series.get("count", 1)),
    )
