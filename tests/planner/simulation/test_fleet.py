"""Requests through routers, pools, replicas that come and go: each ends or is accounted for."""

import numpy as np
import pytest

from planner.service import Bucket
from planner.simulation.fleet import Fleet
from tests.planner.simulation.test_engine import a_pace

BUCKET = Bucket("all", 512, 64)


def submit(fleet: Fleet, start_s: float, end_s: float, rate_per_s: float, seed: int = 0, outputs: int = 64) -> int:
    chance = np.random.default_rng([seed, int(start_s * 1000)])
    count = int(chance.poisson(rate_per_s * (end_s - start_s)))
    arrival_s = np.sort(chance.uniform(start_s, end_s, count))
    fleet.submit("chat", arrival_s, np.full(count, 512), np.full(count, outputs), np.zeros(count, dtype=np.int64))
    return count


def conserved(fleet: Fleet) -> None:
    told = fleet.account("chat")
    assert told.submitted == told.finished + told.refused + told.in_flight + told.waiting


def test_shares_of_the_table_are_shares_of_the_requests() -> None:
    fleet = Fleet(seed=1)
    for name in ("a", "b"):
        fleet.add(name, name, "chat", "serve", a_pace(sequences=4096, tokens=8192, kv=10**7))
    fleet.weights("chat", {BUCKET: {"a": 0.75, "b": 0.25}}, [BUCKET])
    fleet.submit("chat", np.zeros(4000), np.full(4000, 10), np.full(4000, 1), np.zeros(4000, dtype=np.int64))
    fleet.advance(0.0)
    states = {name: fleet.state(name) for name in ("a", "b")}
    ones = {name: one.running + one.waiting for name, one in states.items()}
    assert ones["a"] == pytest.approx(3000, abs=90)
    assert sum(ones.values()) == 4000


def test_the_same_seed_gives_the_same_times() -> None:
    def run() -> list[float]:
        fleet = Fleet(seed=7)
        for name in ("a", "b", "c"):
            fleet.add(name, "k", "chat", "serve", a_pace())
        ends: list[float] = []
        for step in range(20):
            submit(fleet, step * 5.0, step * 5.0 + 5, 20.0)
            ends += [float(at_s) for one in fleet.advance(step * 5.0 + 5).values() for at_s in one.last_s]
        return ends

    assert run() == run()


def test_a_replica_that_dies_loses_no_request() -> None:
    fleet = Fleet()
    for name in ("a", "b"):
        fleet.add(name, "k", "chat", "serve", a_pace())
    submitted = submit(fleet, 0.0, 10.0, 10.0)
    fleet.advance(10.0)
    conserved(fleet)
    fleet.remove("a", kill=True)
    conserved(fleet)
    assert fleet.account("chat").begun_again > 0
    fleet.advance(500.0)
    told = fleet.account("chat")
    assert told.finished == submitted
    assert not fleet.has("a")


def test_a_replica_that_drains_finishes_what_it_has() -> None:
    fleet = Fleet()
    fleet.add("a", "k", "chat", "serve", a_pace())
    submitted = submit(fleet, 0.0, 5.0, 5.0)
    fleet.advance(5.0)
    fleet.remove("a")
    fleet.advance(200.0)
    assert not fleet.has("a")
    assert fleet.account("chat").finished == submitted


def test_requests_wait_for_a_replica_and_their_wait_counts() -> None:
    fleet = Fleet()
    submitted = submit(fleet, 0.0, 5.0, 5.0)
    fleet.advance(60.0)
    assert fleet.account("chat").waiting == submitted
    fleet.add("a", "k", "chat", "serve", a_pace())
    found = fleet.advance(400.0)["chat"]
    assert len(found) == submitted
    assert found.ttft_s.min() > 55.0


def test_prompts_go_on_to_the_decode_pool() -> None:
    fleet = Fleet()
    fleet.add("p", "prefill", "chat", "prefill", a_pace(lookahead=False))
    fleet.add("d", "decode", "chat", "decode", a_pace(lookahead=False))
    fleet.submit("chat", np.zeros(1), np.full(1, 1000), np.full(1, 10), np.zeros(1, dtype=np.int64))
    found = fleet.advance(100.0)["chat"]
    # The prompt, then the decode step over all of it that gives the first token.
    first_s = 1000 * 6e-5 + (0.012 + 8e-5 + 2.5e-8 * 1000)
    assert found.first_s[0] == pytest.approx(first_s)
    later_s = sum(0.012 + 8e-5 + 2.5e-8 * (1001 + k) for k in range(9))
    assert found.last_s[0] == pytest.approx(first_s + later_s)


def test_a_slow_replica_takes_its_factor_longer() -> None:
    ends = []
    for factor in (1.0, 0.5):
        fleet = Fleet()
        fleet.add("a", "k", "chat", "serve", a_pace())
        fleet.slow("a", factor)
        fleet.submit("chat", np.zeros(1), np.full(1, 1000), np.full(1, 50), np.zeros(1, dtype=np.int64))
        ends.append(float(fleet.advance(100.0)["chat"].last_s[0]))
    assert ends[1] == pytest.approx(2 * ends[0])


