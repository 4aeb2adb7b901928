"""The sweep without a GPU: which cases it draws, how its rows are packed; and on a GPU, that it measures."""

import json
from collections.abc import Mapping

import numpy as np
import pytest

from workloads.cases import (
    GRAIN,
    INPUT_BYTES,
    STACK,
    Case,
    Layer,
    Product,
    layers,
    part,
    power_layers,
    power_products,
    products,
)
from workloads.pack_sweep import pack


def text(*rows: Mapping[str, object]) -> str:
    return "\n".join(json.dumps(row) for row in ({"kind": "head", "gpu": "H200"}, *rows))


def test_parts_are_disjoint_and_make_the_whole() -> None:
    cases: list[Case] = [*products(300), *layers()]
    parts = [set(part(cases, which, 3)) for which in (1, 2, 3)]
    assert set.union(*parts) == set(cases)
    assert sum(map(len, parts)) == len(set(cases))


def test_a_part_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="part 4 of 3, allowed: 1 to 3"):
        part([*layers()], 4, 3)


def test_the_same_seed_draws_the_same_products_in_every_dtype() -> None:
    once = products(2000)
    assert once == products(2000)
    assert len(set(once)) == 2000
    assert {one.dtype for one in once} == set(INPUT_BYTES)
    assert all(one.fits and one.n % GRAIN == 0 and one.k % GRAIN == 0 and one.m >= 1 for one in once)


def test_power_is_read_from_tiny_to_huge_products() -> None:
    flops = [one.flops for one in power_products(300)]
    assert len(flops) == 300
    assert min(flops) < 1e8
    assert max(flops) > 1e12


def test_flops_are_two_for_every_multiplication() -> None:
    assert Product(3, 5, 7, "bf16").flops == 2 * 3 * 5 * 7
    assert not Product(24576, 65536, 65536, "bf16").fits


def test_the_stack_meets_lengths_that_the_sweep_did_not_time() -> None:
    timed = {(case.op, case.batch, case.new, case.context) for case in layers()}
    new = [case for case in STACK if (case.op, case.batch, case.new, case.context) not in timed]
    assert len(STACK) >= 30
    assert len(new) > len(STACK) / 2
    assert set(power_layers()) <= set(layers())


def test_a_burst_before_a_sustained_row_is_marked_as_such() -> None:
    burst = {"kind": "burst", "m": 1, "n": 16, "k": 32, "dtype": "bf16", "time_s": 2e-6}
    packed = pack(
        [text(burst, burst, {**burst, "kind": "sustained", "power_w": 150.0}, {"kind": "refused", "why": "x"})]
    )
    assert packed["kind"].tolist() == ["burst", "before", "sustained"]
    assert packed["power_w"][2] == 150.0
    assert np.isnan(packed["power_w"][0])
    assert json.loads(str(packed["meta"]))["heads"] == [{"kind": "head", "gpu": "H200"}]


@pytest.mark.gpu
def test_a_small_product_is_timed_and_its_power_read() -> None:
    torch = pytest.importorskip("torch", reason="needs torch and a CUDA GPU to measure on")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU here: this measures one")
    from workloads.gemm_sweep import measure
    from workloads.meter import Meter
    from workloads.operations import Pools

    cases: list[Case] = [Product(16, 4096, 4096, "bf16"), Layer("decode", 4, 1, 1024)]
    with Meter() as meter, torch.cuda.stream(torch.cuda.Stream()):
        for case in cases:
            short, long = measure(case, Pools(), meter, power=True)
            assert 1e-6 < float(str(short["time_s"])) < 1e-3
            assert 50 < float(str(long["power_w"])) < 1200
