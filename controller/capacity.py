"""How much of a service's requests a set of replicas carries, and what has room for more: nodes and quotas. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from controller.cluster import Allowance, Kind, Node, Running


def capacity_per_s(counts: Iterable[tuple[Kind, int]]) -> float:
    """Requests/s at the objective of one service's replicas.

    Pools of one recipe stand in a row: a prefill pool carries no more than the decode pool behind it takes.
    """
    pools: dict[str, dict[str, float]] = {}
    for kind, count in counts:
        of_recipe = pools.setdefault(kind.recipe, {})
        of_recipe[kind.pool] = of_recipe.get(kind.pool, 0.0) + count * kind.per_s
    return sum(min(by_pool.values()) if _whole(by_pool) else 0.0 for by_pool in pools.values())


def _whole(by_pool: Mapping[str, float]) -> bool:
    """A prefill pool without a decode pool, or the other way round, serves nobody."""
    return ("prefill" in by_pool) == ("decode" in by_pool)


class Room:
    """Free GPUs by node, from which replicas take theirs; a replica never spans nodes unless it needs whole ones.

    `allowances`: quotas, from which they take theirs too.
    """

    def __init__(self, nodes: Sequence[Node], running: Sequence[Running], allowances: Sequence[Allowance] = ()) -> None:
        self._allowances: dict[str, list[Allowance]] = {}
        self._left = {one.name: one.gpus for one in allowances}
        for allowance in allowances:
            self._allowances.setdefault(allowance.namespace, []).append(allowance)
        for each in running:
            self._spend(each.kind, each.replicas + each.leaving)
        self._free: dict[str, dict[str, int]] = {}
        self._whole: dict[str, int] = {}
        for node in nodes:
            self._whole[node.group] = max(self._whole.get(node.group, 0), node.gpus)
            self._free.setdefault(node.group, {})[node.name] = node.free
        for one in sorted(running, key=lambda r: -r.kind.gpus):  # told to run, no node found yet: they come first
            for _ in range(one.replicas - one.bound):
                self._place(one.kind)

    def take(self, kind: Kind) -> bool:
        """Give a replica its GPUs, in the node with the least room that has enough; False where there is none."""
        if self.spent(kind) or not self._place(kind):
            return False
        self._spend(kind, 1)
        return True

    def spent(self, kind: Kind) -> str:
        """The quota that has too little left for a replica; empty for none."""
        return next((name for name in self.quotas(kind) if self._left[name] < kind.gpus), "")

    def quotas(self, kind: Kind) -> list[str]:
        """The quotas that bind a replica."""
        mine = self._allowances.get(kind.service.partition("/")[0], ())
        return [one.name for one in mine if one.on(kind.service)]

    def left(self, quota: str) -> int:
        """GPUs that are left of a quota."""
        return max(self._left[quota], 0)

    def _spend(self, kind: Kind, replicas: int) -> None:
        for name in self.quotas(kind):
            self._left[name] -= replicas * kind.gpus

    def _place(self, kind: Kind) -> bool:
        free = self._free.get(kind.node_group, {})
        whole = self._whole.get(kind.node_group, 0)
        if whole and kind.gpus > whole:
            return self._take_nodes(free, -(-kind.gpus // whole), whole)
        fits = [(room, name) for name, room in free.items() if room >= kind.gpus]
        if not fits:
            return False
        _, name = min(fits)
        free[name] -= kind.gpus
        return True

    @staticmethod
    def _take_nodes(free: dict[str, int], count: int, whole: int) -> bool:
        """A replica over several nodes has them to itself."""
        empty = sorted(name for name, room in free.items() if room >= whole)[:count]
        if len(empty) < count:
            return False
        free.update(dict.fromkeys(empty, 0))
        return True

    def largest(self, node_group: str) -> int:
        """Free GPUs of the node with the most room."""
        return max(self._free.get(node_group, {}).values(), default=0)

    def free(self, node_group: str) -> int:
        """Free GPUs of a node group."""
        return sum(self._free.get(node_group, {}).values())
