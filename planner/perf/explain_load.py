"""An engine under load for `muster explain`: TTFT, TPOT and E2E with percentiles, or overload in words.

Seconds of steps are those that plans are made with: `planner.batching.steady` over the roofline, with the factors of
measured engines (`planner.anchor`) where there are any. A step's time is not linear in its sequences, so the fixed
point is where the line that the closed form counts with touches the curve at the sequences that are then in flight.
"""

import math
from dataclasses import dataclass, replace
from typing import cast, get_args

import numpy as np

from planner.anchor import WHOLE_PROMPT_TOKENS, Anchor, anchors, key_of, source_of
from planner.batching import COMPUTED, Factors, Replica, Sizes, Steady, steady
from planner.calibration import ENGINES
from planner.cost import Case
from planner.perf.closed_loop import closed
from planner.perf.format_choice import Choice
from planner.perf.memory import Budget
from planner.perf.open_loop import open_loop
from planner.perf.under_load import Answer, Load, Server, capacity_per_s
from planner.plan import Recipe, Source
from planner.pools import contradiction
from planner.service import Engine

WAVES = 10  # requests a user sends, as published sweeps of concurrency have it
GRID = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024], dtype=float)
_ROUNDS = 40
_NEAR = 1.25  # the line goes through the step's times at so many times more and fewer sequences
_STEEPEST = 0.95  # of a step's time is by its sequences at most


@dataclass(frozen=True, slots=True)
class Loaded:
    """What is said of an engine with `places` for sequences; one of `users` and `rate_per_s` is asked for.

    `ttft_ratio`, `tpot_ratio`: the factor either way of a 90 % interval, None where nothing measured stands behind it.
    """

    users: int | None
    rate_per_s: float | None
    places: int
    most_per_s: float
    answer: Answer
    source: Source
    ttft_ratio: float | None = None
    tpot_ratio: float | None = None

    @property
    def overload(self) -> str:
        """ "" or why the load cannot be carried, or who waits."""
        if self.users is not None and self.users > self.places:
            return f"overload: {self.users:,} users, {self.places:,} sequences fit: the others wait for a place"
        return str(self.answer.overload)


def under_load(
    case: Case,
    engine: str,
    chosen: Choice,
    made: Budget | str,
    users: int | None = None,
    rate_per_s: float | None = None,
) -> Loaded | str:
    """An engine with so many users, or so many requests a second; in words why nothing can be said.

    On average a sequence holds its prompt and half of its answer.
    """
    if isinstance(made, str):
        return made
    inputs, outputs = float(np.max(case.input_tokens)), float(np.max(case.output_tokens))
    places = made.sequences_of([(inputs + outputs / 2, 1.0)])
    if places < 1:
        return f"not one sequence of {inputs + outputs:,.0f} tokens fits"
    curve = _curve(case, engine, chosen)
    if isinstance(curve, str):
        return curve
    load = Load(np.array(inputs), np.array(outputs))
    server = curve.server(float(places), places)
    most = float(capacity_per_s(load, server))
    if users is None:
        answer = _open(load, curve, server, places, cast(float, rate_per_s))
    else:
        answer = closed(np.array(float(users)), load, curve.server(min(users, places), places), WAVES)
        # No prompts come after a run's last requests, so that users over mean latency says more than an engine carries.
        answer = replace(answer, requests_per_s=np.minimum(answer.requests_per_s, most))
    halves = curve.intervals(float(np.nan_to_num(answer.in_flight, nan=places)))
    return Loaded(users, rate_per_s, places, most, answer, curve.source, *halves)


def _open(load: Load, curve: "_Curve", full: Server, places: int, rate_per_s: float) -> Answer:
    """Arrivals: as many are in flight as make the steps as long as that takes."""
    wanted = np.array(rate_per_s)
    answer, flying = open_loop(wanted, load, full), float(places)
    if str(answer.overload):
        return answer
    for _ in range(_ROUNDS):
        flying = math.sqrt(flying * max(float(answer.in_flight), 1.0))
        found = open_loop(wanted, load, curve.server(flying, places))
        if str(found.overload):  # the line at few sequences ends before the curve does
            return answer
        answer = found
    return answer


@dataclass(frozen=True, slots=True)
class _Curve:
    """Seconds of one engine's steps by the sequences in them."""

    run: Steady
    inputs: float
    budget: float  # prompt tokens of a step
    whole: bool
    anchor: Anchor | None
    source: Source

    def server(self, flying: float, places: int) -> Server:
        """The line that touches the curve at so many sequences."""
        at = min(max(flying, 1.0), float(places))
        low, high = at / _NEAR, at * _NEAR
        step_s, low_s, high_s = (float(np.interp(x, GRID, self.run.decode_s[0])) for x in (at, low, high))
        each_s = min(max((high_s - low_s) / (high - low), 0.0), _STEEPEST * step_s / at)
        prompt_s = float(np.interp(at, GRID, self.run.prefill_s[0]))
        return Server(
            step_s=np.array(step_s - each_s * at),
            sequence_s=np.array(each_s),
            token_s=np.array(prompt_s / self.inputs),
            sequences=np.array(float(places)),
            step_tokens=np.array(self.budget + at),
            frontend_s=0.0 if self.anchor is None else self.anchor.first_s,
            whole=self.whole,
        )

    def intervals(self, flying: float) -> tuple[float | None, float | None]:
        """Factors either way of TTFT and TPOT."""
        if self.anchor is None:
            return None, None
        halves = (self.anchor.ttft_half, self.anchor.tpot_half)
        ttft, tpot = (math.exp(float(np.interp(flying, GRID, half))) for half in halves)
        return ttft, tpot


def _curve(case: Case, engine: str, chosen: Choice) -> _Curve | str:
    inputs, outputs = (np.atleast_2d(np.asarray(x, dtype=float)) for x in (case.input_tokens, case.output_tokens))
    prompts = np.clip(GRID[None, :] / outputs, 1.0, np.maximum(WHOLE_PROMPT_TOKENS / inputs, 1.0))
    wide = replace(case, batch=GRID[None, :], input_tokens=inputs, output_tokens=outputs, prompts=prompts)
    cost = chosen.cost(wide)
    prefill = cost.phases["prefill"]
    if why := contradiction(cost):
        return why
    if len(cost.pools) > 1 or prefill.beside:
        return "phases that do not take turns on the same GPUs are put under load by muster plan, not here"
    anchor = _anchor(case, engine, chosen, (float(inputs[0, 0]), float(outputs[0, 0])))
    factors = COMPUTED if anchor is None else Factors(anchor.decode[None, :], anchor.prefill, anchor.first_s)
    run = steady(cost, Replica(case.gpu, ENGINES[engine], Sizes(inputs, outputs, inputs), GRID[None, :], 1, factors))
    size = float(inputs[0, 0])
    whole = prefill.rides is None
    budget = max(WHOLE_PROMPT_TOKENS, size + float(outputs[0, 0])) if whole else float(np.max(prefill.tokens))
    source = source_of(anchor, _recipe(case, chosen), case.gpu)
    return _Curve(run, size, budget, whole, anchor, source)


def _recipe(case: Case, chosen: Choice) -> Recipe:
    return Recipe(case.gpu.name, case.tp, techniques=tuple(sorted(chosen.techniques)))


def _anchor(case: Case, engine: str, chosen: Choice, size: tuple[float, float]) -> Anchor | None:
    if engine not in get_args(Engine):
        return None
    key = key_of(_recipe(case, chosen))
    found = anchors(case.model, {case.gpu.name: case.gpu}, cast(Engine, engine), [key], size, GRID)
    return found.get(key)
