"""Holds a row of servers under its power budget by two thresholds, low priority first. Pure, on the clock given.

After POLCA (Patel et al., "Characterizing Power Management Opportunities for LLMs in the Cloud", ASPLOS 2024, arXiv
2308.12908): at T1 low-priority work is capped, at T2 harder, then high-priority work a little; at the budget itself
everything is braked. Caps are released one step at a time, 5 % below the threshold. There out of band, with 40 s to
take effect; here in band, with about three, and with a hold before each release. Power that is not told is taken for
T2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

Priority = Literal["low", "high"]
PRIORITIES: tuple[Priority, ...] = ("low", "high")


@dataclass(frozen=True, slots=True)
class PowerPolicy:
    """Thresholds are shares of the row's budget, caps shares of a GPU's highest clock.

    The caps are POLCA's for an A100 of 1,410 MHz: low 1,275 at T1 and 1,110 at T2, high 1,305 at T2, brake 288.
    T2 and the worst rise within `settle_s` must fit under the budget: 0.89 + 0.09 in two seconds.
    """

    t1_ratio: float = 0.80
    t2_ratio: float = 0.89
    release_ratio: float = 0.05
    settle_s: float = 3.0  # until a cap shows in what is measured: mean of a second, a command, a second's margin
    hold_s: float = 60.0
    missing_s: float = 3.0
    low_ratios: tuple[float, float] = (1275 / 1410, 1110 / 1410)
    high_ratio: float = 1305 / 1410
    brake_ratio: float = 288 / 1410


@dataclass(frozen=True, slots=True)
class PowerState:
    """`low`: 0 free, 1, 2; `high`: 0 free, 1. `changed_s`: of the last change; `below_s`: since when it may release."""

    low: int = 0
    high: int = 0
    braked: bool = False
    changed_s: float = -1e18
    below_s: float | None = None
    seen_s: float = -1e18


def decide(policy: PowerPolicy, state: PowerState, power_ratio: float | None, now_s: float) -> PowerState:
    """The state after a reading of the row's power over its budget at `now_s`; None = none came."""
    if power_ratio is not None:
        state = replace(state, seen_s=now_s)
    elif now_s - state.seen_s <= policy.missing_s:
        return state
    power = policy.t2_ratio if power_ratio is None else power_ratio
    settled = now_s - state.changed_s >= policy.settle_s
    if power >= 1.0:
        return _to(state, now_s, low=2, high=1, braked=True)
    if power >= policy.t2_ratio:
        if state.low < 2:
            return _to(state, now_s, low=2)
        return _to(state, now_s, high=1) if settled and not state.high else replace(state, below_s=None)
    if power >= policy.t1_ratio and state.low < 1:
        return _to(state, now_s, low=1)
    return _released(policy, state, power, now_s)


def _released(policy: PowerPolicy, state: PowerState, power: float, now_s: float) -> PowerState:
    """One step back, once power has stayed far enough below what the step was for."""
    limit = policy.t1_ratio if state.low == 1 and not (state.high or state.braked) else policy.t2_ratio
    capped = bool(state.low or state.high or state.braked)
    if not capped or power >= limit - policy.release_ratio:
        return replace(state, below_s=None)
    below_s = now_s if state.below_s is None else state.below_s
    if now_s - below_s < policy.hold_s:
        return replace(state, below_s=below_s)
    if state.braked:
        return _to(state, now_s, braked=False)
    if state.high:
        return _to(state, now_s, high=0)
    return _to(state, now_s, low=state.low - 1)


def caps(policy: PowerPolicy, state: PowerState) -> Mapping[Priority, float]:
    """Share of the highest clock that each priority may use; 1 = free."""
    if state.braked:
        return dict.fromkeys(PRIORITIES, policy.brake_ratio)
    low = policy.low_ratios[state.low - 1] if state.low else 1.0
    return {"low": low, "high": policy.high_ratio if state.high else 1.0}


def _to(state: PowerState, now_s: float, **changes: int | bool) -> PowerState:
    return replace(state, changed_s=now_s, below_s=None, **changes)  # type: ignore[arg-type]
