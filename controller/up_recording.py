"""What is recorded of a Kubernetes cluster at one moment for the pages to draw: as agents and engines told it."""

from collections.abc import Iterator, Mapping

from controller.plans import planned
from controller.rates import Heard, ServiceKey
from controller.web.model import domains, nodes, overview, services
from controller.web.site import Site

Row = tuple[str, str, float]
QUANTILES = (0.5, 0.95)


def rows(site: Site, heard: Mapping[ServiceKey, Heard]) -> Iterator[Row]:
    """Every value with its metric and subject; what nobody told is left out."""
    there = nodes(site)
    for row in services(site):
        yield "replicas_ready", row.key, float(row.replicas_ready)
        yield "usd_per_hour", row.key, row.usd_per_hour
        yield "power_w", row.key, row.power_w
        plan = site.known.plan(row.key)
        if plan is not None and (made := planned(plan)) is not None:
            yield "planned_per_s", row.key, made.rate_per_s
        if (one := heard.get(ServiceKey(row.namespace, row.name))) is not None:
            yield from _heard(row.key, one)
    for tile in (tile for node in there for tile in node.tiles):
        told = {"power_w": tile.power_w, "temperature_c": tile.temperature_c, "busy_ratio": tile.busy_ratio}
        yield from ((metric, tile.uuid, value) for metric, value in told.items() if value is not None)
    for domain in domains(site, there):
        yield "budget_w", domain.name, domain.budget_w
        if domain.drawn_w is not None:
            yield "power_w", domain.name, domain.drawn_w
    fleet = overview(site, there)
    whole = {
        "usd_per_hour": fleet.usd_per_hour, "power_w": fleet.power_w, "budget_w": fleet.budget_w,
        "gpus_used": fleet.gpus_used, "gpus_total": fleet.gpus_total,
    }  # fmt: skip
    yield from ((metric, "", float(value)) for metric, value in whole.items() if value is not None)


def _heard(key: str, one: Heard) -> Iterator[Row]:
    if one.rate_per_s is not None:
        yield "rate_per_s", key, one.rate_per_s
    if one.waiting is not None:
        yield "waiting", key, one.waiting
    for (metric, quantile), value_s in one.latency_s.items():
        yield f"{metric}_p{round(100 * quantile)}_s", key, value_s
