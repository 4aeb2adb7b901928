"""Submit: a service as YAML, checked while it is written, or by a form; its plan before anything is applied."""

import asyncio
from dataclasses import dataclass
from typing import Any

from nicegui import run, ui

from controller.embedded.schema import is_ours
from controller.kube.rest import APPLY, ApiError
from controller.pages import form
from controller.pages.palette import matching
from controller.pages.parts import badge, card, grid, table, text
from controller.pages.plan import draw
from controller.pages.shell import Context
from controller.pages.words import change, duration, money, rate, share, some, watts
from controller.plan_child import PlanningFailed
from controller.web.checks import checked
from controller.web.explore import Busy, DryRun
from controller.web.problems import FieldError, Refused
from planner.catalog import models

_PAUSE_S = 0.35
_FORM = (
    ("name", "Name", "chat"), ("namespace", "Namespace", "default"), ("rate", "Requests per second", "10"),
    ("input", "Tokens in a prompt", "512"), ("output", "Tokens in an answer", "128"), ("ttft", "TTFT at most", "500ms"),
    ("tpot", "TPOT at most", "50ms"), ("percentile", "For which share", "p95"), ("budget", "Budget, $ an hour", ""),
    ("priority", "Priority", ""),
)  # fmt: skip


@dataclass
class _Draft:
    """What is in the editor: its object where it can be read, and its faults."""

    obj: dict[str, Any] | None = None
    errors: tuple[FieldError, ...] = ()
    turn: int = 0


def build(made: Context, service: str) -> None:
    """The page. `service`: one to begin with."""
    known = made.site.known.service(service) if service else None
    allowed = known is not None and made.viewer.may("get", "gpuservices", service.partition("/")[0])
    draft = _Draft()
    with ui.element("div").classes("m-row"):
        ui.html('<h1 class="m-title">Submit a service</h1>', sanitize=False)
        ui.space()
        dry = ui.button("Dry run").props("outline").style("padding:0 14px")
        apply = ui.button("Apply").props("unelevated color=primary").style("padding:0 14px")
    with grid("minmax(0, 3fr) minmax(0, 2fr)"):
        with card("Service", "checked as you write"):
            start = form.editable(known) if known is not None and allowed else form.START
            editor = ui.codemirror(
                start, language="YAML", theme="githubDark" if made.dark else "githubLight", indent="  "
            )
            editor.style("width:100%;height:390px").props('aria-label="Service as YAML"')
            verdict = ui.html("", sanitize=False).style("width:100%")
        with ui.element("div").classes("m-card"):
            with ui.tabs().props("dense no-caps align=left") as tabs:
                ui.tab("form", "Form")
                ui.tab("fields", "Fields")
            with ui.tab_panels(tabs, value="form").classes("w-full").style("background:transparent;width:100%"):
                with ui.tab_panel("form").style("padding:4px 0"):
                    _form(editor)
                with ui.tab_panel("fields").style("padding:4px 0"):
                    _fields(editor)
    with ui.element("div").style("width:100%") as result, card("Plan"):
        words = "Dry run shows the plan, what it costs at other rates and objectives, and what was refused and why."
        ui.html(f'<div class="m-empty">{words}</div>', sanitize=False)

    async def check() -> None:
        draft.turn = turn = draft.turn + 1
        await asyncio.sleep(_PAUSE_S)  # whoever still writes is not told of half a word
        if turn != draft.turn:
            return
        draft.obj, draft.errors = await run.io_bound(_read, made, editor.value) or (None, ())
        verdict.set_content(_verdict(draft.errors))
        editor.line_tooltips = {one.line: f"{one.path}: {one.detail}" for one in draft.errors if one.line}
        editor.decorations = [
            {"kind": "line", "line": one.line, "class": "m-fault"} for one in draft.errors if one.line
        ]  # fmt: skip
        for button in (dry, apply):
            button.set_enabled(not draft.errors)

    async def show() -> None:
        if draft.obj is None:
            return
        dry.disable()
        result.clear()
        with result, card("Plan"):
            ui.html('<div class="m-empty" role="status">Planning …</div>', sanitize=False)
        try:
            found = await run.io_bound(made.web.explorer.dry_run, made.site, draft.obj)
            if found is None:
                return  # the server ends
        except (Busy, PlanningFailed) as error:
            _say(result, str(error) or "others are asking; try again")
        else:
            result.clear()
            with result:
                _outcome(made, found, draft.obj)
        dry.enable()

    async def send() -> None:
        if draft.obj is None:
            return
        meta = draft.obj["metadata"]
        if not made.viewer.may("patch", "gpuservices", meta["namespace"], meta["name"]):
            ui.notify("your token may not change services there", type="negative")
            return
        path = made.site.served.need("gpuservices").path(meta["namespace"], meta["name"])
        query = {"fieldManager": "muster-pages", "force": "true"}
        try:
            await run.io_bound(made.site.objects.request, "PATCH", path, draft.obj, query=query, content_type=APPLY)
        except ApiError as error:
            ui.notify(str(error), type="negative", multi_line=True)
            return
        ui.navigate.to(made.link(f"/services/{meta['namespace']}/{meta['name']}"))

    editor.on_value_change(check)
    dry.on_click(show)
    apply.on_click(send)
    ui.timer(0.1, check, once=True)


