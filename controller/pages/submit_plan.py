"""The preview: the plan that a service would get, what it costs at other rates and objectives, what was refused."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from nicegui import run, ui

from controller.pages import parts
from controller.pages.context import Context
from controller.pages.explore_parts import Progress, draw
from controller.pages.live import static
from controller.pages.plan_parts import allocations, changes
from controller.pages.words import duration, money, watts
from controller.plan_child import PlanningFailed
from controller.specs import key_of
from controller.web.explore import Busy, DryRun, rate_of
from planner.units import counted

Object = Mapping[str, Any]
_IDLE = (
    "Dry run plans the service on what the fleet has free now: what would run where, what it would cost, how cost "
    "moves with rate and objective, and which ways to run it were refused. Nothing is applied."
)
_PROOF = {"optimal": ("good", "proved optimal"), "feasible": ("soft", "good, not proved the best")}


class Preview:
    """The card at the right."""

    def __init__(self, made: Context) -> None:
        self._made, self._progress, self._turn = made, Progress(), 0
        self._shown: Object | None = None
        with ui.element("section").classes("m-card").props('aria-label="Plan"') as self._card:
            static('<h2 class="m-head">Plan</h2>')
            self._old = ui.element("div").style("width:100%")
            self._place = ui.element("div").classes("m-stack").style("width:100%")
        with self._place:
            static(parts.empty("No dry run yet", _IDLE, "science"))

    def stale(self) -> None:
        """The service was changed: what is shown is of the one before."""
        self._old.clear()
        if self._shown is not None:
            with self._old:
                static(parts.banner("soft", "Out of date", "The service was changed since this dry run."))

    async def of(self, obj: dict[str, Any]) -> None:
        """Plan it, and show what came of it; then what it would cost otherwise."""
        self._turn = turn = self._turn + 1
        explorer, site = self._made.web.explorer, self._made.site
        sees = partial(self._made.viewer.may, "list", "gpuservices")
        found = await self._watched("Planning", lambda: explorer.dry_run(site, obj, sees))
        if found is None or turn != self._turn:
            return
        self._shown = obj
        self._old.clear()
        self._place.clear()
        with self._place:
            _outcome(found)
            more = ui.element("div").style("width:100%")
            _refused(found)
        if found.outcome is None:
            return
        curves = await self._watched(
            "Cost at other rates and objectives",
            lambda: explorer.curves(site, obj, self._progress.told, rate_of(obj) or None),
            more,
        )
        if curves is not None and turn == self._turn:
            more.clear()
            with more:
                draw(self._made, curves, fronts=False, there=site.known.service(key_of(obj)) is not None)

    async def _watched(self, words: str, work: Any, place: ui.element | None = None) -> Any:
        """Do long work in a thread while its progress is shown; None where it failed, which is told in its place."""
        place = place or self._place
        self._progress.begin(words)
        place.clear()
        with place:
            bar = ui.html(self._progress.html(), sanitize=False).style("width:100%")
            watch = ui.timer(0.4, lambda: bar.set_content(self._progress.html()))
        try:
            return await run.io_bound(work)
        except (Busy, PlanningFailed) as error:
            place.clear()
            with place:
                static(parts.banner("bad", "Not worked out", str(error) or "Others are asking; try again in a moment."))
            return None
        finally:
            watch.cancel()


def _outcome(found: DryRun) -> None:
    made = found.outcome
    if made is None:
        why = found.infeasible
        words = "No plan was found in time." if why is None else why.why
        static(parts.banner("bad", "No plan", words))
        if why is not None and why.relaxation:
            static(parts.banner("info", "The cheapest way out", why.relaxation))
        return
    state, proof = _PROOF.get(found.status, ("soft", found.status))
    static(
        f'<div class="m-row" style="gap:8px 16px"><span class="m-value">{money(made.usd_per_hour)}</span>'
        f"<span>{counted(made.replicas, 'replica')} on {counted(made.gpus, 'GPU')}</span>"
        f'<span>{watts(made.power_w)} <span class="m-soft">at full load</span></span>{parts.badge(state, proof)}'
        f'<span class="m-note" style="margin-left:auto">in {duration(found.took_s)}; nothing is applied</span></div>'
    )
    more = [f"{counted(found.displaces_unseen, 'service')} of other namespaces"] if found.displaces_unseen else []
    if taken := [*found.displaces, *more]:
        static(parts.banner("warn", "Takes places", f"{', '.join(taken)} would be planned anew on what is left."))
    static(allocations(made))
    if found.diff is not None:
        static(f'<div><div class="m-head">Against the plan in force</div>{changes(found.diff)}</div>')


def _refused(found: DryRun) -> None:
    """Ways to run it that were not offered to the solver, by GPU type."""
    if not found.refused:
        return
    rows = [
        (
            f'<span class="m-strong m-nowrap">{parts.text(gpu)}</span>',
            parts.text(way or "as it is"),
            parts.text(one.reason),
        )
        for one in found.refused[:200]
        for gpu, _, way in (one.recipe.partition(" "),)
    ]
    body = parts.table(("GPU", "Way to run it", "Why not"), rows, (), "Refused")
    static(
        '<details class="m-more"><summary class="m-head">Refused, and why '
        f'<span class="m-chip">{len(found.refused)}</span></summary>'
        f'<div class="m-refused" tabindex="0" aria-label="Refused">{body}</div></details>'
    )
