"""Exact allocation: published optima, brute force on tiny problems, limits, ways out that work, and bad input."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from planner.allocate import FleetLimits, GPUAllocation, allocate
from planner.branch import Limits
from planner.errors import BadInput, MusterError
from planner.fleet_conflict import ways_out
from planner.instance import Instance, parse_instance
from planner.transport import Transport
from tests.benchmarks.allocation import instances, share_error


def instance(load: list[list[float]], usd: list[float], names: tuple[str, ...] = ()) -> Instance:
    """Cells of 1 request/s; load = GPUs that a cell keeps busy, 0 = cannot be served."""
    busy = np.array(load)
    throughput = np.divide(1.0, busy, out=np.zeros_like(busy), where=busy > 0)[:, None, :]
    names = names or tuple(f"G{g}" for g in range(len(usd)))
    return Instance(names, np.array(usd), throughput, np.ones((1, busy.shape[1])))


def carried(problem: Instance, answer: GPUAllocation) -> bool:
    return share_error(problem, dict(answer.counts), dict(answer.weights)) <= 1e-6


def test_every_published_instance_is_solved_to_its_proved_optimum(shared: Path) -> None:
    solved = 0
    for name, problem, optimum in instances(shared / "data" / "planner"):
        answer = allocate(problem)
        assert answer.status == "optimal", name
        assert answer.usd_per_hour == pytest.approx(optimum, rel=1e-6), name
        assert carried(problem, answer), name
        solved += 1
    assert solved == 33


def test_what_one_gpu_serves_badly_goes_to_the_other() -> None:
    # Cell 0: half of a G0 or two G1; cell 1: two G0 or half of a G1. Apart, one of each carries both.
    answer = allocate(instance([[0.5, 2.0], [2.0, 0.5]], [1.0, 1.0]))

    assert answer.counts == {"G0": 1, "G1": 1}
    assert answer.usd_per_hour == 2.0


def test_a_cell_is_split_when_that_saves_a_gpu() -> None:
    # 1.5 GPUs of work: one G0 at $3 carries two thirds, and a slow G1 at $1 the third that is left; two G0 cost $6.
    answer = allocate(instance([[1.5], [3.0]], [3.0, 1.0]), FleetLimits(caps={"G1": 1}))

    assert answer.counts == {"G0": 1, "G1": 1}
    assert answer.usd_per_hour == 4.0


@pytest.mark.parametrize("seed", range(60))
def test_the_optimum_equals_brute_force_on_tiny_problems(seed: int) -> None:
    rng = np.random.default_rng(seed)
    load = rng.uniform(0.1, 1.5, (3, 4)) * (rng.random((3, 4)) < 0.8)
    load[0, load.max(axis=0) == 0] = 0.5
    problem = instance(load.tolist(), rng.integers(1, 9, 3).astype(float).tolist())
    caps = {f"G{g}": int(rng.integers(0, 4)) for g in range(3)}
    most, budget = int(rng.integers(2, 8)), float(rng.integers(5, 40))

    answer = allocate(problem, FleetLimits(caps, most, budget))

    transport = Transport(problem.load(), problem.usd_per_hour)
    best = np.inf
    for counts in itertools.product(*(range(cap + 1) for cap in caps.values())):
        cost = float(problem.usd_per_hour @ counts)
        if sum(counts) <= most and cost <= min(budget, best) and transport.carries(np.array(counts, float)) is not None:
            best = cost
    if np.isinf(best):
        assert answer.status == "infeasible"
    else:
        assert answer.usd_per_hour == pytest.approx(best)
        assert carried(problem, answer)


@pytest.mark.parametrize("seed", range(30))
def test_every_way_out_makes_the_problem_feasible(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = instance(rng.uniform(0.5, 3, (3, 4)).tolist(), rng.integers(1, 9, 3).astype(float).tolist())
    limits = FleetLimits({"G0": 0, "G1": int(rng.integers(0, 3))}, int(rng.integers(1, 5)), float(rng.integers(2, 20)))
    answer = allocate(problem, limits)
    if answer.infeasible is None:
        return
    assert answer.infeasible.constraints
    ways = ways_out(problem, limits, limits, Limits())
    assert ways
    assert all(allocate(problem, way.limits).status == "optimal" for way in ways)


def test_a_fleet_too_small_within_a_budget_says_how_many_gpus_it_takes() -> None:
    answer = allocate(instance([[3.0]], [2.0]), FleetLimits(max_gpus=2, usd_per_hour=10.0))

    assert answer.infeasible is not None
    assert answer.infeasible.constraints == ("at most 2 GPUs",)
    assert answer.infeasible.relaxation == "allow 3 GPUs (the fleet then costs $6.00/h)"


def test_a_cell_that_nothing_serves_is_named() -> None:
    answer = allocate(instance([[1.0, 0.0]], [2.0]))

    assert answer.infeasible is not None
    assert answer.infeasible.constraints == ("cell [0][1]",)
    assert "50.00% of requests" in answer.infeasible.why


@pytest.mark.parametrize("rate", [1e-9, 1e-3, 1e3, 1e6])
def test_rates_from_almost_none_to_a_million_are_solved(rate: float, shared: Path) -> None:
    path = shared / "data/planner/alloc/instances/F4-g60-r8-mixed.json"
    data = json.loads(path.read_text("utf-8"))
    problem = parse_instance(json.dumps({**data, "total_request_rate": rate}), "x")
    answer = allocate(problem, search=Limits(nodes=2000))

    assert answer.status in ("optimal", "feasible")
    assert answer.gap_ratio is not None
    assert answer.gap_ratio <= 1e-3
    assert carried(problem, answer)


def test_a_search_that_must_stop_at_once_gives_what_it_has_with_its_gap() -> None:
    rng = np.random.default_rng(7)
    problem = instance(rng.uniform(0.2, 2, (5, 30)).tolist(), rng.uniform(1, 9, 5).round(2).tolist())
    answer = allocate(problem, search=Limits(stop=lambda: True))

    assert answer.status == "feasible"
    assert answer.usd_per_hour is not None
    assert answer.bound_usd_per_hour is not None
    assert 0 < answer.bound_usd_per_hour < answer.usd_per_hour
    assert carried(problem, answer)


NUMBER: st.SearchStrategy[object] = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-5, 10**40),
    st.floats(0, 5),
    st.sampled_from([0, 0.0, 1, 1e-300, 1e300, "1", None, True, [], {}]),
)
TABLE = st.one_of(
    NUMBER,
    st.lists(st.lists(NUMBER, max_size=3), max_size=3),
    st.integers(1, 3).flatmap(lambda n: st.lists(st.lists(st.floats(0, 2), min_size=n, max_size=n), max_size=2)),
    st.sampled_from([[[1.0]], [[0.5, 0.5]], [[0.0, 1.0]], [[0.5], [0.5]], [[1.0], [2.0, 3.0]]]),
)
GPU = st.one_of(
    NUMBER, st.fixed_dictionaries({}, optional={"cost": NUMBER, "tputs": TABLE, "name": st.text(max_size=3)})
)
INSTANCE = st.fixed_dictionaries(
    {},
    optional={
        "gpu_info": st.one_of(NUMBER, st.dictionaries(st.text(max_size=3), GPU, max_size=3), st.lists(GPU, max_size=3)),
        "workload_distribution": TABLE,
        "total_request_rate": st.one_of(NUMBER, st.floats(0, 100)),
        "slice_factor": NUMBER,
    },
)


@settings(max_examples=1000)
@example({"gpu_info": {"\n": 0.0}, "workload_distribution": [[1.0]], "total_request_rate": 0.0}, {})
@given(st.one_of(INSTANCE, NUMBER, st.text(max_size=5)), st.sampled_from([{}, {"G": 1}, {"": 0}, {"a": -1}]))
def test_a_thousand_wild_instances_give_one_line_or_a_checked_answer(data: object, caps: dict[str, int]) -> None:
    try:
        problem = parse_instance(json.dumps(data), "wild.json")
        answer = allocate(problem, FleetLimits(caps=caps), Limits(nodes=200))
    except MusterError as error:
        said = str(error)
    else:
        said = answer.status
        assert answer.usd_per_hour is None or carried(problem, answer)
    assert said
    assert "\n" not in said


def test_ragged_tables_are_refused_with_their_place() -> None:
    text = '{"gpu_info": {"G": {"cost": 1, "tputs": [[1, 1], [1]]}}, "workload_distribution": [[1, 0], [0, 0]], '
    with pytest.raises(BadInput, match=r"x: gpu_info\.G\.tputs\[1\]: got 1 columns, allowed: 2 as in the first row"):
        parse_instance(text + '"total_request_rate": 1}', "x")


def test_a_key_that_stands_twice_is_refused_and_not_read_last() -> None:
    text = '{"gpu_info": {}, "total_request_rate": 3, "total_request_rate": 8, "workload_distribution": [[1]]}'

    with pytest.raises(BadInput, match="got the key 'total_request_rate' twice"):
        parse_instance(text, "instance.json")


def test_counts_that_rounding_took_too_low_are_not_surfaced() -> None:
    shares = [[0.9999998, 1e-7, 1e-7]]
    gpus = {
        "A": {"cost": 4.0, "tputs": [[1.0, 1e-7, 2e-7]]},
        "B": {"cost": 3.0, "tputs": [[0.5, 0.5, 0.5]]},
        "C": {"cost": 3.3, "tputs": [[1.0, 0.3, 0.3]]},
    }
    text = json.dumps({"gpu_info": gpus, "workload_distribution": shares, "total_request_rate": 1.0})

    answer = allocate(parse_instance(text, "instance.json"))

    assert answer.status == "optimal"
    carried = sum(np.asarray(table) for table in answer.weights.values())
    assert carried == pytest.approx(np.ones((1, 3)))
