"""The range of time that a page shows, as its address has it: the last hours, or from one moment to another. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil, floor

LASTS = {"15m": 900.0, "1h": 3600.0, "6h": 21_600.0, "24h": 86_400.0, "7d": 604_800.0}
USUAL = "6h"
POINTS = 120
_QUICK = 100.0  # simulated seconds a second
_FORMAT = "%Y-%m-%dT%H:%M"


@dataclass(frozen=True, slots=True)
class Range:
    """`lasts`: a key of `LASTS`, until now; or from `start_s` to `end_s` (Unix time) where both are given."""

    lasts: str = USUAL
    start_s: float | None = None
    end_s: float | None = None

    @property
    def fixed(self) -> bool:
        """Whether it stays where it is as time goes on."""
        return self.start_s is not None and self.end_s is not None

    def span(self, now_s: float) -> tuple[float, float]:
        """From when to when. Ends fall on whole parts of `POINTS`, so that means of a part stay what they were."""
        if self.start_s is not None and self.end_s is not None:
            return self.start_s, self.end_s
        width_s = LASTS[self.lasts] / POINTS
        end_s = ceil(now_s / width_s) * width_s
        return end_s - LASTS[self.lasts], end_s

    def query(self) -> dict[str, str]:
        """As the address has it."""
        if self.start_s is not None and self.end_s is not None:
            return {"from": moment_text(self.start_s), "to": moment_text(self.end_s)}
        return {"range": self.lasts}


def span_text(start_s: float, end_s: float) -> str:
    """`27 Nov 10:00-12:00 UTC`, with an en dash; both days where they differ."""
    start, end = (datetime.fromtimestamp(one, UTC) for one in (start_s, end_s))
    same = start.date() == end.date()
    last = f"–{end:%H:%M}" if same else f" – {end.day} {end:%b %H:%M}"
    return f"{start.day} {start:%b %H:%M}{last} UTC"


def usual(speed: float) -> str:
    """The range of who asks for none: where time is played quickly, the day that is played."""
    return "24h" if speed >= _QUICK else USUAL


def read(query: Mapping[str, str], usual: str = USUAL) -> Range:
    """The range that an address asks for; the usual one where it asks for none, or for nonsense."""
    start_s, end_s = moment_s(query.get("from", "")), moment_s(query.get("to", ""))
    if start_s is not None and end_s is not None and end_s > start_s:
        return Range(usual, start_s, end_s)
    lasts = query.get("range", usual)
    return Range(lasts if lasts in LASTS else usual)


def moment_text(at_s: float) -> str:
    """`2026-11-26T06:12`, in UTC, as `input type=datetime-local` has it."""
    return datetime.fromtimestamp(floor(at_s), UTC).strftime(_FORMAT)


def moment_s(text: str) -> float | None:
    """Unix time of such a text; None for another."""
    try:
        return datetime.strptime(text[:16], _FORMAT).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
