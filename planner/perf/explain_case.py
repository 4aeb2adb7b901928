"""What `muster explain` is asked, checked, and all that it answers."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from planner.calibration import ENGINES
from planner.catalog import gpu as gpu_named
from planner.catalog import model as model_named
from planner.cost import Case
from planner.errors import BadInput, UnknownName
from planner.model import Model
from planner.perf.explain import Breakdown, memory
from planner.perf.explain import explain as breakdowns
from planner.perf.explain_load import Loaded, under_load
from planner.perf.explain_report import load_numbers, numbers, report
from planner.perf.format_choice import Choice, choice
from planner.perf.formats import FORMATS
from planner.perf.memory import KV_BYTES, Budget
from planner.show import Report

_LONGEST_PATH = 255


@dataclass(frozen=True, slots=True)
class Asked:
    """The words of a command line; `users` and `rate_per_s` None: no load."""

    model: str
    gpu: str
    batch: float
    input_tokens: float
    output_tokens: float
    tp: int
    engine: str
    weights: str
    kv: str
    techniques: tuple[str, ...]
    users: int | None = None
    rate_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Explained:
    """A case, its formats, where time and bytes go, and what a load makes of it."""

    case: Case
    engine: str
    chosen: Choice
    phases: tuple[Breakdown, ...]
    made: Budget | str
    loaded: Loaded | str | None


def explained(asked: Asked) -> Explained:
    """All answers. Raises BadInput where a word is not among those allowed."""
    _check(asked)
    case = _case(asked)
    chosen = choice(case, asked.weights, asked.kv, asked.techniques)
    if isinstance(chosen, str):
        raise BadInput(chosen)
    made = memory(case, asked.engine, chosen.weight_format, chosen.kv_format)
    loaded = None
    if asked.users is not None or asked.rate_per_s is not None:
        loaded = under_load(case, asked.engine, chosen, made, asked.users, asked.rate_per_s)
    return Explained(case, asked.engine, chosen, breakdowns(case, asked.engine, chosen.cost(case)), made, loaded)


def asked_json(made: Explained) -> dict[str, Any]:
    """All answers as plain numbers."""
    return {
        "model": made.case.model.name,
        "gpu": made.case.gpu.name,
        "techniques": made.chosen.techniques,
        "note": made.chosen.note,
        **numbers(made.case, made.made),
        "load": load_numbers(made.loaded),
        "phases": [asdict(phase) for phase in made.phases],
    }


def asked_report(made: Explained) -> Report:
    """All answers for people."""
    return report(made.case, made.engine, made.chosen.note, made.phases, made.made, made.loaded)


def _check(asked: Asked) -> None:
    if asked.engine not in ENGINES:
        raise BadInput(f"--engine: got {asked.engine!r}, allowed: {', '.join(ENGINES)}")
    for option, word, known in (("--weights", asked.weights, FORMATS), ("--kv", asked.kv, tuple(KV_BYTES))):
        if word not in ("", *known):
            raise BadInput(f"{option}: got {word!r}, allowed: {', '.join(known)}")
    if asked.users is not None and asked.rate_per_s is not None:
        raise BadInput("--concurrency: got it with --rate, allowed: one of them")
    if asked.rate_per_s is not None and not 0 < asked.rate_per_s < math.inf:
        raise BadInput(f"--rate: got {asked.rate_per_s:g}, allowed: a number of requests a second above 0")


def _case(asked: Asked) -> Case:
    found = _model(asked.model)
    tokens = asked.input_tokens + asked.output_tokens
    if tokens > found.max_context:
        raise BadInput(
            f"--input + --output: got {tokens:,.0f} tokens, "
            f"allowed: at most {found.max_context:,}, which {found.name} is made for"
        )
    size = (asked.batch, asked.input_tokens, asked.output_tokens)
    case = Case(found, gpu_named(asked.gpu), *size, tp=asked.tp)
    odd = [b.attention.heads for b in found.blocks if b.attention is not None and b.attention.heads % asked.tp]
    if odd:
        raise BadInput(f"--tp: got {asked.tp}, which does not divide {odd[0]} heads of {found.name}")
    return case


def _model(name: str) -> Model:
    try:
        return model_named(name)
    except UnknownName:
        if len(name) < _LONGEST_PATH and Path(name).exists():
            raise BadInput(f"model: got {name}, allowed: a config.json, or a folder with one, or a name") from None
        raise
