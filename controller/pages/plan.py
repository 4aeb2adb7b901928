"""Plan: why this one, what binds it, what a looser limit would save, and cost against rate, objective and power."""

from collections.abc import Callable

from nicegui import run, ui

from controller import names
from controller.kube.rest import MERGE, ApiError
from controller.pages.charts import curve
from controller.pages.parts import badge, card, chart, chip, grid, table, text
from controller.pages.shell import Context
from controller.pages.words import cause, change, clock, duration, money, rate, share, watts
from controller.plan_child import PlanningFailed
from controller.web.explore import Busy, Curves, Explained
from controller.web.model import Binding, Outcome, PlanView, diff, plan


def build(made: Context, key: str) -> None:
    """The page of one service's plan."""
    found = plan(made.site, key)
    with ui.element("div").classes("m-row"):
        ui.html(f'<h1 class="m-title">Plan of {text(key)}</h1>', sanitize=False)
        ui.space()
        ui.link("Service", made.link(f"/services/{key}"))
    if found is None:
        with card():
            ui.html('<div class="m-empty">There is no plan yet.</div>', sanitize=False)
        return
    if found.infeasible is not None:
        with card("There is no plan for what is asked"):
            why = found.infeasible
            ui.html(f"{badge('bad', 'Infeasible')} {text(why.why)}", sanitize=False)
            ui.html(f"<div class='m-note'>The way out: {text(why.relaxation)}</div>", sanitize=False)
    if found.proposal is not None:
        _proposal(made, found)
    with grid("minmax(0, 2fr) minmax(0, 3fr)"):
        with card("Why this plan"):
            ui.html(_why(found.current), sanitize=False)
            ui.html(_binding(found.binding), sanitize=False).style("width:100%")
        with card("What runs where"):
            ui.html(_allocations(found.current), sanitize=False).style("width:100%")
            ui.html(_changed(found), sanitize=False)
    with grid("minmax(0, 1fr) minmax(0, 1fr)"):
        with card("What would save", "each is planned anew, from scratch"):
            _asked(made, key, "Work it out", lambda: _savings(made, key))
        with card("Cost against rate and objective"):
            _curves(made, key)


def _why(one: Outcome) -> str:
    rows = (
        ("Made", f"{clock(one.at_s)} UTC, {chip(cause(one.cause))}"),
        ("Because", text(one.reason)),
        ("For", rate(one.rate_per_s)),
        ("Costs", f"{money(one.usd_per_hour)}, {watts(one.power_w)} at full load"),
        ("Decision", f'<span class="m-mono">{text(one.decision)}</span>'),
    )
    return table(("", ""), [(f'<span class="m-soft">{name}</span>', value) for name, value in rows])


def _binding(rows: tuple[Binding, ...]) -> str:
    if not rows:
        return '<div class="m-note">No limit binds: it is the cheapest mix that keeps the objective.</div>'
    cells = [(text(row.what), _amount(row.used, row.unit), _amount(row.limit, row.unit)) for row in rows]
    return table(("What binds", "Used", "Limit"), cells, (1, 2))


def _amount(value: float, unit: str) -> str:
    shown: dict[str, Callable[[float], str]] = {"s": duration, "W": watts, "$/h": money}
    return shown[unit](value) if unit in shown else f"{value:,.0f} {unit}"


def _allocations(one: Outcome) -> str:
    rows = [
        (
            text(row.recipe),
            text(row.node_group) + (f" {chip(row.pool)}" if row.pool != "serve" else ""),
            str(row.replicas),
            str(row.gpus),
            share(row.busy_ratio, 0),
            duration(row.ttft_s),
            duration(row.tpot_s),
            money(row.usd_per_hour),
            chip(row.source),
        )
        for row in one.allocations
    ]
    heads = ("Runs as", "Nodes", "Replicas", "GPUs", "Busy", "TTFT", "TPOT", "Cost", "Source")
    return table(heads, rows, (2, 3, 4, 5, 6, 7), "Nothing runs.")


def _changed(found: PlanView) -> str:
    if found.previous is None:
        return '<div class="m-note">It is the first plan, or the one before is forgotten.</div>'
    moved = diff(found.key, found.previous, found.current)
    said = "; ".join(f"{row.node_group}: {row.recipe} {row.before} → {row.after}" for row in moved.moves[:6])
    cost = change(moved.usd_per_hour)
    return f'<div class="m-note">Against the plan before: {text(said or "the same replicas")}, {cost}.</div>'


