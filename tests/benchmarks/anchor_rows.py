"""One figure of a paper beside ours: computed, given to our models as an input, or explained by what is missing."""

from typing import Literal, NamedTuple

CLOSE = 0.15


class Figure(NamedTuple):
    """What we have for one figure; `why` names the missing input where it is explained."""

    kind: Literal["computed", "given", "explained"]
    ours: float = float("nan")
    why: str = ""


class Row(NamedTuple):
    """One figure of the table of anchors."""

    name: str
    paper: float
    found: Figure

    @property
    def hit(self) -> bool:
        """Within 15 % of the paper."""
        return self.found.kind != "explained" and abs(self.found.ours / self.paper - 1) <= CLOSE


def computed(value: float) -> Figure:
    """From counts, rooflines and techniques."""
    return Figure("computed", value)


def given(value: float) -> Figure:
    """A setting or input of the paper that our model has as its own: compared, but nothing was predicted."""
    return Figure("given", value)


def explained(missing: str) -> Figure:
    """No number, as an input is missing that nobody published."""
    return Figure("explained", why=missing)
