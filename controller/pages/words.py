"""Figures as people write them. Pure."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

NOTHING = "–"
_PLAIN = re.compile(r"[a-z]+[ ,]|mended:")  # names, such as of nodes, stay as they are
_SHOUTED = re.compile(r"\b[A-Z]+(?:_[A-Z0-9]+)+\b")
_PUT = {"the service has no plan": "first plan of this service"}  # a reason to plan, read when there is one
_SECONDS = re.compile(r"\b(\d{3,}) s\b")


def money(usd_per_hour: float | None) -> str:
    """`$12.40/h`."""
    return NOTHING if usd_per_hour is None else f"${usd_per_hour:,.2f}/h"


def watts(power_w: float | None) -> str:
    """`640 W`, `3.2 kW`."""
    if power_w is None:
        return NOTHING
    if abs(power_w) < 1000:
        return f"{power_w:.0f} W"
    return f"{power_w / 1000:.1f} kW" if abs(power_w) < 1e6 else f"{power_w / 1e6:.2f} MW"


def duration(time_s: float | None) -> str:
    """`18 ms`, `1.3 s`, `12 min`, `3 h`, `2 d`."""
    if time_s is None:
        return NOTHING
    if time_s < 0.1:
        return f"{1000 * time_s:.1f} ms"
    if time_s < 1:
        return f"{1000 * time_s:.0f} ms"
    for least, unit, text in ((172_800, 86_400, "d"), (7200, 3600, "h"), (120, 60, "min")):
        if time_s >= least:
            return f"{time_s / unit:.0f} {text}"
    return f"{time_s:.1f} s" if time_s < 10 else f"{time_s:.0f} s"


def rate(per_s: float | None) -> str:
    """`16.4/s`."""
    if per_s is None:
        return NOTHING
    return f"{per_s:.2f}/s" if per_s < 10 else f"{per_s:,.1f}/s"


def share(ratio: float | None, digits: int = 1) -> str:
    """`99.2 %`; all of it is `100 %`, and nearly all never is."""
    if ratio is None:
        return NOTHING
    if ratio >= 1:
        return "100 %"
    return f"{min(100 * ratio, 100 - 10.0**-digits):.{digits}f} %"


def count(value: float | None) -> str:
    """`1,024`."""
    return NOTHING if value is None else f"{value:,.0f}"


def degrees(celsius: float | None) -> str:
    """`54 °C`."""
    return NOTHING if celsius is None else f"{celsius:.0f} °C"


def gibibytes(amount: float | None) -> str:
    """`72 GiB`."""
    return NOTHING if amount is None else f"{amount / 2**30:.0f} GiB"


def clock(at_s: float) -> str:
    """`Thu 06:12`, in UTC."""
    return f"{datetime.fromtimestamp(at_s, UTC):%a %H:%M}"


def asked(time_s: float) -> str:
    """`50 ms`, `1.5 s`: a time as a person asked for it."""
    return duration(time_s).replace(".0 ", " ")


def said(words: str) -> str:
    """What the controller says, for people: `over 1800 s` is `over 30 min`, `->` is an arrow, `A_NAME` is `a name`."""
    words = _SECONDS.sub(lambda found: duration(float(found[1])), words).replace(" -> ", " → ")
    words = _PUT.get(words, words)
    words = _SHOUTED.sub(lambda found: found[0].replace("_", " ").lower().replace("gpu", "GPU"), words)
    return words[:1].upper() + words[1:] if _PLAIN.match(words) else words


def moment(at_s: float) -> str:
    """`2026-11-26 06:12:30`, in UTC."""
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S}"


def ago(at_s: float, now_s: float) -> str:
    """`3 min ago`."""
    passed_s = max(now_s - at_s, 0.0)
    return "just now" if passed_s < 5 else f"{duration(passed_s)} ago"


def change(usd_per_hour: float) -> str:
    """`+$2.60/h`, `-$2.60/h`, `same cost`."""
    if abs(usd_per_hour) < 0.005:
        return "same cost"
    return f"{'+' if usd_per_hour > 0 else '−'}${abs(usd_per_hour):,.2f}/h"


CAUSES = {
    "first_plan": "first plan", "spec_changed": "spec changed", "rate_step": "surge", "rate_up": "more requests",
    "rate_down": "fewer requests", "size_drift": "other sizes", "slo_missed": "objective missed",
    "overrun": "over plan", "fault": "fault", "nodes_changed": "nodes changed", "prices_changed": "prices changed",
    "quota_changed": "quota changed",
}  # fmt: skip


def cause(name: str) -> str:
    """The law that asked for a plan, in two words."""
    return CAUSES.get(name, name.replace("_", " ") or NOTHING)


def few(names: Sequence[str]) -> str:
    """The first three of names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def time_of(at_s: float) -> str:
    """`06:12:30`, in UTC."""
    return f"{datetime.fromtimestamp(at_s, UTC):%H:%M:%S}"


def day_of(at_s: float) -> str:
    """`Thursday 26 November`, in UTC."""
    found = datetime.fromtimestamp(at_s, UTC)
    return f"{found:%A} {found.day} {found:%B}"


def dollars(usd: float) -> str:
    """`$12.40`, of so much an hour in a column that says so."""
    return f"${usd:,.2f}"


def tokens(number: int) -> str:
    """`512`, `4k`, `131k`."""
    return f"{number:,}" if number < 10_000 else f"{number / 1000:,.0f}k"


def model_name(full: str) -> str:
    """The last part of a model's name: `meta-llama/Llama-3.1-8B-Instruct` is `Llama-3.1-8B-Instruct` to people."""
    return full.rstrip("/").rpartition("/")[2] or full


def short(key: str) -> str:
    """A service's name, with its namespace where that is not the usual one."""
    return key.removeprefix("default/")
