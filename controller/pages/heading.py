"""The head of the pages of one service: which one, how it is, and the way between its page and its plan's. Pure."""

from collections.abc import Sequence
from html import escape

from controller.pages.context import Context
from controller.pages.parts import link, swatch, text, tip
from controller.pages.states import state_of
from controller.pages.words import model_name, short
from controller.web.model import ServiceRow


def heading(made: Context, row: ServiceRow, others: Sequence[ServiceRow], here: str) -> str:
    """`here`: services or plans."""
    tabs = "".join(
        f'<a href="{escape(made.link(f"/{path}/{row.key}"))}"'
        f"{' class=here aria-current=page' if path == here else ''}>{name}</a>"
        for path, name in (("services", "Service"), ("plans", "Plan"))
    )
    edit = link("Edit", made.link("/submit", service=row.key), "m-btn")
    return (
        f"{swatch(made.tint(row.key))}{_name(row, others, here)}{state_of(row)}"
        f"{tip(model_name(row.model), row.model, 'm-note')}"
        f'<span style="flex:1"></span><nav class="m-seg" aria-label="Of this service">{tabs}</nav>{edit}'
    )


def _name(row: ServiceRow, others: Sequence[ServiceRow], here: str) -> str:
    """The service's name; where there are others a plain select, which people know how to search by typing."""
    if len(others) < 2:
        return f'<h1 class="m-title">{text(short(row.key))}</h1>'
    options = "".join(
        f'<option value="{escape(one.key)}"{" selected" if one.key == row.key else ""}>{text(short(one.key))}</option>'
        for one in others
    )
    script = f"location.href='/{here}/'+this.value+location.search"
    pick = f'<select class="m-input m-switch" aria-label="Service" onchange="{script}">{options}</select>'
    return f'<h1 class="m-hidden">{text(short(row.key))}</h1>{pick}'
