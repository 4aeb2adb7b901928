"""What the leader does about nodes: take out those with faults while the brake lets it, drain, test, give back.

Reports come in by `hear` at any time and in any thread; a fault asks for a round at once.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from controller import names
from controller.brake import Brake, NodeState, orders
from controller.health import (
    approved,
    burn_in_job,
    condition,
    given_back,
    has_gpus,
    node_state,
    quarantined,
    tested,
    verdict,
)  # fmt: skip
from controller.kube.applier import Leader, NotLeading
from controller.kube.discovery import Served
from controller.kube.known import Known
from controller.kube.rest import STRATEGIC, ApiError, Requests
from controller.reports import Kept, Report, escalated, fault_words, take

Object = Mapping[str, Any]
_WRITE_S = 2.0
_OVERLAY_S = 10.0
_THREADS = 8
_TRIES = 5


@dataclass(frozen=True)
class BurnIn:
    """How a node is proved before it comes back; without an image, probation alone decides."""

    image: str = ""
    command: Sequence[str] = ()
    namespace: str = "muster-system"


@dataclass(frozen=True)
class NodeSettings:
    """What an operator chooses about nodes. `drain`: evict replicas from nodes that are out.

    `out_for`: detectors whose finds take a GPU out though it still works, such as slow_clock.
    """

    brake: Brake = field(default_factory=Brake)
    burn_in: BurnIn = field(default_factory=BurnIn)
    drain: bool = True
    out_for: frozenset[str] = frozenset()


class NodeRound:
    """`soon` asks for a round."""

    def __init__(
        self,
        known: Known,
        api: Requests,
        served: Served,
        leader: Leader,
        settings: NodeSettings,
        soon: Callable[[], None],
        tell: Callable[[Object, str, str], None],
    ) -> None:
        self._known, self._api, self._served, self._leader = known, api, served, leader
        self._settings, self._soon, self._tell = settings, soon, tell
        self._brake = replace(settings.brake, burn_in=bool(settings.burn_in.image))
        self.kept: dict[str, Kept] = {}
        self.held: Mapping[str, str] = {}
        self.blocked: dict[str, str] = {}  # pods that a disruption budget keeps on a node that is out
        self._started_s = known.clock()
        self._written: dict[str, tuple[Object, float]] = {}

    def hear(self, report: Report, node: str, now_s: float) -> Kept:
        """Take a report of a node; raises BadReport. Of one node, reports come one after the other."""
        report = escalated(report, self._settings.out_for)
        before = self.kept.get(node)
        after = self.kept[node] = take(report, node, before, now_s)
        if before is None or fault_words(before.report) != fault_words(report):
            self._soon()
        return after

    def run(self) -> None:
        """One round over all nodes."""
        now_s = self._known.clock()
        nodes = {one["metadata"]["name"]: one for one in map(self._seen, self._known.items("nodes")) if has_gpus(one)}
        states = {name: self._state(node) for name, node in nodes.items()}
        step = orders(list(states.values()), now_s, self._brake, approved(list(nodes.values())))
        self.held = step.held
        writes: list[tuple[Object, Callable[[Object], Object]]] = []
        for name in step.quarantine:
            why = states[name].fault
            writes.append((nodes[name], lambda node, why=why: quarantined(node, why, now_s)))  # type: ignore[misc]
        writes += [(nodes[name], lambda node: given_back(node, now_s)) for name in step.give_back]
        with ThreadPoolExecutor(_THREADS) as pool:
            errors = list(pool.map(lambda row: _tried(self._change, *row), writes))
            going = [*step.quarantine, *step.give_back]
            done = {name for name, error in zip(going, errors, strict=True) if error is None}
            told = [
                (name, patch)
                for name, node in nodes.items()
                if name in self.kept
                and (patch := condition(node, states[name], step.held.get(name, ""), now_s)) is not None
            ]
            errors += pool.map(lambda row: _tried(self._patch, *row, "status"), told)
        for name in done & set(step.quarantine):
            self._tell(nodes[name], "NodeQuarantined", states[name].fault)
        for name in done & set(step.give_back):
            self._tell(nodes[name], "NodeReturned", "without a fault for long enough")
        for name, words in step.held.items():
            if states[name].fault and states[name].out_since_s is None:
                self._tell(nodes[name], "BrakeEngaged", words)
        for name in step.test:
            self._test(nodes[name])
        self._look_at_tests(nodes, states)
        if self._settings.drain:
            self._drain(
                {name for name, one in states.items() if one.out_since_s is not None} | (done & set(step.quarantine))
            )
        for error in errors:  # one node that cannot be written holds up no other; the round is tried again for it
            if error is not None:
                raise error

    def _state(self, node: Object) -> NodeState:
        """A node that nobody told of since this process began is silent from then on."""
        found = node_state(node, self.kept.get(node["metadata"]["name"]))
        return found if found.heard_s else replace(found, heard_s=self._started_s)

    def _seen(self, node: Object) -> Object:
        """A node as the cache has it, or as it was last written where the cache does not show that yet."""
        written = self._written.get(node["metadata"]["name"])
        if written is None or time.monotonic() - written[1] > _OVERLAY_S:
            return node
        newer = int(written[0]["metadata"]["resourceVersion"]) > int(node["metadata"]["resourceVersion"])
        return written[0] if newer else node

    def _change(self, node: Object, patch: Callable[[Object], Object]) -> None:
        """Patch a node as it is seen; if it changed meanwhile, as heartbeats do, as it is."""
        name = node["metadata"]["name"]
        for _ in range(_TRIES):
            try:
                self._patch(name, patch(node))
                return
            except ApiError as error:
                if error.status != 409:
                    raise
            node = self._api.request("GET", f"/api/v1/nodes/{name}", timeout_s=_WRITE_S)

    def _patch(self, name: str, patch: Object, subresource: str = "") -> None:
        if not self._leader.may_write():
            raise NotLeading("node: got a process that does not lead, allowed: the holder of the lease")
        path = "/".join(part for part in (f"/api/v1/nodes/{name}", subresource) if part)
        query = {"fieldManager": names.NODES}
        try:
            stored = self._api.request("PATCH", path, patch, query=query, content_type=STRATEGIC, timeout_s=_WRITE_S)
        except ApiError as error:
            if error.status != 404:
                raise
            return
        self._written[name] = stored, time.monotonic()

    def _test(self, node: Object) -> None:
        """Begin a burn-in."""
        name, how = node["metadata"]["name"], self._settings.burn_in
        gpus = int((node["status"].get("allocatable") or {}).get("nvidia.com/gpu", 0))
        job = burn_in_job(name, how.namespace, how.image, how.command, gpus)
        try:
            self._api.request("POST", self._served.need("jobs").path(how.namespace), job, timeout_s=_WRITE_S)
        except ApiError as error:
            if error.status != 409:
                raise
        self._patch(name, tested("running"))

    def _look_at_tests(self, nodes: Mapping[str, Object], states: Mapping[str, NodeState]) -> None:
        how = self._settings.burn_in
        for name, one in states.items():
            if one.burn_in != "running":
                continue
            job = burn_in_job(name, how.namespace, how.image, how.command, 0)["metadata"]["name"]
            path = self._served.need("jobs").path(how.namespace, job)
            try:
                came_to = verdict(self._api.request("GET", path, timeout_s=_WRITE_S))
            except ApiError as error:
                if error.status != 404:
                    raise
                came_to = "failed"  # whoever deleted it did not see it pass
            if came_to != "running":
                self._patch(name, tested(came_to))

    def _drain(self, out: set[str]) -> None:
        """Evict replicas from nodes that are out; what a disruption budget forbids is told and tried again."""
        blocked = {}
        budget = self._served.need("poddisruptionbudgets").version
        for pod in self._known.items("pods") if out else ():
            meta = pod["metadata"]
            ours = names.SERVICE in (meta.get("labels") or {})
            if not ours or pod["spec"].get("nodeName") not in out or meta.get("deletionTimestamp"):
                continue
            if not self._leader.may_write():
                raise NotLeading("drain: got a process that does not lead, allowed: the holder of the lease")
            where = {"name": meta["name"], "namespace": meta["namespace"]}
            path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/eviction"
            try:
                self._api.request(
                    "POST", path, {"apiVersion": budget, "kind": "Eviction", "metadata": where}, timeout_s=_WRITE_S
                )
            except ApiError as error:
                if error.status == 429:
                    blocked[f"{meta['namespace']}/{meta['name']}"] = str(error)
                elif error.status != 404:
                    raise
        self.blocked = blocked


def _tried(write: Callable[..., None], *about: object) -> ApiError | None:
    """What the API server refused, if it did."""
    try:
        write(*about)
    except ApiError as error:
        return error
    return None
