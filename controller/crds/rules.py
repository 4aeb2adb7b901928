"""Rules between fields: each in CEL for API servers that know it, and in Python for those that prune CEL silently.

The controller runs `broken` on every object that it reads, so that a rule holds on any server. What CEL cannot say
(sums, durations, names of the catalogue) the planner's own validation says.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from planner.spec.fields import PATTERNS, SERVICE_NAME

Value: TypeAlias = Mapping[str, Any]
Reason: TypeAlias = Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold of the value at `at` (a path from the object; `*` is every entry), `field` being to blame."""

    kind: str
    at: tuple[str, ...]
    cel: str
    holds: Callable[[Value, Value | None], bool]
    message: str
    field: str = ""
    reason: Reason = "FieldValueInvalid"

    @property
    def on_change(self) -> bool:
        """Whether the rule compares with the object as it was."""
        return "oldSelf" in self.cel


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that an object breaks, and where."""

    path: str
    reason: Reason
    message: str


def alternatives(kind: str) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Where exactly one of some keys stands, and which they are."""
    words = "allowed: one of "
    one_of = (rule for rule in RULES if rule.kind == kind and rule.message.startswith(words))
    return [(rule.at, tuple(rule.message.removeprefix(words).split(", "))) for rule in one_of]


def broken(kind: str, new: Value, old: Value | None = None) -> list[Broken]:
    """Every rule that an object with its defaults filled in breaks, in the order of the rules."""
    return [
        Broken((path + rule.field).removeprefix("."), rule.reason, rule.message)
        for rule in RULES
        if rule.kind == kind
        for path, value, before in _found(new, old, rule.at, "")
        if not (rule.on_change and before is None) and not rule.holds(value, before)
    ]


def _found(new: Any, old: Any, at: tuple[str, ...], path: str) -> Iterator[tuple[str, Value, Value | None]]:
    """The values at a path, and what stood there before."""
    if not at:
        yield path.removeprefix("."), new, old
    elif at[0] == "*":
        for index, entry in enumerate(new):  # entries are matched with none of before: no such rule looks back
            yield from _found(entry, None, at[1:], f"{path}[{index}]")
    elif isinstance(new, Mapping) and new.get(at[0]) is not None:
        before = old.get(at[0]) if isinstance(old, Mapping) else None
        yield from _found(new[at[0]], before, at[1:], f"{path}.{at[0]}")


def _one_of(*keys: str) -> tuple[str, Callable[[Value, Value | None], bool]]:
    """Exactly one of some keys, in CEL and in Python."""
    counted = " + ".join(f"(has(self.{key}) ? 1 : 0)" for key in keys)
    return f"{counted} == 1", lambda new, old: sum(key in new for key in keys) == 1


def _redundant(new: Value, old: Value | None) -> bool:
    lost = new.get("redundancy", {}).get("replicas", 0)
    return "maxReplicas" not in new or bool(lost < new["maxReplicas"])


def _apart(new: Value, old: Value | None) -> bool:
    return not set(new.get("allowed", ())) & set(new.get("excluded", ()))


def _named(name: str | None) -> bool:
    return name is None or re.fullmatch(SERVICE_NAME, name) is not None


