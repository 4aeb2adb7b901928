"""How long a request engines are told to take: enough for the service, and no more than a GPU has room for."""

from dataclasses import replace

import pytest

from planner.calibration import HBM_RATIO
from planner.hardware import GPUType
from planner.model import Model
from planner.plan import Profile, Recipe, Refusal
from planner.profile import demand_of, profile
from planner.service import SLO, Bucket, ServiceSpec
from tests.planner.perf_factories import BULK, H100, L4, LLAMA_8B, MIXTRAL, service

SLOW = SLO("bulk", ttft_s=1000.0, tpot_s=2.0)
# Of Llama-3.1-8B: keys and values of 8 heads of 128 elements of 2 bytes in 32 layers.
KV_BYTES = 2 * 8 * 128 * 2 * 32


def profiled(spec: ServiceSpec, gpu: GPUType = H100, *techniques: str, tp: int = 1) -> Profile | Refusal:
    return profile(spec, Recipe(gpu.name, tp=tp, techniques=techniques), gpu, demand_of(spec), {})


def told(spec: ServiceSpec, gpu: GPUType = H100, *techniques: str, tp: int = 1) -> int:
    found = profiled(spec, gpu, *techniques, tp=tp)
    assert isinstance(found, Profile)
    return found.context_tokens


def sized(*sizes: tuple[int, int], model: Model = LLAMA_8B, **means: tuple[float, float]) -> ServiceSpec:
    rates = {Bucket("bulk", *size): 1.0 for size in sizes}
    return service(model, rates, (SLOW,), {one: means["mean"] for one in rates} if means else None)


def test_a_models_whole_context_does_not_fit_a_small_gpu_and_what_is_told_does() -> None:
    """Weights in 8 bits are 8 GB and the tables in 16 bits 2 GB of 24 GB; a whole context is 17 GB."""
    spec = sized((4096, 512))
    assert KV_BYTES * LLAMA_8B.max_context > HBM_RATIO * L4.hbm_bytes - 10e9
    assert told(spec, L4, "fp8") == 8192  # 1.25 x 4,608 = 5,760
    assert HBM_RATIO * L4.hbm_bytes - 10e9 > KV_BYTES * 8192


@pytest.mark.parametrize(
    ("sizes", "tokens"),
    [
        ([(128, 32)], 2048),  # at least
        ([(1024, 512)], 2048),  # 1.25 x 1,536 = 1,920
        ([(1200, 512)], 4096),  # 1.25 x 1,712 = 2,140
        ([(512, 128), (6000, 1000)], 16384),  # the largest: 1.25 x 7,000 = 8,750
        ([(100_000, 4000)], 131_072),  # 1.25 x 104,000 = 130,000
        ([(120_000, 4000)], 131_072),  # 1.25 x 124,000 = 155,000, but the model takes no more
    ],
)
def test_the_length_is_the_power_of_two_with_room_for_the_largest_request(
    sizes: list[tuple[int, int]], tokens: int
) -> None:
    assert told(sized(*sizes)) == tokens


def test_a_model_never_takes_more_than_it_was_made_for() -> None:
    assert told(sized((30_000, 2000), model=MIXTRAL), H100, tp=2) == MIXTRAL.max_context == 32_768


def test_slightly_other_rates_and_sizes_leave_the_length_as_it_is() -> None:
    spec = sized((4096, 512))
    rates = {bucket: 37.0 for bucket in spec.workload.rates_per_s}
    assert told(replace(spec, workload=replace(spec.workload, rates_per_s=rates))) == told(spec)
    assert told(sized((4300, 540))) == told(sized((3900, 480))) == told(spec)
    assert told(sized((4096, 512), mean=(2000.0, 300.0))) == told(spec)


def test_where_the_power_of_two_has_no_room_the_length_is_close_to_the_largest_request() -> None:
    """16 GB of 16-bit weights on 24 GB leave some 3 GB for 26,000 tokens: not 32,768, but 18,000 in steps of 256."""
    assert told(sized((16_000, 2000)), L4) == 18_176


def test_a_request_that_fits_only_at_its_mean_size_is_not_served_and_shorter_ones_are() -> None:
    """60,000 tokens are 8 GB; the mean of them, 3,000, would fit many times."""
    wide = sized((50_000, 10_000), mean=(2500.0, 500.0))
    assert isinstance(profiled(wide, L4), Refusal)
    both = replace(
        wide,
        workload=replace(wide.workload, rates_per_s={**wide.workload.rates_per_s, Bucket("bulk", 1024, 128): 1.0}),
    )
    found = profiled(both, L4)
    assert isinstance(found, Profile)
    assert set(found.pools[0].load) == {Bucket("bulk", 1024, 128)}
    assert found.context_tokens == 2048


def test_both_pools_of_a_disaggregated_service_take_the_same_length() -> None:
    spec = service(rates_per_s={Bucket("bulk", 4096, 512): 1.0}, slos=(BULK,), techniques=("disaggregation",))
    assert told(spec, H100, "disaggregation") == 8192
