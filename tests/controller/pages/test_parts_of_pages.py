"""What pages are made of, without a browser: ranges of time, the form, completion, and patches of charts."""

from typing import Any

import pytest

from controller.pages.form import BY_ID, FIELDS, START, beyond, changed, editable, field_at, several, values
from controller.pages.live import _patch as patch
from controller.pages.palette import below
from controller.pages.ranges import POINTS, Range, moment_s, read, span_text
from controller.pages.submit_form import fill, form_html
from planner.yaml_text import dump, parse


def plain(text: str) -> dict[str, Any]:
    [document] = parse(text.encode(), "a service")
    found = document.root.plain()
    assert isinstance(found, dict)
    return found


def test_a_range_is_the_address_that_asked_for_it() -> None:
    for query in ({"range": "1h"}, {"from": "2026-01-02T03:00", "to": "2026-01-02T05:30"}):
        assert read(query).query() == query


@pytest.mark.parametrize(
    "query", [{}, {"range": "9y"}, {"from": "x", "to": "y"}, {"from": "2026-01-02T03:00", "to": "2026-01-01T03:00"}]
)
def test_nonsense_in_an_address_is_the_usual_range(query: dict[str, str]) -> None:
    assert read(query) == Range("6h")


def test_a_past_time_is_written_in_short() -> None:
    start_s, end_s = moment_s("2026-11-27T10:00"), moment_s("2026-11-27T12:30")
    assert start_s is not None
    assert end_s is not None
    assert span_text(start_s, end_s) == "27 Nov 10:00\N{EN DASH}12:30 UTC"
    assert span_text(start_s, end_s + 86_400) == "27 Nov 10:00 \N{EN DASH} 28 Nov 12:30 UTC"


def test_the_shown_time_stays_where_it_is_for_a_part_of_it() -> None:
    width_s = 21_600 / POINTS
    assert Range("6h").span(100 * width_s + 1) == Range("6h").span(101 * width_s) == (-19 * width_s, 101 * width_s)


def test_the_form_shows_what_is_written() -> None:
    shown = values(plain(START))
    assert (shown["name"], shown["rate"], shown["ttft"], shown["approval"]) == ("my-service", "10", "500ms", "Auto")
    assert set(shown) == {one.id for one in FIELDS}


def test_a_field_changes_its_value_alone() -> None:
    made = plain(START)
    for name, value in (("rate", "2.5"), ("budget", "$40"), ("tpot", "70ms"), ("priority", "7")):
        made = changed(made, BY_ID[name], value)
    was = plain(START)
    was["spec"]["workload"]["ratePerSecond"] = 2.5
    was["spec"]["constraints"] = {"budgetPerHour": "$40"}
    was["spec"]["slos"][0]["tpot"] = "70ms"
    was["spec"]["priority"] = 7
    assert made == was


def test_an_empty_field_is_taken_out_with_what_it_leaves_empty() -> None:
    made = changed(changed(plain(START), BY_ID["budget"], "$40"), BY_ID["budget"], " ")
    assert made == plain(START)


def test_what_is_not_there_is_made_with_what_it_needs() -> None:
    made = changed({"spec": {}}, BY_ID["ttft"], "1s")
    assert made["spec"]["slos"] == [{"ttft": "1s", "name": "interactive"}]


def test_what_is_no_number_is_left_for_the_checker_to_refuse() -> None:
    assert changed(plain(START), BY_ID["rate"], "many")["spec"]["workload"]["ratePerSecond"] == "many"


def test_a_fault_finds_its_field() -> None:
    found = field_at("spec.slos[0].ttft")
    assert found is not None
    assert found.id == "ttft"
    assert field_at("spec.slos[1].ttft") is None


def test_sizes_of_requests_are_counted() -> None:
    assert several(plain(START)) == 1
    assert several({"spec": {"workload": {"trace": "x.csv"}}}) == 0


def test_what_the_form_has_no_field_for_is_named() -> None:
    made = plain(START)
    assert beyond(made) == beyond({}) == beyond({"spec": "x"}) == []
    made["spec"] |= {
        "deployment": "batch",
        "constraints": {"budgetPerHour": "$40", "qualityFloor": 0.98, "maxReplicas": 4},
    }
    made["spec"]["workload"]["buckets"] *= 2
    made["spec"]["slos"] += [{"name": "other", "ttft": "2s"}]
    made["spec"]["serving"] = {"weights": []}
    assert beyond(made) == [
        "slos[1]", "deployment: batch", "constraints.qualityFloor: 0.98", "constraints.maxReplicas: 4", "serving",
    ]  # fmt: skip
    said = fill(made, ())
    assert "Only in the YAML: slos[1], deployment: batch" in said
    assert "2 sizes of requests" in said


def test_what_is_wrong_with_a_field_is_no_part_of_its_name() -> None:
    made = form_html(("a",))
    assert '<label for="f-ttft">First token within</label>' in made
    assert 'aria-describedby="f-ttft-wrong"' in made


def test_a_service_is_edited_without_what_the_cluster_says_of_it() -> None:
    obj = {**plain(START), "status": {"ready": True}}
    obj["metadata"] = {**obj["metadata"], "resourceVersion": "7", "uid": "x"}
    wanted = plain(START)
    del wanted["spec"]["slos"][0]["percentile"]  # p95 is what it says anyway
    assert plain(editable(obj)) == wanted


def test_completion_knows_every_field_of_the_schema_with_its_words() -> None:
    found = below()
    assert {"workload", "slos", "constraints", "serving"} <= {one.name for one in found["spec"]}
    assert {"ttft", "tpot", "percentile"} <= {one.name for one in found["spec.slos[]"]}
    assert next(one for one in found["spec"] if one.name == "approval").values == ("Auto", "Manual")
    assert all(
        one.words
        for path, rows in found.items()
        for one in rows
        if path.startswith("spec") and path != "spec.serving.podTemplate"
    )


def chart(points: list[list[float]], top: float = 1.0) -> dict[str, Any]:
    return {
        "xAxis": {"min": points[0][0], "max": points[-1][0]},
        "yAxis": {"max": top},
        "series": [{"name": "a", "data": points}],
    }


def test_only_new_points_of_a_chart_are_sent() -> None:
    old, new = chart([[0, 1], [1, 2], [2, 3]]), chart([[1, 2], [2, 4], [3, 5]])
    assert patch(old, new) == {"min": 1, "max": 3, "series": [(1, 1, [[2, 4], [3, 5]])]}


def test_a_patch_makes_the_new_points_of_the_old_ones() -> None:
    old = [[float(i), float(i * i)] for i in range(9)]
    new = [[float(i), float(i * i + (i > 7))] for i in range(3, 14)]
    made = patch(chart(old), chart(new))
    assert made is not None
    drop, keep, tail = made["series"][0]
    assert old[drop : drop + keep] + tail == new


def test_a_chart_of_another_scale_or_other_lines_is_sent_whole() -> None:
    old = chart([[0, 1], [1, 2]])
    assert patch(old, chart([[0, 1], [1, 2]], top=5.0)) is None
    assert patch(old, {**old, "series": []}) is None


def test_what_is_written_can_be_read_back() -> None:
    assert plain(dump(plain(START))) == plain(START)
