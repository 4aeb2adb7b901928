"""What is recorded of the embedded cluster at one moment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from controller.embedded.history import Row
from controller.embedded.seen import QUANTILES
from controller.hardware import group_of, node_gpus
from controller.plans import planned
from controller.specs import key_of
from planner.units import POWER

if TYPE_CHECKING:
    from controller.embedded.world import World


def rows(world: World) -> Iterator[Row]:
    """Every value with its metric and subject."""
    totals = {"usd_per_hour": 0.0, "power_w": 0.0}
    came_per_s = attained = 0.0  # by what comes: a service of which nothing ends counts too
    by_service: dict[str, dict[str, float]] = {}
    for name, one in world.serving.replicas.items():
        made, state = world.serving.allocations.get(name), world.serving.states.get(name)
        mine = by_service.setdefault(
            one.service, {"usd_per_hour": 0.0, "power_w": 0.0, "replicas_ready": 0.0, "kv": 0.0}
        )
        if made is not None:
            mine["usd_per_hour"] += made.usd_per_hour / max(made.replicas, 1)
        if state is not None:
            mine["power_w"] += state.power_w
            mine["replicas_ready"] += 1
            mine["kv"] += state.kv_ratio
    for obj in world.loop.known.items("gpuservices"):
        key = key_of(obj)
        mine = by_service.get(key, {})
        yield from _service(world, key, mine)
        totals["usd_per_hour"] += mine.get("usd_per_hour", 0.0)
        seen = world.serving.seen(key)
        if seen is not None and seen.attained_ratio is not None:
            came_per_s += seen.rate_per_s
            attained += seen.rate_per_s * seen.attained_ratio
    yield "usd_per_hour", "", totals["usd_per_hour"]
    if came_per_s:
        yield "attainment_ratio", "", attained / came_per_s
    yield from _hardware(world)


def _service(world: World, key: str, mine: dict[str, float]) -> Iterator[Row]:
    seen, plan = world.serving.seen(key), world.loop.known.plan(key)
    count = mine.get("replicas_ready", 0.0)
    yield "replicas_ready", key, count
    yield "usd_per_hour", key, mine.get("usd_per_hour", 0.0)
    yield "power_w", key, mine.get("power_w", 0.0)
    yield "waiting", key, world.serving.queue(key)[1]
    if count:
        yield "kv_cache_ratio", key, mine["kv"] / count
    if plan is not None and (made := planned(plan)) is not None:
        yield "planned_per_s", key, made.rate_per_s
    if seen is None:
        return
    yield "rate_per_s", key, seen.rate_per_s
    yield "goodput_per_s", key, seen.goodput_per_s
    if seen.attained_ratio is not None:
        yield "attainment_ratio", key, seen.attained_ratio
    for (metric, quantile), value_s in seen.latency_s.items():
        if quantile in QUANTILES:
            yield f"{metric}_p{round(100 * quantile)}_s", key, value_s


def _hardware(world: World) -> Iterator[Row]:
    known = world.loop.known
    groups, power_w, total = known.facts().groups, 0.0, 0
    domains = {one["metadata"]["name"]: 0.0 for one in known.items("powerdomains")}
    used = {(node, gpu) for one in world.serving.replicas.values() for node, gpus in one.gpus.items() for gpu in gpus}
    for node in known.items("nodes"):
        agent = world.agents.get(node["metadata"]["name"])
        total += node_gpus(node)
        if agent is None:
            continue
        group = group_of(node, groups)
        domain = (groups[group].get("powerDomain") or "") if group else ""
        for index, sample in agent.agent.samples.items():
            if sample.lost:
                continue
            values, uuid = sample.values, agent.gpus[index].uuid
            yield "power_w", uuid, values["power_w"]
            yield "temperature_c", uuid, values["temperature_c"]
            yield "busy_ratio", uuid, values["sm_active_ratio"]
            power_w += values["power_w"]
            if domain in domains:
                domains[domain] += values["power_w"]
    budgets = {one["metadata"]["name"]: POWER.parse(one["spec"]["budget"]) for one in known.items("powerdomains")}
    for name, watts in domains.items():
        yield "power_w", name, watts
        yield "budget_w", name, budgets[name]
    yield "power_w", "", power_w
    if budgets:
        yield "budget_w", "", sum(budgets.values())
    yield "gpus_used", "", float(len(used))
    yield "gpus_total", "", float(total)
