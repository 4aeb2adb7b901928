"""What every page has: the bar above with the way to the others, the range of time, light or dark, and live updates."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlencode

from nicegui import ui

from controller.pages.sessions import Viewer
from controller.pages.style import CSS, DARK, LIGHT
from controller.pages.words import moment
from controller.web.asked import Web
from controller.web.site import Site

RANGES = {"15m": 900, "1h": 3600, "6h": 21_600, "24h": 86_400, "7d": 604_800}
_NAMES = {"15m": "15 minutes", "1h": "1 hour", "6h": "6 hours", "24h": "24 hours", "7d": "7 days"}
USUAL = "6h"
NAV = (("Overview", "/"), ("Submit", "/submit"), ("Cluster", "/cluster"), ("Power", "/power"), ("Events", "/events"))
_EVERY_S = 2.0
_LOG = logging.getLogger("muster")

_THEME = """<script>
if (!document.cookie.includes('muster_theme=')) {
  const dark = matchMedia('(prefers-color-scheme: dark)').matches;
  document.cookie = 'muster_theme=' + (dark ? 'dark' : 'light') + '; path=/; max-age=31536000; samesite=lax';
  if (dark) location.reload();
}
</script>"""


@dataclass
class Context:
    """One page of one person. `live`: what is done again every two seconds while they look."""

    web: Web
    viewer: Viewer
    dark: bool
    range: str
    live: list[Callable[[], None]] = field(default_factory=list)

    @property
    def site(self) -> Site:
        """The controller."""
        return self.web.site

    @property
    def span(self) -> tuple[float, float]:
        """The time that charts show, from and to."""
        now_s = self.site.clock()
        return now_s - RANGES[self.range], now_s

    def link(self, path: str, **query: str) -> str:
        """A link that keeps the range of time."""
        return f"{path}?{urlencode({'range': self.range, **query})}"

    def series(self, metric: str, subject: str = "") -> Sequence[tuple[float, float]]:
        """Values of the shown time."""
        return self.site.history.series(metric, subject, *self.span)

    def keep(self, update: Callable[[], None]) -> None:
        """Do something now and every two seconds."""
        update()
        self.live.append(update)


@contextmanager
def page(made: Context, title: str, here: str) -> Iterator[None]:
    """The frame of a page; its content goes inside."""
    ui.add_css(CSS)
    ui.add_head_html(_THEME)
    ui.page_title(f"{title} · Muster")
    ui.dark_mode(made.dark)
    ui.colors(primary=(DARK if made.dark else LIGHT)["accent"])
    with ui.header(elevated=False).classes("m-top"):
        ui.link("Muster", made.link("/")).classes("m-brand")
        with ui.element("nav").classes("m-nav").props('aria-label="Pages"'):
            for name, path in NAV:
                link = ui.link(name, made.link(path))
                if path == here:
                    link.classes("here").props('aria-current="page"')
        ui.space()
        clock = ui.label().classes("m-note").props('aria-label="Time in the cluster"')
        _range(made)
        _theme(made)
        if not made.web.tokens.open:
            ui.link("Sign out", "/logout").classes("m-note")
    with ui.element("main").classes("m-page"):
        yield

    def tick() -> None:
        speed = made.site.speed()
        clock.set_text(moment(made.site.clock()) + (f" · {speed:g}×" if speed != 1 else ""))
        for update in made.live:
            try:
                update()
            except Exception:  # one part that fails must not stop the others: it is told, and tried again
                _LOG.exception("page %s", title)

    clock.set_text(moment(made.site.clock()))
    ui.timer(_EVERY_S, tick)


def _range(made: Context) -> None:
    """A plain select: it is named for those who hear it, and the range stays in the address for those who share it."""
    script = "const u = new URL(location); u.searchParams.set('range', this.value); location.assign(u)"
    options = "".join(
        f'<option value="{key}"{" selected" if key == made.range else ""}>{name}</option>'
        for key, name in _NAMES.items()
    )
    ui.html(
        f'<select class="m-select" aria-label="Range of time" onchange="{script}">{options}</select>', sanitize=False
    )


def _theme(made: Context) -> None:
    other = "light" if made.dark else "dark"
    script = f"document.cookie='muster_theme={other}; path=/; max-age=31536000; samesite=lax'; location.reload();"
    button = ui.button(icon="light_mode" if made.dark else "dark_mode", on_click=lambda: ui.run_javascript(script))
    button.props(f'flat dense round aria-label="Use the {other} theme"').style("color:var(--soft)")
