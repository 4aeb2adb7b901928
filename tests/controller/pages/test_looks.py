"""Colours that can be read, figures as people write them, and charts that say what they should."""

from dataclasses import replace

import pytest

from controller.pages.charts import Limit, Line, Mark, lines
from controller.pages.curves import Spot, front
from controller.pages.live import _patch as patch
from controller.pages.parts import badge, link, meter, spark, table
from controller.pages.states import spaced
from controller.pages.style import DARK, FILES, GROUNDS, LIGHT, TEXT, address
from controller.pages.words import NOTHING, ago, asked, change, duration, gibibytes, money, rate, said, share, watts

SPAN = (0.0, 3600.0)


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def mixed(colour: str, share_ratio: float, ground: str) -> str:
    """As `color-mix(in srgb, ...)` has it."""
    pairs = [(int(colour[i : i + 2], 16), int(ground[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(share_ratio * a + (1 - share_ratio) * b):02x}" for a, b in pairs)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_text_can_be_read_on_every_ground_in_both_themes(theme: dict[str, str]) -> None:
    low = {(t, g): contrast(theme[t], theme[g]) for t in TEXT for g in GROUNDS if contrast(theme[t], theme[g]) < 4.5}
    assert low == {}


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("tone", ["accent", "warn"])
def test_figures_on_the_deepest_tile_can_be_read(theme: dict[str, str], tone: str) -> None:
    assert contrast(theme["text"], mixed(theme[tone], 0.46, theme["card"])) >= 4.5


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_words_on_a_filled_button_can_be_read(theme: dict[str, str]) -> None:
    assert contrast(theme["card"], theme["accent"]) >= 4.5


def test_files_have_addresses_that_change_with_their_content() -> None:
    assert {address(name).partition("?")[0] for name in FILES} == {"/_muster/style.css", "/_muster/muster.js"}
    assert len({address(name).partition("?v=")[2] for name in FILES}) == 2


def test_figures_are_written_as_people_write_them() -> None:
    assert [money(12.4), money(1234.5), money(None)] == ["$12.40/h", "$1,234.50/h", NOTHING]
    assert [watts(640.0), watts(3200.0), watts(2.5e6)] == ["640 W", "3.2 kW", "2.50 MW"]
    assert [duration(0.0183), duration(0.18), duration(1.31), duration(4000.0)] == [
        "18.3 ms",
        "180 ms",
        "1.3 s",
        "67 min",
    ]
    assert [asked(0.05), asked(1.0), asked(0.0475)] == ["50 ms", "1 s", "47.5 ms"]
    assert [rate(1.7), rate(16.44), share(0.9999), share(1.0)] == ["1.70/s", "16.4/s", "99.9 %", "100 %"]
    assert [change(2.6), change(-0.9), change(0.001)] == ["+$2.60/h", "\N{MINUS SIGN}$0.90/h", "same cost"]
    assert [ago(97.0, 100.0), ago(0.0, 300.0), gibibytes(80 * 2**30)] == ["just now", "5 min ago", "80 GiB"]


def test_what_the_controller_says_is_put_for_people() -> None:
    assert said("16.7 requests/s over 1800 s, planned for 22.9") == "16.7 requests/s over 30 min, planned for 22.9"
    assert said("GPU 0: Xid 79 ROBUST_CHANNEL_GPU_HAS_FALLEN") == "GPU 0: Xid 79 robust channel GPU has fallen"
    assert said("the service has no plan") == "First plan of this service"
    assert said("h100: fp8 0 -> 1") == "h100: fp8 0 → 1"
    assert [spaced(one) for one in ("SLOMissed", "GPUFaultDetected", "NodeQuarantined", "Ready")] == [
        "SLO missed", "GPU fault detected", "Node quarantined", "Ready",
    ]  # fmt: skip


def test_text_from_outside_is_never_markup() -> None:
    evil = "<script>alert(1)</script>"
    for made in (badge("good", evil), link(evil, "/x"), table((evil,), (("1",),)), meter(0.5, evil)):
        assert "<script" not in made


def test_states_have_a_sign_and_a_word_beside_their_colour() -> None:
    made = badge("bad", "faulty")
    assert "m-bad" in made
    assert "material-icons" in made
    assert "faulty" in made


def test_a_chart_has_its_limit_its_decisions_and_round_steps() -> None:
    made = lines(
        [Line("p95", ((0.0, 0.12), (60.0, 0.18)))], "seconds", SPAN, dark=False, limit=Limit("p95 ≤ 500 ms", 0.5),
        marks=(Mark(30.0, "surge"), Mark(9000.0, "later")),
    )  # fmt: skip
    found = made["series"][-1]["markLine"]["data"]
    assert [row.get("yAxis") or row.get("xAxis") for row in found] == [0.5, 30_000]
    assert made["yAxis"] == {**made["yAxis"], "min": 0, "max": 0.6, "interval": 0.2}


def test_shares_that_are_all_near_one_are_drawn_from_90_percent() -> None:
    near = lines([Line("a", ((0.0, 0.99), (1.0, 1.0)))], "percent", SPAN, dark=True)["yAxis"]
    low = lines([Line("a", ((0.0, 0.7), (1.0, 1.0)))], "percent", SPAN, dark=True)["yAxis"]
    far = lines([Line("a", ((0.0, 0.4), (1.0, 1.0)))], "percent", SPAN, dark=True)["yAxis"]
    assert (near["min"], low["min"], far["min"]) == (0.9, 0.5, 0)


def test_what_is_stacked_is_scaled_by_its_sum() -> None:
    rows = [Line(name, ((0.0, 6.0), (1.0, 6.0)), stack="cost") for name in "ab"]
    assert lines(rows, "money", SPAN, dark=True)["yAxis"]["max"] == 15


def test_what_is_stacked_stands_at_the_same_moments_though_one_began_later() -> None:
    """A stack adds up by index: a point alone at 180 s would stand on the others' first, at 0 s."""
    old, late = (
        Line("old", tuple((60.0 * i, 2.0) for i in range(6)), stack="cost"),
        Line("late", ((180.0, 1.0), (240.0, 1.0), (300.0, 1.0)), stack="cost"),
    )
    first, second, _ = lines([old, late], "money", (0.0, 7200.0), dark=True)["series"]
    assert [at for at, _ in first["data"]] == [at for at, _ in second["data"]]
    assert [value for _, value in second["data"]] == [0, 0, 0, 1, 1, 1]


def test_a_line_that_ended_is_nothing_in_a_stack_and_one_between_its_points_is_what_lies_between() -> None:
    ends = Line("ends", ((0.0, 2.0), (60.0, 4.0)), stack="cost")
    goes = Line("goes", ((0.0, 1.0), (30.0, 1.0), (90.0, 1.0), (600.0, 1.0)), stack="cost")
    first = lines([ends, goes], "money", (0.0, 4800.0), dark=True)["series"][0]["data"]
    assert first == [[0, 2], [30_000, 3], [60_000, 4], [90_000, 4], [600_000, 0]]


def test_a_stack_is_right_after_a_patch_in_which_a_line_begins() -> None:
    old = Line("old", tuple((60.0 * i, 2.0) for i in range(4)), stack="cost")
    late = Line("late", ((120.0, 1.0),), stack="cost")
    grown = [
        replace(old, points=(*old.points, (240.0, 2.0))),
        replace(late, points=(*late.points, (180.0, 1.0), (240.0, 1.0))),
    ]
    before, after = (lines(rows, "money", (0.0, 7200.0), dark=True) for rows in ([old, late], grown))
    made = patch({**before, "yAxis": {}}, {**after, "yAxis": {}})
    assert made is not None
    for was, now, (drop, keep, tail) in zip(before["series"], after["series"], made["series"], strict=True):
        assert was["data"][drop : drop + keep] + tail == now["data"]


def test_a_chart_with_nothing_to_show_says_so() -> None:
    silent, heard = (
        lines([Line("a", points)], "rate", SPAN, dark=True)["graphic"]["style"] for points in ((), ((0.0, 1.0),))
    )
    assert "nothing" in silent["text"]
    assert silent["backgroundColor"] == DARK["card"]
    assert (heard["text"], heard["backgroundColor"]) == ("", "transparent")


def test_a_single_point_is_seen_and_more_are_a_line_alone() -> None:
    rows = [Line("one", ((0.0, 1.0),)), Line("two", ((0.0, 1.0), (60.0, 1.0)))]
    assert [one["showSymbol"] for one in lines(rows, "rate", SPAN, dark=True)["series"][:2]] == [True, False]


def test_the_pareto_front_is_what_nothing_beats_in_both() -> None:
    spots = [Spot(1.0, 5.0, ""), Spot(2.0, 3.0, ""), Spot(2.5, 4.0, ""), Spot(3.0, 3.0, ""), Spot(4.0, 1.0, "")]
    assert [(one.x, one.y) for one in front(spots)] == [(1.0, 5.0), (2.0, 3.0), (4.0, 1.0)]


def test_a_line_without_axes_keeps_to_its_box() -> None:
    assert spark([1.0]) == ""
    assert spark([0.0, 1.0]).count("d=") == 1
