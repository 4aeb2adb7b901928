"""The controller as a process: caches, a candidate for the lease, and the leader's threads.

A process that led and lost the lease ends at once, and is started again by whoever runs it: nothing it knew is needed.
"""

import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from controller.events import Events
from controller.facts import OF_ALL, matters, respecified, wanted
from controller.identity import Identities
from controller.kube.applier import Applier
from controller.kube.cache import WORKLOADS, Cache
from controller.kube.desk import KubernetesDesk
from controller.kube.discovery import Served, discover
from controller.kube.elector import Elector
from controller.kube.fleet_round import FleetRound
from controller.kube.known import Known, Settings
from controller.kube.lease import Terms
from controller.kube.listening import by_prometheus
from controller.kube.node_round import NodeRound, NodeSettings
from controller.kube.plan_round import PlanRound
from controller.kube.planning import Planner
from controller.kube.rest import Api, ApiError
from controller.kube.service_round import ServiceRound
from controller.kube.supply_round import tell_caps, tell_supply
from controller.kube.unmade import Unmade
from controller.kube.workers import stamp, work
from controller.kube.workqueue import WorkQueue
from controller.plan_child import PlanChild
from controller.server import Listen, Server
from controller.snapshots import Snapshots
from controller.specs import key_of, service_of
from controller.when import steady

Object = Mapping[str, Any]
LEASE = "muster-controller"
LOST = 3  # exit code of a leader that lost its lease
_LOG = logging.getLogger("muster")
_FLEET, _PLAN, _NODES, _SUPPLY = "fleet", "plan", "nodes", "supply"
_SOON_S = 0.05  # changes of the fleet come in bursts, and one round answers all
_MOMENT_S = 0.1  # so do those of a service's pods
_SEEN_S = 5.0  # what was written comes back as a change, and is looked at again in case another wrote it
_EDITED_S = 1.0  # a spec moves nothing before it is planned
_YIELDS_S = 2.0  # planning waits so long while services that were edited wait for their first word
_IDLE = 4.0  # times as long as a round of the fleet took passes before the next: services are looked at meanwhile
_EVICT_S = 5.0  # until replicas that had to stay are asked to go again, and nodes that do not answer are looked at
_SWITCH_S = 0.0005  # threads that wait for the network are let in between those that work
_STAMPS = ("gpuservices", "plans", *WORKLOADS, "configmaps")


@dataclass(frozen=True)
class Options:
    """How the controller runs. `identity` is of this process alone."""

    namespace: str = "muster-system"
    identity: str = field(default_factory=lambda: f"{os.uname().nodename}-{os.getpid()}-{time.time_ns():x}")
    terms: Terms = field(default_factory=Terms)
    settings: Settings = field(default_factory=Settings)
    workers: int = 16  # nearly all of a look is waiting for the server
    tick_s: float = 15.0
    snapshots: Path | None = None
    silent_s: float = 15.0
    nodes: NodeSettings = field(default_factory=NodeSettings)
    listen: Listen | None = None  # for agents; None: nobody reports
    agents: Sequence[str] = ("muster-agents:muster-agent",)
    audience: str = "muster"
    prometheus: str = ""  # URL; empty: no rates are heard
    prometheus_token_file: Path | None = None
    listen_every_s: float = 15.0
    quantiles: Sequence[float] = ()  # of latency, to hear besides those of the objectives


