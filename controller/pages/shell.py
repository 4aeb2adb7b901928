"""What every page has: the bar above with the way to the others, the range of time, light or dark, and live updates."""

import logging
from collections.abc import Callable
from html import escape
from itertools import count
from typing import TypeVar

import orjson
from nicegui import run, ui

from controller.kube.rest import ApiError
from controller.pages.context import Context
from controller.pages.pace import speed_words
from controller.pages.parts import icon, tip
from controller.pages.ranges import LASTS, moment_text, span_text
from controller.pages.style import address, colours
from controller.pages.words import moment
from controller.web.problems import Refused
from planner.errors import MusterError

T = TypeVar("T")
Show = Callable[[T], None]
NAV = (
    ("Overview", "/"), ("Services", "/services"), ("Plans", "/plans"), ("Cluster", "/cluster"), ("Power", "/power"),
    ("Events", "/events"),
)  # fmt: skip
_EVERY_S = 2.0
_ASKED_EVERY = 15  # whether a token still counts, in rounds
_LOG = logging.getLogger("muster")
_NAMES = {"15m": "15 minutes", "1h": "hour", "6h": "6 hours", "24h": "24 hours", "7d": "7 days"}
_MARK = (
    '<svg viewBox="0 0 18 18" aria-hidden="true" fill="currentColor"><rect x="1" y="9" width="4" height="8" rx="1"/>'
    '<rect x="7" y="5" width="4" height="12" rx="1"/><rect x="13" y="1" width="4" height="16" rx="1"/></svg>'
)
_ORDER = (  # told by the browser beside the field, and not sent
    "const one=this.elements;one.to.setCustomValidity("
    "one.from.value&&one.from.value>=one.to.value?'The end must be later than the start':'')"
)
_THEME = """<script>
if (!document.cookie.includes('muster_theme=')) {
  const dark = matchMedia('(prefers-color-scheme: dark)').matches;
  document.cookie = 'muster_theme=' + (dark ? 'dark' : 'light') + '; path=/; max-age=31536000; samesite=lax';
  if (dark) location.reload();
}
</script>"""


def frame(made: Context, title: str, here: str) -> ui.element:
    """The bar and the place for a page's content."""
    ui.add_head_html(
        f'<link rel="stylesheet" href="{address("style.css")}"><script src="{address("muster.js")}"></script>'
    )
    ui.add_head_html(_THEME)
    ui.page_title(f"{title} · Muster")
    ui.dark_mode(made.dark)
    ui.colors(primary=colours(made.dark)["accent"])
    with ui.header(elevated=False).classes("m-top"):
        ui.html(_bar(made, here), sanitize=False).style("display:contents")
    return ui.element("div").classes("m-page").props('id="main" tabindex="-1"').style("outline:none")


def _bar(made: Context, here: str) -> str:
    links = "".join(f'<a href="{escape(made.link(path))}"{_here(path == here)}>{name}</a>' for name, path in NAV)
    out = "" if made.web.tokens.open else f'<a class="m-icon" href="/logout" aria-label="Sign out">{icon("logout")}</a>'
    return (
        '<a class="m-skip" href="#main">Skip to the content</a>'
        f'<a class="m-brand" href="{escape(made.link("/"))}">{_MARK}Muster</a>'
        f'<nav class="m-nav" aria-label="Pages">{links}</nav><span style="flex:1"></span>'
        f'<span class="m-state" id="m-state" role="status">{_state(made, "")}</span>'
        f"{_fixed(made, here)}{_range(made)}{_theme(made)}{out}"
        f'<a class="m-btn main" href="{escape(made.link("/submit"))}"{_here(here == "/submit", False)}>Submit</a>'
    )


def _here(true: bool, css: bool = True) -> str:
    return (' class="here"' if css else "") + ' aria-current="page"' if true else ""


def _state(made: Context, wrong: str) -> str:
    """The cluster's time, and whether what is shown is of now."""
    now_s = made.site.clock()
    quick = speed_words(made.site.speed(), made.pace.look(now_s))
    said = tip("not up to date", wrong) if wrong else ""
    when = f"{moment(now_s)[:16]}{quick and f' · {quick}'}"
    lost = '<span class="m-lost">Reconnecting …</span>'
    return f'<span class="m-dot"></span>{said}<span class="m-live">{escape(when)}</span>{lost}'


def _fixed(made: Context, here: str) -> str:
    """Which past time is shown, and the way back. Of most pages only charts are of that time; figures are of now."""
    if not made.range.fixed:
        return ""
    shown = span_text(*made.range.span(0.0)) + ("" if here == "/events" else ", charts only")
    back = f'<a href="{escape(made.path)}" aria-label="Back to now">now</a>'
    return f'<span class="m-note m-fixed" title="{escape(shown)}"><span>{escape(shown)}</span>{back}</span>'


def _range(made: Context) -> str:
    """Links, so that they work without a script and can be shared; and a form for two moments."""
    start_s, end_s = made.range.span(made.site.clock())
    rows = "".join(
        f'<a href="{escape(_with(made, f"range={key}"))}" aria-label="Last {_NAMES[key]}"'
        f"{_here(not made.range.fixed and made.range.lasts == key)}>{key}</a>"
        for key in LASTS
    )
    chosen = ' aria-pressed="true"' if made.range.fixed else ""
    field = '<label class="m-field">{0}<input type="datetime-local" name="{1}" value="{2}" required></label>'
    form = (
        f'<form method="get" action="{escape(made.path)}" oninput="{_ORDER}">'
        f"{field.format('From (UTC)', 'from', moment_text(start_s))}"
        f"{field.format('To (UTC)', 'to', moment_text(end_s))}"
        '<button class="m-btn main" style="justify-content:center">Show this time</button></form>'
    )
    more = (
        f'<details class="m-pop"><summary class="m-icon" role="button" aria-label="Choose a time"{chosen}>'
        f"{icon('calendar_today')}</summary>{form}</details>"
    )
    return f'<span class="m-seg" role="group" aria-label="Range of time">{rows}</span>{more}'


def _with(made: Context, query: str) -> str:
    return f"{made.path}?{query}"


def _theme(made: Context) -> str:
    other = "light" if made.dark else "dark"
    script = f"document.cookie='muster_theme={other}; path=/; max-age=31536000; samesite=lax'; location.reload()"
    sign = icon("light_mode" if made.dark else "dark_mode")
    return f'<button class="m-icon" aria-label="Use the {other} theme" onclick="{script}">{sign}</button>'


def follow(made: Context, title: str, load: Callable[[], T], show: Show[T]) -> None:
    """Load and show again every two seconds while somebody looks; what fails is told in the bar, and tried again."""

    ticks = count()

    async def tick() -> None:
        wrong = ""
        try:
            if next(ticks) % _ASKED_EVERY == 0 and await run.io_bound(made.viewer.known) is False:
                ui.navigate.to("/login")
                return
            found = await run.io_bound(load)
            if found is None:
                return  # the server ends
            show(found)
        except (ApiError, Refused, MusterError) as error:
            wrong = str(error) or type(error).__name__
        except Exception as error:
            _LOG.exception("page %s", title)
            wrong = f"a defect of Muster; its log says more ({type(error).__name__})"
        send(made, wrong)

    made.begun = True
    ui.timer(_EVERY_S, tick)


def send(made: Context, wrong: str = "") -> None:
    """Have the browser patch what changed."""
    made.html.append(("m-state", _state(made, wrong)))
    patches = made.patches()
    ui.run_javascript(f"muster.apply({_json(patches)})")


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
