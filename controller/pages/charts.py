"""Charts as ECharts takes them. Pure: options from values; colours follow the theme."""

from collections.abc import Mapping, Sequence
from typing import Any

from controller.pages.style import DARK, LIGHT, SERIES

Points = Sequence[tuple[float, float]]
Options = dict[str, Any]
_STEEP = 6.0


def _axis(colours: Mapping[str, str]) -> Options:
    return {
        "axisLine": {"lineStyle": {"color": colours["line"]}},
        "axisTick": {"show": False},
        "axisLabel": {"color": colours["soft"], "fontSize": 11},
        "splitLine": {"lineStyle": {"color": colours["line"], "opacity": 0.6}},
    }


def lines(
    series: Mapping[str, Points],
    *,
    dark: bool,
    unit: str = "",
    scale: float = 1.0,
    limit: float | None = None,
    limit_name: str = "objective",
    marks: Sequence[tuple[float, str]] = (),
    span: tuple[float, float] | None = None,
    dashed: Sequence[str] = (),
    area: bool = False,
) -> Options:
    """Values over time. `scale` multiplies them; `limit` is a line across; `marks` are moments with a word each."""
    colours = DARK if dark else LIGHT
    made = []
    most = max((value for points in series.values() for _, value in points), default=0.0)
    steep = limit is not None and most > _STEEP * limit  # a line far above its objective would hide all else
    for index, (name, points) in enumerate(series.items()):
        row: Options = {
            "name": name,
            "type": "line",
            "showSymbol": False,
            "smooth": False,
            "lineStyle": {"width": 1.8, "type": "dashed" if name in dashed else "solid"},
            "itemStyle": {"color": colours["soft"] if name in dashed else SERIES[index % len(SERIES)]},
            "data": [[round(1000 * at_s), round(value * scale, 4)] for at_s, value in points],
        }
        if area and name not in dashed:
            row["areaStyle"] = {"opacity": 0.10}
        made.append(row)
    if made and limit is not None:
        label = {"formatter": f"{limit_name} {limit * scale:g}{unit}", "position": "insideEndTop", "fontSize": 10}
        made[0]["markLine"] = {
            "silent": True, "symbol": "none", "label": {**label, "color": colours["bad"]},
            "lineStyle": {"color": colours["bad"], "type": "dashed", "width": 1.2}, "data": [{"yAxis": limit * scale}],
        }  # fmt: skip
    if made and marks:
        line = made[0].setdefault("markLine", {"silent": True, "symbol": "none", "data": []})
        line["data"] = [
            *line["data"],
            *(
                {
                    "xAxis": round(1000 * at_s), "label": {"show": False, "formatter": word},
                    "lineStyle": {"color": colours["accent"], "type": "solid", "opacity": 0.35, "width": 1},
                }
                for at_s, word in marks
            ),
        ]  # fmt: skip
    axis = _axis(colours)
    return {
        "animation": False,
        "useUTC": True,
        "color": list(SERIES),
        "grid": {"left": 8, "right": 12, "top": 28 if len(series) > 1 else 12, "bottom": 4, "containLabel": True},
        "tooltip": {
            "trigger": "axis",
            "backgroundColor": colours["card"],
            "borderColor": colours["line"],
            "textStyle": {"color": colours["text"], "fontSize": 12},
        },
        "legend": {
            "show": len(series) > 1, "top": 0, "left": 0, "itemWidth": 14, "itemHeight": 3, "icon": "rect",
            "textStyle": {"color": colours["soft"], "fontSize": 11},
        },
        "xAxis": {
            "type": "time", **axis, "splitLine": {"show": False},
            **({} if span is None else {"min": round(1000 * span[0]), "max": round(1000 * span[1])}),
        },
        "yAxis": {
            **({"type": "log", "min": limit * scale / 100} if limit and steep else {"type": "value", "min": 0}),
            **axis,
            "axisLabel": {**axis["axisLabel"], "formatter": "{value}" + unit},
        },
        "series": made,
    }  # fmt: skip


def curve(
    points: Sequence[tuple[float, float]],
    *,
    dark: bool,
    x_name: str,
    y_name: str,
    here: tuple[float, float] | None = None,
    scatter: bool = False,
) -> Options:
    """One value against another; `here` is where things are now."""
    colours = DARK if dark else LIGHT
    axis = _axis(colours)
    name = {"nameTextStyle": {"color": colours["soft"], "fontSize": 11}, "nameLocation": "middle"}
    made: list[Options] = [
        {
            "type": "scatter" if scatter else "line",
            "data": [list(one) for one in points],
            "symbolSize": 8,
            "itemStyle": {"color": SERIES[0]},
        }
    ]
    if here is not None:
        made.append(
            {
                "type": "scatter",
                "name": "now",
                "data": [list(here)],
                "symbolSize": 13,
                "itemStyle": {"color": SERIES[1]},
            }
        )
    return {
        "animation": False,
        "grid": {"left": 30, "right": 16, "top": 12, "bottom": 28, "containLabel": True},
        "tooltip": {"trigger": "item", "backgroundColor": colours["card"], "textStyle": {"color": colours["text"]}},
        "xAxis": {"type": "value", "scale": True, "name": x_name, "nameGap": 26, **name, **axis},
        "yAxis": {"type": "value", "min": 0, "name": y_name, "nameGap": 44, **name, **axis},
        "series": made,
    }
