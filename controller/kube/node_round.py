"""What the leader does about nodes: take out those with faults while the brake lets it, drain, test, give back.

Reports come in by `hear` at any time and in any thread; a fault asks for a round at once.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from controller import names
from controller.brake import Brake, NodeState, most_out, orders
from controller.brake import BurnIn as Verdict
from controller.facts import is_out
from controller.hardware import held_by_node, holds
from controller.health import (
    BURN_IN,
    OUT_SINCE,
    approved,
    condition,
    given_back,
    has_gpus,
    node_state,
    quarantined,
    tested,
)  # fmt: skip
from controller.kube.applier import Leader, NotLeading
from controller.kube.burn_in import BurnIn, BurnIns, tried
from controller.kube.discovery import Served
from controller.kube.drain import drained
from controller.kube.known import Known
from controller.kube.rest import STRATEGIC, ApiError, Requests
from controller.lost import Down, begun, followed, given_up
from controller.means import still_late
from controller.overruns import LATE
from controller.reports import Kept, Report, escalated, fault_words, overrun_words, take
from controller.specs import service_of
from controller.status import is_ready

Object = Mapping[str, Any]
_WRITE_S = 2.0
_OVERLAY_S = 10.0
_THREADS = 8
_TRIES = 5


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
        self._burn_ins = BurnIns(api, served, leader, settings.burn_in)
        self._brake = replace(settings.brake, burn_in=bool(settings.burn_in.image))
        self.kept: dict[str, Kept] = {}
        self.held: Mapping[str, str] = {}
        self.blocked: dict[str, str] = {}  # replicas that stay on a node that is out, and why
        self._over: dict[str, frozenset[tuple[str, int]]] = {}  # what was told to be over what was planned
        self.down: Mapping[str, Down] | None = None  # nodes that do not answer; None before the first round
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

    def silence_s(self, node: Object) -> float:
        """Since the last report of a node came; since this process began where none did."""
        kept = self.kept.get(node["metadata"]["name"])
        return self._known.clock() - (self._started_s if kept is None else kept.came_s)

    def run(self) -> None:
        """One round over all nodes."""
        now_s = self._known.clock()
        every = {one["metadata"]["name"]: one for one in map(self._seen, self._known.items("nodes"))}
        self._forget(every.keys())
        nodes = {name: one for name, one in every.items() if has_gpus(one)}
        busy = held_by_node(self._known.items("pods")) if self._brake.burn_in else {}
        states = {name: replace(self._state(node), busy_gpus=busy.get(name, 0)) for name, node in nodes.items()}
        step = orders(list(states.values()), now_s, self._brake, approved(list(nodes.values())))
        self.held = step.held
        writes: list[tuple[Object, Callable[[Object], Object]]] = []
        for name in step.quarantine:
            why = states[name].fault
            writes.append((nodes[name], lambda node, why=why: quarantined(node, why, now_s)))  # type: ignore[misc]
        writes += [(nodes[name], lambda node: self._returned(node, now_s)) for name in step.give_back]
        with ThreadPoolExecutor(_THREADS) as pool:
            errors = list(pool.map(lambda row: tried(self._change, *row), writes))
            going = [*step.quarantine, *step.give_back]
            done = {name for name, error in zip(going, errors, strict=True) if error is None}
            said = {
                name: partial(condition, known=states[name], held=step.held.get(name, ""), now_s=now_s)
                for name in nodes
                if name in self.kept
            }
            told = [(nodes[name], patch) for name, patch in said.items() if patch(nodes[name]) is not None]
            errors += pool.map(lambda row: tried(self._change, *row, "status"), told)
        self._lose(every, sum(one.out_since_s is not None for one in states.values()) + len(step.quarantine))
        self._known.overrun(list(self.kept.values()))
        for name, one in list(self.kept.items()):
            over = frozenset((row.kind, row.gpu) for row in one.report.overruns)
            if not over <= self._over.get(name, frozenset()) and name in nodes:  # by how much changes all the time
                if any(self._late(one.report)):
                    continue  # requests that waited for replicas that were missing say nothing of these GPUs
                self._tell(nodes[name], "OverrunDetected", overrun_words(one.report, self._known.service_of_pod))
            self._over[name] = over
        for name in done & set(step.quarantine):
            self._tell(nodes[name], "NodeQuarantined", states[name].fault)
        for name in done & set(step.give_back):
            self._tell(nodes[name], "NodeReturned", "without a fault for long enough")
        for name, words in step.held.items():
            if states[name].fault and states[name].out_since_s is None:
                self._tell(nodes[name], "BrakeEngaged", words)
        errors.append(tried(self._prove, nodes, states, step.test))
        if self._settings.drain:
            out = {name for name, one in states.items() if one.out_since_s is not None} - (done & set(step.give_back))
            going_out = out | (done & set(step.quarantine))
            self._drain({name: nodes[name] for name in sorted(going_out)})
        for error in errors:  # one node that cannot be written holds up no other; the round is tried again for it
            if error is not None:
                raise error

    def _late(self, report: Report) -> Iterator[bool]:
        """For each service that is over what was planned, whether it may still serve what is late since an outage."""
        known, pods = self._known, {gpu.gpu: gpu.pods for gpu in report.gpus}
        over = {pod[:2] for one in report.overruns if one.kind == LATE for pod in pods.get(one.gpu, ())}
        for service in {known.service_of_pod(*pod) for pod in over} - {""}:
            short_s = known.short.get(service, float("-inf"))
            yield still_late(known.samples(service), short_s, known.clock(), known.settings.laws)

    def _lose(self, nodes: Mapping[str, Object], out: int) -> None:
        """Find which nodes are lost, within what the brake leaves."""
        now_s, laws, before = self._known.clock(), self._known.settings.laws, self._known.lost
        fleet = {name: node for name, node in nodes.items() if has_gpus(node)}
        ready = {name: is_ready(node) for name, node in fleet.items() if not is_out(node)}
        down = followed(begun(fleet, now_s) if self.down is None else self.down, ready, now_s, laws)
        busy = _busy(self._known.items("pods")) if down else frozenset()
        room = most_out(len(fleet), self._brake) - out
        self.down, held = given_up(down, busy, room, now_s, laws)
        self._known.lose(frozenset(name for name, one in self.down.items() if one.lost))
        for name in self._known.lost - before:
            self._tell(nodes[name], "NodeLost", f"not ready for {now_s - self.down[name].since_s:.0f} s")
        for name in (before - self._known.lost) & ready.keys():
            self._tell(nodes[name], "NodeFound", "ready again for long enough")
        self.held = {**held, **self.held}
        for name, words in held.items():
            self._tell(nodes[name], "BrakeEngaged", words)

    def _forget(self, names: Collection[str]) -> None:
        """Keep nothing of nodes that are gone."""
        kept: tuple[dict[str, Any], ...] = (self.kept, self._over, self._written)
        for each in kept:
            for name in each.keys() - names:
                each.pop(name, None)

    def _state(self, node: Object) -> NodeState:
        """A node that nobody told of since this process began is silent from then on."""
        found = node_state(node, self.kept.get(node["metadata"]["name"]))
        return found if found.heard_s else replace(found, heard_s=self._started_s)

    def _returned(self, node: Object, now_s: float) -> Object:
        """The patch that gives a node back; its burn-in is over, whatever came of it."""
        if BURN_IN in (node["metadata"].get("annotations") or {}):
            self._burn_ins.end(node)
        return given_back(node, now_s)

    def _seen(self, node: Object) -> Object:
        """A node as the cache has it, or as it was last written where the cache does not show that yet."""
        written = self._written.get(node["metadata"]["name"])
        if written is None or time.monotonic() - written[1] > _OVERLAY_S:
            return node
        newer = int(written[0]["metadata"]["resourceVersion"]) > int(node["metadata"]["resourceVersion"])
        return written[0] if newer else node

    def _change(self, node: Object, patch: Callable[[Object], Object | None], subresource: str = "") -> None:
        """Patch a node as it is seen; if it changed meanwhile, as heartbeats do, as it is. None: nothing is to change.

        Each patch names the version that it was made for, so what a leader that was frozen still sends is refused.
        """
        node = self._seen(node)
        for turn in range(_TRIES):
            if (wanted := patch(node)) is None:
                return
            meta = {**wanted.get("metadata", {}), "resourceVersion": node["metadata"]["resourceVersion"]}
            try:
                self._patch(node["metadata"]["name"], {**wanted, "metadata": meta}, subresource)
                return
            except ApiError as error:
                if error.status == 404:
                    return
                if error.status != 409 or turn + 1 == _TRIES:
                    raise
            node = self._api.request("GET", f"/api/v1/nodes/{node['metadata']['name']}", timeout_s=_WRITE_S)

    def note(self, node: Object, notes: Mapping[str, str | None]) -> None:
        """Write annotations of a node; None takes one away."""
        self._change(node, lambda _: {"metadata": {"annotations": notes}})

    def _patch(self, name: str, patch: Object, subresource: str = "") -> None:
        if not self._leader.may_write():
            raise NotLeading("node: got a process that does not lead, allowed: the holder of the lease")
        path = "/".join(part for part in (f"/api/v1/nodes/{name}", subresource) if part)
        query = {"fieldManager": names.NODES}
        stored = self._api.request("PATCH", path, patch, query=query, content_type=STRATEGIC, timeout_s=_WRITE_S)
        self._written[name] = stored, time.monotonic()

    def _prove(self, nodes: Mapping[str, Object], states: Mapping[str, NodeState], due: Sequence[str]) -> None:
        """Begin burn-ins that are due and note how the others ended; a new fault undoes what was found before it."""
        for name in due:
            self._burn_ins.begin(nodes[name])
            self._change(nodes[name], partial(_tested, nodes[name], "running"))
            self._tell(nodes[name], "BurnInStarted", "proves its GPUs before it takes replicas again")
        for name, one in states.items():
            if one.out_since_s is None or one.burn_in == "none":
                continue
            if one.fault:
                self._burn_ins.end(nodes[name])
                self._change(nodes[name], partial(_tested, nodes[name], "none"))
            elif one.burn_in == "running" and (came_to := self._burn_ins.found(nodes[name])) != "running":
                self._change(nodes[name], partial(_tested, nodes[name], came_to))
                passed = came_to == "passed"
                what = "its GPUs are proved" if passed else "it stays out until a person approves; see the Job's log"
                self._tell(nodes[name], "BurnInPassed" if passed else "BurnInFailed", what)

    def _drain(self, out: Mapping[str, Object]) -> None:
        """Evict replicas from nodes that are out; what has to stay is told and tried again."""
        blocked = drained(self._known, self._api, self._served, self._leader, out)
        self.blocked = self._known.blocked = blocked
        for name, node in out.items():
            if why := [words for words in blocked.values() if words.endswith(f" on {name})")]:
                more = f" (and {len(why) - 1} more)" if len(why) > 1 else ""
                self._tell(node, "DrainBlocked", why[0] + more)


def _busy(pods: Sequence[Object]) -> frozenset[str]:
    """Nodes that hold replicas which were not told to go."""
    ours = (one for one in pods if service_of(one) and not one["metadata"].get("deletionTimestamp"))
    return frozenset(one["spec"]["nodeName"] for one in ours if holds(one))


def _tested(seen: Object, verdict: Verdict, node: Object) -> Object | None:
    """The patch that notes how far a burn-in is, of a node that is out since it was seen so; None for another time."""
    was, now = (one["metadata"].get("annotations") or {} for one in (seen, node))
    return tested(verdict) if all(was.get(key) == now.get(key) for key in (OUT_SINCE, BURN_IN)) else None
