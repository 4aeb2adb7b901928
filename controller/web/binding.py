"""Limits that a plan stands at, told without planning again: full node groups and quotas, power, money, replicas,
latencies. Pure.

A limit of things that come in wholes binds where what is left of it has no room for the smallest replica in question;
a latency where the plan expects at least 97 % of the objective.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controller.hardware import group_of, is_open, node_gpus
from controller.kube.known import Known
from controller.specs import key_of
from planner.plan import Allocation
from planner.service import ServiceSpec
from planner.units import POWER

Object = Mapping[str, Any]
_CLOSE_RATIO = 0.97


@dataclass(frozen=True, slots=True)
class Binding:
    """`used` of `limit`, both in `unit` (GPUs, W, $/h, replicas, s). `what` says which limit, in words."""

    kind: str  # nodes, power, quota, budget, max_replicas, latency
    target: str
    what: str
    used: float
    limit: float
    unit: str


def binding(known: Known, plan: Object) -> tuple[Binding, ...]:
    """The limits at which a service's plan stands."""
    mine = known.decided(plan)
    if not any(one.replicas for one in mine):
        return ()
    every = [one for other in known.items("plans") for one in known.decided(other)]
    spec = known.spec_of(key_of(plan))
    found = [*_groups(known, mine, every), *_power(known, mine, every), *_quotas(known, key_of(plan), mine)]
    if spec is not None:
        found += [*_demands(spec, mine), *_latencies(spec, mine)]
    return tuple(found)


def _groups(known: Known, mine: tuple[Allocation, ...], every: list[Allocation]) -> Iterator[Binding]:
    groups = known.facts().groups
    have: dict[str, int] = {}
    for node in known.items("nodes"):
        if is_open(node) and (group := group_of(node, groups)):
            have[group] = have.get(group, 0) + node_gpus(node)
    for group in dict.fromkeys(one.node_group for one in mine if one.replicas):
        used = sum(one.replicas * one.gpus_per_replica for one in every if one.node_group == group)
        least = min(one.gpus_per_replica for one in mine if one.node_group == group and one.replicas)
        if group in have and 0 <= have[group] - used < least:  # below: it was planned on GPUs that are gone
            yield Binding("nodes", group, f"GPUs of node group {group}", used, have[group], "GPUs")


def _power(known: Known, mine: tuple[Allocation, ...], every: list[Allocation]) -> Iterator[Binding]:
    groups = known.facts().groups
    domain_of = {name: str(group.get("powerDomain", "")) for name, group in groups.items()}
    budgets = {one["metadata"]["name"]: POWER.parse(one["spec"]["budget"]) for one in known.items("powerdomains")}
    for domain in dict.fromkeys(domain_of.get(one.node_group, "") for one in mine if one.replicas):
        if domain not in budgets:
            continue
        here = [one for one in every if domain_of.get(one.node_group) == domain and one.replicas]
        used_w = sum(one.power_w for one in here)
        if budgets[domain] - used_w < min(one.power_w / one.replicas for one in here):
            yield Binding("power", domain, f"power of domain {domain}", used_w, budgets[domain], "W")


def _quotas(known: Known, key: str, mine: tuple[Allocation, ...]) -> Iterator[Binding]:
    least = min(one.gpus_per_replica for one in mine if one.replicas)
    for quota in known.allowances():
        if not quota.on(key):
            continue
        under = [one for other in known.items("plans") if quota.on(key_of(other)) for one in known.decided(other)]
        used = sum(one.replicas * one.gpus_per_replica for one in under)
        if 0 <= quota.gpus - used < least:
            yield Binding("quota", quota.name, f"GPUs of ResourceQuota {quota.name}", used, quota.gpus, "GPUs")


def _demands(spec: ServiceSpec, mine: tuple[Allocation, ...]) -> Iterator[Binding]:
    rows = [one for one in mine if one.replicas]
    limit, most = spec.constraints.usd_per_hour, spec.constraints.max_replicas
    cost = sum(one.usd_per_hour for one in rows)
    if limit is not None and limit - cost < min(one.usd_per_hour / one.replicas for one in rows):
        yield Binding("budget", spec.name, "the service's budgetPerHour", cost, limit, "$/h")
    count = sum(one.replicas for one in rows)
    if most is not None and count >= most:
        yield Binding("max_replicas", spec.name, "the service's maxReplicas", count, most, "replicas")


def _latencies(spec: ServiceSpec, mine: tuple[Allocation, ...]) -> Iterator[Binding]:
    for slo in spec.slos:
        said = [row for one in mine if one.replicas for row in one.predicted.by_class if row.slo_class == slo.name]
        for metric, words in (("ttft_s", "TTFT"), ("tpot_s", "TPOT"), ("e2e_s", "end-to-end latency")):
            limit_s = getattr(slo, metric)
            worst_s = max((getattr(row, metric) for row in said), default=0.0)
            if limit_s is not None and worst_s >= _CLOSE_RATIO * limit_s:
                what = f"{words} of class {slo.name}, p{slo.percentile * 100:g}"
                yield Binding("latency", slo.name, what, worst_s, limit_s, "s")
