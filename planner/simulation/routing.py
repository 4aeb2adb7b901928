"""Routing weights mended by what came of them: kinds under strain give load to kinds that have room. Pure.

The planner shares load out by bounds on latency, which are further from the truth for some kinds than for others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from planner.plan import Allocation
from planner.service import Bucket, ServiceSpec
from planner.simulation.outcome import PoolOutcome
from planner.simulation.run import serves

_LEAST, _MOST = 0.7, 1.5  # of its load that a kind has after one step
_FULL = 0.9  # the strain at which a kind keeps its load
_NO_WATTS = 1e-6
CHUNKED = "chunked-prefill"
_CALM = 0.3  # strains below this say no more


def movable(service: ServiceSpec, allocations: Sequence[Allocation]) -> bool:
    """Whether load may move between the kinds of a service: nothing that was promised hangs on who carries it."""
    asked = service.constraints
    free = not (asked.survive_replicas or asked.survive_nodes) and asked.min_zones == 1
    mine = [one for one in allocations if serves(one, service)]
    single = len(mine) > 1 and all(one.pool == "serve" for one in mine)
    return single and free and asked.max_zone_share == 1 and asked.max_spot_share == 1


def merged(
    service: ServiceSpec,
    allocations: Sequence[Allocation],
    strains: Sequence[Sequence[PoolOutcome]],
    domains: bool = False,
) -> list[Allocation] | None:
    """Replicas under strain run as others on equal GPUs of the same nodes do, who have less; None where there are none.

    `domains`: power is limited somewhere, so that nobody may draw more than before. Plans for means mix whole prompts
    with chunked ones, which percentiles tell apart.
    """
    mine = [i for i, one in enumerate(allocations) if serves(one, service)]
    worst = dict(zip(mine, worst_of(strains), strict=True))
    for i in sorted(mine, key=lambda i: -worst[i]):
        like = [j for j in mine if j != i and _alike(allocations[i], allocations[j]) and worst[j] < worst[i]]
        if worst[i] <= 1 or not like:
            continue
        j = min(like, key=lambda j: worst[j])
        one, other = allocations[i], allocations[j]
        replicas = one.replicas + other.replicas
        power_w = other.power_w * replicas / other.replicas
        if power_w > one.power_w + other.power_w + _NO_WATTS and domains:
            continue
        buckets = {*one.shares, *other.shares}
        joint = replace(
            other,
            replicas=replicas,
            usd_per_hour=one.usd_per_hour + other.usd_per_hour,
            power_w=power_w,
            shares={bucket: one.shares.get(bucket, 0.0) + other.shares.get(bucket, 0.0) for bucket in buckets},
            busy_ratio=(one.replicas * one.busy_ratio + other.replicas * other.busy_ratio) / replicas,
        )
        return [joint if k == j else each for k, each in enumerate(allocations) if k != i]
    return None


def _alike(one: Allocation, other: Allocation) -> bool:
    """Whether two kinds differ in nothing but how prompts are scheduled."""
    a, b = (replace(each.recipe, techniques=_formats(each), max_batch=1) for each in (one, other))
    return a == b and one.node_group == other.node_group and one.pool == other.pool


def _formats(one: Allocation) -> tuple[str, ...]:
    return tuple(name for name in one.recipe.techniques if name != CHUNKED)


def worst_of(strains: Sequence[Sequence[PoolOutcome]]) -> list[float]:
    """Of every kind under all sources of requests."""
    return [max(max(row[i].strain_ratio for row in strains), _CALM) for i in range(len(strains[0]))]


def moved(
    service: ServiceSpec, allocations: Sequence[Allocation], strains: Sequence[Sequence[PoolOutcome]]
) -> list[Allocation]:
    """Allocations with other shares. `strains`: the service's kinds in order, under each source of requests."""
    mine = [one for one in allocations if serves(one, service)]
    worst = worst_of(strains)
    load = [_load(service, one.shares) for one in mine]
    wanted = [held * min(max((_FULL / one) ** 0.5, _LEAST), _MOST) for held, one in zip(load, worst, strict=True)]
    scale = sum(load) / sum(wanted)
    change = [scale * new - old for new, old in zip(wanted, load, strict=True)]
    takes = sum(one for one in change if one > 0)
    gives = [min(-one / old, 1.0) if one < 0 else 0.0 for one, old in zip(change, load, strict=True)]
    out = []
    for i, one in enumerate(mine):
        shares = {bucket: share * (1 - gives[i]) for bucket, share in one.shares.items()}
        if change[i] > 0:
            for j, other in enumerate(mine):
                for bucket, share in other.shares.items():
                    given = share * gives[j] * change[i] / takes
                    shares[bucket] = shares.get(bucket, 0.0) + given
        shares = {bucket: share for bucket, share in shares.items() if share > 0}
        busy_ratio = min(one.busy_ratio * _load(service, shares) / load[i], 1.0) if load[i] else one.busy_ratio
        out.append(replace(one, shares=shares, busy_ratio=busy_ratio))
    changed = iter(out)
    return [next(changed) if serves(one, service) else one for one in allocations]


def _load(service: ServiceSpec, shares: Mapping[Bucket, float]) -> float:
    """Tokens per second that shares amount to, those of answers counted thrice: they take steps of their own."""
    total = 0.0
    for bucket, rate in service.workload.rates_per_s.items():
        inputs, outputs = service.workload.mean_tokens.get(bucket, (bucket.input_tokens, bucket.output_tokens))
        total += rate * (inputs + 3 * outputs) * shares.get(bucket, 0.0)
    return total