def test_what_comes_of_requests_does_not_depend_on_how_far_time_goes_at_once() -> None:
    def run(stretch_s: float) -> list[float]:
        fleet = Fleet(seed=3)
        for name in ("a", "b", "c"):
            fleet.add(name, "k", "chat", "serve", a_pace(sequences=16, kv=20_000))
        submit(fleet, 0.0, 60.0, 12.0, outputs=300)
        ends: list[float] = []
        for at in range(int(600 / stretch_s)):
            ends += [one for found in fleet.advance((at + 1) * stretch_s).values() for one in found.last_s.tolist()]
        return ends

    assert run(0.5) == pytest.approx(run(600.0), rel=1e-9)


def test_the_least_full_replica_takes_the_next_request() -> None:
    fleet = Fleet()
    for name in ("a", "b"):
        fleet.add(name, "k", "chat", "serve", a_pace())
    fleet.slow("a", 0.2)
    submit(fleet, 0.0, 100.0, 6.0, outputs=200)
    fleet.advance(100.0)
    slow, fast = fleet.state("a"), fleet.state("b")
    assert slow.running == pytest.approx(fast.running, abs=1)
    found = fleet.advance(500.0)["chat"]
    assert len(found) < fleet.account("chat").submitted  # most were done before


def test_a_request_that_no_replica_could_ever_hold_is_refused() -> None:
    fleet = Fleet()
    fleet.add("a", "k", "chat", "serve", a_pace(kv=4096))
    sizes = np.array([4000, 100])
    fleet.submit("chat", np.zeros(2), sizes, np.full(2, 200), np.zeros(2, dtype=np.int64))
    fleet.advance(100.0)
    told = fleet.account("chat")
    assert (told.refused, told.finished) == (1, 1)
    conserved(fleet)


def test_every_request_is_accounted_for_while_replicas_come_die_and_drain() -> None:
    chance = np.random.default_rng(8)
    fleet, names = Fleet(seed=2), 0
    for step in range(60):
        for _ in range(int(chance.integers(0, 3))):
            pool = ("prefill", "decode")[names % 2]
            fleet.add(str(names), pool, "chat", pool, a_pace(sequences=8, kv=10_000, lookahead=False))
            names += 1
        if (there := fleet.names()) and chance.random() < 0.5:
            fleet.remove(str(chance.choice(there)), kill=bool(chance.random() < 0.6))
        conserved(fleet)
        submit(fleet, step * 2.0, step * 2.0 + 2, 6.0, seed=1, outputs=100)
        fleet.advance(step * 2.0 + 2)
        conserved(fleet)
    for pool in ("prefill", "decode"):
        fleet.add(f"last-{pool}", pool, "chat", pool, a_pace(kv=500_000, lookahead=False))
    fleet.advance(4000.0)
    told = fleet.account("chat")
    assert told.begun_again > 0
    assert told.finished == told.submitted


def test_a_replica_whose_cap_changes_decodes_at_the_pace_of_each_while_it_holds() -> None:
    fleet, free, capped = Fleet(), a_pace(), a_pace(fixed_s=0.024)
    fleet.add("a", "k", "chat", "serve", free)
    fleet.submit("chat", np.zeros(1), np.full(1, 1000), np.full(1, 3000), np.zeros(1, dtype=np.int64))
    ends: list[float] = []
    for at_s, pace in ((10.0, capped), (20.0, free), (400.0, free)):
        ends += [float(one) for found in fleet.advance(at_s).values() for one in found.last_s]
        fleet.paced("a", pace)
    # Ten seconds of steps twice as long lack as many steps as five seconds have.
    plain = Fleet()
    plain.add("a", "k", "chat", "serve", free)
    plain.submit("chat", np.zeros(1), np.full(1, 1000), np.full(1, 3000), np.zeros(1, dtype=np.int64))
    alone_s = float(plain.advance(400.0)["chat"].last_s[0])
    assert ends[0] - alone_s == pytest.approx(5.0, abs=0.1)


@pytest.mark.parametrize("stretch_s", [0.5, 100.0])
def test_what_comes_after_a_cap_is_lifted_is_seen_when_it_happens(stretch_s: float) -> None:
    def run(stretch_s: float) -> list[float]:
        fleet = Fleet(seed=3)
        for name in ("a", "b"):
            fleet.add(name, "k", "chat", "serve", a_pace(sequences=16, kv=20_000, fixed_s=0.05))
        submit(fleet, 0.0, 60.0, 6.0, outputs=300)
        ends: list[float] = []
        for until_s in (100.0, 600.0):
            while fleet.now_s < until_s:
                ended = fleet.advance(min(fleet.now_s + stretch_s, until_s))
                ends += [one for found in ended.values() for one in found.last_s.tolist()]
            fleet.paced("a", a_pace(sequences=16, kv=20_000, fixed_s=0.005))
        return ends

    assert run(stretch_s) == pytest.approx(run(600.0), rel=1e-9)


def test_a_pace_leaves_the_limits_of_an_engine_alone() -> None:
    fleet = Fleet()
    fleet.add("a", "k", "chat", "serve", a_pace(sequences=16, kv=20_000))
    fleet.paced("a", a_pace(sequences=64, kv=400_000, fixed_s=0.024))
    fleet.submit("chat", np.zeros(20), np.full(20, 512), np.full(20, 64), np.zeros(20, dtype=np.int64))
    fleet.advance(1.0)
    assert (fleet.state("a").running, fleet.state("a").waiting) == (16, 4)
