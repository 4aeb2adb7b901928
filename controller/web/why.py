"""Why a service is as it is, whole: `status.why` is cut to fit a column, and its condition says all. Pure."""

from collections.abc import Mapping
from typing import Any

Object = Mapping[str, Any]
_CUT = "…"
_AMISS = (  # in the order in which `status.why` is taken from them
    ("Ready", ("False",)), ("Degraded", ("True",)), ("RebalanceHeld", ("True",)), ("TelemetryFresh", ("False",)),
    ("Planned", ("False", "Unknown")),
)  # fmt: skip


def explained(status: Object) -> str:
    """All that is said of why; empty where nothing is amiss."""
    if _said(status.get("why")) == "":
        return ""
    rows = {row["type"]: row for row in status.get("conditions") or ()}
    said = (
        _said(rows[kind].get("message"))
        for kind, states in _AMISS
        if kind in rows and rows[kind].get("status") in states
    )
    return next(filter(None, said), _said(status.get("why")))


def whole(status: Object) -> str:
    """All that is said of why where the few words were cut off; else empty."""
    return explained(status) if _said(status.get("why")).endswith(_CUT) else ""


def _said(text: str | None) -> str:
    return "" if text in (None, "-") else str(text)
