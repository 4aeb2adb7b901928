"""The route of simulation: what a plan would do under requests, before a person approves it or while it runs."""

import math
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Response

from controller.specs import key_of
from controller.web import documented as doc
from controller.web.asked import Ask, Asked, answered, explored, readable
from controller.web.model_plans import outcome
from controller.web.objects import SERVICE, live
from controller.web.problems import FieldError, Refused, invalid, not_found, said
from controller.web.simulating import MOST_REQUESTS
from controller.web.simulating import Asked as Simulation

router = APIRouter(tags=["plans"])
Object = Mapping[str, Any]
_KEYS = ("service", "outcome", "rate_per_s", "duration_s", "seed")
_OUTCOMES = {"current": "", "proposal": "proposal", "previous": "previous"}
_LONGEST_S, _MOST_SEED = 86_400.0, 2**31 - 1


@router.post(
    "/simulate", responses=doc.replies("Simulated", "What came of it.", 404, 415), openapi_extra=doc.takes("Simulation")
)
def simulate(ask: Asked) -> Response:
    """Serve simulated requests with the replicas of a plan: percentiles against objectives, goodput, watts."""
    sent = ask.body().plain
    if problems := _problems(sent):
        raise invalid(problems)
    space, _, name = str(sent["service"]).partition("/")
    ask.need("get", SERVICE.plural, space, name)
    ask.need("get", "plans", space, name)
    obj = live(ask, SERVICE, space, name)
    readable(ask, obj)
    spec = _outcome(ask, key_of(obj), str(sent.get("outcome", "current")))
    planned = outcome(spec)
    rate_per_s = float(planned.rate_per_s or 0.0) if sent.get("rate_per_s") is None else float(sent["rate_per_s"])
    duration_s = float(sent.get("duration_s", 600.0))
    if rate_per_s * duration_s > MOST_REQUESTS:
        words = f"got {rate_per_s * duration_s:,.0f} requests, allowed: at most {MOST_REQUESTS:,}"
        raise invalid([said("duration_s", words)])
    asked = Simulation(key_of(obj), planned.decision, rate_per_s, duration_s, int(sent.get("seed", 0)))
    rows = list(spec.get("allocations") or ())
    return answered(explored(lambda: ask.web.simulator.simulate(ask.site, asked, obj, rows)))


def _outcome(ask: Ask, key: str, which: str) -> Object:
    """One outcome of a service's plan. Raises Refused."""
    plan = ask.site.known.plan(key)
    if plan is None:
        raise not_found("plan", key)
    part = _OUTCOMES[which]
    found: Object | None = plan["spec"].get(part) if part else plan["spec"]
    if not found:
        raise Refused(404, "not-found", f"outcome: got {which}, allowed: one that the plan of {key} has")
    return found


def _problems(sent: Object) -> list[FieldError]:
    found = [said(str(key), f"got a value, allowed: {', '.join(_KEYS)}") for key in sent if key not in _KEYS]
    service, which, seed = sent.get("service"), sent.get("outcome", "current"), sent.get("seed", 0)
    if not isinstance(service, str) or not all(service.partition("/")[::2]) or service.count("/") != 1:
        found.append(said("service", f"got {service!r:.60}, allowed: NAMESPACE/NAME"))
    if not isinstance(which, str) or which not in _OUTCOMES:
        found.append(said("outcome", f"got {which!r:.60}, allowed: {', '.join(_OUTCOMES)}"))
    rate, duration = sent.get("rate_per_s"), sent.get("duration_s", 600.0)
    if rate is not None and not _between(rate, 0.0, 1e6):
        found.append(said("rate_per_s", f"got {rate!r:.60}, allowed: a number from 0 to 1,000,000"))
    if not _between(duration, 1.0, _LONGEST_S):
        found.append(said("duration_s", f"got {duration!r:.60}, allowed: a number from 1 to {_LONGEST_S:g}"))
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= _MOST_SEED:
        found.append(said("seed", f"got {seed!r:.60}, allowed: a whole number from 0 to {_MOST_SEED}"))
    return found


def _between(value: object, least: float, most: float) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(float(value)) and least <= float(value) <= most  # type: ignore[arg-type]
