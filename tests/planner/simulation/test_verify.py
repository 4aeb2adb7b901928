"""Plans put to the test: on the example, by the command, and with the headroom that it takes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from planner.errors import BadInput
from planner.plan import Allocation, Recipe
from planner.planning import plan
from planner.service import ServiceSpec
from planner.simulation.arrivals import Traffic, read, requests
from planner.simulation.bench import Bench
from planner.simulation.outcome import ClassOutcome, Latency, PoolOutcome
from planner.simulation.routing import CHUNKED, merged, movable, moved
from planner.simulation.run import Trial, by_process, simulate
from planner.simulation.verify import Verified, speed_of, trials, verified
from planner.spec.load import load_inventory, load_services
from planner.traces import Trace
from tests.planner.factories import prediction

EXAMPLES = Path("deploy/examples")


def test_arrivals_have_the_mean_and_the_bursts_that_are_asked_for() -> None:
    [spec] = load_services(EXAMPLES / "chat.yaml")
    for cv in (1.0, 3.0):
        made = requests(spec, Traffic(rate_per_s=20.0, burst_cv=cv), 0.0, 4000.0, seed=1)
        seconds = [int(((made.arrival_s >= at) & (made.arrival_s < at + 1)).sum()) for at in range(4000)]
        mean = sum(seconds) / len(seconds)
        over = sum((one - mean) ** 2 for one in seconds) / len(seconds) / mean
        assert mean == pytest.approx(20.0, rel=0.1)
        assert over == pytest.approx(cv**2, rel=0.15)


def test_traffic_that_makes_no_sense_is_refused_in_words() -> None:
    for row, words in (
        ({"rate": 1}, "got rate"),
        ({"factor": -1}, "factor"),
        ({"swing_ratio": 2}, "0 to 1"),
        ({"rate_per_s": 1e30}, "0 to 10000"),
        ({"burst_cv": float("nan")}, "burst_cv"),
    ):
        with pytest.raises(BadInput, match=words):
            read(row)


def test_a_verified_plan_holds_its_objectives_with_other_requests_too() -> None:
    services = load_services(EXAMPLES / "chat.yaml")
    hardware = load_inventory(EXAMPLES / "cluster.yaml")
    made = verified(
        Bench(services, hardware, lambda asked: plan(asked, hardware, compare=False), trials(services, None))
    )
    assert isinstance(made, Verified)
    assert made.held
    assert made.usd_per_hour == pytest.approx(made.fluid_usd_per_hour + made.added_usd_per_hour)
    other = Trial("others", by_process(Traffic(), 77), 300.0, seed=77)
    [again] = simulate(services, made.plan.allocations, hardware, other)
    assert again.met
    assert again.account.refused == 0
    assert [one.strain_ratio <= 1 for one in again.pools] == [True] * len(again.pools)


def test_load_moves_from_kinds_under_strain_to_kinds_with_room_and_none_is_lost() -> None:
    [service] = load_services(EXAMPLES / "code.yaml")
    bucket, other = list(service.workload.rates_per_s)[:2]
    one, two = (an_allocation(service, name, share) for name, share in (("a", 0.5), ("b", 0.5)))
    assert movable(service, [one, two])
    made = moved(service, [one, two], [[a_pool(1.4), a_pool(0.4)], [a_pool(1.1), a_pool(0.2)]])
    assert made[0].shares[bucket] < 0.5 < made[1].shares[bucket]
    for each in (bucket, other):
        assert made[0].shares[each] + made[1].shares[each] == pytest.approx(1.0)


def test_replicas_under_strain_run_as_their_like_do_and_cost_what_they_did() -> None:
    [service] = load_services(EXAMPLES / "code.yaml")
    one, two = (an_allocation(service, "a", share, techniques) for share, techniques in ((0.2, ()), (0.8, (CHUNKED,))))
    other = an_allocation(service, "b", 0.0, (CHUNKED,))
    made = merged(service, [one, two, other], [[a_pool(1.4), a_pool(0.9), a_pool(0.5)]])
    assert made is not None
    assert [(each.replicas, each.node_group, each.usd_per_hour) for each in made] == [(2, "a", 2.0), (1, "b", 1.0)]
    assert made[0].recipe == two.recipe
    assert all(share == pytest.approx(1.0) for share in made[0].shares.values())
    assert merged(service, [one, two, other], [[a_pool(0.9), a_pool(0.8), a_pool(0.5)]]) is None


def test_load_stays_where_a_promise_hangs_on_it() -> None:
    [service] = load_services(EXAMPLES / "chat.yaml")  # it survives the loss of a replica
    assert not movable(service, [an_allocation(service, name, 0.5) for name in ("a", "b")])


def test_a_trace_comes_as_fast_as_its_half_minutes_were_planned_for() -> None:
    """Half minutes of 30 requests, and one in ten of 60: the rate that 95 % stay within is 2/s."""
    counts = [60 if at % 10 == 0 else 30 for at in range(41)]
    arrival_s = np.concatenate([30.0 * at + np.arange(many) * 30 / many for at, many in enumerate(counts)])
    trace = Trace("azure", arrival_s, np.full(len(arrival_s), 100), np.full(len(arrival_s), 10))
    [service] = load_services(EXAMPLES / "chat.yaml")
    assert speed_of(service, trace) == pytest.approx(service.workload.rate_per_s / 2.0)


def an_allocation(service: ServiceSpec, group: str, share: float, techniques: tuple[str, ...] = ()) -> Allocation:
    recipe, shares = Recipe("L4", techniques=techniques), dict.fromkeys(service.workload.rates_per_s, share)
    return Allocation(service.name, "m", "serve", group, "z", recipe, 1, 1, 1.0, 72.0, prediction(), shares)


def a_pool(strain: float) -> PoolOutcome:
    latency = Latency("ttft", {}, strain, 1.0)
    return PoolOutcome("k", "serve", 1, 1.0, 0.1, 72.0, (ClassOutcome("completion", 0.95, 100, 1.0, (latency,)),))


def test_the_command_says_whether_the_objectives_hold(tmp_path: Path) -> None:
    def muster(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "planner.main", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    files = (str(EXAMPLES / "chat.yaml"), "--inventory", str(EXAMPLES / "cluster.yaml"))
    made = str(tmp_path / "plan.yaml")
    assert muster("plan", *files, "-o", made).returncode == 0
    held = muster("simulate", made, *files, "--duration", "5m", "--json")
    assert held.returncode == 0, held.stderr
    assert json.loads(held.stdout)["services"][0]["met"] is True
    over = muster("simulate", made, *files, "--duration", "5m", "--rate", "400")
    assert over.returncode == 1
    assert "NO" in over.stdout
    bad = muster("simulate", made, *files, "--duration", "soon")
    assert bad.returncode == 2
    assert "--duration: got 'soon'" in bad.stderr
