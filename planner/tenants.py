"""What the services of one namespace may have between them, as rows of the fleet program: the GPUs of its quotas."""

from collections.abc import Sequence

from planner.hardware import Inventory, Quota
from planner.program_rows import Loosening, Program
from planner.service import ServiceSpec

_GPU_USD = 1.0  # $/h, only to compare ways out: a larger quota takes no hardware, but somebody must grant it


def label(quota: Quota) -> str:
    """How a quota is called across namespaces."""
    return f"{quota.namespace}/{quota.name}"


def row_of(quota: Quota) -> str:
    """The name of its row."""
    return f"quota {label(quota)}"


def tenants(quota: Quota, services: Sequence[ServiceSpec]) -> list[ServiceSpec]:
    """The services that a quota is on."""
    return [
        s for s in services if s.namespace == quota.namespace and (quota.services is None or s.name in quota.services)
    ]


def quotas(program: Program, services: Sequence[ServiceSpec], inventory: Inventory) -> None:
    """GPUs of all replicas of a quota's services, in whatever group, are at most what others leave of it.

    Where others hold more than all of it, that is 0 for services which can do without, and no plan for those which
    cannot: so that the way out counts what is held too.
    """
    for quota in inventory.quotas:
        bound = tenants(quota, services)
        here = [i for i, option in enumerate(program.options) if option.service in {s.name for s in bound}]
        if not here:
            continue
        left = float(quota.gpus - quota.held_gpus)
        most = left if any(map(_busy, bound)) else max(left, 0.0)
        gpus = [float(program.options[i].pool.gpus_per_replica) for i in here]
        row = program.rows.row(row_of(quota), program.counts(here), gpus, most=most)
        program.loosenings.append(Loosening("quota", label(quota), float(quota.gpus), 1, _GPU_USD, ((row, -1.0),)))


def _busy(service: ServiceSpec) -> bool:
    """Whether a service has replicas in every plan."""
    return service.workload.rate_per_s > 0 or service.constraints.min_replicas > 0
