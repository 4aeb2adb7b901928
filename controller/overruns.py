"""Overruns: what plans give each GPU, as agents are told, and what of their finds is worth planning again. Pure.

An agent compares the requests of a GPU's replica with its allotment and tells what stays above it. One that lasts is a
plan that does not hold for this replica, though the service as a whole may still meet its objective: as with a GPU that
is slower than its like.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from controller.cluster import Kind
from controller.reports import Kept, Report
from planner.service import ServiceSpec

Object = Mapping[str, Any]
LATE = "latency_over_slo"  # the others are told: no other plan mends power over a cap or memory over a request
_FRESH_S = 60.0


def longest_s(spec: ServiceSpec) -> float | None:
    """How long a request of the service may take from arrival to last token; None where some have no such limit.

    Agents do not tell sizes apart, so it is what the largest may take.
    """
    found = []
    for slo in spec.slos:
        mine = [one for one in spec.workload.rates_per_s if one.slo_class == slo.name]
        if slo.e2e_s is not None:
            found.append(slo.e2e_s)
        elif slo.ttft_s is not None and slo.tpot_s is not None and mine:
            found.append(slo.ttft_s + slo.tpot_s * (max(one.output_tokens for one in mine) - 1))
        else:
            return None
    return max(found, default=None)


def allotments(
    report: Report, kind_of_pod: Callable[[str, str], Kind | None], spec_of: Callable[[str], ServiceSpec | None]
) -> list[dict[str, object]]:
    """What the plans in force give the GPUs of a node: how long a request may take.

    Not how many may come: replicas that are given the small ones take more of them, and rates have laws of their own.
    """
    rows: list[dict[str, object]] = []
    for gpu in report.gpus:
        kinds = {kind.name: kind for space, pod, _ in gpu.pods if (kind := kind_of_pod(space, pod)) is not None}
        if len(kinds) != 1:
            continue  # nobody's, or shared: then nobody can tell whose requests those are
        _, kind = kinds.popitem()
        spec = spec_of(kind.service)
        if spec is not None and (longest := longest_s(spec)) is not None:
            rows.append({"uuid": gpu.uuid, "latency_s": longest})
    return rows


def lasting(
    kept: Iterable[Kept], service_of_pod: Callable[[str, str], str], now_s: float, least_s: float
) -> dict[str, frozenset[str]]:
    """Service -> what its replicas have been over for so long, in words that stay the same while it lasts."""
    found: dict[str, set[str]] = {}
    for one in kept:
        report, age_s = one.report, now_s - one.came_s
        if age_s > _FRESH_S:
            continue
        pods = {gpu.gpu: gpu.pods for gpu in report.gpus}
        for over in report.overruns:
            if over.kind != LATE or (over.for_s or 0.0) + age_s < least_s:
                continue
            services = {service_of_pod(space, pod) for space, pod, _ in pods.get(over.gpu, ())} - {""}
            for service in services:
                found.setdefault(service, set()).add(f"GPU {over.gpu} of {report.node} serves later than its objective")
    return {service: frozenset(words) for service, words in found.items()}
