"""Which share of each size of request goes to which kind of replicas, given those that serve now. Pure."""

from collections.abc import Iterable, Mapping

from controller.cluster import Kind, Weights
from planner.service import Bucket


def weights(serving: Iterable[tuple[Kind, int]]) -> Weights:
    """The plan's shares over the kinds and counts that serve: each replica weighs what it was planned to carry.

    Kinds of a plan that comes and of one that goes stand side by side. The table is by kinds of the first pool of
    each recipe alone, as a router sends a request to its prefill replica. A bucket that no plan gives to what serves
    goes to all that serves, by capacity: late is better than lost.
    """
    entry = [(kind, count) for kind, count in serving if kind.pool in ("serve", "prefill")]
    buckets = sorted({bucket for kind, _ in entry for bucket in kind.shares})
    kinds = [(kind, count) for kind, count in entry if count > 0]
    return {bucket: _of_bucket(bucket, kinds) for bucket in buckets} if kinds else {}


def _of_bucket(bucket: Bucket, kinds: list[tuple[Kind, int]]) -> Mapping[str, float]:
    heavy = {kind.name: count * kind.shares.get(bucket, 0.0) for kind, count in kinds}
    if not any(heavy.values()):
        heavy = {kind.name: count * kind.per_s for kind, count in kinds}
    total = sum(heavy.values())
    return {name: weight / total for name, weight in sorted(heavy.items()) if weight > 0} if total else {}


def same(a: Weights, b: Weights, tolerance: float = 1e-3) -> bool:
    """Whether two tables send requests alike, to within a thousandth: less is not worth a write."""
    if a.keys() != b.keys():
        return False
    return all(
        abs(a[bucket].get(name, 0.0) - b[bucket].get(name, 0.0)) <= tolerance
        for bucket in a
        for name in {*a[bucket], *b[bucket]}
    )
