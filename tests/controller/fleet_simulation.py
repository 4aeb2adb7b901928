"""A cluster in memory for tests of the pure rules: replicas take nodes, serve after ticks, leave after ticks."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from controller.cluster import Action, Allowance, Kind, Live, Node, Route, Running, Scale, Weights


@dataclass
class Replica:
    """One replica: its node, ticks until it serves, and until it has left (None while it stays)."""

    kind: Kind
    node: str | None
    starts_in: int
    leaves_in: int | None = None


@dataclass
class Simulated:
    """Scale and Route are done at once; `tick` lets time pass."""

    nodes: dict[str, Node]
    start_ticks: int = 2
    leave_ticks: int = 1
    replicas: list[Replica] = field(default_factory=list)
    told: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, Kind] = field(default_factory=dict)
    weights: dict[str, Weights] = field(default_factory=dict)
    allowances: tuple[Allowance, ...] = ()

    def observe(self) -> Live:
        return Live(
            tuple(self._running(name) for name in sorted(self.kinds)),
            tuple(replace(node, held=self._held(name)) for name, node in self.nodes.items()),
            dict(self.weights),
            self.allowances,
        )

    def act(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Scale(kind, replicas):
                    self.kinds[kind.name] = kind
                    self.told[kind.name] = replicas
                case Route(service, weights):
                    self.weights[service] = weights
        self._follow()

    def tick(self) -> None:
        for one in self.replicas:
            if one.leaves_in is not None:
                one.leaves_in -= 1
            elif one.node is not None:
                one.starts_in = max(one.starts_in - 1, 0)
        self.replicas = [one for one in self.replicas if one.leaves_in is None or one.leaves_in > 0]
        for name in [
            n for n in self.kinds if not self.told.get(n) and not any(r.kind.name == n for r in self.replicas)
        ]:
            del self.kinds[name], self.told[name]
        self._follow()

    def lose(self, node: str) -> None:
        """The node and all that runs on it are gone."""
        del self.nodes[node]
        self.replicas = [one for one in self.replicas if one.node != node]
        self._follow()

    def _follow(self) -> None:
        """What a ReplicaSet and a scheduler do: as many replicas as told, each bound where it fits best."""
        for name, kind in self.kinds.items():
            stay = [one for one in self.replicas if one.kind.name == name and one.leaves_in is None]
            for one in sorted(stay, key=lambda r: -r.starts_in)[: max(len(stay) - self.told[name], 0)]:
                one.leaves_in = self.leave_ticks if one.node else 0
            missing = range(self.told[name] - len(stay))
            self.replicas += [Replica(kind, None, self.start_ticks) for _ in missing]
        self.replicas = [one for one in self.replicas if one.leaves_in != 0]
        for one in sorted(self.replicas, key=lambda r: -r.kind.gpus):
            if one.node is None:
                rooms = [(node.gpus - self._held(n), n) for n, node in self.nodes.items() if node.open]
                fits = [
                    room for room in rooms if room[0] >= one.kind.gpus and self._group(room[1]) == one.kind.node_group
                ]
                one.node = min(fits)[1] if fits else None

    def _group(self, node: str) -> str:
        return self.nodes[node].group

    def _held(self, node: str) -> int:
        return sum(one.kind.gpus for one in self.replicas if one.node == node)

    def _running(self, name: str) -> Running:
        mine = [one for one in self.replicas if one.kind.name == name]
        stay = [one for one in mine if one.leaves_in is None]
        return Running(
            self.kinds[name],
            self.told[name],
            bound=sum(one.node is not None for one in stay),
            ready=sum(one.node is not None and one.starts_in == 0 for one in stay),
            leaving=sum(one.leaves_in is not None for one in mine),
        )
