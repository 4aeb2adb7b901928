"""Power: every domain against its thresholds, and the caps of its GPUs by priority."""

from nicegui import run, ui

from controller.kube.rest import MERGE, ApiError
from controller.pages.charts import lines
from controller.pages.parts import card, chip, grid, live_chart, live_html, meter, stat, table, text
from controller.pages.shell import Context
from controller.pages.words import share, watts
from controller.web.model import DomainRow, domains
from planner.errors import BadInput
from planner.units import POWER


def build(made: Context) -> None:
    """The page."""
    ui.html('<h1 class="m-title">Power</h1>', sanitize=False)
    found = domains(made.site)
    if not found:
        with card():
            words = "No power domain. Make a PowerDomain with a budget, and name it in a node group's powerDomain."
            ui.html(f'<div class="m-empty">{text(words)}</div>', sanitize=False)
        with card("Power of the fleet"):
            live_chart(
                made,
                220,
                lambda: lines(
                    {"drawn": made.series("power_w")}, dark=made.dark, unit=" kW", scale=1e-3, span=made.span, area=True
                ),
                "Watts drawn over time",
            )
        return
    kept = {row.name: row for row in found}
    made.keep(lambda: kept.update({row.name: row for row in domains(made.site)}))
    for name in list(kept):
        _domain(made, kept, name)


def _domain(made: Context, kept: dict[str, DomainRow], name: str) -> None:
    with ui.element("div").classes("m-row"):
        ui.html(f'<h2 class="m-title" style="font-size:15px">{text(name)}</h2>', sanitize=False)
        live_html(made, lambda: " ".join(map(chip, kept[name].groups))).style("width:auto")
        ui.space()
        if made.viewer.may("patch", "powerdomains", name=name):
            _budget(made, kept, name)
    with grid("repeat(4, minmax(0, 1fr))"):
        stat(
            made,
            "Drawn",
            lambda: watts(kept[name].drawn_w),
            lambda: f"of {watts(kept[name].budget_w)}",
            lambda: _ratio(kept[name]),
        )
        stat(
            made,
            "Limits in force",
            lambda: watts(kept[name].allowed_w),
            lambda: "sum of what GPUs may draw",
            lambda: None,
        )
        stat(made, "Planned", lambda: watts(kept[name].planned_w), lambda: "of all replicas at full load", lambda: None)
        stat(
            made,
            "GPUs",
            lambda: str(kept[name].gpus),
            lambda: f"{sum(row.gpus for row in kept[name].caps)} in plans",
            lambda: None,
        )
    with grid("minmax(0, 1fr) minmax(0, 1fr)"):
        with card("Drawn against the budget"):
            live_chart(made, 220, lambda: _drawn(made, kept[name]), f"Watts of {name} over time")
        with card("Caps by priority", "low priorities are squeezed first"):
            live_html(made, lambda: _caps(kept[name]))


def _ratio(row: DomainRow) -> float | None:
    return None if row.drawn_w is None else row.drawn_w / row.budget_w


def _drawn(made: Context, row: DomainRow) -> dict[str, object]:
    found = {"drawn": made.series("power_w", row.name), "budget": made.series("budget_w", row.name)}
    return lines(found, dark=made.dark, unit=" kW", scale=1e-3, span=made.span, dashed=("budget",), area=True)


def _caps(row: DomainRow) -> str:
    rows = [
        (
            text(one.service),
            str(one.priority),
            text(one.recipe),
            str(one.gpus),
            "none" if one.cap_w is None else watts(one.cap_w),
            f"{watts(one.planned_w)}{meter(one.planned_w / row.budget_w, 2.0)}",
        )
        for one in row.caps
    ]
    used = sum(one.planned_w for one in row.caps) / row.budget_w
    heads = ("Service", "Priority", "Runs as", "GPUs", "Cap of each", "Planned")
    return (
        table(heads, rows, (1, 3, 4), "No plan uses this domain.")
        + f'<div class="m-note">{share(used, 0)} of the budget is planned.</div>'
    )


def _budget(made: Context, kept: dict[str, DomainRow], name: str) -> None:
    field = (
        ui.input(value=watts(kept[name].budget_w).replace(" ", ""))
        .props('outlined dense aria-label="Budget"')
        .style("width:110px")
    )

    async def apply() -> None:
        try:
            POWER.parse(field.value)
            body = {"spec": {"budget": field.value}}
            path = made.site.served.need("powerdomains").path("", name)
            await run.io_bound(made.site.objects.request, "PATCH", path, body, content_type=MERGE)
        except (BadInput, ApiError) as error:
            ui.notify(f"budget: {error}", type="negative")
            return
        ui.notify(f"{name} may draw {field.value} now", type="positive")

    ui.button("Set budget", on_click=apply).props("outline dense").style("padding:0 12px")
