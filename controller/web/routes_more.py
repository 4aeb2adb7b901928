"""Routes beside the objects: series of measurements, faults and traffic that are played, simulation, tokens."""

import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Response

from controller.web import documented as doc
from controller.web.asked import Ask, Asked, Continue, Limit, answered, once, page
from controller.web.faults import PlayedFault, played
from controller.web.metrics_known import METRICS, OF_SERVICE
from controller.web.objects import Done
from controller.web.problems import Refused, invalid, not_found, said
from controller.web.routes_services import Name, Namespace
from controller.web.site import Faults
from controller.web.tokens import SCOPES, StoredTokens
from planner.errors import BadInput

router = APIRouter()
T = TypeVar("T")
_MOST_S = 1e12
_KINDS = ("xid", "slow", "lost", "clear")
_NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
Metric = Annotated[str, Query(max_length=64, description=f"One of {', '.join(METRICS)}.", examples=["rate_per_s"])]
Subject = Annotated[
    str, Query(max_length=320, description="NAMESPACE/NAME, a power domain, a GPU's UUID; empty for the fleet.")
]
Points = Annotated[int, Query(ge=1, le=2000, description="Points at most; more are averaged.")]
Start = Annotated[float | None, Query(ge=0, le=_MOST_S, description="Unix time; left out: an hour before the end.")]
End = Annotated[float | None, Query(ge=0, le=_MOST_S, description="Unix time; left out: now, by the cluster's clock.")]
_EMBEDDED = "allowed: on a cluster that `muster up` embeds; this one is real"


@router.get("/series", tags=["metrics"], responses=doc.replies("Series", "The series."))
def get_series(
    ask: Asked, metric: Metric, subject: Subject = "", start: Start = None, end: End = None, points: Points = 240
) -> Response:
    """A measurement over time, averaged over equal parts of it."""
    _known(metric)
    _seen(ask, subject)
    end_s = ask.site.clock() if end is None else end
    start_s = end_s - 3600.0 if start is None else start
    if start_s > end_s:
        raise invalid([said("start", f"got {start_s:.0f}, after end {end_s:.0f}, allowed: at most end")], "parameters")
    rows = ask.site.history.series(metric, subject, start_s, end_s, points)
    return answered({"metric": metric, "subject": subject, "start_s": start_s, "end_s": end_s, "points": rows})


@router.get("/series/latest", tags=["metrics"], responses=doc.replies("Latest", "The last values."))
def get_latest(ask: Asked, metric: Metric) -> Response:
    """The last value of a measurement, by subject."""
    _known(metric)
    if metric not in OF_SERVICE:
        _seen(ask, "")
    found = dict(ask.site.history.latest(metric))
    if metric in OF_SERVICE:
        whole = ask.may("list", "nodes", group="")
        rows = ask.seen("gpuservices", [one for one in found if "/" in one], lambda one: one.partition("/")[0])
        found = {one: value for one, value in found.items() if one in rows or (whole and "/" not in one)}
    return answered({"metric": metric, "values": found})


def _known(metric: str) -> None:
    if metric not in METRICS:
        raise invalid([said("metric", f"got {metric!r}, allowed: {', '.join(METRICS)}")], "parameters")


def _seen(ask: Ask, subject: str) -> None:
    """Raises Refused where the caller may not see a subject: services are of a namespace, all else of the cluster."""
    space, slash, name = subject.partition("/")
    if slash:
        ask.need("get", "gpuservices", space, name)
    else:
        ask.need("list", "nodes", group="")


@router.get("/faults", tags=["embedded"], responses=doc.replies(doc.page_of("PlayedFault"), "A page of faults.", 404))
def list_faults(ask: Asked, limit: Limit = 100, after: Continue = "") -> Response:
    """Faults that are played on simulated GPUs now; what agents detect is told of nodes."""
    ask.need("list", "nodes", group="")
    if ask.site.faults is None:
        raise Refused(404, "not-embedded", f"faults: {_EMBEDDED}")
    return page(sorted(played(ask.site.faults), key=_place), _place, limit, after)


def _place(one: PlayedFault) -> str:
    return f"{one.node}/{one.gpu:03}"


@router.post(
    "/faults", tags=["embedded"], responses=doc.replies("Done", "What was done.", 404, 409, 415),
    openapi_extra=doc.with_parameters(doc.takes("Fault"), doc.KEY),
)  # fmt: skip
def inject_fault(ask: Asked) -> Response:
    """Play a fault on a simulated GPU, or mend it (`clear`)."""
    ask.need("patch", "nodes", group="")
    faults = ask.site.faults
    if faults is None:
        raise Refused(404, "not-embedded", f"faults: {_EMBEDDED}")
    return once(ask, lambda: answered(Done(_injected(ask, faults))))


