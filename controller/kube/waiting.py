"""Services whose load does not fit as a whole: what of them stays, what others leave them, and when to plan them again.

Pure but for what `Known` knows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import orjson

from controller.capacity import capacity_per_s
from controller.causes import fits
from controller.hardware import gpus_of, held_by_node
from controller.kube.cache import WORKLOADS
from controller.kube.counting import runs
from controller.kube.known import Known
from controller.laws import Laws
from controller.manifests.workload import Made
from controller.plans import service_key
from controller.pods import kind_of
from controller.trigger import Planned, Reason, Seen, Verdict, judge, world
from controller.when import seconds
from planner.units import counted

Object = Mapping[str, Any]
_STUCK_S = 60.0
_MORE = ("rate_step", "rate_up")  # than what did not fit
_DIGITS = 12


def unplaced(pods: Sequence[Object]) -> list[Object]:
    """Pods with GPUs that no node was found for."""
    waiting = [pod for pod in pods if not pod["spec"].get("nodeName") and not pod["metadata"].get("deletionTimestamp")]
    return [pod for pod in waiting if gpus_of(pod)]


def stuck(known: Known, pods: Sequence[Object]) -> list[Object]:
    """Pods with GPUs that found no place for a while."""
    now_s = known.clock()
    return [pod for pod in unplaced(pods) if now_s - seconds(pod["metadata"]["creationTimestamp"]) > _STUCK_S]


def cornered(
    known: Known, verdict: Verdict, before: Planned | None, pods: Sequence[Object], made: Sequence[Made]
) -> Verdict:
    """The verdict, or to plan again what was planned where no node has room for it now, once in a cool-down.

    Others may have taken what the plan counted on, a part of each node, with as many GPUs free as before.
    """
    if verdict.reason is not None or before is None or known.clock() < before.at_s + known.settings.laws.cool_down_s:
        return verdict
    groups, nodes = {one.name: one.kind.node_group for one in made}, known.nodes()
    for pod in stuck(known, pods):
        group, gpus = groups.get(kind_of(pod)), gpus_of(pod)
        if group is not None and not pod["spec"].get("schedulingGates") and not fits(nodes, group, gpus):
            return Verdict(Reason("nodes_changed", f"no node of {group} has {counted(gpus, 'GPU')} free any more"))
    return verdict


def stays_per_s(known: Known, key: str) -> float:
    """Requests/s that a service's replicas carry on nodes that are neither faulty nor lost, once they all serve."""
    out = known.facts().out
    pods = [pod for pod in known.cache.of(key, "pods") if pod["spec"].get("nodeName") not in out]
    return capacity_per_s((one.kind, one.bound) for one in runs(known.cache.of(key, *WORKLOADS), pods, known.clock()))


def others(known: Known, key: str) -> str:
    """A digest that changes with the GPUs of each group that are decided for others than a service, or held by them."""
    decided: dict[str, int] = {}
    for plan in known.items("plans"):
        for one in known.decided(plan) if service_key(plan) != key else ():
            decided[one.node_group] = decided.get(one.node_group, 0) + one.replicas * one.gpus_per_replica
    held, mine = dict.fromkeys(decided, 0), held_by_node(known.cache.of(key, "pods"))
    for node in known.nodes():  # pods that go hold theirs for a while
        held[node.group] = held.get(node.group, 0) + node.held - mine.get(node.name, 0)
    taken = {group: max(gpus, decided.get(group, 0)) for group, gpus in held.items()}
    return sha256(orjson.dumps(sorted(taken.items()))).hexdigest()[:_DIGITS]


def try_again(before: Planned, seen: Seen, left: Callable[[], str], now_s: float, laws: Laws) -> Verdict:
    """Whether to plan again what did not fit: where there is other hardware, or others left some. `left`: as `others`.

    Nothing is moved too often while there is no plan, so new hardware is not waited for. What others do is looked at
    once in a cool-down, or two that do not fit would have each other planned for ever. More than what did not fit does
    not fit either, and is planned for as soon as something else is a reason.
    """
    parts = before.hardware.split(".", 2)
    known = replace(before, hardware=".".join(parts[:2]))
    # A part of what is needed misses the objective as a matter of course.
    calm = replace(seen, samples=tuple(replace(one, slo_met=None) for one in seen.samples), overruns=frozenset())
    verdict, more_per_s = judge(known, calm, now_s, laws), None
    if verdict.reason is not None and verdict.reason.cause in _MORE:
        more_per_s = verdict.reason.rate_per_s
        verdict = judge(replace(known, rate_per_s=more_per_s or known.rate_per_s), calm, now_s, laws)
    reason = world(known, seen)
    if reason is None and now_s >= before.at_s + laws.cool_down_s and [left()] != parts[2:]:
        reason = Reason("nodes_changed", "other services hold other GPUs than before")
    if reason is None and verdict.reason is not None and verdict.reason.cause not in _MORE:
        reason = verdict.reason
    if reason is None:
        return Verdict(held=verdict.held if verdict.stale else "", stale=verdict.stale)
    return Verdict(replace(reason, rate_per_s=reason.rate_per_s or more_per_s), stale=verdict.stale)
