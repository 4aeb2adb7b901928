"""What pages say of what they are given, without a browser."""

import re
from dataclasses import replace

from controller.pages.cluster import _findings as findings
from controller.pages.cluster import _ill as ill
from controller.pages.cluster import _lost as lost
from controller.pages.cluster_tiles import groups
from controller.pages.context import Context
from controller.pages.headline import headline
from controller.pages.overview import Seen
from controller.pages.overview import _busy as busy
from controller.pages.service_parts import conditions, latencies, weights
from controller.web.model import (
    ConditionRow,
    DomainRow,
    FaultRow,
    GpuCount,
    GpuTile,
    Health,
    LatencyRow,
    NodeRow,
    Overview,
    ServiceDetail,
    ServiceRow,
    WeightRow,
)
from planner.service import Bucket

SERVICE = ServiceRow(
    key="default/chat", namespace="default", name="chat", model="a/model", priority=0, ready=True, reason="Serving",
    why="", explained="", replicas=1, replicas_ready=1, gpus=1, rate_per_s=1.0, planned_per_s=1.0,
    attainment_ratio=None, slo="Met", usd_per_hour=2.5, power_w=400.0, decision="d", awaits_approval=False,
    paused=False, created_s=0.0, version="1",
)  # fmt: skip
FLEET = Overview(
    at_s=0.0, speed=1.0, usd_per_hour=2.5, power_w=400.0, budget_w=2000.0, domains_w=400.0, attainment_ratio=None,
    services=1, services_ready=1, services_waiting=0, replicas=1, replicas_ready=1, gpus_used=1, gpus_total=8, gpus=(),
    nodes=2, nodes_out=0, faults=0, changes=(),
)  # fmt: skip
RACK = DomainRow("rack-1", 2000.0, 400.0, None, None, 400.0, 144.0, 2, 4, ("big",), (), "1")


DETAIL = ServiceDetail(SERVICE, 1, (), (), (), (), (), None, None, None, None)


def seen(*rows: ServiceRow, drawn_w: float = 400.0, asking: tuple[str, ...] = ("default/chat",)) -> Seen:
    rack = replace(RACK, drawn_w=drawn_w)
    return Seen(FLEET, True, rows, (rack,), (0.0, 60.0), {}, (), frozenset(asking), {row.key: 0 for row in rows})


def test_all_is_well_only_where_every_objective_was_seen_to_be_held() -> None:
    batch = replace(SERVICE, key="default/batch", slo="")
    other = replace(SERVICE, key="default/other", slo="")
    assert "m-good" in headline(seen(SERVICE, batch))  # which asks for no latency
    assert "no objective is observed yet" in headline(seen(replace(SERVICE, slo="")))
    assert "m-soft" in headline(seen(replace(SERVICE, slo="")))
    made = headline(seen(SERVICE, other, asking=("default/chat", "default/other")))
    assert "the objective of other is not observed yet" in made
    assert headline(seen(batch, asking=())) == headline(seen(asking=())) == ""


def test_a_missed_objective_is_named_with_its_figures_and_counts_as_health() -> None:
    detail = ServiceDetail(
        SERVICE, 1, (ConditionRow("Degraded", "True", "SLOMissed", "latency objectives: Missed", 0.0),), (),
        (
            LatencyRow("quick", "ttft_s", 0.95, 0.2, None, None, 0.567),
            LatencyRow("interactive", "ttft_s", 0.95, 0.5, None, None, 0.567),
            LatencyRow("interactive", "tpot_s", 0.95, 0.05, None, None, 0.04),
        ), (), (), None, None, None, None,
    )  # fmt: skip
    made = conditions(detail, 60.0)
    assert "Planned, largest requests" in latencies(detail)
    assert "Health" in made
    assert "Hardware" not in made
    assert "interactive: p95 TTFT 567 ms, at most 500 ms<" in made


def a_node(name: str, *health: Health, held: int = 0, out: bool = False) -> NodeRow:
    """A node of GPUs that have such healths; the first `held` are in use. Two detectors tell of each fault."""
    made = tuple(
        GpuTile(name, i, f"{name}-{i}", "L4", "g", "a", one, 1.0, 30.0, 72.0, 72.0, None, 50.0, None, None,
                "default/chat" if i < held else "", ())
        for i, one in enumerate(health)
    )  # fmt: skip
    faults = tuple(
        FaultRow(name, i, f"{name}-{i}", told, "fatal_gpu", "acted", "", "", "", 0.0)
        for i, one in enumerate(health)
        for told in ("xid", "lost")
        if one in ("faulty", "lost")
    )
    return NodeRow(
        name, "g", "L4", "a", "", False, False, len(made), held, True, not out, out, None, "", 1.0, None, "1", (),
        made, faults,
    )  # fmt: skip


def test_gpus_that_are_out_are_not_free_and_one_fault_is_one_whoever_tells_it() -> None:
    rows = [a_node("a", "lost", "ok", "ok", out=True), a_node("b", "ok", "ok", held=1), a_node("c", "faulty", "ok")]
    assert [lost(row) for row in rows] == [3, 0, 1]
    parts, sure = ill(rows)
    assert parts == sure == {("a", 0), ("c", 0)}
    assert findings(parts, sure) == "2 GPUs"
    assert findings({*parts, ("a", -1)}, sure) == "2 GPUs and 1 node, 1 of them suspected"
    assert findings({("a", -1)}, ()) == "1 node, suspected"
    context = Context.__new__(Context)
    context.dark, context.tinted = False, {}
    made = groups(context, rows, "load", "", None)
    words = [title.rpartition(", ")[2] for title in re.findall(r'title="GPU \d of ([^"]*)"', made)]
    assert words == ["out", "out", "out", "chat", "free", "out", "free"]


def test_every_gpu_in_use_is_counted_though_only_two_types_are_named() -> None:
    used = [
        GpuCount(gpu, count, 8, 0) for gpu, count in (("L4", 3), ("H100-SXM", 5), ("A10G", 0), ("T4", 1), ("L40S", 2))
    ]
    assert busy(replace(FLEET, gpus=tuple(used))) == "5 H100-SXM, 3 L4 and 3 others"
    assert busy(replace(FLEET, gpus=tuple(used[:2]))) == "5 H100-SXM, 3 L4"
    assert busy(FLEET) == "none is used"
    long = [GpuCount(gpu, count, 9, 0) for gpu, count in (("H100-SXM", 8), ("A100-SXM-80GB", 7), ("L4", 1))]
    assert busy(replace(FLEET, gpus=tuple(long[:2]))) == "8 H100-SXM, 7 A100-SXM-80GB"
    assert busy(replace(FLEET, gpus=tuple(long))) == "8 H100-SXM and 8 others"  # both would take two lines


def test_the_most_frequent_sizes_of_requests_are_shown_first_with_their_share() -> None:
    rows = tuple(WeightRow("chat", size, 128, "kind", "L4", "small", 1.0) for size in range(1, 15))
    rates = {Bucket("chat", size, 128): float(size) for size in range(1, 15)}  # 105 in all
    made = weights(replace(DETAIL, weights=rows), False, rates)
    assert re.findall(r"(\d+) → 128", made) == [str(size) for size in range(14, 2, -1)]
    assert "13.3 %" in made  # 14 of 105
    assert "and 2 other sizes, 2.9 % of requests" in made


def test_a_power_domain_over_its_budget_is_named_before_all_is_called_well() -> None:
    made = headline(seen(SERVICE, drawn_w=2001.0))
    assert "m-bad" in made
    assert "rack-1 over the power budget" in made