class Controller:
    """One process. `lost` is called when leadership was lost; by default it ends the process at once."""

    def __init__(self, api: Api, options: Options, lost: Callable[[], None] | None = None) -> None:
        self.options, self.queue, self.plans, self.moves = options, WorkQueue(), WorkQueue(), WorkQueue()
        self._lost = lost or _end
        self.served: Served = discover(api)
        self.cache = Cache(api, self.served, self._changed, options.silent_s)
        settings = replace(options.settings, hears=bool(options.prometheus))
        self.known = Known(self.cache, self.served, steady(), settings)
        self.elector = Elector(
            api, self.served.need("leases"), options.namespace, LEASE, options.identity,
            terms=options.terms, on_led=self._led, on_lost=self._lost,
        )  # fmt: skip
        self.applier = Applier(api, self.served, self.elector)
        self.child = PlanChild()
        keep = Snapshots(options.snapshots)
        self.events = Events(api, self.served, options.identity)
        self._services = ServiceRound(
            self.known, self.applier, self._ask_plan, self._again, self.events.tell, Unmade(api)
        )
        self._fleet = FleetRound(self.known, self.applier, self._again)
        self._planning = PlanRound(
            self.known, self.applier, Planner(self.child, self.known.fleet, keep.keep), self._again, self.events.tell
        )
        self.nodes = WorkQueue()
        self.rounds = NodeRound(
            self.known, api, self.served, self.elector, options.nodes, lambda: self.nodes.add(_NODES), self.events.tell
        )
        self.desk = KubernetesDesk(
            self.known, self.rounds, Identities(api, options.agents, options.audience), self._takes_reports,
            lambda: self._filled, renews=False,
        )  # fmt: skip
        self.server = None if options.listen is None else Server(self.desk, options.listen)
        self._filled = False
        self.listening = None
        if options.prometheus:
            self.listening = by_prometheus(
                self.known, options.prometheus, options.prometheus_token_file, options.quantiles
            )
        self.port, self.address = 0, api.server
        self._pause_s = _SOON_S
        self._yields_until_s: float | None = None
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._leading, self._failing = threading.Event(), False

    def start(self) -> None:
        """Fill the caches, then stand for election; raises what keeps it from that."""
        sys.setswitchinterval(_SWITCH_S)
        if self.server is not None:
            self.port = self.server.start()
        self.cache.start()
        _spare_the_caches()
        self._filled = True
        self.elector.start()
        self._spawn("tick", self._tick)

    @property
    def filled(self) -> bool:
        """Whether the caches are filled."""
        return self._filled

    def stop(self, patience_s: float = 10.0) -> None:
        """End the work begun, let another lead, and end."""
        self._stopped.set()
        self.child.stop()
        if self.server is not None:
            self.server.stop()
        for queue in (self.queue, self.plans, self.moves, self.nodes):
            queue.drain(patience_s)
        self.elector.stop()
        self.cache.stop()
        for thread in self._threads:
            thread.join(timeout=1.0)

    def _spawn(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _led(self, epoch: int) -> None:
        """Begin to lead. Another thread does it, since the lease must be renewed meanwhile."""
        _LOG.info("leading: epoch %d", epoch)
        self.events.tell(self.elector.lease, "LeaderChanged", f"{self.options.identity} leads: epoch {epoch}")
        self._spawn("lead", self._lead)

    def _lead(self) -> None:
        """Mark everything as this leader's, so that nothing its predecessor sent is accepted any more, then work."""
        while not self._stopped.is_set():
            try:
                self._stamp()
                break
            except ApiError as error:
                _LOG.warning("stamping: %s", error)
                time.sleep(0.2)
            except Exception:  # one that holds the lease and does nothing would be worse than one that ends
                _LOG.exception("stamping")
                self._lost()
                return
        self._leading.set()
        for index in range(self.options.workers):
            self._spawn(f"worker-{index}", lambda: work(self.queue, self._one))
        self._spawn("planner", lambda: work(self.plans, self._one))
        self._spawn("fleet", lambda: work(self.moves, self._one))
        self._spawn("nodes", lambda: work(self.nodes, self._one))
        if self.server is not None:
            self._spawn("caps", lambda: self.desk.grants.run(self._stopped))
        self._spawn("events", lambda: self.events.run(self._stopped))
        if self.listening is not None:
            self._spawn("listening", self._listen)
        self._all()

    def _stamp(self) -> None:
        found = [obj for plural in _STAMPS if plural in self.cache.informers for obj in self.known.items(plural)]
        stamp(self.applier, [obj for obj in found if obj["kind"] == "GPUService" or service_of(obj)])

    def _one(self, key: str) -> None:
        if key == _FLEET:
            began_s = time.monotonic()
            self._fleet.run()
            self._pause_s = max(_SOON_S, _IDLE * (time.monotonic() - began_s))
        elif key == _NODES:
            lost = self.known.lost
            self.rounds.run()
            if self.rounds.blocked or self.rounds.down:
                self.nodes.add(_NODES, _EVICT_S)
            if self.known.lost != lost:
                self._all()
        elif key == _SUPPLY:
            tell_supply(self.known, self.applier, self.rounds.kept, self.desk.grants, self.events.tell)
            tell_caps(self.known, self.rounds, self.desk.grants, self.events.tell)
        elif key == _PLAN:
            self._plan()
        else:
            self._services.run(key.partition("/")[2])

    def _plan(self) -> None:
        """Plan some services, but not while others wait for their first word, unless that goes on for long."""
        now_s = time.monotonic()
        if self.queue.pressing and now_s < (until_s := self._yields_until_s or now_s + _YIELDS_S):
            self._yields_until_s = until_s
            self._ask_plan()
            return
        self._yields_until_s = None
        if self._planning.run():
            self._ask_plan()

    def _tick(self) -> None:
        """Look at everything now and then: time passes without events. See when the network comes back."""
        next_s = 0.0
        while not self._stopped.wait(0.5):
            if self._failing and not self.elector.failing:
                self.cache.kick()
            self._failing = self.elector.failing
            if self._leading.is_set() and time.monotonic() > next_s:
                next_s = time.monotonic() + self.options.tick_s
                self._all()

    def _listen(self) -> None:
        assert self.listening is not None
        while not self._stopped.wait(self.options.listen_every_s):
            try:
                self.listening.listen()
            except Exception:  # what is not heard is not concluded from, and the next round listens again
                _LOG.exception("listening")
            for obj in self.known.items("gpuservices"):
                self.queue.add(f"service/{key_of(obj)}")

    def _all(self) -> None:
        for obj in self.known.items("gpuservices"):
            self.queue.add(f"service/{key_of(obj)}")
        self.moves.add(_FLEET, _SOON_S)
        self.queue.add(_SUPPLY, _SOON_S)
        self.nodes.add(_NODES)

    def _takes_reports(self) -> bool:
        return self._leading.is_set() and self.elector.may_write()

    def _again(self, key: str, delay_s: float) -> None:
        if key == _FLEET:
            self.moves.add(key, max(delay_s, self._pause_s))
        else:
            self.queue.add(key, delay_s)

    def _ask_plan(self) -> None:
        self.plans.add(_PLAN, _SOON_S)

    def _changed(self, plural: str, old: Object | None, new: Object | None) -> None:
        """What to look at when an object changed. Only keys are kept, so it does not matter how often."""
        obj = new or old
        if obj is None:
            return
        if plural == "gpuservices":
            edited = wanted(old, new)
            self.queue.add(f"service/{key_of(obj)}", _SEEN_S, first=edited)
            if edited:
                self._again(_FLEET, _EDITED_S if respecified(old, new) else 0.0)
        elif plural in OF_ALL:
            if matters(plural, old, new):
                self.known.changed_hardware()
                if self._leading.is_set():
                    self._all()
        elif service := key_of(obj) if plural == "plans" else service_of(obj):
            self._again(f"service/{service}", _MOMENT_S)
            self._again(_FLEET, 0.0)


def _spare_the_caches() -> None:
    """Keep the collector of cycles off the caches: plain data has none, and looking through it stops all threads."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _end() -> None:
    _LOG.error("the lease is lost: ending, since another may lead")
    logging.shutdown()
    os._exit(LOST)  # no thread may write another byte
