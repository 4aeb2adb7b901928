"""One page that one person looks at: who, what time, and what changed since it was last sent."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlencode

from controller.pages.pace import Pace
from controller.pages.ranges import POINTS, Range
from controller.pages.sessions import Viewer
from controller.pages.style import OTHERS, SERIES
from controller.pages.tints import Tints
from controller.web.asked import Web
from controller.web.glance import Glance
from controller.web.model import Outcome, ServiceRow, history, plan, services
from controller.web.site import Site

T = TypeVar("T")
Points = Sequence[tuple[float, float]]
_LEAST_S = 300.0
KEEP_S = 1.0  # views are made once for all who look within a second


class Answers:
    """Answers that took long, kept for all who ask the same; the oldest are forgotten."""

    def __init__(self, most: int = 200) -> None:
        self._most = most
        self._rows: OrderedDict[str, object] = OrderedDict()

    def get(self, question: str) -> object:
        """The answer, or None."""
        return self._rows.get(question)

    def keep(self, question: str, answer: object) -> None:
        """Remember it."""
        self._rows[question] = answer
        while len(self._rows) > self._most:
            self._rows.popitem(last=False)


@dataclass
class Context:
    """`glance`, `answers`, `tints`, `pace`: shared by all who look. `tinted`: the colour of each
    service, as an index into `SERIES`. `html`, `charts`: what the browser is to patch."""

    web: Web
    viewer: Viewer
    dark: bool
    range: Range
    glance: Glance
    answers: Answers
    tints: Tints
    pace: Pace
    path: str = "/"
    begun: bool = False
    tinted: Mapping[str, int] = field(default_factory=dict)
    html: list[tuple[str, str]] = field(default_factory=list)
    charts: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    @property
    def site(self) -> Site:
        """The controller."""
        return self.web.site

    def link(self, path: str, **query: str) -> str:
        """A link that keeps the range of time."""
        return f"{path}?{urlencode({**self.range.query(), **query})}"

    def view(self, name: str, make: Callable[[Site], T]) -> T:
        """A view, made once for all who look at the same moment. May wait; raises what `make` raises."""
        return self.glance.of(name, lambda: make(self.site))

    def span(self) -> tuple[float, float]:
        """The time that charts show. It begins where anything was measured, should that be later."""
        start_s, end_s = self.range.span(self.site.clock())
        first = next(iter(self.series("power_w", "", start_s, end_s)), None)
        if first is None or self.range.fixed or first[0] - start_s < 0.1 * (end_s - start_s):
            return start_s, end_s
        return min(first[0] // 60.0 * 60.0, end_s - _LEAST_S), end_s

    def series(self, metric: str, subject: str, start_s: float, end_s: float) -> Points:
        """Values of a time, in parts that stay as they are while time goes on."""
        name = f"series:{metric}:{subject}:{start_s}:{end_s}"
        return self.view(name, lambda site: site.history.series(metric, subject, start_s, end_s, POINTS))

    def seen(self) -> list[ServiceRow]:
        """The services that whoever looks may see."""
        rows = self.view("services", services)
        return [row for row in rows if self.viewer.may("get", "gpuservices", row.namespace)]

    def find(self, load: Callable[["Context"], T]) -> T:
        """What a page shows, once it is known which colour each service has. May wait; raises what `load` raises."""
        rows = sorted(self.view("services", services), key=lambda row: (row.created_s, row.key))
        self.tinted = self.tints.of([row.key for row in rows])
        return load(self)

    def tint(self, service: str) -> str:
        """The colour of a service."""
        return SERIES[self.dark][self.tinted.get(service, OTHERS)]

    def outcomes(self, key: str) -> Sequence[Outcome]:
        """What was planned for a service, the newest first, as far as the cluster keeps it. Raises ApiError."""
        now = self.view(f"plan:{key}", lambda site: plan(site, key))
        if now is None:
            return ()
        found = self.view(f"history:{key}:{now.current.decision}", lambda site: history(site, key))
        return () if found is None else found.outcomes

    def patches(self) -> dict[str, Any] | None:
        """What changed since this was last asked; None for nothing."""
        if not self.html and not self.charts:
            return None
        found = {"html": self.html, "charts": self.charts}
        self.html, self.charts = [], []
        return found
