"""Plan: why this one, what binds it, what it changed, what waits for a person, and what other limits would cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nicegui import run, ui

from controller import names
from controller.kube.rest import MERGE, ApiError
from controller.pages import parts
from controller.pages.context import Context
from controller.pages.explore_parts import WhatIf
from controller.pages.heading import heading
from controller.pages.live import Html, card, grid
from controller.pages.plan_parts import allocations, binding, changes, compare, nothing_runs, why
from controller.pages.shell import send
from controller.pages.words import rate
from controller.web.model import Outcome, PlanView, ServiceRow, diff, plan
from controller.web.problems import Refused
from planner.service import SLO

_NONE = parts.empty("No plan is in force yet", "The first one waits for approval.", "pending_actions")


@dataclass(frozen=True)
class Seen:
    """What the page shows at one moment. `against`: the outcome that the plan is compared with."""

    key: str
    service: ServiceRow | None
    others: Sequence[ServiceRow]
    plan: PlanView | None
    past: Sequence[Outcome]
    against: Outcome | None
    may_approve: bool
    now_s: float
    slos: Sequence[SLO]
    part_per_s: float | None = None  # where the plan is for a part of what is asked


def load(made: Context, key: str, against: str) -> Seen:
    """Everything that the page shows. `against`: a decision, or empty for the one before."""
    found, rows = made.view(f"plan:{key}", lambda site: plan(site, key)), made.seen()
    try:
        past = made.outcomes(key)
    except (ApiError, Refused):
        past = ()
    older = [one for one in past if found is None or one.decision != found.current.decision]
    chosen = next((one for one in older if one.decision == against), None)
    before = chosen or (None if found is None else found.previous) or next(iter(older), None)
    service = next((row for row in rows if row.key == key), None)
    space, _, name = key.partition("/")
    waits = found is not None and found.proposal is not None
    approves = waits and made.viewer.may("patch", "gpuservices", space, name)
    return Seen(
        key, service, rows, found, older, before, approves, made.site.clock(), _asked(made, key), _part(made, key)
    )


def _asked(made: Context, key: str) -> Sequence[SLO]:
    """The service's objectives."""
    spec = made.site.known.spec_of(key)
    return () if spec is None else spec.slos


def _part(made: Context, key: str) -> float | None:
    found = made.site.known.plan(key)
    part_per_s = None if found is None else found["spec"].get("partPerSecond")
    return None if part_per_s is None else float(part_per_s)


def build(made: Context, first: Seen) -> Callable[[Seen], None]:
    """The page."""
    title, said = Html(made, "m-row"), Html(made)
    if first.plan is None or first.service is None:
        return lambda seen: _nothing(made, seen, title, said)
    waits = _Waiting(made, first.key)
    with grid("minmax(0, 4fr) minmax(0, 8fr)"):
        with card("Why this plan"):
            reason, limits = Html(made), Html(made)
        with card("What runs where"):
            runs = Html(made)
            compared, moved = Html(made), Html(made)
    more = WhatIf(made, first.key)

    def show(seen: Seen) -> None:
        if seen.plan is None or seen.service is None:
            said.show(parts.banner("warn", "Deleted", f"The service {seen.key} is gone; what is below was its plan."))
            return
        title.show(heading(made, seen.service, seen.others, "plans"))
        said.show(_infeasible(seen.plan, seen.part_per_s))
        waits.show(seen.plan, seen.may_approve)
        now = seen.plan.current
        first_waits = seen.plan.proposal is not None and not now.allocations
        feasible = seen.plan.infeasible is None
        nothing = not feasible and not now.allocations
        reason.show(_NONE if first_waits else nothing_runs() if nothing else why(now, seen.now_s))
        limits.show("" if first_waits or not (feasible or seen.plan.binding) else binding(seen.plan.binding))
        runs.show(allocations(now, seen.slos, feasible, seen.plan.proposal))
        compared.show(compare(seen.past, seen.against, seen.now_s))
        moved.show(changes(None if seen.against is None else diff(seen.key, seen.against, now)))
        more.of(now.decision)

    return show


def _nothing(made: Context, seen: Seen, title: Html, said: Html) -> None:
    title.show(
        '<h1 class="m-title">Plan</h1>' if seen.service is None else heading(made, seen.service, seen.others, "plans")
    )
    if seen.plan is not None and seen.service is not None:
        ui.navigate.reload()  # it has just been made
        return
    words = (
        "Planning takes seconds once the controller has seen the service; this page shows the plan when it is there."
    )
    if seen.service is None:
        words = "It may have been deleted, or its name is another."
    said.show(f'<div class="m-card">{parts.empty(f"{seen.key} has no plan", words, "hourglass_empty")}</div>')


def _infeasible(found: PlanView, part_per_s: float | None) -> str:
    if found.infeasible is None:
        return ""
    if part_per_s and found.current.allocations:
        asked = found.current.rate_per_s
        of = f" of {rate(asked)}" if asked and asked > part_per_s else ""
        return parts.banner(
            "warn", "A part is served", f"What fits carries {rate(part_per_s)}{of}. {_sentence(found.infeasible.why)}."
        )
    way = f" The cheapest way out: {found.infeasible.relaxation}." if found.infeasible.relaxation else ""
    goes_on = " What is left of it goes on." if found.current.allocations else ""
    return parts.banner("bad", "No plan for what is asked", f"{found.infeasible.why}.{way}{goes_on}")


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


class _Waiting:
    """The plan that waits for a person, where one does."""

    def __init__(self, made: Context, key: str) -> None:
        self._made, self._decision = made, ""
        space, _, self._name = key.partition("/")
        self._space = space
        with card("A new plan waits for you", style="border-color:var(--accent)") as self._place:
            self._html = Html(made)
            with ui.element("div").classes("m-row"):
                self._button = ui.element("button").classes("m-btn main").on("click", self._approve)
                with self._button:
                    ui.html(f"{parts.icon('check')}Approve this plan", sanitize=False).style("display:contents")
                self._wrong = Html(made, style="width:auto")
        self._place.set_visibility(False)

    def show(self, found: PlanView, may_approve: bool) -> None:
        """Show it, or nothing."""
        waits = found.proposal
        self._place.set_visibility(waits is not None)
        if waits is None:
            return
        self._decision = waits.decision
        moved = changes(diff(found.key, found.current, waits))
        self._html.show(
            '<div class="m-grid" style="grid-template-columns:minmax(0,4fr) minmax(0,8fr)">'
            f"<div>{why(waits, self._made.site.clock(), waits=True)}</div><div>{moved}</div></div>"
        )
        self._button.set_visibility(may_approve)

    async def _approve(self) -> None:
        wrong = await run.io_bound(_approved, self._made, self._space, self._name, self._decision)
        self._wrong.show(parts.badge("bad", wrong) if wrong else parts.badge("good", "Approved; it is being applied"))
        send(self._made)


def _approved(made: Context, namespace: str, name: str, decision: str) -> str:
    """Have a plan come into force; what was said against it."""
    if not made.viewer.may("patch", "gpuservices", namespace, name):
        return f"Your token may not change services in {namespace}."
    path = made.site.served.need("gpuservices").path(namespace, name)
    body = {"metadata": {"annotations": {names.APPROVED: decision}}}
    try:
        made.site.objects.request("PATCH", path, body, content_type=MERGE)
    except ApiError as error:
        return str(error)
    return ""
