"""The verbs that techniques are written in."""

from dataclasses import replace

import pytest

from planner.base import HBM_KV, HBM_WEIGHTS
from planner.cost import At, Cost, Op, Phase
from planner.roofline import BARE, step_time
from tests.planner.perf_factories import H100

HOST_WEIGHTS, PCIE_WEIGHTS = At("weights", "host"), At("weights", "pcie")


def cost() -> Cost:
    """Prefill of one GEMM, decode of a GEMM and an attention, on one pool."""
    gemm = Op("gemm", 100.0, "bf16", {HBM_WEIGHTS: 10.0})
    attention = Op("attention", 20.0, "bf16", {HBM_KV: 6.0})
    phases = {
        "prefill": Phase((gemm,), {HBM_WEIGHTS: 10.0, HBM_KV: 2.0}, 50.0),
        "decode": Phase((gemm, attention), {HBM_WEIGHTS: 10.0, HBM_KV: 6.0}, 1.0),
    }
    return Cost(phases, (("prefill", "decode"),))


def test_scale_changes_an_item_where_it_is_held_and_moved() -> None:
    halved = cost().scale("weights", 0.5)
    for phase in halved.phases.values():
        assert phase.ops[0].traffic[HBM_WEIGHTS] == phase.resident[HBM_WEIGHTS] == 5.0
        assert phase.ops[0].flops == 100.0
    assert halved.phases["decode"].ops[1].traffic[HBM_KV] == 6.0


def test_scale_can_be_kept_to_one_phase() -> None:
    halved = cost().scale("kv", 0.5, "decode")
    assert (halved.phases["prefill"].resident[HBM_KV], halved.phases["decode"].resident[HBM_KV]) == (2.0, 3.0)


def test_hold_leaves_traffic_as_it_is() -> None:
    held = cost().hold("weights", 0.5).phases["decode"]
    assert (held.resident[HBM_WEIGHTS], held.ops[0].traffic[HBM_WEIGHTS]) == (5.0, 10.0)


def test_move_takes_a_share_to_another_place_and_reads_it_from_there() -> None:
    moved = cost().move("weights", 0.3, held="host", via="pcie").phases["decode"]
    assert (moved.resident[HBM_WEIGHTS], moved.resident[HOST_WEIGHTS]) == (7.0, 3.0)
    assert (moved.ops[0].traffic[HBM_WEIGHTS], moved.ops[0].traffic[PCIE_WEIGHTS]) == (7.0, 3.0)


def test_moving_all_and_back_changes_nothing_in_sum() -> None:
    moved = cost().move("weights", 1.0, held="host", via="pcie").phases["prefill"]
    assert (moved.resident[HBM_WEIGHTS], moved.resident[HOST_WEIGHTS]) == (0.0, 10.0)


def test_fuse_makes_one_op_of_two() -> None:
    fused = cost().fuse("decode", "gemm", "attention").phases["decode"]
    [op] = fused.ops
    assert (op.name, op.flops, dict(op.traffic)) == ("gemm+attention", 120.0, {HBM_WEIGHTS: 10.0, HBM_KV: 6.0})


def test_times_multiplies_work_and_progress_but_not_what_is_held() -> None:
    twice = cost().times("prefill", 2.0).phases["prefill"]
    assert (twice.ops[0].flops, twice.ops[0].traffic[HBM_WEIGHTS], twice.tokens) == (200.0, 20.0, 100.0)
    assert twice.resident[HBM_WEIGHTS] == 10.0


def test_keep_drops_phases_and_their_place_in_the_pools() -> None:
    kept = cost().keep("decode")
    assert (list(kept.phases), kept.pools) == (["decode"], (("decode",),))


def test_phases_of_a_pool_share_what_they_hold() -> None:
    assert cost().resident(("prefill", "decode")) == {"weights": 10.0, "kv": 6.0}
    assert cost().resident(("prefill",)) == {"weights": 10.0, "kv": 2.0}


def test_every_verb_returns_a_new_cost() -> None:
    before = cost()
    before.scale("weights", 0.5)
    before.add("decode", Op("more"))
    assert before.phases["decode"].resident[HBM_WEIGHTS] == 10.0
    assert len(before.phases["decode"].ops) == 2


def test_an_unknown_phase_changes_nothing() -> None:
    assert cost().scale("weights", 0.5, "encode").phases["decode"].resident[HBM_WEIGHTS] == 10.0


def test_fusing_an_op_that_is_not_there_raises() -> None:
    with pytest.raises(ValueError, match="cannot fuse 1 ops 'gemm' with 0 ops 'absent'"):
        cost().fuse("decode", "gemm", "absent")


def test_a_share_of_an_op_can_be_fused_and_the_rest_remains() -> None:
    ops = cost().fuse("decode", "gemm", "attention", 0.25).phases["decode"].ops
    assert [op.name for op in ops] == ["gemm+attention", "attention"]
    assert [op.traffic.get(HBM_KV) for op in ops] == [1.5, 4.5]


def test_what_runs_beneath_products_is_spread_over_them_by_flops() -> None:
    ops = (Op("up", 30.0), Op("down", 10.0), Op("attention", 5.0), Op("reduce", traffic={HBM_KV: 8.0}))
    made = Cost({"decode": Phase(ops, {}, 1.0)}, (("decode",),)).beneath("decode", "reduce", 0.5).phases["decode"]
    assert [op.traffic.get(HBM_KV, 0.0) for op in made.ops] == [3.0, 1.0, 0.0, 4.0]
    assert [op.flops for op in made.ops] == [30.0, 10.0, 5.0, 0.0]


def test_nothing_runs_beneath_products_that_are_not_there() -> None:
    lone = Cost({"decode": Phase((Op("reduce", traffic={HBM_KV: 8.0}),), {}, 1.0)}, (("decode",),))
    assert lone.beneath("decode", "reduce").phases["decode"].ops[0].traffic == {HBM_KV: 8.0}


def test_ops_can_become_a_phase_of_their_own() -> None:
    parted = cost().part("decode", "core", "attention")
    assert [[op.name for op in parted.phases[name].ops] for name in ("decode", "core")] == [["gemm"], ["attention"]]
    assert parted.phases["core"].tokens == parted.phases["decode"].tokens
    assert dict(parted.phases["core"].resident) == {}


def test_a_phase_on_half_the_arithmetic_and_bandwidth_takes_twice_as_long() -> None:
    whole = Phase((Op("up", 1e12), Op("norms", traffic={HBM_WEIGHTS: 1e9})), {}, 1.0)
    half = replace(whole, compute_ratio=0.5, hbm_ratio=0.5)
    times = [float(step_time(phase, H100, BARE).total_s) for phase in (whole, half)]
    assert times[1] == pytest.approx(2 * times[0])
