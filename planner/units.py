"""Quantities as people write them, to SI base units and back: the only module that knows "500ms" or "80GiB".

A `Quantity` is one row of data: what it is called, its units, examples. Its one `pattern` reads the text and goes,
unchanged, into the JSON Schemas, so an editor and the planner accept the same words.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from planner.errors import BadInput

_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,12})?"
_PERCENTILE = re.compile(r"p([0-9]{1,2}(?:\.[0-9]{1,6})?)")
_LONGEST_ECHO = 60


def got(value: object) -> str:
    """A value as an error message shows it: quoted, and cut where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_ECHO else f"{text[:_LONGEST_ECHO]}…"


@dataclass(frozen=True, slots=True)
class Quantity:
    """One kind of quantity: never negative, never infinite, always with its unit.

    `units`: unit as written -> SI base units in one of it. `shown`: the units that `show` picks from, ascending.
    `before`, `after`: text around the number and its unit, such as "$" and "/kWh". `cents`: shown with two decimals.
    """

    name: str
    base: str
    units: Mapping[str, Fraction]
    examples: tuple[str, ...]
    shown: tuple[str, ...]
    before: str = ""
    after: str = ""
    cents: bool = False

    @property
    def pattern(self) -> str:
        """The regular expression of the whole text, in the part of the language that Python and ECMA-262 share."""
        units = "|".join(re.escape(unit) for unit in sorted(self.units, key=len, reverse=True) if unit)
        unit = f" ?(?:{units})" if units else ""
        return f"^{re.escape(self.before)}{_NUMBER}{unit}{re.escape(self.after)}$"

    @property
    def allowed(self) -> str:
        """What may be written, in words: `a duration such as 500ms, 2s, 1m`."""
        return f"{self.name} such as {', '.join(self.examples)}"

    def parse(self, text: object) -> float:
        """The value in SI base units, correctly rounded; raises BadInput for anything else than such text."""
        if not isinstance(text, str) or not re.fullmatch(self.pattern, text):
            raise BadInput(f"got {got(text)}, allowed: {self.allowed}")
        bare = text.removeprefix(self.before).removesuffix(self.after)
        number = re.match(_NUMBER, bare)
        assert number is not None  # the pattern matched
        unit = bare[number.end() :].strip()
        return float(Fraction(number.group()) * self.units[unit])

    def show(self, value: float) -> str:
        """The value for people, to four significant digits, in the largest unit that keeps it at or above one."""
        fitting = [unit for unit in self.shown if abs(value) >= 0.9999 * float(self.units[unit])]
        unit = fitting[-1] if fitting else self.shown[0]
        in_unit = value / float(self.units[unit])
        digits = f"{Decimal(f'{in_unit:.4g}'):f}" if abs(in_unit) < 1000 else f"{in_unit:.0f}"
        if self.cents and abs(in_unit) < 1000:
            whole, _, fraction = digits.partition(".")
            digits = f"{whole}.{fraction.ljust(2, '0')}"
        return f"{self.before}{digits}{unit}{self.after}"


_MILLI, _MICRO = Fraction(1, 1000), Fraction(1, 10**6)
_K, _M, _G, _T = (10 ** (3 * n) for n in range(1, 5))
_DECIMAL = {"": 1, "k": _K, "K": _K, "M": _M, "G": _G, "T": _T}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_JOULES_PER_KWH = 3_600_000


def _scaled(prefixes: Mapping[str, int], unit: str, per: int = 1) -> dict[str, Fraction]:
    """Every prefix with a unit, `per` of which make one SI base unit."""
    return {prefix + unit: Fraction(scale, per) for prefix, scale in prefixes.items()}


DURATION = Quantity(
    name="a duration",
    base="s",
    units={
        "us": _MICRO,
        "µs": _MICRO,
        "ms": _MILLI,
        "s": Fraction(1),
        "m": Fraction(60),
        "h": Fraction(3600),
        "d": Fraction(86400),
    },
    examples=("500ms", "2s", "1m"),
    shown=("us", "ms", "s", "m", "h", "d"),
)

# Kubernetes writes 80Gi, data sheets 80GB; both are read, each as its standard defines it.
BYTES = Quantity(
    name="a size",
    base="byte",
    units={
        **_scaled(_DECIMAL, "B"),
        **_scaled(_BINARY, "B"),
        **_scaled(_BINARY, ""),
        **{prefix: Fraction(_DECIMAL[prefix]) for prefix in "kMGT"},
    },
    examples=("80GiB", "80Gi", "80GB"),
    shown=("B", "KiB", "MiB", "GiB", "TiB"),
)

# Networks are sold in bits per second, links inside a node in bytes per second: the unit says which.
BANDWIDTH = Quantity(
    name="a bandwidth",
    base="byte/s",
    units={
        **_scaled(_DECIMAL, "bps", per=8),
        **_scaled(_DECIMAL, "bit/s", per=8),
        **_scaled(_DECIMAL, "B/s"),
        **_scaled(_BINARY, "B/s"),
    },
    examples=("100Gbps", "450GB/s"),
    shown=("B/s", "kB/s", "MB/s", "GB/s", "TB/s"),
)

POWER = Quantity(
    name="a power",
    base="W",
    units=_scaled({"": 1, "k": _K, "M": _M}, "W"),
    examples=("700W", "40kW", "1.2MW"),
    shown=("W", "kW", "MW"),
)

MONEY = Quantity(
    name="an amount of dollars",
    base="USD",
    units={"": Fraction(1)},
    examples=("$2.40", "$98"),
    shown=("",),
    before="$",
    cents=True,
)

ENERGY_PRICE = Quantity(
    name="a price of energy",
    base="USD/J",
    units={"": Fraction(1, _JOULES_PER_KWH)},
    examples=("$0.12/kWh",),
    shown=("",),
    before="$",
    cents=True,
    after="/kWh",
)

QUANTITIES = (DURATION, BYTES, BANDWIDTH, POWER, MONEY, ENERGY_PRICE)

PERCENTILE_PATTERN = f"^{_PERCENTILE.pattern}$"


def percentile(value: object) -> float:
    """A percentile ("p95" or 0.95) as a ratio between 0 and 1, both excluded; raises BadInput otherwise."""
    found = _PERCENTILE.fullmatch(value) if isinstance(value, str) else None
    if found:
        ratio = float(Fraction(found.group(1)) / 100)
    elif isinstance(value, float):
        ratio = value
    else:
        ratio = 0.0
    if not 0 < ratio < 1:  # also refuses NaN
        raise BadInput(f"got {got(value)}, allowed: a percentile such as p95, p99.9 or 0.95, between 0 and 1")
    return ratio


def show_percentile(ratio: float) -> str:
    """0.95 as "p95"."""
    return f"p{100 * ratio:.6g}"


def rate_words(per_s: float) -> str:
    """A rate to three figures, never in powers of ten: 0.25, 13.7, 4,000."""
    return f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.3g}" if per_s >= 1e-4 or not per_s else f"{per_s:.6f}"


def counted(count: int, what: str) -> str:
    """`1 GPU`, `2 GPUs`."""
    return f"{count:,} {what}{'s' * (count != 1)}"