def _read(made: Context, written: str) -> tuple[dict[str, Any] | None, tuple[FieldError, ...]]:
    """The object that was written, or every fault of it."""
    try:
        body = made.web.reader.read(written.encode(), "application/yaml")
    except Refused as error:
        return None, error.errors or (FieldError("", str(error)),)
    kind = str(body.plain.get("kind", ""))
    if not is_ours(kind) or kind != "GPUService":
        return None, (FieldError("kind", f"got {kind!r}, allowed: GPUService", line=body.line(("kind",))),)
    found = checked("GPUService", body)
    return (None if found.problems else found.obj), found.problems


def _verdict(errors: tuple[FieldError, ...]) -> str:
    if not errors:
        return badge("good", "It is sound")
    rows = [
        (
            badge("bad", f"line {one.line}" if one.line else "whole"),
            f'<span class="m-mono">{text(one.path)}</span>',
            text(one.detail),
        )
        for one in errors[:8]
    ]
    return table(("Where", "Field", "What is wrong"), rows)


def _form(editor: ui.codemirror) -> None:
    fields: dict[str, Any] = {}
    fields["model"] = ui.select(
        sorted(one.name for one in models()), value="llama-3.1-8b", with_input=True, label="Model"
    )
    fields["model"].props("outlined dense options-dense").style("width:100%")
    with ui.element("div").classes("m-grid").style("grid-template-columns:1fr 1fr;gap:8px;margin-top:8px"):
        for key, label, value in _FORM:
            fields[key] = ui.input(label, value=value).props("outlined dense")

    def write() -> None:
        try:
            editor.value = form.text({key: one.value for key, one in fields.items()})
        except ValueError as error:
            ui.notify(f"a number is none: {error}", type="negative")

    ui.button("Write it as YAML", on_click=write).props("outline dense").style("margin-top:10px;padding:0 12px")


def _fields(editor: ui.codemirror) -> None:
    word = ui.input("Find a field").props("outlined dense clearable").style("width:100%")
    shown = ui.element("div").classes("m-list").style("max-height:360px;overflow:auto;margin-top:6px")

    def fill() -> None:
        shown.clear()
        with shown:
            for one in matching(word.value or ""):
                with ui.element("div").classes("m-item").style("flex-direction:column;gap:1px"):
                    button = ui.button(one.path, on_click=lambda snippet=one.snippet: _insert(editor, snippet))
                    button.props("flat dense no-caps align=left").classes("m-mono").style("min-height:0;padding:0")
                    ui.label(one.words).classes("m-note")

    word.on_value_change(fill)
    fill()


def _insert(editor: ui.codemirror, snippet: str) -> None:
    """A field at the end of what is written; where it goes, the person knows."""
    editor.value = editor.value.rstrip("\n") + f"\n  {snippet}\n"


def _say(place: ui.element, words: str) -> None:
    place.clear()
    with place, card("Plan"):
        ui.html(f'<div class="m-empty m-bad">{text(words)}</div>', sanitize=False)


def _outcome(made: Context, found: DryRun, obj: dict[str, Any]) -> None:
    with grid("minmax(0, 3fr) minmax(0, 2fr)"):
        with card("Plan", f"worked out in {duration(found.took_s)}; nothing is applied"):
            if found.outcome is None:
                why = found.infeasible
                words = "no plan was found in time" if why is None else why.why
                ui.html(f"{badge('bad', 'No plan')} {text(words)}", sanitize=False)
                if why is not None:
                    ui.html(f'<div class="m-note">The way out: {text(why.relaxation)}</div>', sanitize=False)
            else:
                ui.html(_summary(found, obj["spec"]["workload"].get("ratePerSecond")), sanitize=False)
                ui.html(_rows(found), sanitize=False).style("width:100%")
        with card("Refused, and why"):
            rows = [
                (f'<span class="m-mono">{text(one.recipe)}</span>', text(one.reason)) for one in found.refused[:200]
            ]
            refused = table(("Way to run it", "Why not"), rows, (), "Nothing was refused.")
            ui.html(f'<div style="max-height:260px;overflow:auto">{refused}</div>', sanitize=False).style("width:100%")
    with card("Cost against rate and objective") as place:
        shown = ui.element("div").style("width:100%")
        with shown:
            ui.label("Planning at other rates and objectives …").classes("m-note")

    async def curves() -> None:
        try:
            more = await run.io_bound(made.web.explorer.curves, made.site, obj)
        except (Busy, PlanningFailed) as error:
            words = str(error) or "others are asking; try again"
            more = None
        shown.clear()
        with shown:
            ui.label(words).classes("m-note") if more is None else draw(made, more)

    with place:
        ui.timer(0.1, curves, once=True)


def _summary(found: DryRun, asked: float | None) -> str:
    made = found.outcome
    assert made is not None
    against = "" if found.diff is None else f", {change(found.diff.usd_per_hour)} against the plan in force"
    displaced = (
        f'<div class="m-note m-warn">Takes the places of {text(", ".join(found.displaces))}.</div>'
        if found.displaces
        else ""
    )
    return (
        f'<span class="m-value">{money(made.usd_per_hour)}</span> '
        f'<span class="m-note">{some(made.replicas, "replica")} on {some(made.gpus, "GPU")}, '
        f"{watts(made.power_w)} at full load, for {rate(asked)}{text(against)}</span>{displaced}"
    )


def _rows(found: DryRun) -> str:
    assert found.outcome is not None
    rows = [
        (
            text(one.recipe),
            text(one.node_group),
            str(one.replicas),
            share(one.busy_ratio, 0),
            duration(one.ttft_s),
            duration(one.tpot_s),
            money(one.usd_per_hour),
        )
        for one in found.outcome.allocations
    ]
    return table(("Runs as", "Nodes", "Replicas", "Busy", "TTFT", "TPOT", "Cost"), rows, (2, 3, 4, 5, 6))
