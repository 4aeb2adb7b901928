"""What the leader knows besides the caches: specs as read, kinds as made, what waits to be planned, what was heard."""

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from controller.capacity import capacity_per_s
from controller.ceilings import Ceilings, priority, ranked
from controller.cluster import Allowance, Hold, Node, Running
from controller.demand import Fleet, faulty, wanted_gpus
from controller.facts import Facts, facts
from controller.hardware import groups_of
from controller.kube.cache import WORKLOADS
from controller.kube.caches import Caches
from controller.kube.counting import Counting, runs
from controller.kube.discovery import Served
from controller.kube.taken import Taken
from controller.laws import Laws
from controller.manifests.passthrough import refused
from controller.manifests.pod import unservable
from controller.manifests.workload import Made, kinds
from controller.overruns import lasting
from controller.plans import allocations, carried_for, planned
from controller.quotas import allowances, digest, left, on
from controller.reports import Kept
from controller.specs import at_rate, key_of, service, service_of
from controller.trigger import Reason, Sample
from planner.catalog import gpu
from planner.errors import UnknownName
from planner.plan import Allocation
from planner.service import Bucket, ServiceSpec

Object = Mapping[str, Any]
_MOST_SAMPLES = 512
_SHORT_RATIO = 0.98  # sums of shares are not exact


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator of the fleet chooses. `most_moving`: replicas that may start or stop at once.

    `ceilings`: of priorities; `hears`: whether rates are listened for; where nobody listens, silence says nothing.
    """

    laws: Laws = field(default_factory=Laws)
    most_moving: int = 8
    ceilings: Ceilings = field(default_factory=Ceilings)
    hears: bool = False


class Known:
    """Thread-safe. Everything here can be lost: it is found again from the cluster, or heard again."""

    def __init__(self, cache: Caches, served: Served, clock: Callable[[], float], settings: Settings) -> None:
        self.cache, self.served, self.clock, self.settings = cache, served, clock, settings
        self.held: Mapping[str, Hold] = {}  # by the last round of the fleet
        self.blocked: Mapping[str, str] = {}  # replicas that should leave faulty nodes and can't yet
        self.errors: dict[str, str] = {}  # of what was last written for a service
        self.lost: frozenset[str] = frozenset()  # nodes that do not answer, and are done without
        self.unrouted: Mapping[str, str] = {}  # services whose routes could not be written, and why
        self.taken = Taken(clock)
        self.unranked: Mapping[str, str] = {}  # services without their PriorityClass, and why
        self.planning_failed: dict[str, str] = {}  # services whose planning failed, and why
        self.rates: dict[str, Mapping[Bucket, float]] = {}
        self.short: dict[str, float] = {}  # when ready replicas last carried less than planned
        self.asked: dict[str, float] = {}  # rates that services were planned for in vain: nothing was cheaper
        self.overruns: Mapping[str, frozenset[str]] = {}  # that last, by service, as agents tell
        self.planned_over: dict[str, frozenset[str]] = {}  # those that the plan in force was made for
        self._wanted: dict[str, Reason] = {}
        self._samples: dict[str, deque[Sample]] = {}
        self._specs: dict[str, tuple[object, ServiceSpec | list[str]]] = {}
        self._made: dict[str, tuple[object, tuple[list[Made], str]]] = {}
        self._decided: dict[str, tuple[object, tuple[Allocation, ...]]] = {}
        self._counting = Counting()
        self._facts: Facts | None = None
        self._changes = 0  # of hardware
        self._lock = threading.Lock()

    def service(self, key: str) -> Object | None:
        """A GPUService by its key."""
        space, _, name = key.partition("/")
        return self.cache.get("gpuservices", space, name)

    def plan(self, key: str) -> Object | None:
        """The Plan of a service."""
        return self.cache.get("plans", *key.split("/", 1))

    def items(self, plural: str) -> list[Object]:
        """All objects of a resource."""
        found = self.cache.informers.get(plural)
        return [] if found is None else found.items()

    def changed_hardware(self) -> None:
        """Nodes, inventories or quotas changed."""
        with self._lock:
            self._changes, self._facts = self._changes + 1, None

    def lose(self, lost: frozenset[str]) -> None:
        """Which nodes do not answer, and are to be done without."""
        if lost != self.lost:
            self.lost = lost
            self.changed_hardware()

    def facts(self) -> Facts:
        """What all services share now."""
        with self._lock:
            found, changes = self._facts, self._changes
        if found is None:
            found = facts(
                self.items("clusterinventories"), self.items("nodes"), self.items("powerdomains"),
                self.items("resourcequotas"), gpu_of_product, self.lost,
            )  # fmt: skip
            with self._lock:
                if changes == self._changes:  # else what was read here may be from before the change
                    self._facts = found
        return found

    def fleet(self) -> Fleet:
        """What planning sees."""
        world = self.cache.world()
        decided = {key_of(one): self.decided(one) for one in world["plans"]}
        pods = world["pods"]
        held = self._counting.held(pods)
        return Fleet(
            world["clusterinventories"], world["powerdomains"], world["nodes"], pods,
            self._counting.runs(world.workloads, pods, self.clock(), lost=self.lost), decided, gpu_of_product,
            without=self.lost, held=held,
            seen=self._counting.nodes(world["nodes"], groups_of(world["clusterinventories"]), held),
            services=self._ranked(world["gpuservices"]), quotas=world["resourcequotas"],
        )  # fmt: skip

    def nodes(self) -> tuple[Node, ...]:
        """The nodes of all groups, with what is held of them."""
        held = self._counting.held(self.items("pods"))
        return self._counting.nodes(self.items("nodes"), self.facts().groups, held)

    def allowances(self) -> tuple[Allowance, ...]:
        """What the services of namespaces with quotas may hold."""
        pods, services = self.items("pods"), self._ranked(self.items("gpuservices"))
        return allowances(self.facts().quotas, services, lambda space: self._counting.loose(pods, space))

    def quota(self, key: str, before: str | None = None) -> str:
        """What changes with the quotas that a service is under, and with what others leave of them.

        `before`: that at another time, from which the latter is kept unless a move waits for room.
        """
        obj, space = self.service(key), key.partition("/")[0]
        limits = self.facts().quotas.get(space, ())
        mine = [] if obj is None else [one for one in limits if on(one, self.ranked(obj))]
        if not mine:
            return ""
        hold = self.held.get(key)
        if before is not None and (hold is None or hold.reason != "NoSpareCapacity"):
            return f"{digest(mine)}.{before.partition('.')[2]}"
        pods = self._counting.loose(self.items("pods"), space)
        others = [one for one in self._ranked(self.items("gpuservices")) if key_of(one) != key]
        taken = wanted_gpus({key_of(one): self.decided(one) for one in self.items("plans")}, ())
        return f"{digest(mine)}.{min(left(one, others, pods, taken) for one in mine)}"

    def carried(self, key: str, planned_per_s: float) -> float:
        """Requests/s that a service's ready replicas carry; where that is less than planned, the time is kept."""
        found = capacity_per_s((one.kind, one.ready) for one in self.running(key))
        if found < _SHORT_RATIO * planned_per_s:
            self.short[key] = self.clock()
        return found

    def running(self, key: str, out: Collection[str] = ()) -> list[Running]:
        """A service's kinds as they run. `out`: nodes with faults."""
        return runs(self.cache.of(key, *WORKLOADS), self.cache.of(key, "pods"), self.clock(), frozenset(out), self.lost)

    def _ranked(self, services: Iterable[Object]) -> list[Object]:
        return [self.ranked(one) for one in services]

    def ranked(self, obj: Object) -> Object:
        """A service with the priority that counts."""
        return ranked(obj, self.settings.ceilings)

    def priority(self, obj: Object) -> int:
        """The priority of a service that counts."""
        return priority(obj, self.settings.ceilings)

    def spec_of(self, key: str) -> ServiceSpec | None:
        """A service's spec by its key; None for one that is gone or whose spec is refused."""
        obj = self.service(key)
        spec = None if obj is None else self.spec(obj)
        return spec if isinstance(spec, ServiceSpec) else None

    def spec(self, obj: Object) -> ServiceSpec | list[str]:
        """A service's spec or its problems, read once for each generation."""
        key, mark = key_of(obj), (obj["metadata"]["uid"], obj["metadata"].get("generation"))
        found = self._specs.get(key)
        if found is None or found[0] != mark:
            read = service(obj)
            if isinstance(read, ServiceSpec):
                read = replace(read, priority=self.priority(obj))
            template = (obj["spec"].get("serving") or {}).get("podTemplate") or {}
            if more := [f"spec.serving.podTemplate.{text}" for text in refused(template)]:
                read = [*(read if isinstance(read, list) else ()), *more]
            found = self._specs[key] = (mark, read)
        return found[1]

    def made(self, obj: Object, plan: Object | None) -> list[Made]:
        """The kinds that a service's plan asks for."""
        spec = self.spec(obj)
        return [] if plan is None or isinstance(spec, list) else self._of_plan(obj, spec, plan)[0]

    def _of_plan(self, obj: Object, spec: ServiceSpec, plan: Object) -> tuple[list[Made], str]:
        """What a plan asks for, and why it could not be started, for each version of all that it depends on."""
        key, facts, meta = key_of(obj), self.facts(), obj["metadata"]
        mark = (meta["uid"], meta.get("generation"), _version(plan), facts.groups, facts.gpus_per_node)
        found = self._made.get(key)
        if found is None or found[0] != mark:
            decided, most = self.decided(plan), facts.gpus_per_node
            rate_per_s = carried_for(plan["spec"]) if plan["spec"].get("planned") else None
            rates = at_rate(spec, rate_per_s).workload.rates_per_s
            here = kinds(self.ranked(obj), decided, rates, facts.groups, most)
            said = (unservable(obj, one, most.get(one.node_group, 0), self.served) for one in decided)
            found = self._made[key] = (mark, (here, next(filter(None, said), "")))
            self.rates[key] = rates
        return found[1]

    def decided(self, plan: Object) -> tuple[Allocation, ...]:
        """The allocations of a Plan that are in force, read once for each version."""
        key = key_of(plan)
        found = self._decided.get(key)
        if found is None or found[0] != _version(plan):
            found = self._decided[key] = (_version(plan), allocations(plan["spec"].get("allocations") or ()))
        return found[1]

    def unservable(self, obj: Object, plan: Object) -> str:
        """Why a service's plan could not be started as it is, in words; empty if it can."""
        spec = self.spec(obj)
        return "" if isinstance(spec, list) else self._of_plan(obj, spec, plan)[1]

    def faulty(self, key: str) -> frozenset[str]:
        """Nodes out for faults, or lost, that hold a service's replicas, or did when it was last planned."""
        plan = self.plan(key)
        before = planned(plan) if plan is not None else None
        return faulty(self.facts().out, self.cache.of(key, "pods"), before.faulty if before else frozenset())

    def hear(self, key: str, sample: Sample) -> None:
        """Keep what was heard of a service."""
        with self._lock:
            self._samples.setdefault(key, deque(maxlen=_MOST_SAMPLES)).append(sample)

    def samples(self, key: str) -> tuple[Sample, ...]:
        """What was heard of a service lately, the oldest first."""
        with self._lock:
            return tuple(self._samples.get(key, ()))

    def want(self, key: str, reason: Reason) -> None:
        """Have a service planned."""
        with self._lock:
            self._wanted[key] = reason

    def wanted(self) -> dict[str, Reason]:
        """The services that wait to be planned."""
        with self._lock:
            return dict(self._wanted)

    def answered(self, key: str, reason: Reason | None = None) -> None:
        """A service was planned for a reason, unless there is a newer one; None for whatever reason."""
        with self._lock:
            if reason is None or self._wanted.get(key) == reason:
                self._wanted.pop(key, None)

    def overrun(self, kept: Iterable[Kept]) -> None:
        """Take in what agents tell of replicas that are over what they were given. What is over may come anew."""
        now_s, least_s = self.clock(), self.settings.laws.slo_window_s
        self.overruns = lasting(kept, self.service_of_pod, now_s, least_s)
        self.planned_over = {key: mine & self.overruns.get(key, frozenset()) for key, mine in self.planned_over.items()}

    def service_of_pod(self, space: str, pod: str) -> str:
        """The service of a pod; empty for none of ours."""
        found = self.cache.get("pods", space, pod)
        return "" if found is None else service_of(found) or ""

    def forget(self, key: str) -> None:
        """A service is gone."""
        self.answered(key)
        with self._lock:
            self._samples.pop(key, None)
        self.taken.forget(key)
        told: tuple[dict[str, Any], ...] = (self.errors, self.planning_failed, self.rates, self.asked, self.short)
        for each in (*told, self.planned_over, self._specs, self._made, self._decided):
            each.pop(key, None)


def _version(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["uid"], obj["metadata"]["resourceVersion"]


def gpu_of_product(label: str) -> str | None:
    """The catalogue's name of a GPU by its node label; None for one that is not known."""
    try:
        return gpu(label).name
    except UnknownName:
        return None
