"""What a decision changes, in words: why, what ran and what will, what it costs, and what is expected of it. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from controller.plans import allocations, carried_for, counts
from controller.trigger import Reason
from planner.plan import Allocation, ClassLatency
from planner.service import SLO
from planner.units import rate_words

Object = Mapping[str, Any]
_SHOWN = 4
_OTHER_RATE = 0.005
LATENCIES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "end to end"}


def effect(reason: Reason, old: Object, new: Object, slos: Sequence[SLO] = ()) -> str:
    """A plan's spec beside the one before (empty for none); empty where the new one is no outcome to act on.

    A plan that waits for approval tells of what it proposes, one for a part of the load how much that is.
    """
    after = new.get("proposal") or new
    part_per_s, (before_per_s, after_per_s) = new.get("partPerSecond"), map(carried_for, (old, after))
    if new.get("infeasible") is not None and (not part_per_s or old.get("decisionId") == new.get("decisionId")):
        return ""
    were, are = (_read(spec) for spec in (old, after))
    before = f"{old.get('usdPerHour', 0.0):,.2f}" if old.get("allocations") else "0.00"
    change = _changes(were, are) or unmoved(reason.cause, before_per_s, after_per_s)
    told = [f"{reason.text}: {change}", f"${before}/h before, ${after.get('usdPerHour', 0.0):,.2f}/h now"]
    if part_per_s:
        told.insert(1, in_part(new))
    if expected := _expected(are, slos):
        told.append(f"expected {expected}")
    proposed = "proposed, " if new.get("proposal") else ""
    return proposed + "; ".join(told)


def unmoved(cause: str, before_per_s: float | None, after_per_s: float | None) -> str:
    """What a plan changes where it changes no count of replicas. Rates: that each is for, where that is known."""
    if cause == "fault":
        return "as many replicas as before, on other GPUs than the faulty ones"
    if before_per_s and after_per_s and abs(after_per_s - before_per_s) >= _OTHER_RATE * before_per_s:
        return f"the same replicas, for {rate_words(after_per_s)} instead of {rate_words(before_per_s)} requests/s"
    return "the same replicas, for requests of other sizes" if cause == "size_drift" else "the same replicas"


def in_part(spec: Object) -> str:
    """How much a Plan that is for a part of the load carries; empty for one that is for all or nothing of it."""
    if not (part_per_s := spec.get("partPerSecond")):
        return ""
    asked_per_s = float((spec.get("planned") or {}).get("ratePerSecond") or 0.0)
    return f"what fits carries {rate_words(part_per_s)} of {rate_words(asked_per_s)} requests/s"


def _read(spec: Object) -> tuple[Allocation, ...]:
    return allocations(spec.get("allocations") or ())


def _changes(were: Sequence[Allocation], are: Sequence[Allocation]) -> str:
    """Replicas by recipe, pool and group: `h100: 2xH100-SXM tp2 4 -> 6`."""
    before, after = counts(were), counts(are)
    moved = [
        f"{group}: {recipe}{'' if pool == 'serve' else f' {pool}'} {before[key]} -> {after[key]}"
        for key in sorted({*before, *after})
        for group, recipe, pool in [key]
        if before[key] != after[key]
    ]
    more = f" and {len(moved) - _SHOWN} more" if len(moved) > _SHOWN else ""
    caps = [{one.recipe.power_cap_w for one in rows} for rows in (were, are)]
    if not moved and caps[0] != caps[1]:
        return "other power caps"
    return ", ".join(moved[:_SHOWN]) + more


def nearest(latencies: Sequence[ClassLatency], slos: Sequence[SLO], metric: str) -> tuple[SLO, float] | None:
    """Of the classes that have a limit for a latency, the one that comes nearest to it, with its worst."""
    found = [
        (slo, max(mine))
        for slo in slos
        if getattr(slo, metric) and (mine := [getattr(one, metric) for one in latencies if one.slo_class == slo.name])
    ]
    return max(found, key=lambda one: one[1] / getattr(one[0], metric), default=None)


def _expected(are: Sequence[Allocation], slos: Sequence[SLO]) -> str:
    """For each latency that is asked for the class nearest to its limit; the worst of all where none is asked for."""
    if not are:
        return ""
    latencies = [row for one in are if one.replicas for row in one.predicted.by_class]
    held = [(name, metric, nearest(latencies, slos, metric)) for metric, name in LATENCIES.items()]
    told = [
        f"{one[0].name} {name} {in_ms(one[1])} of {in_ms(getattr(one[0], metric))} ms"
        for name, metric, one in held
        if one
    ]
    if told:
        return ", ".join(told)
    ttft_s, tpot_s = (max(getattr(one.predicted, name) for one in are) for name in ("ttft_s", "tpot_s"))
    return f"TTFT {1000 * ttft_s:,.0f} ms, TPOT {1000 * tpot_s:,.1f} ms"


def in_ms(time_s: float) -> str:
    """Without the unit: `499`, `47.5`, `50`."""
    return f"{1000 * time_s:,.0f}" if time_s >= 0.1 else f"{1000 * time_s:.1f}".removesuffix(".0")
