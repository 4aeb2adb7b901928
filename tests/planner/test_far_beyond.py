"""Traffic far beyond the hardware is refused at once, in words that say how much would be carried."""

import pytest

from planner.hopeless import far_beyond
from planner.planning import plan
from tests.planner import factories
from tests.planner.perf_factories import H100, SIZES, inventory, service


def test_the_bound_is_rate_times_gpus_per_request_by_the_best_recipe() -> None:
    hardware = factories.inventory(factories.group())
    gpus = hardware.node_groups[0].gpus
    recipes = [
        factories.profile(load={factories.SMALL: 2.0}, gpus=1),
        factories.profile(load={factories.SMALL: 0.5}, gpus=2),
    ]
    enough = factories.service(rates={factories.SMALL: 100.0 * gpus})
    flood = factories.service(rates={factories.SMALL: 101.0 * gpus})  # the better recipe takes one GPU a request/s
    assert far_beyond([enough], recipes, hardware) is None
    answer = far_beyond([flood], recipes, hardware)
    assert answer is not None
    assert f"at least {101 * gpus:,} GPUs; there are {gpus}" in answer.why
    assert f"below {gpus:.3g} requests/s" in answer.relaxation


@pytest.mark.parametrize("rate", [1e6, 1e12])
def test_an_absurd_rate_is_infeasible_with_the_rate_that_would_do(rate: float) -> None:
    answer = plan([service(rates_per_s=dict.fromkeys(SIZES, rate))], inventory(H100), compare=False)
    assert answer.status == "infeasible"
    assert answer.infeasible is not None
    assert "lower the rate" in answer.infeasible.relaxation


def test_an_infeasible_answer_at_a_confidence_names_it() -> None:
    answer = plan([service(rates_per_s=dict.fromkeys(SIZES, 1e9))], inventory(H100), compare=False, confidence=0.9)
    assert answer.infeasible is not None
    assert "less than a confidence of 0.9" in answer.infeasible.relaxation
