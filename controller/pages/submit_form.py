"""The form as HTML, and what fills it from what is written. Pure."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import orjson

from controller.pages import form
from controller.web.problems import FieldError

_COLUMNS = {"Service": "3fr 2fr", "Load": "1fr 1fr 1fr", "Objective": "1fr 1fr 1fr", "Limits": "1fr 1fr 1fr"}
_WIDE = ("model",)
_MOST_BEYOND = 12


def form_html(models: Sequence[str]) -> str:
    """All fields by group. What is typed is sent once a person pauses."""
    groups = "".join(
        f'<fieldset class="m-set"><legend class="m-head">{name}</legend>'
        f'<div class="m-grid" style="grid-template-columns:{columns};gap:10px">{_group(name)}</div></fieldset>'
        for name, columns in _COLUMNS.items()
    )
    options = "".join(f'<option value="{escape(one)}"></option>' for one in models)
    return f'{groups}<datalist id="models">{options}</datalist><div class="m-note" id="f-note"></div>'


def _group(name: str) -> str:
    return "".join(_field(one) for one in form.FIELDS if one.group == name)


def _field(one: form.Field) -> str:
    wide = ' style="grid-column:1/-1"' if one.id in _WIDE else ""
    send = f"emitEvent('field',{{id:'{one.id}',value:this.value}})"
    common = f'id="f-{one.id}" class="m-input" aria-describedby="f-{one.id}-wrong"'
    if one.choices:
        options = "".join(f'<option value="{value}">{value}</option>' for value in one.choices)
        made = f'<select {common} onchange="{send}">{options}</select>'
    else:
        late = f"clearTimeout(this.late);this.late=setTimeout(()=>{send},250)"
        listed = ' list="models"' if one.id == "model" else ""
        mode = ' inputmode="decimal"' if one.number else ""
        plain = f'placeholder="{escape(one.hint)}" spellcheck="false" autocomplete="off"'
        made = f'<input {common}{listed}{mode} {plain} oninput="{late}">'
    label = f'<label for="f-{one.id}">{one.label}</label>'  # apart from what is wrong, which would become its name
    return f'<div class="m-field"{wide}>{label}{made}<span class="m-wrong" id="f-{one.id}-wrong"></span></div>'


def fill(plain: Mapping[str, Any] | None, errors: Sequence[FieldError]) -> str:
    """The script that shows a service and its faults in the form; without one the form can't be used."""
    wrong = {found.id: one.detail for one in errors if (found := form.field_at(one.path)) is not None}
    if plain is None:
        return f"muster.fill(null, {{}}, {_json('The YAML cannot be read: mend it there first.')})"
    sizes = form.several(plain)
    note = f"{sizes} sizes of requests are in the YAML; the form shows the first." if sizes > 1 else ""
    beyond = form.beyond(plain)
    more = f"Only in the YAML: {', '.join(beyond[:_MOST_BEYOND])}" + (" and more." if beyond[_MOST_BEYOND:] else ".")
    told = " ".join(filter(None, (note, more if beyond else "")))
    return f"muster.fill({_json(form.values(plain))}, {_json(wrong)}, {_json(told)})"


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
