"""Reports as text: they fit the width, break no word, and say what the plan knows and no more."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from planner.hardware import Inventory
from planner.plan import Allocation, ClassLatency, Plan, Recipe, Refusal
from planner.service import SLO, Bucket, ServiceSpec
from planner.show import Report, Table, Words, lines, percent, seconds, terminal_width, watts
from planner.show_plan import plan_report
from planner.show_tables import routes, routing
from tests.planner.factories import LARGE, SMALL, group, inventory, prediction, service

BOTH = {SMALL: 1.0, LARGE: 1.0}


def allocation(
    service_name: str = "chat",
    *,
    gpu: str = "G1",
    node_group: str = "a",
    zone: str = "z1",
    replicas: int = 2,
    usd: float = 2.0,
    techniques: tuple[str, ...] = (),
    by_class: tuple[ClassLatency, ...] = (),
    shares: Mapping[Bucket, float] | None = None,
    pool: str = "serve",
    busy_ratio: float = 0.8,
) -> Allocation:
    """Two replicas that carry everything."""
    return Allocation(
        service=service_name,
        model="tiny",
        pool=pool,
        node_group=node_group,
        zone=zone,
        recipe=Recipe(gpu, techniques=techniques),
        replicas=replicas,
        gpus_per_replica=1,
        usd_per_hour=usd,
        power_w=600.0,
        predicted=replace(prediction(), by_class=by_class),
        shares=dict(BOTH if shares is None else shares),
        busy_ratio=busy_ratio,
    )


def plan(*allocations: Allocation, **changes: object) -> Plan:
    """An optimal plan; its cost is that of the allocations."""
    usd = sum(a.usd_per_hour for a in allocations)
    usable = {a.service: tuple({b.recipe.gpu for b in allocations}) for a in allocations}
    made = Plan("optimal", usd, usd, 0.0, 600.0, 0.1, allocations, usable_gpus=usable)
    return replace(made, **changes)  # type: ignore[arg-type]  # names and types are checked by the dataclass


def shown(
    answer: Plan,
    *services: ServiceSpec,
    hardware: Inventory | None = None,
    width: int = 100,
    explain: bool = False,
    gap_ratio: float = 0.0,
    time_limit_s: float | None = None,
) -> str:
    """The report as printed."""
    report = plan_report(
        answer,
        services or (service(),),
        hardware or inventory(),
        explain=explain,
        gap_ratio=gap_ratio,
        time_limit_s=time_limit_s,
    )
    return text(report, width)


def text(report: Report, width: int = 100) -> str:
    return "\n".join(line for line, _ in lines(report, width))


def words_of(rows: Sequence[str]) -> list[str]:
    return [word for row in rows for word in row.split()]


def test_figures_are_written_with_their_unit() -> None:
    assert [seconds(s) for s in (None, 0.494, 4.92, 47.24, 1104.2)] == ["-", "494 ms", "4.92 s", "47.2 s", "1,104 s"]
    assert [watts(w) for w in (None, 70, 3200)] == ["-", "70 W", "3.20 kW"]
    assert [percent(r) for r in (0, 0.004, 0.59, 1)] == ["0%", "0.4%", "59%", "100%"]


def test_the_width_is_that_of_columns_but_never_less_than_40(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert terminal_width() == 80
    monkeypatch.setenv("COLUMNS", "7")
    assert terminal_width() == 40


def test_a_table_breaks_between_words_only() -> None:
    table = Table(
        ("NAME", "WHY"), wrapped=("WHY",), rows=[("A100-SXM-80GB", "needs 141.1 GB of weights-and-more, holds 9")]
    )
    rows = text([table], 40).splitlines()
    assert max(map(len, rows)) <= 40
    assert sorted(words_of(rows)) == sorted(
        ["NAME", "WHY", "A100-SXM-80GB", "needs", "141.1", "GB", "of", "weights-and-more,", "holds", "9"]
    )


def test_a_figure_stays_with_its_unit_and_its_limit() -> None:
    for width in range(40, 60):
        rows = text([Words("interactive: p95 TTFT 494 ms <= 500 ms, TPOT 40 ms <= 40 ms")], width).splitlines()
        assert any("494 ms <= 500 ms" in row for row in rows)
        assert any("40 ms <= 40 ms" in row for row in rows)


def test_a_word_wider_than_the_terminal_is_not_broken() -> None:
    name = "a-service-with-a-very-long-name-that-no-terminal-of-forty-columns-holds"
    assert name in text([Table(("SERVICE",), wrapped=("SERVICE",), rows=[(name,)])], 40).splitlines()


def test_a_plan_fits_80_columns_whole_words() -> None:
    techniques = ("chunked-prefill", "fp8")
    busy = [
        allocation(gpu="H100-SXM", node_group="h100-owned", techniques=techniques, usd=1234.5),
        allocation(gpu="A100-SXM-80GB", node_group="a100-in-the-north", techniques=techniques),
    ]
    refused = tuple(
        Refusal("chat", f"{n}xG2 tp{n} chunked-prefill w4a16", "too slow in many words " * 5) for n in (2, 4)
    )
    hardware = inventory(
        group("h100-owned", "H100-SXM"), group("a100-in-the-north", "A100-SXM-80GB"), group("g2", "G2")
    )
    rows = shown(plan(*busy, refused=refused), hardware=hardware, width=80, explain=True).splitlines()
    assert max(map(len, rows)) <= 80
    assert {"chunked-prefill", "a100-in-the-north", "A100-SXM-80GB", "1,234.50"} <= set(words_of(rows))


def test_requests_and_busy_are_told_apart() -> None:
    # 8 of 10 requests/s are small: all of them and half of the large ones are 90 %.
    most = allocation(shares={SMALL: 1.0, LARGE: 0.5}, busy_ratio=0.42)
    rest = allocation(node_group="b", shares={LARGE: 0.5}, busy_ratio=0.07)
    rows = shown(plan(most, rest), hardware=inventory(group(), group("b"))).splitlines()
    heading = next(row for row in rows if row.startswith("REPLICAS")).split()
    assert heading == ["REPLICAS", "EACH", "NODE", "GROUP", "REQUESTS", "BUSY", "$/h", "POWER"]
    assert next(row for row in rows if "a (z1)" in row).split()[-5:] == ["90%", "42%", "2.00", "600", "W"]
    assert next(row for row in rows if "b (z1)" in row).split()[-5:] == ["10%", "7%", "2.00", "600", "W"]


def test_a_class_shows_the_worst_allocation_that_carries_it() -> None:
    quick = allocation(by_class=(ClassLatency("std", 0.3, 0.09, 20.0),), shares={SMALL: 1.0})
    slow = allocation(gpu="G2", by_class=(ClassLatency("std", 0.9, 0.02, 30.0),), shares={LARGE: 1.0})
    idle = allocation(gpu="G3", by_class=(ClassLatency("std", 9.0, 9.0, 99.0),), shares={})
    said = shown(plan(quick, slow, idle))
    assert "std: p95 TTFT 900 ms <= 1.00 s, TPOT 90 ms <= 100 ms, END TO END 30.0 s (largest requests)" in said


def test_classes_have_a_line_each_with_their_percentile() -> None:
    fast, slow = Bucket("fast", 64, 64), Bucket("slow", 64, 64)
    two = replace(service(rates={fast: 1.0, slow: 1.0}), slos=(SLO("fast", ttft_s=1.0), SLO("slow", percentile=0.9)))
    rows = (ClassLatency("fast", 0.5, 0.1, 2.0), ClassLatency("slow", 4.0, 0.1, 9.0))
    said = shown(plan(allocation(by_class=rows, shares={fast: 1.0, slow: 1.0})), two)
    assert "fast: p95 TTFT 500 ms <= 1.00 s, TPOT 100 ms, END TO END 2.00 s" in said
    assert "slow: p90 TTFT 4.00 s, TPOT 100 ms, END TO END 9.00 s" in said


def test_each_gpu_type_says_where_its_latencies_come_from_and_how_far_off_they_may_be() -> None:
    known = replace(prediction(), source="measured", tpot_lo_s=0.04, tpot_hi_s=0.06, ttft_lo_s=0.1, ttft_hi_s=0.4)
    sure = replace(allocation(), predicted=known)  # TPOT 50 ms, TTFT 200 ms
    text = shown(plan(sure, allocation(gpu="G2")))
    assert "latencies, 90% of runs: G1 measured (TPOT -20% +20%, TTFT -50% +100%); G2 modelled (no interval)" in text


def test_requests_by_zone_and_on_spot_are_shown_where_they_are_limited() -> None:
    north = allocation(shares={SMALL: 0.75, LARGE: 0.75})
    south = allocation(node_group="b", zone="z2", shares={SMALL: 0.25, LARGE: 0.25})
    hardware = inventory(group(), group("b", zone="z2", spot=True))
    said = shown(plan(north, south), service(min_zones=2, max_zone_share=0.8, max_spot_share=0.5), hardware=hardware)
    assert "requests by zone: z1 75%, z2 25% (at least 2 zones, at most 80% in one)" in said
    assert "requests on spot nodes: 25% (at most 50%)" in said
    free = shown(plan(north, south), hardware=hardware)
    assert "by zone" not in free
    assert "spot" not in free


def test_pools_of_one_recipe_carry_a_request_together() -> None:
    prefill, decode = allocation(pool="prefill"), allocation(pool="decode", node_group="b", zone="z2")
    hardware = inventory(group(), group("b", zone="z2"))
    said = shown(plan(prefill, decode), service(min_zones=2), hardware=hardware)
    assert "requests by zone: z1 50%, z2 50%" in said
    assert "G1 (prefill)" in said


def test_what_costs_accuracy_is_said_with_its_published_figure() -> None:
    # 67.57 of 69.32 points, see planner/techniques/w4a16.py
    assert "quantised: w4a16 keeps 94.0% of the 16-bit accuracy" in shown(plan(allocation(techniques=("w4a16",))))
    assert "quantised" not in shown(plan(allocation(techniques=("chunked-prefill",))))


def test_a_batch_service_shows_its_cold_start_unless_replicas_always_run() -> None:
    batch = replace(service(), deployment="batch", slos=())
    said = shown(plan(allocation()), batch)
    assert "cold start: 60.0 s" in said
    assert "std, no objective: TTFT 200 ms, TPOT 50 ms" in said
    kept = replace(batch, constraints=replace(batch.constraints, min_replicas=1))
    assert "cold start" not in shown(plan(allocation()), kept)
    assert "cold start" not in shown(plan(allocation()))


def test_an_idle_service_says_how_long_its_first_request_waits() -> None:
    idle = replace(plan(), idle_cold_start_s={"chat": 75.0})
    assert "the first request waits 75.0 s for a cold start" in shown(idle, service(rates={}))


def test_a_feasible_plan_says_why_the_search_stopped_and_how_to_go_on() -> None:
    found = plan(allocation(), status="feasible", bound_usd_per_hour=1.9, gap_ratio=0.05)
    assert "Stopped at the node limit; --time-limit=SECONDS" in shown(found)
    assert "Stopped by --time-limit=3; a longer one looks further" in shown(found, time_limit_s=3.0)
    assert "Stopped at the gap asked for, --gap=0.05" in shown(found, gap_ratio=0.05)
    assert "Stopped" not in shown(plan(allocation()))
    nothing = Plan("unknown", None, 1.5, None, None, 0.1)
    assert "a longer one looks further" in shown(nothing, time_limit_s=3.0)


def test_one_type_alone_is_impossible_only_if_that_is_known() -> None:
    mixed = plan(allocation(), allocation(gpu="G2"))
    never, not_known = "can carry everything alone", "Not known within the limit: G2."
    assert f"No single GPU type in this inventory {never}." in shown(mixed)
    unknown = shown(replace(mixed, one_type_unknown=("G2",)))
    assert "No single GPU type" not in unknown
    assert not_known in unknown
    dear = shown(replace(mixed, one_type={"G1": 5.0}, one_type_unknown=("G2",)))
    assert "Best one-type fleet: G1 alone at $5.00/h, +25.0% against this plan." in dear
    assert not_known in dear
    assert "One type is best here: G1 alone." in shown(plan(allocation(), one_type={"G1": 2.0}))
    assert "G1 alone at $0.00/h." in shown(plan(allocation(gpu="G2", usd=0.0), one_type={"G1": 0.0}))


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"one_type": {"G2": 9.0}}, "not in the cheapest mix (alone $9.00/h)"),
        ({"one_type_unknown": ("G2",)}, "(what it costs alone is not known)"),
        ({}, "(alone it cannot carry everything)"),
        ({"status": "feasible"}, "not in the mix found"),
    ],
)
def test_a_type_that_is_not_chosen_says_why(known: Mapping[str, object], words: str) -> None:
    answer = plan(allocation(), usable_gpus={"chat": ("G1", "G2")}, **known)
    assert words in shown(answer, hardware=inventory(group(), group("b", "G2")))


def test_services_with_the_same_reason_share_a_row() -> None:
    answer = plan(
        allocation(), allocation("code", gpu="G3"), usable_gpus={"chat": ("G1", "G2"), "code": ("G1", "G2", "G3")}
    )
    hardware = inventory(group(), group("b", "G2"), group("c", "G3"))
    rows = shown(answer, service(), service("code"), hardware=hardware).splitlines()
    after = [" ".join(row.split()) for row in rows[next(i for i, row in enumerate(rows) if "NOT CHOSEN" in row) + 1 :]]
    assert after == [
        "G1 code can serve, but is not in the cheapest mix",
        "G2 chat, code can serve, but is not in the cheapest mix (alone it cannot carry everything)",
        "G3 chat not among the GPU types that the service allows",
    ]


def grid(to: Mapping[tuple[int, int], str]) -> Plan:
    """A plan that sends each (input, output) bucket to one node group."""
    groups = sorted(set(to.values()))
    carried = {g: {Bucket("std", *size): 1.0 for size, name in to.items() if name == g} for g in groups}
    return plan(*(allocation(node_group=g, shares=carried[g]) for g in groups))


def test_neighbouring_buckets_with_the_same_weights_are_one_row() -> None:
    both = {(i, o): "a" for i in (16, 32, 64) for o in (16, 32, 64)}
    assert len(routes(grid(both))) == 1
    found = routes(grid({**both, (64, 32): "b"}))
    rows = [(r.first_input, r.last_input, r.first_output, r.last_output, r.to[-1]) for r in found]
    assert rows == [(16, 64, 16, 16, "a"), (16, 32, 32, 32, "a"), (64, 64, 32, 32, "b"), (16, 64, 64, 64, "a")]


def test_rows_of_the_routing_table_cover_every_bucket_with_its_weights() -> None:
    pattern = {(2**i, 2**o): "abc"[(i * i + 3 * o) % 7 % 3] for i in range(4, 10) for o in range(4, 10) if i + o != 11}
    found = routes(grid(pattern))
    assert len(found) < len(pattern)
    for (inputs, outputs), name in pattern.items():
        holding = [
            r for r in found if r.first_input <= inputs <= r.last_input and r.first_output <= outputs <= r.last_output
        ]
        assert [r.to for r in holding] == [f"100% G1 in {name}"]


def test_split_buckets_name_all_targets_largest_first() -> None:
    split = plan(allocation(shares={SMALL: 0.25}), allocation(gpu="G2", node_group="b", shares={SMALL: 0.75}))
    said = text(routing(split))
    assert "75.0% G2 in b, 25.0% G1 in a" in said
    assert "Router weights" in said
