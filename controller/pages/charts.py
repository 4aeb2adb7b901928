"""Charts over time as ECharts takes them. Pure: options from values, in SI; the browser writes figures as people do."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, log10
from operator import itemgetter
from typing import Any, Literal

from controller.pages.ranges import POINTS
from controller.pages.style import SERIES, colours

Points = Sequence[tuple[float, float]]
Options = dict[str, Any]
Unit = Literal["money", "watts", "seconds", "rate", "percent", "celsius", "count"]
_STEEP = 5.0
_FROM_RATIOS = (0.9, 0.5)
_HOLDS_PARTS = 1.5  # of `POINTS`: moments of two lines differ by up to a part where one of them began within it


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `dashed`: what was asked for or planned, beside what was seen; `stack`: on those of the same name."""

    name: str
    points: Points
    dashed: bool = False
    area: bool = False
    stack: str = ""
    colour: int | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """A line across that values should stay below (or above)."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment at which something was decided."""

    at_s: float
    words: str


def lines(
    rows: Sequence[Line],
    unit: Unit,
    span: tuple[float, float],
    *,
    dark: bool,
    limit: Limit | None = None,
    marks: Sequence[Mark] = (),
) -> Options:
    """Values over time."""
    found, rows = colours(dark), _together(rows, _HOLDS_PARTS * (span[1] - span[0]) / POINTS)
    series = [_series(one, index, dark) for index, one in enumerate(rows)]
    holder: Options = {  # a line of no points, so that limits and marks are there however many others are
        "name": "", "type": "line", "data": [], "silent": True, "tooltip": {"show": False},
        "markLine": {"silent": False, "symbol": "none", "animation": False, "data": [
            *([] if limit is None else [_limit(limit, found)]),
            *(_mark(one, found) for one in marks if span[0] <= one.at_s <= span[1]),
        ]},
    }  # fmt: skip
    return {
        "animation": False,
        "useUTC": True,
        "graphic": _silence(any(one.points for one in rows), found),
        "grid": {"left": 4, "right": 18, "top": 12, "bottom": 2, "containLabel": True},
        "tooltip": {
            "trigger": "axis", ":formatter": f"muster.tooltip('{unit}')", "confine": True, "padding": [6, 10],
            "backgroundColor": found["raised"], "borderColor": found["strong"], "borderWidth": 1,
            "textStyle": {"color": found["text"], "fontSize": 12, "fontFamily": "Roboto"},
            "axisPointer": {"lineStyle": {"color": found["strong"]}},
        },
        "xAxis": {
            "type": "time", "min": round(1000 * span[0]), "max": round(1000 * span[1]), **_axis(found),
            "splitLine": {"show": False}, "axisLine": {"lineStyle": {"color": found["line"]}},
            "axisLabel": {**_label(found), "hideOverlap": True, ":formatter": _when(span), "showMinLabel": False,
                          "showMaxLabel": False},
        },
        "yAxis": {
            **_scale(rows, limit, unit), **_axis(found), "axisLine": {"show": False}, 
            "axisLabel": {**_label(found), ":formatter": f"v => muster.format.{unit}(v)"},
        },
        "series": [*series, holder],
    }  # fmt: skip


def _together(rows: Sequence[Line], hold_s: float) -> list[Line]:
    """Rows that are stacked, all at the same moments: stacks add up points of the same index, whenever they were."""
    moments = sorted({at_s for one in rows if one.stack for at_s, _ in one.points})
    return [
        replace(one, points=[(at_s, _at(one.points, at_s, hold_s)) for at_s in moments])
        if one.stack and one.points
        else one
        for one in rows
    ]


def _at(points: Points, at_s: float, hold_s: float) -> float:
    """A line at any moment: what lies between its points; 0 before the first, after the last, and while it was away."""
    index = bisect_left(points, at_s, key=itemgetter(0))
    if index < len(points) and points[index][0] == at_s:
        return points[index][1]
    if index == 0:
        return 0.0
    start_s, start = points[index - 1]
    if index == len(points):
        return start if at_s - start_s <= hold_s else 0.0
    end_s, end = points[index]
    return 0.0 if end_s - start_s > 2 * hold_s else start + (end - start) * (at_s - start_s) / (end_s - start_s)


def _silence(heard: bool, found: dict[str, str]) -> Options:
    """What a chart says that has nothing to show."""
    ground = "transparent" if heard else found["card"]  # behind words, so that no line of the grid strikes them through
    style = {"text": "" if heard else "nothing was measured in this time", "fill": found["soft"], "fontSize": 12,
             "fontFamily": "Roboto", "backgroundColor": ground, "padding": [2, 6]}  # fmt: skip
    return {"id": "silence", "type": "text", "left": "center", "top": "middle", "z": 10, "silent": True, "style": style}


