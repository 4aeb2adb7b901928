"""Colours of services, how fast time is said to go, and what is said of services without replicas: no browser."""

from dataclasses import replace

from controller.pages.headline import headline
from controller.pages.overview_charts import apart
from controller.pages.overview_charts import cost as cost_chart
from controller.pages.pace import Pace, speed_words
from controller.pages.parts import folded, table
from controller.pages.power import _bars as bars
from controller.pages.power import _capped as capped
from controller.pages.service import _attained as attained
from controller.pages.service_parts import conditions, latencies
from controller.pages.states import state_words, why_of
from controller.pages.style import OTHERS, SERIES
from controller.pages.tints import SLOTS, Tints
from controller.web.model import ConditionRow, GpuTile, LatencyRow
from tests.controller.pages.test_words_of_pages import DETAIL, RACK, SERVICE, seen


def test_a_service_keeps_its_colour_whatever_others_come_and_go() -> None:
    tints, names = Tints(), [f"default/s{index}" for index in range(SLOTS)]
    first = tints.of(names)
    assert sorted(first.values()) == list(range(SLOTS))  # no two alike while there are enough
    assert tints.of(names[3:]) == {name: first[name] for name in names[3:]}
    assert tints.of(["default/new", *names[5:]])["default/new"] in {first[name] for name in names[:5]}
    assert tints.of(names)[names[0]] == first[names[0]]


def test_a_colour_is_of_the_name_and_so_the_same_after_a_new_start() -> None:
    assert [Tints().of([name])[name] for name in ("a/b", "a/c")] == [
        Tints().of([name])[name] for name in ("a/b", "a/c")
    ]
    assert OTHERS not in Tints().of([f"default/s{index}" for index in range(40)]).values()
    assert len(SERIES[False]) == len(SERIES[True]) == OTHERS + 1


def test_the_edge_of_the_cost_chart_is_the_cost_of_all_services() -> None:
    rows = [replace(SERVICE, key=f"default/s{index}", usd_per_hour=float(index)) for index in range(9)]
    mine, others = apart(rows)
    assert ([row.key[-1] for row in mine], [row.key[-1] for row in others]) == (list("45678"), list("0123"))
    made = seen(*rows)
    made = replace(made, series={("usd_per_hour", row.key): ((30.0, row.usd_per_hour),) for row in rows})
    series = [one for one in cost_chart(made, False)["series"] if one["name"]]  # type: ignore[attr-defined]
    assert sum(one["data"][0][1] for one in series) == sum(range(9))
    assert series[-1]["name"] == "3 others"  # the one that costs nothing has no line
    assert series[-1]["itemStyle"]["color"] == SERIES[False][OTHERS]


def test_the_bar_says_how_fast_time_goes_in_fact() -> None:
    def plain(asked: float, reached: float | None) -> str:
        return speed_words(asked, reached).replace("\N{MULTIPLICATION SIGN}", "x")

    assert plain(1.0, None) == ""
    assert plain(360.0, None) == plain(360.0, 350.0) == "360x"
    assert plain(360.0, 192.4) == "plays at 192x of 360x asked"
    assert plain(100_000.0, 4000.0) == "plays at 4,000x of 100,000x asked"
    assert plain(2.0, 1.2) == "2x"  # its steps are too coarse to say


def test_the_pace_is_that_of_the_last_half_minute_and_unknown_before_five_seconds() -> None:
    at = [0.0]
    pace = Pace(lambda: at[0])
    told = []
    for second in range(61):
        at[0] = float(second)
        told.append(pace.look(1e9 + (100.0 * second if second < 20 else 2000.0 + 300.0 * (second - 20))))
    assert told[:5] == [None] * 5
    assert (told[5], told[60]) == (100.0, 300.0)
    at[0] = 600.0
    assert pace.look(2e9) is None  # nobody looked for long


_TILE = GpuTile("n", 0, "n-0", "L4", "g", "a", "ok", 1.0, 30.0, 72.0, 72.0, None, 50.0, None, None, "", ())
_TTFT = LatencyRow("chat", "ttft_s", 0.95, 0.5, 0.4, 0.1, 0.2)


def test_no_tick_stands_beside_a_missed_objective() -> None:
    held = replace(DETAIL, latencies=(_TTFT,))
    assert "m-good" in latencies(held)
    missed = replace(held, service=replace(SERVICE, slo="Missed", attainment_ratio=1.0))
    assert "m-good" not in latencies(missed)
    assert "missed when it was judged last; these figures are of the last minute" in latencies(missed)
    assert attained(missed.service) == ("in the last minute; missed when judged", "warn")
    late = replace(missed, latencies=(replace(_TTFT, observed_p95_s=0.7),))
    assert "m-bad" in latencies(late)
    assert "judged last" not in latencies(late)


def test_without_replicas_nothing_is_marked_good_and_it_is_said_why() -> None:
    none = replace(SERVICE, replicas=0, replicas_ready=0, attainment_ratio=None)
    told = latencies(replace(DETAIL, service=none, latencies=(replace(_TTFT, observed_p95_s=None),)))
    assert "No replica serves, so nothing is measured." in told
    assert "m-good" not in told
    assert attained(none) == ("no replica serves", "")
    assert state_words(none) == ("soft", "No replicas")  # scaled to zero
    assert why_of(replace(none, planned_per_s=0.0)) == "The plan has no replica: at no request it needs none"
    assert headline(seen(replace(none, rate_per_s=0.0))) == ""  # there is no objective to observe
    rows = [("Accepted", "True"), ("Ready", "True"), ("Degraded", "False"), ("TelemetryFresh", "False")]
    aspects = tuple(ConditionRow(kind, status, "Reason", "all of it", 0.0) for kind, status in rows)
    made = conditions(replace(DETAIL, service=none, conditions=aspects), 60.0)
    assert [made.count(f"m-badge {css}") for css in ("m-good", "m-soft", "m-warn")] == [1, 2, 1]
    assert conditions(replace(DETAIL, conditions=aspects), 60.0).count("m-badge m-good") == 3


def test_planned_watts_and_drawn_watts_count_the_same_gpus() -> None:
    told = bars(replace(RACK, drawn_w=944.0, planned_w=1000.0, idle_w=144.0, idle_gpus=2))
    assert "800 W by 2 GPUs in use, 144 W by 2 idle" in told
    assert "1.0 kW by replicas at full load, 144 W by idle GPUs as now" in told
    assert "1.1 kW" in told  # planned, idle ones too


def test_caps_of_idle_gpus_are_not_counted_as_holding_anybody_back() -> None:
    busy = replace(_TILE, service="default/chat", cap_w=350.0, tdp_w=700.0)
    idle = replace(_TILE, service="", cap_w=200.0, tdp_w=700.0)
    assert capped([busy, idle]) == ("1", "the lowest at 350 W; 1 idle limited")
    assert capped([idle, replace(busy, cap_w=700.0)]) == ("0", "no GPU in use is held back; 1 idle limited")


def test_what_is_folded_is_there_for_the_mouse_and_for_the_keyboard() -> None:
    made = folded("few", "all of the <words>")
    assert made.startswith('<details class="m-why ">')  # which opens by Enter
    assert made.count("all of the &lt;words&gt;") == 2  # a tooltip, and what it opens to
    assert folded("few", "few") == folded("few", "") == "few"
    assert '<td colspan="2">why</td>' in table(("A", "B"), [("1", "2"), ("3", "4")], under=("", "why"))