def _injected(ask: Ask, faults: Faults) -> str:
    sent = _only(ask.body().plain, ("node", "gpu", "kind", "xid", "factor"))
    node, gpu, kind = sent.get("node"), sent.get("gpu"), sent.get("kind")
    xid, factor = sent.get("xid"), sent.get("factor")
    problems = [
        said(name, f"got {value!r:.60}, allowed: {allowed}")
        for name, value, good, allowed in (
            ("node", node, isinstance(node, str) and 0 < len(node) <= 253, "the name of a node"),
            ("gpu", gpu, _whole(gpu, 0, 255), "the index of a GPU on it, 0 to 255"),
            ("kind", kind, kind in _KINDS, ", ".join(_KINDS)),
            ("xid", xid, xid is None or _whole(xid, 1, 1000), "an Xid such as 79"),
            ("factor", factor, factor is None or _number(factor), "a share of its speed, above 0 and below 1"),
        )
        if not good
    ]
    if problems:
        raise invalid(problems)
    return _tried(lambda: faults.inject(str(node), int(gpu or 0), str(kind), xid, factor))


def _only(plain: dict[str, Any], allowed: tuple[str, ...]) -> dict[str, Any]:
    strange = [said(str(key), f"got a value, allowed: {', '.join(allowed)}") for key in plain if key not in allowed]
    if strange:
        raise invalid(strange)
    return plain


def _whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1


def _tried(work: Callable[[], T]) -> T:
    """What comes of something that refuses by errors of ours."""
    try:
        return work()
    except BadInput as error:
        path, _, words = str(error).partition(": ")
        raise invalid([said(path, words) if words else said("", path)]) from None


@router.put(
    "/traffic/{namespace}/{name}", tags=["embedded"], responses=doc.replies("Done", "What was done.", 404, 415),
    openapi_extra=doc.takes("Traffic"),
)  # fmt: skip
def set_traffic(ask: Asked, namespace: Namespace, name: Name) -> Response:
    """Have requests of a simulated service come in another way from now on."""
    ask.need("patch", "gpuservices", namespace, name)
    sends = ask.site.sends
    if sends is None:
        raise Refused(404, "not-embedded", f"traffic: {_EMBEDDED}")
    if ask.site.known.service(f"{namespace}/{name}") is None:
        raise not_found("service", f"{namespace}/{name}")
    row = ask.body().plain
    _tried(lambda: sends.send(f"{namespace}/{name}", row))
    return answered(Done(f"requests of {namespace}/{name} come in another way from now on"))


@router.get("/tokens", tags=["tokens"], responses=doc.replies(doc.page_of("Token"), "All tokens.", 404))
def list_tokens(ask: Asked) -> Response:
    """Names, scopes and ages of the tokens that count; what they are nobody knows but their holders."""
    ask.need("update", "tokens")
    rows = [{"name": one.name, "scopes": one.scopes, "made_s": one.made_s} for one in _stored(ask).listed()]
    return answered({"items": rows, "continue": None, "remaining": 0})


@router.post(
    "/tokens", tags=["tokens"], status_code=201,
    responses=doc.replies("MadeToken", "The token, shown this once.", 404, 415, status=201),
    openapi_extra=doc.takes("NewToken"),
)  # fmt: skip
def make_token(ask: Asked) -> Response:
    """Make a token with scopes read, or read and write."""
    ask.need("update", "tokens")
    tokens = _stored(ask)
    sent = _only(ask.body().plain, ("name", "scopes"))
    name, scopes = sent.get("name"), sent.get("scopes")
    problems = []
    if not isinstance(name, str) or not re.fullmatch(_NAME, name):
        problems.append(said("name", f"got {name!r:.60}, allowed: lower-case letters, digits and -, at most 63"))
    if not isinstance(scopes, list) or not scopes or not all(one in SCOPES for one in scopes):
        problems.append(said("scopes", f"got {scopes!r:.60}, allowed: a list of {', '.join(SCOPES)}"))
    if problems:
        raise invalid(problems)
    kept = tuple(one for one in SCOPES if one in (scopes or ()))
    token = _tried(lambda: tokens.make(str(name), kept, ask.site.clock()))
    return answered({"name": name, "scopes": kept, "token": token}, 201)


@router.delete("/tokens/{name}", tags=["tokens"], responses=doc.replies("Done", "It counts no more.", 404))
def delete_token(ask: Asked, name: Annotated[str, Path(pattern=_NAME, examples=["dashboard"])]) -> Response:
    """Have a token count no more; the last one that may write stays."""
    ask.need("update", "tokens")
    if not _tried(lambda: _stored(ask).remove(name)):
        raise not_found("token", name)
    return answered(Done(f"token {name} counts no more"))


def _stored(ask: Ask) -> StoredTokens:
    if not isinstance(ask.web.tokens, StoredTokens):
        raise Refused(
            404, "not-found", "tokens: allowed: where Muster keeps its own; here the cluster's count, or none"
        )
    return ask.web.tokens
