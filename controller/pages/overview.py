"""Overview: cost, power, objectives and GPUs at a glance, the services, and what changed last and why."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from controller.kube.rest import ApiError
from controller.pages import overview_charts as drawn
from controller.pages import parts
from controller.pages.context import Context, Points
from controller.pages.headline import headline
from controller.pages.live import Html, Stat, card, charted, grid, static
from controller.pages.overview_changes import changes as changed
from controller.pages.states import state_of, state_words, waits_words, why_of
from controller.pages.words import count, model_name, money, rate, said, share, short, watts
from controller.web.model import Change, DomainRow, GpuCount, Outcome, Overview, ServiceRow, diff, domains, overview
from controller.web.model_plans import outcome
from controller.web.problems import Refused
from planner.units import counted

_WELL_OVER = 1.1  # of the planned rate: what is closer is the noise that plans leave room for
_MOST_ASKED = 20
_MOST_CHANGES = 24
_MOST_LETTERS = 34  # of a line in a tile
_KEYED = "colours as in the table"
_MOST_WORDS = 160  # in a row of the table: more are folded away


@dataclass(frozen=True)
class Seen:
    """What the page shows at one moment. `fleet`: whether whoever looks may see nodes and power; `asking`: services
    that have an objective; `tints`: the colour of each."""

    now: Overview
    fleet: bool
    rows: Sequence[ServiceRow]
    domains: Sequence[DomainRow]
    span: tuple[float, float]
    series: Mapping[tuple[str, str], Points]
    changes: Sequence[Change]
    asking: frozenset[str]
    tints: Mapping[str, int]
    waits: Mapping[str, Outcome] = field(default_factory=dict)  # plans that wait for a person, by service


def load(made: Context) -> Seen:
    """Everything that the page shows."""
    now, rows, span = made.view("overview", overview), made.seen(), made.span()
    fleet = made.viewer.may("list", "nodes", group="")
    wanted = [(metric, row.key) for row in rows[:_MOST_ASKED] for metric in ("attainment_ratio", "usd_per_hour")]
    if fleet:
        wanted += [("power_w", ""), ("budget_w", ""), ("attainment_ratio", ""), ("usd_per_hour", ""), ("gpus_used", "")]
    series = {one: made.series(*one, *span) for one in wanted}
    held = made.view("domains", domains) if fleet else ()
    asking = frozenset(row.key for row in rows if _asks(made, row.key))
    return Seen(
        now, fleet, rows, held, span, series, _recent(made, now, rows), asking, made.tinted, _waiting(made, rows)
    )


def _waiting(made: Context, rows: Sequence[ServiceRow]) -> dict[str, Outcome]:
    found = {row.key: made.site.known.plan(row.key) for row in rows if row.awaits_approval}
    return {key: outcome(one["spec"]["proposal"]) for key, one in found.items() if one and one["spec"].get("proposal")}


def _asks(made: Context, key: str) -> bool:
    found = made.site.known.service(key)
    return found is not None and bool(found["spec"].get("slos"))


def _recent(made: Context, now: Overview, rows: Sequence[ServiceRow]) -> list[Change]:
    """What changed last in all services, as far as the cluster keeps it."""
    found = {(one.service, one.at_s): one for one in now.changes}
    for row in rows[:_MOST_ASKED]:
        try:
            past = made.outcomes(row.key)
        except (ApiError, Refused):
            continue  # what is known of the plans in force is shown all the same
        for one, before in zip(past, (*past[1:], None), strict=False):
            none = replace(one, usd_per_hour=0.0, power_w=0.0, replicas=0, gpus=0, allocations=())
            changed = diff(row.key, before or none, one)
            found[row.key, one.at_s] = Change(
                one.at_s, row.key, one.decision, one.cause, one.reason, one.usd_per_hour, changed
            )
    keys = {row.key for row in rows}
    mine = (one for one in found.values() if one.service in keys and one.at_s)
    return sorted(mine, key=lambda one: -one.at_s)[:_MOST_CHANGES]


def build(made: Context, first: Seen) -> Callable[[Seen], None]:
    """The page."""
    title = Html(made, "m-row")
    with grid("repeat(5, minmax(0, 1fr))"):
        tiles = [
            Stat(made, head) for head in ("Cost", "Power", "Within the objective", "GPUs in use", "Services ready")
        ]
    with grid("repeat(3, minmax(0, 1fr))"):
        attained, cost, power = (
            charted(made, 120, head, label, keyed)
            for head, label, keyed in (
                ("Requests within the objective", "Share of requests within the objective over time", _KEYED),
                ("Cost of what runs, by service", "Dollars an hour over time", _KEYED),
                ("Power of all nodes", "Power drawn over time", ""),
            )
        )
    with grid("minmax(0, 8fr) minmax(0, 5fr)"):
        with card("Services"):
            table = Html(made, "m-fill")
        with card("What changed last, and why"):
            changes = Html(made, "m-fill")

    def show(seen: Seen) -> None:
        title.show(f'<h1 class="m-title">Overview</h1>{headline(seen)}')
        _tiles(tiles, seen)
        attained.show(drawn.attained(seen, made.dark))
        cost.show(drawn.cost(seen, made.dark))
        power.show(drawn.power(seen, made.dark))
        table.show(_services(made, seen))
        changes.show(changed(made, seen))

    return show


def _tiles(tiles: Sequence[Stat], seen: Seen) -> None:
    cost, power, attained, gpus, ready = tiles
    now = seen.now

    def line(metric: str) -> list[float]:
        return [value for _, value in seen.series.get((metric, ""), ())][-40:]

    mine = sum(row.usd_per_hour for row in seen.rows)
    cost.show(money(mine), _costs(seen, mine, line("usd_per_hour")), line=line("usd_per_hour"))
    held = now.attainment_ratio if seen.fleet else None
    attained.show(share(held), "of requests in the last minute", line=line("attainment_ratio"))
    served = sum(row.ready for row in seen.rows)
    faults = (
        f"{counted(now.nodes_out, 'node')} of {now.nodes} out"
        if now.nodes_out
        else f"all {counted(now.nodes, 'node')} in"
    )
    state = "" if not seen.fleet else "bad" if now.nodes_out else "good"
    ready.show(f"{served} of {len(seen.rows)}", faults if seen.fleet else "", state=state)
    if not seen.fleet:
        power.show("–", "your token may not see nodes")
        gpus.show(count(sum(row.gpus for row in seen.rows)), "of your services")
        return
    tight = max(seen.domains, key=lambda row: (row.drawn_w or 0.0) / row.budget_w, default=None)
    if tight is None:
        power.show(watts(now.power_w), "no power domain", line=line("power_w"))
    else:
        words = f"{tight.name}: {watts(tight.drawn_w)} of {watts(tight.budget_w)}"
        power.show(watts(now.power_w), words, ratio=(tight.drawn_w or 0.0) / tight.budget_w)
    total = now.gpus_total
    gpus.show(f"{now.gpus_used} of {total:,}", _busy(now), ratio=now.gpus_used / total if total else 0.0)


def _costs(seen: Seen, planned: float, runs: Sequence[float]) -> str:
    """What the figure counts, and what is drawn where that differs: what runs now comes and goes after the plans."""
    words = f"GPUs of {counted(sum(row.replicas for row in seen.rows), 'planned replica')}"
    return words + (f"; {money(runs[-1])} run now" if runs and abs(runs[-1] - planned) >= 0.005 else "")


def _busy(now: Overview) -> str:
    """Which types are in use, and how many of each; the most used by name, as far as a line of the tile goes."""
    busy = sorted((one for one in now.gpus if one.used), key=lambda one: -one.used)
    made = [_named(busy, count) for count in (2, 1)]
    return next((words for words in made if len(words) <= _MOST_LETTERS), made[-1]) or "none is used"


def _named(busy: Sequence[GpuCount], most: int) -> str:
    named, others = ", ".join(f"{one.used} {one.gpu}" for one in busy[:most]), sum(one.used for one in busy[most:])
    return f"{named} and {counted(others, 'other')}" if others else named


def _services(made: Context, seen: Seen) -> str:
    rows = sorted(seen.rows, key=lambda row: state_words(row)[0] not in ("bad", "warn"))  # what needs somebody, first
    if not rows:
        more = f'<a class="m-btn main" href="{made.link("/submit")}">Submit a service</a>'
        words = "Say which model to serve, for how many requests, and how fast; Muster plans the GPUs for it."
        return parts.empty("No service yet", words, "rocket_launch", more)
    cells = [
        (
            parts.swatch(made.tint(row.key))
            + parts.link(short(row.key), made.link(f"/services/{row.key}"), "m-strong"),
            state_of(row),
            f'<span class="m-soft">{parts.text(model_name(row.model))}</span>',
            f"{row.replicas_ready} of {row.replicas}" if row.replicas or row.replicas_ready else "none",
            _load(row),
            share(row.attainment_ratio),
            money(row.usd_per_hour),
        )
        for row in rows
    ]
    heads = ("Service", "State", "Model", "Replicas", "Rate of planned", "In time", "Cost")
    under = [_asked(row, seen.waits) or parts.folded(*_why(row)) for row in rows]
    return parts.table(heads, cells, (3, 4, 5, 6), "Services", under)


def _asked(row: ServiceRow, waits: Mapping[str, Outcome]) -> str:
    return parts.text(waits_words(waits[row.key])) if row.key in waits else ""


def _why(row: ServiceRow) -> tuple[str, str]:
    """Why a service is not as it should be, in few words as HTML and in all of them."""
    whole, brief = why_of(row), said(row.why)
    return (parts.text(brief), whole) if brief.endswith("…") or len(whole) > _MOST_WORDS else (parts.text(whole), "")


def _load(row: ServiceRow) -> str:
    """Requests of those that were planned for, as figures and as a bar."""
    said = f'{rate(row.rate_per_s)} <span class="m-soft">of {rate(row.planned_per_s)}</span>'
    if not row.planned_per_s or row.rate_per_s is None:
        return said
    ratio = row.rate_per_s / row.planned_per_s
    colour = "warn" if ratio > _WELL_OVER else "accent"
    return said + parts.meter(ratio, f"{100 * ratio:.0f} percent of the planned rate", colour=colour)


def nothing(made: Context, title: str) -> None:
    """What the pages of services say before there is one."""
    words = "Say which model to serve, for how many requests, and how fast; Muster plans the GPUs for it."
    more = f'<a class="m-btn main" href="{made.link("/submit")}">Submit a service</a>'
    static(f'<h1 class="m-title">{title}</h1>')
    static(f'<div class="m-card">{parts.empty("No service yet", words, "rocket_launch", more)}</div>')
