"""A small embedded cluster with the controller's real rounds on it, as the web sees one; a test moves its clock."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.embedded.agents import Ailment, Load, SimulatedAgent, agent_of, uuid_of
from controller.embedded.api import EmbeddedApi
from controller.embedded.hardware import furnish
from controller.embedded.kubelet import Care, tend
from controller.embedded.loop import Loop
from controller.embedded.paths import SERVED
from controller.embedded.scheduler import bind, seats
from controller.embedded.store import Store
from controller.embedded.workloads import reconcile
from controller.rates import Heard, ServiceKey
from controller.reports import caps_in_force
from controller.web.site import Site
from planner.errors import BadInput
from planner.spec.fields import Context
from planner.spec.load import CATALOG, parse

START_S = 1.8e9
INVENTORY: dict[str, Any] = {
    "apiVersion": "muster.dev/v1alpha1",
    "kind": "ClusterInventory",
    "metadata": {"name": "fleet"},
    "spec": {
        "energyPrice": "$0.12/kWh",
        "powerDomains": [{"name": "rack-1", "budget": "8kW"}],
        "nodeGroups": [
            {"name": "big", "gpu": "H100-SXM", "gpusPerNode": 4, "nodes": 2, "zone": "a", "powerDomain": "rack-1",
             "pricePerHour": "$2.50"},
            {"name": "small", "gpu": "L4", "gpusPerNode": 2, "nodes": 2, "zone": "a", "pricePerHour": "$0.80"},
        ],
    },
}  # fmt: skip


def a_spec(name: str = "chat", namespace: str = "default", **spec: Any) -> dict[str, Any]:
    """A GPUService as a person writes it, that one H100 carries."""
    return {
        "apiVersion": "muster.dev/v1alpha1",
        "kind": "GPUService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": "meta-llama/Llama-3.1-8B-Instruct",
            "workload": {
                "ratePerSecond": 8,
                "buckets": [{"inputTokens": 512, "outputTokens": 128, "share": 1}],
            },
            "slos": [{"name": "chat", "ttft": "1s", "tpot": "60ms"}],
            "constraints": {"techniques": ["fp8"]},
            **spec,
        },
    }


@dataclass
class Remembered:
    """A history that a test writes."""

    rows: dict[tuple[str, str], list[tuple[float, float]]] = field(default_factory=dict)

    def add(self, metric: str, subject: str, at_s: float, value: float) -> None:
        self.rows.setdefault((metric, subject), []).append((at_s, value))

    def series(
        self, metric: str, subject: str, start_s: float, end_s: float, points: int = 240
    ) -> tuple[tuple[float, float], ...]:
        rows = [row for row in self.rows.get((metric, subject), ()) if start_s <= row[0] <= end_s]
        return tuple(rows[-points:])

    def latest(self, metric: str) -> Mapping[str, float]:
        return {subject: rows[-1][1] for (name, subject), rows in self.rows.items() if name == metric}


@dataclass
class Cluster:
    """Nodes, agents and rounds; `at_s` is Unix time there. It plays faults too."""

    at_s: float = START_S
    rate_per_s: float = 8.0
    history: Remembered = field(default_factory=Remembered)
    ailing: dict[tuple[str, int], Ailment] = field(default_factory=dict)
    agents: dict[str, SimulatedAgent] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = Store(None)
        self.api = EmbeddedApi(self.store, self.clock)
        found, problems = parse(INVENTORY, Context(CATALOG, Path("/nonexistent")))
        assert not problems
        furnish(self.api, found, INVENTORY, self.at_s)  # type: ignore[arg-type]
        self.loop = Loop(self.api, self.clock, self._heard)
        for node in self.store.items("nodes"):
            if (agent := agent_of(node, self.at_s, uuid_of)) is not None:
                self.agents[agent.node] = agent

    def clock(self) -> float:
        return self.at_s

    def site(self, **changes: Any) -> Site:
        usual: dict[str, Any] = {
            "objects": self.api, "served": SERVED, "known": self.loop.known, "kept": lambda: self.loop.rounds.kept,
            "caps": lambda: caps_in_force(self.loop.rounds.kept), "history": self.history, "clock": self.clock,
            "faults": self, "speed": lambda: 60.0, "embedded": True,
        }  # fmt: skip
        return Site(**{**usual, **changes})

    def inject(self, node: str, gpu: int, kind: str, xid: int | None = None, factor: float | None = None) -> str:
        agent = self.agents.get(node)
        if agent is None or gpu >= len(agent.gpus):
            raise BadInput(f"node, gpu: got {node}, {gpu}, allowed: a GPU of {', '.join(self.agents)}")
        self.ailing.pop((node, gpu), None)
        if kind != "clear":
            self.ailing[node, gpu] = Ailment(kind, xid or 0, factor or 1.0)
        return f"GPU {gpu} of {node}: {kind}"

    def ills(self) -> dict[str, dict[int, Ailment]]:
        nodes = sorted({node for node, _ in self.ailing})
        return {one: {gpu: ill for (node, gpu), ill in self.ailing.items() if node == one} for one in nodes}

    def service(self, name: str = "chat", namespace: str = "default", **spec: Any) -> dict[str, Any]:
        return self.api.request("POST", SERVED.need("gpuservices").path(namespace), a_spec(name, namespace, **spec))

    def passes(self, seconds: float, step_s: float = 5.0) -> None:
        """Let time pass; agents report, pods start, the controller does its rounds."""
        end_s = self.at_s + seconds
        while self.at_s < end_s:
            self._agents()
            self.loop.step()
            reconcile(self.api)
            for seat in seats(self.store.items("pods"), self.store.items("nodes"), {}):
                bind(self.api, seat, self.at_s)
            tend(self.api, Care(lambda pod: 10.0, lambda pod: False, {}), self.at_s)
            self.at_s += step_s

    def _agents(self) -> None:
        for agent in self.agents.values():
            ills = [self.ailing.get((agent.node, gpu.index)) for gpu in agent.gpus]
            agent.read([Load(agent.type.tdp_w / 2, 0.5, 0.4) for _ in agent.gpus], ills, self.at_s)
            self.loop.rounds.hear(agent.report(self.at_s), agent.node, self.at_s)

    def _heard(self, ready: Mapping[ServiceKey, int], quantiles: Sequence[float]) -> Mapping[ServiceKey, Heard]:
        return {key: Heard(count, rate_per_s=self.rate_per_s) for key, count in ready.items()}


@contextmanager
def a_cluster() -> Iterator[Cluster]:
    made = Cluster()
    try:
        yield made
    finally:
        made.loop.close()
        made.store.close()