def _proposal(made: Context, found: PlanView) -> None:
    assert found.proposal is not None
    waits = found.proposal
    with card("A plan waits for you"):
        ui.html(_why(waits) + _allocations(waits), sanitize=False).style("width:100%")

        async def approve() -> None:
            path = made.site.served.need("gpuservices").path(found.namespace, found.name)
            body = {"metadata": {"annotations": {names.APPROVED: waits.decision}}}
            try:
                await run.io_bound(made.site.objects.request, "PATCH", path, body, content_type=MERGE)
            except ApiError as error:
                ui.notify(str(error), type="negative")
                return
            ui.notify("approved; it is being applied", type="positive")

        if made.viewer.may("patch", "gpuservices", found.namespace, found.name):
            ui.button("Approve", on_click=approve).props("unelevated color=primary").style("width:120px")


def _asked(made: Context, key: str, label: str, work: Callable[[], str]) -> None:
    """A button that works something out in the child process, and shows it."""
    shown = ui.html(
        '<div class="m-note">It takes some seconds of planning, beside the controller.</div>', sanitize=False
    )
    shown.style("width:100%")

    async def go() -> None:
        button.disable()
        shown.set_content('<div class="m-note">Planning …</div>')
        try:
            shown.set_content(await run.io_bound(work) or "")
        except (Busy, PlanningFailed) as error:
            shown.set_content(f'<div class="m-note m-bad">{text(error or "others are asking; try again")}</div>')
        button.enable()

    button = ui.button(label, on_click=go).props("outline dense").style("padding:0 12px;width:130px")


def _savings(made: Context, key: str) -> str:
    obj = made.site.known.service(key)
    if obj is None:
        return '<div class="m-empty">The service is gone.</div>'
    found: Explained = made.web.explorer.explain(made.site, obj)
    rows = [
        (
            text(row.words),
            "no plan" if row.usd_per_hour is None else money(row.usd_per_hour),
            "–"
            if row.saves_usd_per_hour is None
            else badge("good", money(row.saves_usd_per_hour))
            if row.saves_usd_per_hour > 0.005
            else "nothing",
        )
        for row in sorted(found.savings, key=lambda one: -(one.saves_usd_per_hour or 0.0))
    ]
    head = f'<div class="m-note">From scratch the best plan costs {money(found.usd_per_hour)}.</div>'
    return head + table(("With", "It would cost", "Saves"), rows, (1, 2), "Nothing to loosen.")


def _curves(made: Context, key: str) -> None:
    with ui.element("div").style("width:100%") as place:
        ui.label("Cost at other rates and objectives, and against power: the Pareto front.").classes("m-note")

    async def go() -> None:
        button.disable()
        obj = made.site.known.service(key)
        try:
            found = None if obj is None else await run.io_bound(made.web.explorer.curves, made.site, obj)
        except (Busy, PlanningFailed) as error:
            ui.notify(str(error) or "others are asking; try again", type="negative")
            found = None
        button.enable()
        if found is not None:
            place.clear()
            with place:
                draw(made, found)

    button = ui.button("Draw", on_click=go).props("outline dense").style("padding:0 12px;width:90px")


def draw(made: Context, found: Curves) -> None:
    """Cost against rate, against the objective, and against power."""
    by_rate = [(one.rate_per_s, one.usd_per_hour) for one in found.by_rate if one.usd_per_hour is not None]
    by_slo = [(100 * one.slo_factor, one.usd_per_hour) for one in found.by_slo if one.usd_per_hour is not None]
    front = [
        (one.power_w, one.usd_per_hour)
        for one in found.by_slo
        if one.usd_per_hour is not None and one.power_w is not None
    ]
    with grid("repeat(3, minmax(0, 1fr))"):
        for points, x_name, label in (
            (by_rate, "requests/s", "Cost against rate"),
            (by_slo, "objective, % of today's", "Cost against the objective"),
            (front, "watts", "Cost against power, by objective"),
        ):
            with ui.element("div"):
                ui.label(label).classes("m-note")
                options = curve(sorted(points), dark=made.dark, x_name=x_name, y_name="$/h", scatter=x_name == "watts")
                chart(190, options, label)
    if not found.complete:
        ui.label("The time did not suffice for every point.").classes("m-note")
