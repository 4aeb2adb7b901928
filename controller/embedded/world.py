"""The embedded cluster in time: traffic, replicas, nodes and their agents, and the controller's loop, in steps.

Time is simulated: a step is a few seconds of it, and `pace` says how many simulated seconds pass in one of ours. While
the planner thinks, as many seconds pass here as it takes.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from controller.embedded.agents import Ailment, Load, SimulatedAgent, agent_of, meaning, uuid_of
from controller.embedded.api import EmbeddedApi
from controller.embedded.history import SeriesHistory
from controller.embedded.kubelet import Care, tend, withdraw
from controller.embedded.loop import Loop
from controller.embedded.recording import rows
from controller.embedded.replicas import holders
from controller.embedded.scheduler import bind, seats
from controller.embedded.serving import TRAFFIC, Serving
from controller.embedded.store import Store
from controller.embedded.workloads import reconcile
from controller.hardware import node_size
from controller.kube.known import Settings
from controller.kube.node_round import NodeSettings
from controller.kube.view import kind_of
from controller.names import KIND
from controller.plans import allocations
from planner.errors import BadInput
from planner.plan import uncapped
from planner.power import idle_w
from planner.simulation.arrivals import read

Object = Mapping[str, Any]

AGENTS_S = 15.0
RECORD_S = 30.0
_REST, _MOST_REST_S = 0.2, 0.25  # after a step, as a share of what it took: time goes slower before answers do
_MOST_BEHIND_S = 15.0  # so much is caught up with, such as after a busy hour
_CLOCK, _ILLS = "clock", "ills"


@dataclass(frozen=True, slots=True)
class Rules:
    """How the world runs. `start_s`: Unix time at which a new one begins; `step_s`: of simulated time."""

    start_s: float
    step_s: float = 5.0
    seed: int = 0
    settings: Settings | None = None
    nodes: NodeSettings | None = None
    snapshots: Path | None = None


class World:
    """One embedded cluster. `step` is for one thread; requests to `api` may come from any."""

    def __init__(self, store: Store, rules: Rules) -> None:
        self.store, self.rules = store, rules
        self.now_s = float(store.said(_CLOCK) or rules.start_s)
        self.api = EmbeddedApi(store, self.clock)
        self.history = SeriesHistory(store)
        self.thinking = threading.Event()  # the planner is at work
        self.loop = Loop(
            self.api, self.clock, lambda ready, quantiles: self.serving.heard(ready, quantiles),
            settings=rules.settings, nodes=rules.nodes, snapshots=rules.snapshots, passing=self._passing,
        )  # fmt: skip
        self.serving = Serving(store, self.loop.known, rules.seed)
        self.serving.start(self.now_s)
        self._closed = False
        self._agents: dict[str, SimulatedAgent] = {}
        self._told_s = self._recorded_s = float("-inf")

    def clock(self) -> float:
        """Unix time in the cluster."""
        return self.now_s

    def close(self) -> None:
        """End; the store may be opened again."""
        if not self._closed:
            self._closed = True
            self.loop.close()
            self.store.close()

    def step(self) -> None:
        """Let one step of time pass."""
        self._pass(self.rules.step_s)
        if self.now_s - self._told_s >= AGENTS_S:
            self._told_s = self.now_s
            self._agents_tell()
        self.loop.step()
        if self.now_s - self._recorded_s >= RECORD_S:
            self._recorded_s = self.now_s
            self.history.record(self.now_s, rows(self))

    def run(self, until: Callable[[], bool], speed: Callable[[], float], wait: Callable[[float], object]) -> None:
        """Step until told to end, at so many simulated seconds a second; behind where a step takes longer than that."""
        due_s = time.monotonic()
        while not until():
            began_s, before_s = time.monotonic(), self.now_s
            self.step()
            now_s = time.monotonic()
            due_s = max(due_s + (self.now_s - before_s) / speed(), now_s - _MOST_BEHIND_S)
            wait(max(due_s - now_s, min((now_s - began_s) * _REST, _MOST_REST_S)))  # others of the process want it too

    def ills(self) -> dict[str, dict[int, Ailment]]:
        """What is wrong with GPUs: node -> index -> ailment."""
        said = self.store.said(_ILLS) or {}
        return {node: {int(gpu): Ailment(**row) for gpu, row in gpus.items()} for node, gpus in said.items()}

    def inject(self, node: str, gpu: int, kind: str, xid: int | None = None, factor: float | None = None) -> str:
        """Make a GPU ill, or well again (`clear`); raises BadInput. A sentence of what was done."""
        row = self.store.get(("nodes", "", node))
        if row is None:
            raise BadInput(f"node: got {node!r}, allowed: a node of the cluster")
        count = node_size(row.body)
        if not 0 <= gpu < count:
            raise BadInput(f"gpu: got {gpu}, allowed on {node}: 0 to {count - 1}")
        made = _ailment(kind, xid, factor)
        with self.store.together():
            said: dict[str, dict[str, Any]] = self.store.said(_ILLS) or {}
            mine = {key: value for key, value in said.get(node, {}).items() if key != str(gpu)}
            if made is not None:
                mine[str(gpu)] = {"kind": made.kind, "xid": made.xid, "factor": made.factor}
            self.store.say(_ILLS, {**said, node: mine})
        if made is None:
            return f"GPU {gpu} of {node} is well"
        if made.kind == "slow":
            return f"GPU {gpu} of {node} runs at {made.factor:.0%} of its speed"
        return f"GPU {gpu} of {node} {'is lost' if made.kind == 'lost' else f'reports Xid {made.xid}'}"

    def send(self, service: str, row: Mapping[str, Any]) -> None:
        """Have requests of a service come in another way from now on (`Traffic`); raises BadInput."""
        read(row)
        space, _, name = service.partition("/")
        if self.store.get(("gpuservices", space, name)) is None:
            raise BadInput(f"service: got {service!r}, allowed: a service of the cluster")
        with self.store.together():
            self.store.say(TRAFFIC, {**(self.store.said(TRAFFIC) or {}), service: dict(row)})

    def uuid(self, node: str, gpu: int) -> str:
        """What a GPU is called."""
        return uuid_of(node, gpu)

    def loads(self, node: Object) -> list[Load]:
        """What each GPU of a node does."""
        name = node["metadata"]["name"]
        agent = self._agents[name]
        found = [Load(idle_w(agent.type))] * len(agent.gpus)
        for one in self.serving.replicas.values():
            state = self.serving.states.get(one.name)
            for gpu in one.gpus.get(name, ()) if state is not None else ():
                count = sum(map(len, one.gpus.values()))
                found[gpu] = Load(state.power_w / count, state.busy_ratio, state.kv_ratio)  # type: ignore[union-attr]
        return found

    def place(self, service: str, group: str | None = None) -> tuple[str, int] | None:
        """A node and a GPU of a replica of a service that serves: on the node of which most GPUs are in use."""
        used: dict[str, int] = {}
        found = []
        for one in self.serving.replicas.values():
            for node, gpus in one.gpus.items():
                used[node] = used.get(node, 0) + len(gpus)
                if one.service == service and one.ready and not one.leaving and group in (None, one.node_group):
                    found.append((node, min(gpus)))
        return min(found, key=lambda at: (-used[at[0]], at), default=None)

    @property
    def agents(self) -> Mapping[str, SimulatedAgent]:
        """The agents of nodes, by node."""
        return self._agents

    def _pass(self, seconds: float) -> None:
        """Let time pass for all but the controller."""
        with self.store.together():
            start_s, self.now_s = self.now_s, self.now_s + seconds
            self.serving.go_on(start_s, self.now_s)
            ills = self.ills()
            stopped = {node: frozenset(g for g, ill in gpus.items() if ill.stops) for node, gpus in ills.items()}
            gone = {node: frozenset(g for g, ill in gpus.items() if ill.gone) for node, gpus in ills.items()}
            withdraw(self.api, gone)
            reconcile(self.api)
            for seat in seats(self.store.items("pods"), self.store.items("nodes"), gone):
                bind(self.api, seat, self.now_s)
            tend(self.api, Care(self._start_s, self.serving.busy, stopped), self.now_s)
            self.serving.follow(ills)
            self.store.say(_CLOCK, self.now_s)

    def _passing(self) -> Callable[[], None]:
        """Planning begins; when it ended, as much time has passed here."""
        began_s = time.monotonic()
        self.thinking.set()

        def end() -> None:
            self.thinking.clear()
            left_s = time.monotonic() - began_s
            while left_s > 0:
                self._pass(min(left_s, self.rules.step_s))
                left_s -= self.rules.step_s

        return end

    def _start_s(self, pod: Object) -> float:
        """How long a pod's engine takes to serve: as the plan that it is of predicts."""
        meta = pod["metadata"]
        mark = (meta.get("labels") or {}).get(KIND, "")
        workload = self.loop.known.cache.get("deployments", meta["namespace"], mark) or self.loop.known.cache.get(
            "statefulsets", meta["namespace"], mark
        )
        kind = None if workload is None else kind_of(workload)
        plan = None if kind is None else self.loop.known.plan(kind.service)
        for part in () if plan is None or kind is None else (plan["spec"], plan["spec"].get("previous") or {}):
            for one in allocations(part.get("allocations") or ()):
                if (str(uncapped(one.recipe)), one.pool) == (kind.recipe, kind.pool):  # type: ignore[union-attr]
                    return one.predicted.cold_start_s
        return 0.0

    def _agents_tell(self) -> None:
        """Every node's agent reads its GPUs and reports; caps come back."""
        ills, nodes = self.ills(), {one["metadata"]["name"]: one for one in self.store.items("nodes")}
        held, served = holders(self.store.items("pods"), uuid_of), self.serving.served()
        for name in set(self._agents) - set(nodes):
            del self._agents[name]
        for name, node in nodes.items():
            if name not in self._agents:
                made = agent_of({**node, "status": {"allocatable": node["status"]["capacity"]}}, self.now_s, uuid_of)
                if made is None:
                    continue
                self._agents[name] = made
            agent = self._agents[name]
            mine = ills.get(name, {})
            agent.agent.holders = held.get(name, {})
            for (_, gpu, service), latencies_s in ((mark, row) for mark, row in served.items() if mark[0] == name):
                agent.serve(gpu, service, latencies_s)
            agent.read(self.loads(node), [mine.get(gpu.index) for gpu in agent.gpus], self.now_s)
            report = agent.report(self.now_s)
            self.loop.desk.hear(report, name)
            desk = self.loop.desk
            agent.take(orjson.dumps({"caps": desk.caps(report), "allotments": desk.allotments(report)}), self.now_s)
        self.serving.limit({name: agent.limits_w for name, agent in self._agents.items()})


def _ailment(kind: str, xid: int | None, factor: float | None) -> Ailment | None:
    if kind == "clear":
        return None
    if kind == "xid":
        if xid is None or meaning(xid) == "ignore":
            raise BadInput(f"xid: got {xid}, allowed: a code that takes a GPU out, such as 79")
        return Ailment("xid", xid=xid)
    if kind == "slow":
        if factor is None or not 0 < factor < 1:
            raise BadInput(f"factor: got {factor}, allowed: above 0 and below 1, the share of its speed that is left")
        return Ailment("slow", factor=factor)
    if kind == "lost":
        return Ailment("lost")
    raise BadInput(f"kind: got {kind!r}, allowed: xid, slow, lost or clear")
