"""Submit: a service by a form or as YAML, checked while it is written; its plan before anything is applied."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from nicegui import events as given
from nicegui import run, ui

from controller.kube.rest import ApiError
from controller.pages import form, parts
from controller.pages.context import Context
from controller.pages.live import Html, static
from controller.pages.palette import plain as palette
from controller.pages.shell import send
from controller.pages.submit_form import fill, form_html
from controller.pages.submit_plan import Preview
from controller.pages.words import short
from controller.specs import key_of
from controller.web.problems import FieldError, Refused
from controller.web.site import Objects
from planner.catalog import models
from planner.units import counted
from planner.yaml_text import dump

_PAUSE_S = 0.3
_TRIES = 5
_MANAGER = {"fieldManager": "muster-pages"}


@dataclass
class Draft:
    """What is written: as it stands (`plain`), with defaults where it is sound (`obj`), and its faults."""

    plain: Mapping[str, Any] | None = None
    obj: dict[str, Any] | None = None
    errors: tuple[FieldError, ...] = ()
    turn: int = 0


@dataclass(frozen=True)
class Seen:
    """What the page begins with."""

    text: str
    key: str  # of the service that is changed; empty for a new one
    base: Mapping[str, Any] | None = None  # that service as it was when the page was opened


def load(made: Context, service: str) -> Seen:
    """A service of the cluster to go on with, or an example to begin with."""
    found = made.site.known.service(service) if service else None
    if found is None or not made.viewer.may("get", "gpuservices", service.partition("/")[0]):
        return Seen(form.START, "")
    return Seen(form.editable(found), service, found)


def build(made: Context, first: Seen) -> Callable[[Seen], None]:
    """The page."""
    draft = Draft()
    with ui.element("div").classes("m-row"):
        static(f'<h1 class="m-title">{"Change a service" if first.key else "Submit a service"}</h1>', "")
        verdict = Html(made, style="width:auto")
        ui.space()
        wrong = Html(made, style="width:auto")
        dry = _button("Dry run", "science")
        apply = _button("Apply", "check", main=True)
    with ui.element("div").classes("m-grid").style("grid-template-columns:minmax(0,5fr) minmax(0,7fr)"):
        with ui.element("section").classes("m-card").props('aria-label="Service"'):
            static(_TABS)
            with ui.element("div").props('id="by-form"').style("width:100%"):
                static(form_html(sorted(one.name for one in models())))
            with ui.element("div").props('id="by-yaml"').style("width:100%;display:none"):
                editor = ui.codemirror(
                    first.text,
                    language="YAML",
                    theme="githubDark" if made.dark else "githubLight",
                    indent="  ",
                    line_wrapping=True,
                )
                editor.style("width:100%;height:440px")
                static(
                    '<div class="m-note" style="margin-top:6px">Ctrl-Space completes fields, with what they mean.</div>'
                )
            faults = Html(made)
        preview = Preview(made)

    async def check() -> None:
        draft.turn = turn = draft.turn + 1
        await asyncio.sleep(_PAUSE_S)  # whoever still writes is not told of half a word
        if turn != draft.turn:
            return
        found = await run.io_bound(_read, made, editor.value)
        if found is None:
            return
        draft.plain, draft.obj, draft.errors = found
        verdict.show(_verdict(made, draft, first.key))
        faults.show(_faults(draft.errors, editor.id))
        ui.run_javascript(f"{_marks(draft.errors)};{fill(draft.plain, draft.errors)}")
        for button in (dry, apply):
            _enable(button, draft.obj is not None)
        preview.stale()
        send(made)

    async def typed(event: given.GenericEventArguments) -> None:
        field = form.BY_ID.get(str(event.args["id"]))
        if field is None or draft.plain is None:
            return
        draft.plain = form.changed(draft.plain, field, str(event.args["value"])[:500])
        editor.value = dump(draft.plain)

    async def show() -> None:
        if draft.obj is not None:
            _enable(dry, False)
            await preview.of(draft.obj)
            _enable(dry, draft.obj is not None)

    async def apply_it() -> None:
        if draft.plain is not None and draft.obj is not None:
            said = await run.io_bound(_apply, made, draft.plain, draft.obj, first.base)
            if said:
                wrong.show(parts.badge("bad", said))
                send(made)
            else:
                meta = draft.obj["metadata"]
                ui.navigate.to(made.link(f"/services/{meta['namespace']}/{meta['name']}"))

    editor.on_value_change(check)
    dry.on("click", show)
    apply.on("click", apply_it)
    ui.on("field", typed)
    ui.timer(0.1, check, once=True)
    ui.timer(
        0.2, lambda: ui.run_javascript(f"muster.complete({editor.id}, {orjson.dumps(palette()).decode()})"), once=True
    )
    return lambda _: None


_TABS = """<div class="m-row"><span class="m-seg" role="group" aria-label="How to write it">
<button type="button" id="tab-form" aria-pressed="true" onclick="muster.side('form')">Form</button>
<button type="button" id="tab-yaml" aria-pressed="false" onclick="muster.side('yaml')">YAML</button></span>
<span class="m-note">the same service, either way</span></div>"""


def _button(words: str, sign: str, main: bool = False) -> ui.element:
    button = ui.element("button").classes("m-btn main" if main else "m-btn").props("disabled")
    with button:
        ui.html(f"{parts.icon(sign)}{words}", sanitize=False).style("display:contents")
    return button


def _enable(button: ui.element, true: bool) -> None:
    button.props(remove="disabled") if true else button.props("disabled")


def _read(
    made: Context, written: str
) -> tuple[Mapping[str, Any] | None, dict[str, Any] | None, tuple[FieldError, ...]]:
    """What was written, the object where it is sound, or every fault of it."""
    try:
        body = made.web.reader.read(written.encode(), "application/yaml")
        found = made.web.reader.checked("GPUService", body)
    except Refused as error:
        return None, None, error.errors or (FieldError("", str(error)),)
    kind = str(body.plain.get("kind", ""))
    if kind != "GPUService":
        words = f"got {kind or 'nothing'}, allowed: GPUService"
        return body.plain, None, (FieldError("kind", words, line=body.line(("kind",))),)
    return body.plain, (None if found.problems else found.obj), found.problems


def _verdict(made: Context, draft: Draft, began: str) -> str:
    """Whether it is sound, and whether it is a service that is there already."""
    if draft.obj is None:
        return parts.badge("bad", counted(len(draft.errors), "problem"))
    key = key_of(draft.obj)
    if key != began and made.site.known.service(key) is not None:
        return parts.badge("warn", f"{short(key)} exists: applying this changes it")
    return parts.badge("good", "valid")


def _faults(errors: tuple[FieldError, ...], editor: int) -> str:
    if not errors:
        return ""
    rows = "".join(
        f'<div class="m-item m-problem{_known(one)}">{_place(one, editor)}'
        f'<span><span class="m-mono m-strong">{parts.text(one.path)}</span> {parts.text(one.detail)}</span></div>'
        for one in errors[:8]
    )
    more = parts.note(f"and {len(errors) - 8} more") if len(errors) > 8 else ""
    return f'<div class="m-list" role="alert">{rows}</div>{more}'


def _known(one: FieldError) -> str:
    """What the form tells beside its field needs no line below it."""
    return " m-known" if form.field_at(one.path) is not None else ""


def _place(one: FieldError, editor: int) -> str:
    if not one.line:
        return parts.badge("bad", "whole")
    script = f"muster.side('yaml');muster.line({editor},{one.line})"
    return f'<button type="button" class="m-line" onclick="{script}">{parts.icon("cancel")}line {one.line}</button>'


def _marks(errors: tuple[FieldError, ...]) -> str:
    """The script that marks lines with faults. The editor's own props would bring back text that was typed over."""
    rows = [(one.line, f"{one.path}: {one.detail}" if one.path else one.detail) for one in errors if one.line]
    return f"muster.faults({orjson.dumps(rows).decode()})"


