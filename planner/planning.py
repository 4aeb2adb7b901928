"""From services and an inventory to a plan: profile every recipe worth trying, then decide."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from planner.corrections import Correction
from planner.decide import Progress, decide
from planner.hardware import Inventory
from planner.options import Key, Objective
from planner.plan import Plan, Profile, Refusal
from planner.profile import EVEN
from planner.profile import profiles as profiles_of
from planner.search import Search, TimeUp
from planner.service import ServiceSpec


def plan(
    services: Sequence[ServiceSpec],
    inventory: Inventory,
    *,
    objective: Objective | None = None,
    current: Mapping[Key, int] | None = None,
    search: Search | None = None,
    compare: bool = True,
    confidence: float = EVEN,
    corrections: Sequence[Correction] = (),
    progress: Progress = lambda _: None,
) -> Plan:
    """The cheapest plan with its proof, or why there is none.

    `confidence`: how likely each objective is kept, as far as the performance model knows its own error.
    `corrections`: of the performance model, learnt from deployments that run.
    `compare`: also price the best fleet of each GPU type alone.
    `solve_s` is left 0: the caller owns the clock.
    """
    search = search or Search()
    found: list[Profile] = []
    usable: dict[str, tuple[str, ...]] = {}
    refused: list[Refusal] = []
    for service in services:
        progress(f"profiling {service.name}")
        running = {recipe for name, recipe, _, _ in current or {} if name == service.name}
        try:
            offered, turned_down = profiles_of(service, inventory, running, confidence, corrections, search.over)
        except TimeUp:
            return Plan("unknown", None, None, None, None, 0.0)
        found.extend(offered)
        usable[service.name] = tuple(dict.fromkeys(made.recipe.gpu for made in offered))
        refused.extend(turned_down)
    objective = objective or Objective(usd_per_joule=inventory.usd_per_joule)
    answer = decide(services, found, inventory, objective, current or {}, search, compare, progress)
    if answer.infeasible is not None and confidence > EVEN:
        less = f"{answer.infeasible.relaxation}; or ask for less than a confidence of {confidence:g}"
        answer = replace(answer, infeasible=replace(answer.infeasible, relaxation=less))
    return replace(answer, refused=tuple(refused), usable_gpus=usable)