_SPEC, _LOAD, _LIMITS = ("spec",), ("spec", "workload"), ("spec", "constraints")
_GROUP = ("spec", "nodeGroups", "*")
_SERVICE, _INVENTORY = "GPUService", "ClusterInventory"
RULES = (
    Rule(
        _SERVICE, (), f"self.metadata.name.matches('{SERVICE_NAME}')",
        lambda new, old: _named(new.get("metadata", {}).get("name")),
        f"Services are called after it; allowed: {PATTERNS[SERVICE_NAME]}", ".metadata.name",
    ),
    Rule(_SERVICE, _LOAD, *_one_of("ratePerSecond", "rates"), "allowed: one of ratePerSecond, rates"),
    Rule(_SERVICE, _LOAD, *_one_of("buckets", "distribution"), "allowed: one of buckets, distribution"),
    Rule(
        _SERVICE, _LOAD, "!has(self.trace)", lambda new, old: "trace" not in new,
        "a trace is a file beside the spec, which a cluster lacks; allowed: buckets or distribution",
        ".trace", "FieldValueForbidden",
    ),
    Rule(
        _SERVICE, (*_LOAD, "rates"), "has(self.perSecond)", lambda new, old: "perSecond" in new,
        "got no rates, allowed: perSecond, a list of rates", ".perSecond", "FieldValueRequired",
    ),
    Rule(
        _SERVICE, _SPEC, "(self.deployment == 'online') == has(self.slos)",
        lambda new, old: (new["deployment"] == "online") == ("slos" in new),
        "allowed: slos in an online deployment, none in a batch deployment", ".slos",
    ),
    Rule(
        _SERVICE, _SPEC, "!has(self.slos) || self.slos.size() == 1 || self.slos.all(slo, has(slo.share))",
        lambda new, old: len(new.get("slos", ())) == 1 or all("share" in slo for slo in new.get("slos", ())),
        "allowed: a share in each of several SLO classes", ".slos", "FieldValueRequired",
    ),
    Rule(
        _SERVICE, ("spec", "slos", "*"), "has(self.ttft) || has(self.tpot) || has(self.e2e)",
        lambda new, old: any(key in new for key in ("ttft", "tpot", "e2e")),
        "got no latency, allowed: at least one of ttft, tpot, e2e", "", "FieldValueRequired",
    ),
    Rule(
        _SERVICE, _LIMITS, "!has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
        lambda new, old: "maxReplicas" not in new or bool(new["minReplicas"] <= new["maxReplicas"]),
        "allowed: at most maxReplicas", ".minReplicas",
    ),
    Rule(
        _SERVICE, _LIMITS,
        "!has(self.maxReplicas) || !has(self.redundancy) || self.redundancy.replicas < self.maxReplicas",
        _redundant, "allowed: redundancy.replicas below maxReplicas", ".redundancy.replicas",
    ),
    Rule(
        _SERVICE, (*_LIMITS, "gpuTypes"), "!has(self.allowed) || !self.allowed.exists(gpu, gpu in self.excluded)",
        _apart, "allowed: a GPU type in one list only", ".allowed",
    ),
    Rule(
        _SERVICE, ("spec", "serving", "weights"), *_one_of("pvc", "huggingFace", "image"),
        "allowed: one of pvc, huggingFace, image",
    ),
    Rule(
        "Plan", _SPEC, "self.service == oldSelf.service",
        lambda new, old: old is not None and bool(new["service"] == old["service"]),
        "a plan stays with its service; allowed: the service it had", ".service", "FieldValueForbidden",
    ),
    Rule(
        _INVENTORY, _GROUP, "has(self.gpu) || has(self.nodeSelector) && self.nodeSelector.size() > 0",
        lambda new, old: bool(new.get("gpu") or new.get("nodeSelector")),
        "got neither, allowed: nodeSelector with a label of the group's nodes, or gpu for all nodes that have it",
        ".nodeSelector", "FieldValueRequired",
    ),
    Rule(
        _INVENTORY, _GROUP, "!(self.owned && has(self.pricePerHour))",
        lambda new, old: not (new["owned"] and "pricePerHour" in new),
        "allowed: either owned: true or pricePerHour", ".pricePerHour", "FieldValueForbidden",
    ),
    Rule(
        _INVENTORY, _GROUP, "!(self.owned && self.spot)", lambda new, old: not (new["owned"] and new["spot"]),
        "allowed: either owned or spot", ".spot",
    ),
    Rule(
        _INVENTORY, _GROUP, "!self.spot || has(self.pricePerHour)",
        lambda new, old: not new["spot"] or "pricePerHour" in new,
        "no catalogue knows the price of spot nodes; allowed: pricePerHour such as $2.40",
        ".pricePerHour", "FieldValueRequired",
    ),
    Rule(
        _INVENTORY, _GROUP, "!has(self.commitment) || !(self.owned || self.spot)",
        lambda new, old: "commitment" not in new or not (new["owned"] or new["spot"]),
        "allowed: commitments for on-demand nodes", ".commitment", "FieldValueForbidden",
    ),
)  # fmt: skip
