"""Charts of one figure against another: cost against rate, objective, latency and power, and the Pareto front. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from controller.pages.charts import Unit
from controller.pages.style import SERIES, colours

Options = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Spot:
    """One plan: its place, and what it is in words."""

    x: float
    y: float
    words: str


def front(spots: Sequence[Spot]) -> list[Spot]:
    """Those that no other beats in both, the cheaper and the smaller the better; from left to right."""
    kept: list[Spot] = []
    for one in sorted(spots, key=lambda spot: (spot.x, spot.y)):
        if not kept or one.y < kept[-1].y - 1e-9:
            kept.append(one)
    return kept


def chart(
    spots: Sequence[Spot],
    x: tuple[str, Unit],
    *,
    dark: bool,
    here: Spot | None = None,
    pareto: bool = False,
    step: bool = False,
) -> Options:
    """Cost (in $/h, upwards) against something. `pareto`: draw the front, and what it beats paler."""
    found, palette = colours(dark), SERIES[dark]
    best = front(spots) if pareto else sorted(spots, key=lambda one: one.x)
    beaten = [one for one in spots if pareto and one not in best]
    series = [_line(best, palette[0], step or pareto)]
    if beaten:
        series.append(_dots(beaten, found["soft"], 6, 0.5))
    if here is not None:
        series.append(_dots([here], palette[1], 11, 1.0))
    label = {"color": found["soft"], "fontSize": 11, "fontFamily": "Roboto"}
    grid = {"axisTick": {"show": False}, "splitLine": {"lineStyle": {"color": found["line"]}}}
    name = {"nameLocation": "middle", "nameTextStyle": label}
    return {
        "animation": False,
        "grid": {"left": 4, "right": 26, "top": 10, "bottom": 20, "containLabel": True},
        "tooltip": {
            "trigger": "item", ":formatter": "p => p.data.words", "confine": True, "padding": [6, 10],
            "backgroundColor": found["raised"], "borderColor": found["strong"],
            "textStyle": {"color": found["text"], "fontSize": 12, "fontFamily": "Roboto"},
        },
        "xAxis": {
            "type": "value", "scale": True, "name": x[0], "nameGap": 22, **name, **grid, "splitLine": {"show": False},
            "splitNumber": 4, "axisLine": {"show": True, "onZero": False, "lineStyle": {"color": found["line"]}},
            "axisLabel": {**label, ":formatter": f"v => muster.format.{x[1]}(v)", "hideOverlap": True},
        },
        "yAxis": {
            "type": "value", "min": 0, **grid, "splitNumber": 3, "axisLine": {"show": False},
            "axisLabel": {**label, ":formatter": "v => muster.format.money(v)"},
        },
        "series": series,
    }  # fmt: skip


def _line(rows: Sequence[Spot], colour: str, step: bool) -> Options:
    return {
        "type": "line", "symbol": "circle", "symbolSize": 6, "itemStyle": {"color": colour},
        "lineStyle": {"width": 1.6}, "data": _data(rows), "emphasis": {"scale": 1.4},
        **({"step": "end"} if step else {}),
    }  # fmt: skip


def _dots(rows: Sequence[Spot], colour: str, size: int, opacity: float) -> Options:
    style = {"color": colour, "opacity": opacity}
    return {"type": "scatter", "symbolSize": size, "itemStyle": style, "data": _data(rows), "z": 5}


def _data(rows: Sequence[Spot]) -> list[Options]:
    return [{"value": [one.x, one.y], "words": one.words} for one in rows]