def _series(one: Line, index: int, dark: bool) -> Options:
    palette = SERIES[dark]
    colour = palette[(index if one.colour is None else one.colour) % len(palette)]
    colour = colours(dark)["soft"] if one.dashed else colour
    row: Options = {
        "name": one.name, "type": "line", "symbol": "circle", "itemStyle": {"color": colour},
        "showSymbol": len(one.points) < 2,  # a line through one point is none
        "lineStyle": {"width": 1.3 if one.dashed else 1.6, "type": [4, 3] if one.dashed else "solid"},
        "emphasis": {"disabled": True},
        "data": [[round(1000 * at_s), float(f"{value:.5g}")] for at_s, value in one.points],
    }  # fmt: skip
    if one.stack:
        row |= {"stack": one.stack, "areaStyle": {"opacity": 0.22}, "lineStyle": {"width": 1, "type": "solid"}}
    elif one.area:
        row["areaStyle"] = {"opacity": 0.09}
    if one.dashed:
        row["step"] = "end"
    return row


def _limit(one: Limit, found: dict[str, str]) -> Options:
    label = {"formatter": one.name, "position": "insideStartTop", "fontSize": 10.5, "color": found["bad"],
             "fontFamily": "Roboto", "distance": 5, "backgroundColor": found["card"], "padding": [1, 3]}  # fmt: skip
    line = {"color": found["bad"], "type": [5, 3], "width": 1.2}
    return {"yAxis": one.value, "label": label, "lineStyle": line, "emphasis": {"disabled": True}}


def _mark(one: Mark, found: dict[str, str]) -> Options:
    label = {"formatter": "▾", "position": "end", "color": found["soft"], "fontSize": 10, "distance": -3}
    told = {"formatter": one.words, "color": found["text"], "fontSize": 11, "backgroundColor": found["raised"],
            "padding": [3, 6], "borderColor": found["strong"], "borderWidth": 1, "borderRadius": 4}  # fmt: skip
    line = {"color": found["soft"], "type": "solid", "opacity": 0.3, "width": 1}
    return {"xAxis": round(1000 * one.at_s), "label": label, "lineStyle": line,
            "emphasis": {"label": told, "lineStyle": {**line, "opacity": 1}}}  # fmt: skip


def _scale(rows: Sequence[Line], limit: Limit | None, unit: Unit) -> Options:
    """From zero, but shares that are all near one: there the last percents count. Far above a limit: logarithmic."""
    values = [value for one in rows for _, value in one.points]
    if unit == "percent":
        least = next((one for one in _FROM_RATIOS if min(values, default=0.0) >= one), 0.0)
        return {"type": "value", "min": least, "max": 1, "interval": (1 - least) / 2}
    most = max(_stacked(rows).values()) if rows and rows[0].stack and values else max(values, default=0.0)
    if limit is not None and most > _STEEP * limit.value > 0:  # what is far above would hide all else
        return {"type": "log", "min": limit.value / 20}
    return {"type": "value", "min": 0, **_steps(max(most, 0.0 if limit is None else limit.value * 1.08))}


def _stacked(rows: Sequence[Line]) -> dict[float, float]:
    """The sum at each moment."""
    found: dict[float, float] = {}
    for one in rows:
        for at_s, value in one.points:
            found[at_s] = found.get(at_s, 0.0) + value
    return found


def _steps(most: float) -> Options:
    """Two to four round steps up to at least so much; none for nothing."""
    if most <= 0:
        return {}
    power = 10.0 ** floor(log10(most))
    step = next(power * one for one in (0.25, 0.5, 1.0, 2.0, 2.5, 5.0) if most <= 4 * power * one * 1.0001)
    return {"interval": float(f"{step:.6g}"), "max": float(f"{step * ceil(most / step - 1e-6):.6g}")}


def _axis(found: dict[str, str]) -> Options:
    return {"axisTick": {"show": False}, "splitLine": {"lineStyle": {"color": found["line"]}}}


def _label(found: dict[str, str]) -> Options:
    return {"color": found["soft"], "fontSize": 11, "fontFamily": "Roboto"}


def _when(span: tuple[float, float]) -> str:
    if span[1] - span[0] <= 86_400 * 1.5:
        return "v => muster.clock(v)"
    return "v => new Date(v).toLocaleDateString('en', {day: 'numeric', month: 'short', timeZone: 'UTC'})"
