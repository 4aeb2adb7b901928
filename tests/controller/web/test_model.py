"""The read model says of a cluster what its objects, agents and plans say."""

from collections.abc import Iterator

import pytest

from controller.web import model
from controller.web.overview_text import _headline as headline
from controller.web.site import Site
from tests.controller.web.cluster import Cluster, a_cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One service that serves and was planned twice: for 8 and then for 40 requests/s."""
    with a_cluster() as made:
        made.service()
        made.passes(120)
        path = "/apis/muster.dev/v1alpha1/namespaces/default/gpuservices/chat"
        more = {"spec": {"workload": {"ratePerSecond": 40}}}
        made.api.request("PATCH", path, more, content_type="application/merge-patch+json")
        made.passes(240)
        for metric, value in (("rate_per_s", 39.5), ("ttft_p95_s", 0.4), ("attainment_ratio", 0.99)):
            made.history.add(metric, "default/chat", made.at_s, value)
        made.history.add("attainment_ratio", "", made.at_s, 0.98)
        yield made


@pytest.fixture(scope="module")
def site(cluster: Cluster) -> Site:
    return cluster.site()


def test_a_service_says_what_is_planned_what_runs_and_what_is_observed(site: Site) -> None:
    [row] = model.services(site)
    assert (row.key, row.ready, row.reason, row.why) == ("default/chat", True, "Serving", "")
    assert row.replicas == row.replicas_ready > 0
    assert (row.rate_per_s, row.planned_per_s, row.attainment_ratio) == (39.5, 40.0, 0.99)
    detail = model.service(site, "default/chat")
    assert detail is not None
    assert sum(one.ready for one in detail.replicas) == row.replicas_ready
    [ttft, tpot] = detail.latencies
    assert (ttft.metric, ttft.objective_s, ttft.observed_p95_s) == ("ttft_s", 1.0, 0.4)
    assert 0 < (tpot.predicted_s or 0) <= tpot.objective_s == 0.06
    by_bucket = sum(one.share_ratio for one in detail.weights)
    assert by_bucket == pytest.approx(1.0, abs=1e-5)
    assert {one.type for one in detail.conditions} >= {"Ready", "Planned", "Applied"}


def test_what_is_not_there_is_none(site: Site) -> None:
    assert model.service(site, "default/nothing") is None
    assert model.plan(site, "default/nothing") is None
    assert model.history(site, "default/nothing") is None
    assert model.node(site, "nothing") is None
    assert model.domain(site, "nothing") is None


def test_a_plan_adds_up_and_differs_from_the_one_before_by_its_moves(site: Site) -> None:
    view = model.plan(site, "default/chat")
    assert view is not None
    assert view.previous is not None
    now = view.current
    assert now.usd_per_hour == pytest.approx(sum(row.usd_per_hour for row in now.allocations))
    assert [one.slo_class for row in now.allocations for one in row.by_class] == ["chat"] * len(now.allocations)
    assert all(row.by_class[0].ttft_s == row.ttft_s for row in now.allocations)
    assert now.gpus == sum(row.replicas * row.gpus_per_replica for row in now.allocations)
    assert (view.previous.rate_per_s, now.rate_per_s, now.cause) == (8.0, 40.0, "spec_changed")
    change = model.diff(view.key, view.previous, now)
    assert change.gpus == sum((move.after - move.before) * move.gpus_per_replica for move in change.moves)
    assert change.rate_per_s == 32.0
    back = model.diff(view.key, now, view.previous)
    assert back.usd_per_hour == -change.usd_per_hour
    assert {(m.recipe, m.before, m.after) for m in back.moves} == {(m.recipe, m.after, m.before) for m in change.moves}


def test_history_has_every_outcome_once_the_newest_first(site: Site) -> None:
    found = model.history(site, "default/chat")
    assert found is not None
    assert found.complete
    assert [one.rate_per_s for one in found.outcomes] == [40.0, 8.0]


def test_gpus_in_use_are_those_of_the_pods(site: Site) -> None:
    seen, rows = model.overview(site), model.nodes(site)
    [service] = model.services(site)
    assert seen.gpus_used == sum(row.held for row in rows) == service.gpus
    assert {(one.gpu, one.total) for one in seen.gpus} == {("H100-SXM", 8), ("L4", 4)}
    assert seen.usd_per_hour == service.usd_per_hour > 0
    assert (seen.attainment_ratio, seen.budget_w, seen.power_w) == (0.98, 8000.0, 8 * 350.0 + 4 * 36.0)
    assert seen.domains_w == 8 * 350.0  # those of rack-1 alone are held to its budget
    [change] = seen.changes
    assert (change.cause, change.service) == ("spec_changed", "default/chat")


def test_the_fleet_in_a_line_sets_against_a_budget_only_what_is_held_to_it() -> None:
    fleet = {"usd_per_hour": 12.4, "power_w": 5590.0, "domains_w": 288.0, "budget_w": 2000.0, "attainment_ratio": None}
    assert headline(fleet) == "$12.40/h; 5.59 kW; 288 W of 2.00 kW in power domains"
    assert headline({**fleet, "domains_w": None, "budget_w": None}) == "$12.40/h; 5.59 kW"


def test_a_tile_says_whose_replica_its_gpu_has(site: Site) -> None:
    tiles = model.tiles(model.nodes(site))
    assert len(tiles) == 12
    assert sum(tile.service == "default/chat" for tile in tiles) == model.overview(site).gpus_used
    one = tiles[0]
    assert (one.health, one.busy_ratio, one.power_w, one.tdp_w) == ("ok", 0.5, 350.0, 700.0)


def test_a_domain_adds_up_its_gpus(site: Site) -> None:
    [domain] = model.domains(site)
    assert (domain.name, domain.budget_w, domain.drawn_w, domain.gpus) == ("rack-1", 8000.0, 8 * 350.0, 8)
    assert domain.planned_w == pytest.approx(sum(row.planned_w for row in domain.caps))


def test_events_are_told_with_what_they_are_about(site: Site) -> None:
    rows = model.events(site)
    solved = [row for row in rows if row.reason == "PlanSolved"]
    assert solved
    assert all(row.about == "default/chat" for row in solved)
    last = max(row.version for row in rows)
    assert model.events(site, after=last) == []


def test_a_fault_colours_its_tile_and_takes_the_node_out() -> None:
    with a_cluster() as cluster:
        cluster.service()
        cluster.passes(60)
        cluster.inject("big-0", 1, "xid", xid=79)
        cluster.passes(60)
        site = cluster.site()
        row = model.node(site, "big-0")
        assert row is not None
        assert row.out
        assert [tile.health for tile in row.tiles].count("lost") == 1
        assert "79" in row.tiles[1].faults[0].words
        assert model.overview(site).nodes_out == 1


def test_an_agent_that_fell_silent_leaves_no_readings() -> None:
    with a_cluster() as cluster:
        cluster.passes(10)
        cluster.at_s += 3600
        tiles = model.tiles(model.nodes(cluster.site()))
        assert {(tile.health, tile.power_w) for tile in tiles} == {("unknown", None)}
        assert model.overview(cluster.site()).power_w is None


def test_a_plan_without_room_names_what_binds() -> None:
    with a_cluster() as cluster:
        cluster.service(constraints={"techniques": ["fp8"], "gpuTypes": {"allowed": ["L4"]}}, workload={
            "ratePerSecond": 6, "buckets": [{"inputTokens": 512, "outputTokens": 128, "share": 1}]
        })  # fmt: skip
        cluster.passes(60)
        view = model.plan(cluster.site(), "default/chat")
        assert view is not None
        used = sum(row.gpus for row in view.current.allocations)
        bound = {one.kind: one for one in view.binding}
        assert ("nodes" in bound) == (used == 4)
        assert all(one.used <= one.limit or one.kind == "power" for one in view.binding)
