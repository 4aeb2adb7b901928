"""Problems that no integer program need be asked about: sizes that nothing serves, traffic far beyond the hardware."""

from collections.abc import Sequence

from planner.hardware import Inventory, Stock
from planner.options import busy_buckets, serves
from planner.plan import Infeasible, Profile
from planner.service import ServiceSpec
from planner.units import rate_words
from planner.words import free_of

_FAR = 100.0  # times the GPUs that there are


def unserved(
    services: Sequence[ServiceSpec], profiles: Sequence[Profile], stock: Sequence[Stock] = ()
) -> Infeasible | None:
    """Buckets that no recipe serves at all; no count of GPUs helps them."""
    for service in services:
        mine = [p for p in profiles if p.service == service.name]
        lost = [b for b in busy_buckets(service) if not any(serves(p, b) for p in mine)]
        if lost:
            share = sum(service.workload.rates_per_s[b] for b in lost) / service.workload.rate_per_s
            worst = max(lost, key=lambda b: service.workload.rates_per_s[b])
            size = f"{worst.input_tokens}+{worst.output_tokens} tokens in class {worst.slo_class!r}"
            which = "free GPU" if stock else "GPU in the inventory"
            there = f"; {free_of(stock)}" if stock else ""
            wait = "have GPUs free of a type that meets it, " if stock else ""
            return Infeasible(
                why=f"{service.name}: no {which} serves {share:.2%} of the requests, such as {size}{there}",
                constraints=(f"slo of {service.name}", "free GPUs" if stock else "gpus in the inventory"),
                relaxation=f"loosen the SLO of {service.name}, {wait}add a GPU type that meets it (the refused list"
                " says what each one lacks), or leave these sizes out of the workload",
            )
    return None


def far_beyond(services: Sequence[ServiceSpec], profiles: Sequence[Profile], inventory: Inventory) -> Infeasible | None:
    """Traffic that asks for many times the GPUs there are, however it is routed: no integer program need say so.

    The bound is what each bucket needs at least by any recipe, in GPU types that may all stand in for each other.
    """
    gpus = sum(group.gpus for group in inventory.node_groups)
    needed: dict[str, float] = {}
    for service in services:
        mine = [p for p in profiles if p.service == service.name]
        rates = service.workload.rates_per_s
        needed[service.name] = sum(
            rates[b] * min(sum(pool.gpus_per_replica * pool.load[b] for pool in p.pools) for p in mine if serves(p, b))
            for b in busy_buckets(service)
        )
    total = sum(needed.values())
    if total <= _FAR * gpus:
        return None
    worst = max(needed, key=lambda name: needed[name])
    rate = next(s.workload.rate_per_s for s in services if s.name == worst)
    most = rate * gpus / needed[worst]
    there = free_of(inventory.stock) if inventory.stock else f"there {'is' if gpus == 1 else 'are'} {gpus}"
    asked, low, least = (rate_words(one) for one in (rate, most, needed[worst]))
    return Infeasible(
        why=f"{worst} asks for {asked} requests/s, which take at least {least} GPUs; {there}",
        constraints=(f"rate of {worst}", "nodes of all node groups"),
        relaxation=f"lower the rate of {worst} below {low} requests/s, or have {total / gpus:,.0f} times the GPUs",
    )