def _apply(made: Context, plain: Mapping[str, Any], obj: Mapping[str, Any], base: Mapping[str, Any] | None) -> str:
    """Have the cluster want what was written, without the defaults that were filled in; what it said against it."""
    meta = obj["metadata"]
    space, name = str(meta["namespace"]), str(meta["name"])
    same = base is not None and (base["metadata"]["namespace"], base["metadata"]["name"]) == (space, name)
    if not made.viewer.may("update" if same else "create", "gpuservices", space, name if same else ""):
        return f"Your token may not {'change' if same else 'make'} services in {space}."
    kept = {key: plain["metadata"].get(key) or {} for key in ("labels", "annotations") if key in plain["metadata"]}
    wanted = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "spec": plain["spec"]}
    resource, objects = made.site.served.need("gpuservices"), made.site.objects
    try:
        if same and base is not None:
            return _changed(objects, resource.path(space, name), wanted, {"labels": {}, **kept}, base)
        body = {**wanted, "metadata": {"name": name, "namespace": space, **kept}}
        objects.request("POST", resource.path(space), body, query=_MANAGER)
    except ApiError as error:
        if error.status != 409:
            return str(error)
        return f"There is a service {name} in {space} already, so nothing was applied. Open that one to change it."
    return ""


def _changed(
    objects: Objects, path: str, wanted: Mapping[str, Any], kept: Mapping[str, Any], base: Mapping[str, Any]
) -> str:
    """Change a service, unless somebody did so since the page was opened: nobody saw that change here.

    Its status is written all the time, so versions say nothing; the generation counts changes of the spec.
    """
    for _ in range(_TRIES):
        live = objects.request("GET", path)["metadata"]
        if (live["uid"], live.get("generation")) != (base["metadata"]["uid"], base["metadata"].get("generation")):
            break
        had = {key: value for key, value in live.items() if key != "managedFields"}
        try:
            objects.request("PUT", path, {**wanted, "metadata": {**had, **kept}}, query=_MANAGER)
        except ApiError as error:
            if error.status != 409:
                raise
        else:
            return ""
    return "Somebody changed it since this page was opened, so nothing was applied. Open it again to see how."
