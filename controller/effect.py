"""What a decision changes, in words: why, what ran and what will, what it costs, and what is expected of it. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from controller.plans import allocations, counts
from controller.trigger import Reason
from planner.plan import Allocation, ClassLatency
from planner.service import SLO

Object = Mapping[str, Any]
_SHOWN = 4
_LATENCIES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "end to end"}


def effect(reason: Reason, old: Object, new: Object, slos: Sequence[SLO] = ()) -> str:
    """A plan's spec beside the one before (empty for none); empty where the new one is no outcome to act on.

    A plan that waits for approval tells of what it proposes.
    """
    after = new.get("proposal") or new
    if new.get("infeasible") is not None:
        return ""
    were, are = (_read(spec) for spec in (old, after))
    before = f"{old.get('usdPerHour', 0.0):,.2f}" if old.get("allocations") else "0.00"
    change = _changes(were, are) or "the same replicas"
    told = [f"{reason.text}: {change}", f"${before}/h before, ${after.get('usdPerHour', 0.0):,.2f}/h now"]
    if expected := _expected(are, slos):
        told.append(f"expected {expected}")
    proposed = "proposed, " if new.get("proposal") else ""
    return proposed + "; ".join(told)


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
    held = [(name, metric, nearest(latencies, slos, metric)) for metric, name in _LATENCIES.items()]
    told = [
        f"{one[0].name} {name} {_ms(one[1])} of {_ms(getattr(one[0], metric))} ms" for name, metric, one in held if one
    ]
    if told:
        return ", ".join(told)
    ttft_s, tpot_s = (max(getattr(one.predicted, name) for one in are) for name in ("ttft_s", "tpot_s"))
    return f"TTFT {1000 * ttft_s:,.0f} ms, TPOT {1000 * tpot_s:,.1f} ms"


def _ms(time_s: float) -> str:
    """Without the unit: `499`, `47.5`, `50`."""
    return f"{1000 * time_s:,.0f}" if time_s >= 0.1 else f"{1000 * time_s:.1f}".removesuffix(".0")
