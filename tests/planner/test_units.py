"""Quantities: what is read, what is refused, and that one pattern serves both the parser and the schema."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import units
from planner.errors import BadInput


@pytest.mark.parametrize(
    ("quantity", "text", "value"),
    [
        (units.DURATION, "500ms", 0.5),
        (units.DURATION, "70 ms", 0.07),
        (units.DURATION, "2s", 2.0),
        (units.DURATION, "1.5m", 90.0),
        (units.DURATION, "5us", 5e-6),
        (units.DURATION, "1d", 86400.0),
        (units.BYTES, "80GiB", 80 * 2.0**30),
        (units.BYTES, "80Gi", 80 * 2.0**30),
        (units.BYTES, "80GB", 80e9),
        (units.BYTES, "80G", 80e9),
        (units.BYTES, "7B", 7.0),
        (units.BANDWIDTH, "100Gbps", 12.5e9),
        (units.BANDWIDTH, "8bit/s", 1.0),
        (units.BANDWIDTH, "450GB/s", 450e9),
        (units.BANDWIDTH, "3.35TB/s", 3.35e12),
        (units.POWER, "40kW", 40e3),
        (units.POWER, "1.2MW", 1.2e6),
        (units.MONEY, "$2.40", 2.4),
        (units.MONEY, "$98", 98.0),
        (units.ENERGY_PRICE, "$0.36/kWh", 1e-7),
    ],
)
def test_text_becomes_si_base_units(quantity: units.Quantity, text: str, value: float) -> None:
    assert quantity.parse(text) == value


def test_a_price_of_energy_is_divided_by_the_joules_of_a_kilowatt_hour() -> None:
    assert units.ENERGY_PRICE.parse("$0.12/kWh") == pytest.approx(0.12 / 3.6e6, rel=1e-15)


@pytest.mark.parametrize("quantity", units.QUANTITIES, ids=lambda quantity: quantity.name)
@pytest.mark.parametrize(
    "text",
    ["", " ", "5 bananas", "5", "-5s", "nan", "inf s", "1e9s", "٣s", "5ms\n", "ms", "$", "$-1", "1,000W", "9" * 40],
)
def test_anything_else_is_refused_with_what_was_got_and_what_is_allowed(quantity: units.Quantity, text: str) -> None:
    with pytest.raises(BadInput, match=r"^got '.*, allowed: .* such as ") as refused:
        quantity.parse(text)
    assert quantity.examples[0] in str(refused.value)


@pytest.mark.parametrize("value", [None, 5, 0.5, True, [], {}, math.nan, 10**400])
def test_a_quantity_without_quotes_and_unit_is_refused(value: object) -> None:
    with pytest.raises(BadInput, match="allowed: a duration such as 500ms, 2s, 1m"):
        units.DURATION.parse(value)


def test_a_long_text_is_cut_in_the_message() -> None:
    with pytest.raises(BadInput) as refused:
        units.DURATION.parse("x" * 10_000)
    assert len(str(refused.value)) < 150


@pytest.mark.parametrize(
    ("quantity", "value", "text"),
    [
        (units.DURATION, 0.5, "500ms"),
        (units.DURATION, 59.99, "59.99s"),
        (units.DURATION, 90.0, "1.5m"),
        (units.DURATION, 2e-7, "0.2us"),
        (units.BYTES, 80 * 2.0**30, "80GiB"),
        (units.BANDWIDTH, 12.5e9, "12.5GB/s"),
        (units.POWER, 40e3, "40kW"),
        (units.POWER, 3.2e9, "3200MW"),
        (units.MONEY, 2.4, "$2.40"),
        (units.MONEY, 0.0, "$0.00"),
        (units.MONEY, 12345.6, "$12346"),
        (units.ENERGY_PRICE, 0.12 / 3.6e6, "$0.12/kWh"),
    ],
)
def test_values_are_shown_as_people_write_them(quantity: units.Quantity, value: float, text: str) -> None:
    assert quantity.show(value) == text


@given(st.sampled_from(units.QUANTITIES), st.floats(1e-6, 1e14))
def test_what_is_shown_reads_back_to_four_digits(quantity: units.Quantity, value: float) -> None:
    in_base = value * float(min(quantity.units.values()))
    assert quantity.parse(quantity.show(in_base)) == pytest.approx(in_base, rel=6e-4, abs=1e-12)


@given(st.text(max_size=12))
def test_parse_refuses_with_bad_input_or_gives_a_finite_number(text: str) -> None:
    for quantity in units.QUANTITIES:
        try:
            value = quantity.parse(text)
        except BadInput:
            continue
        assert 0 <= value < math.inf


@pytest.mark.parametrize(("value", "ratio"), [("p95", 0.95), ("p99.9", 0.999), ("p50", 0.5), (0.9, 0.9)])
def test_a_percentile_is_a_word_or_a_ratio(value: object, ratio: float) -> None:
    assert units.percentile(value) == ratio


@pytest.mark.parametrize("value", ["p0", "p100", "95", 95, 1.0, 0.0, -0.5, math.nan, True, None, "p95%"])
def test_a_percentile_outside_zero_and_one_is_refused(value: object) -> None:
    with pytest.raises(BadInput, match="allowed: a percentile such as p95"):
        units.percentile(value)


@pytest.mark.parametrize(("ratio", "text"), [(0.95, "p95"), (0.999, "p99.9")])
def test_a_percentile_is_shown_as_a_word(ratio: float, text: str) -> None:
    assert units.show_percentile(ratio) == text
