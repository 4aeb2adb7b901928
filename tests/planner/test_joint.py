"""Joint planning: caps kept, every service carried, the bound below the cost, and the optimum of tiny problems."""

import itertools

import numpy as np
import pytest

from planner.joint import JointAnswer, Problem, joint
from planner.transport import Transport

GPUS = ("A", "B", "C")


def problems(seed: int, services: int = 2) -> list[Problem]:
    """Three GPU types, four buckets; loads and prices drawn."""
    rng = np.random.default_rng(seed)
    usd = rng.integers(2, 9, 3).astype(float)
    loads = [rng.uniform(0.1, 0.9, (3, 4)) for _ in range(services)]
    return [Problem(f"s{i}", load, usd, GPUS, np.ones(3)) for i, load in enumerate(loads)]


def carries(problem: Problem, counts: np.ndarray) -> bool:
    return Transport(problem.load, problem.usd_per_hour).carries(counts.astype(float)) is not None


def sound(of: list[Problem], caps: dict[str, int], answer: JointAnswer) -> bool:
    counts = [answer.counts[p.name] for p in of]
    used = np.sum(counts, axis=0)
    within = all(used[g] <= caps.get(gpu, np.inf) for g, gpu in enumerate(GPUS))
    return within and all(carries(p, n) for p, n in zip(of, counts, strict=True))


@pytest.mark.parametrize("seed", range(12))
def test_tiny_problems_are_planned_within_the_gap_of_brute_force(seed: int) -> None:
    of, caps = problems(seed), {"A": 2, "B": 1}
    answer = joint(of, caps)
    assert answer.usd_per_hour is not None
    assert answer.bound_usd_per_hour is not None
    assert sound(of, caps, answer)

    able = [[np.array(n) for n in itertools.product(range(4), repeat=3) if carries(p, np.array(n))] for p in of]
    usd = of[0].usd_per_hour
    best = min(
        float(usd @ (one + two))
        for one, two in itertools.product(*able)
        if (one + two)[0] <= caps["A"] and (one + two)[1] <= caps["B"]
    )
    assert answer.bound_usd_per_hour <= best + 1e-6
    assert best - 1e-6 <= answer.usd_per_hour
    if answer.status == "optimal":
        assert answer.usd_per_hour == pytest.approx(best)


def test_the_same_problem_has_the_same_answer() -> None:
    of = problems(3, services=4)
    first, second = (joint(of, {"A": 3, "B": 3}) for _ in range(2))
    assert first.usd_per_hour == second.usd_per_hour
    assert all((first.counts[name] == second.counts[name]).all() for name in first.counts)
