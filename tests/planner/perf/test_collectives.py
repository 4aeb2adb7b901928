"""Collectives: curves by hand, links never measured, experts' all-to-alls, refusals are in test_operators."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from planner.catalog import gpu
from planner.perf.collectives import (
    Curve,
    Exchange,
    collective_s,
    curves,
    exchange_s,
    exchanges,
    links,
    meta,
)
from planner.perf.operators import predict
from planner.perf.tables import read

H100, L40S = gpu("H100-SXM"), gpu("L40S")
SPECS = {"H100-SXM": H100}


def line(start_s: float, bytes_per_s: float, gpus: int = 8, name: str = "H100-SXM") -> Curve:
    size = np.array([1e3, 1e4, 1e5, 1e6, 1e7])
    return Curve(name, 0, 0, False, gpus, size, start_s + size / bytes_per_s)


def asked(size: float, gpus: float = 8.0) -> dict[str, NDArray[Any]]:
    rows = {"nccl_dtype": np.array(["half"], dtype=object), "num_gpus": np.array([gpus])}
    figures, refusal = links({**rows, "message_size": np.array([size / 2])})
    assert refusal[0] == ""
    return figures


def test_a_message_is_counted_in_elements() -> None:
    assert asked(2e6)["bytes"][0] == 2e6
    rows = {"nccl_dtype": np.array(["int8"], dtype=object), "num_gpus": np.array([8.0])}
    assert links({**rows, "message_size": np.array([1e6])})[0]["bytes"][0] == 1e6


def test_time_is_a_line_in_bytes_between_and_beyond_the_points() -> None:
    among = (line(10e-6, 400e9),)
    for size in (5e5, 1e9):
        made = collective_s(H100, asked(size), among, SPECS)
        assert made.time_s[0] == pytest.approx(10e-6 + size / 400e9)
        assert made.measured[0]


def test_a_slower_link_stretches_bytes_and_not_latency() -> None:
    made = collective_s(L40S, asked(1e9), (line(10e-6, 400e9),), SPECS)
    start = 10e-6 + 1e3 / 400e9  # the smallest message measured
    assert made.time_s[0] == pytest.approx(start + (1e9 - 1e3) / 400e9 * 450 / 32)
    assert not made.measured[0]


def test_more_gpus_than_measured_add_hops_and_share_moved() -> None:
    made = collective_s(H100, asked(1e9, 64.0), (line(10e-6, 400e9),), SPECS)
    start = 10e-6 + 1e3 / 400e9
    assert made.time_s[0] == pytest.approx(start * 2 + (1e9 - 1e3) / 400e9 * (63 / 64) / (7 / 8))
    between = collective_s(H100, asked(1e6, 4.0), (line(10e-6, 400e9), line(5e-6, 400e9, 2)), SPECS).time_s[0]
    low, high = 5e-6 + 2.5e-6, 10e-6 + 2.5e-6
    assert between == pytest.approx(np.sqrt(low * high))


def test_the_nearest_generation_speaks_for_a_new_gpu() -> None:
    among = (line(10e-6, 400e9), line(20e-6, 200e9, name="A100-SXM-80GB"))
    specs = {**SPECS, "A100-SXM-80GB": gpu("A100-SXM-80GB")}
    b200 = collective_s(gpu("B200"), asked(1e9), among, specs).time_s[0]
    assert b200 == pytest.approx(10e-6 + 1e9 / 800e9, rel=0.01)


def test_shipped_curves_hit_the_measured_tables(shared: Path) -> None:
    path = shared / "data" / "perf" / "operators" / "a100_sxm_vllm0.14.0_custom_allreduce.parquet"
    columns = read(path)
    made = predict("allreduce", "A100", columns)
    assert np.median(np.abs(made["latency_s"] / columns["latency"] * 1e3 - 1)) < 0.001
    assert set(made["source"]) == {"measured"}
    assert len(curves()) == len({(c.gpu, c.kind, c.backend, c.narrow, c.gpus) for c in curves()})


def test_a_token_crosses_the_link_once_for_each_rank_that_it_meets() -> None:
    half = Exchange(50e-6, 0.5)
    made = exchange_s(H100, half, np.array([1000.0]), 4096, per_token=8, ranks=8)
    met = 8 * (1 - (7 / 8) ** 8)
    assert made[0] == pytest.approx(50e-6 + 1000 * 4096 * 2 * met * 7 / 8 / (450e9 * 0.5))


def test_across_nodes_the_slower_of_link_and_network_counts() -> None:
    half = Exchange(50e-6, 0.5)
    made = exchange_s(H100, half, np.array([1000.0]), 4096, 8, ranks=16, network_bytes_per_s=50e9)
    crossed = 2 * (1 - 0.5**8) * 0.5
    assert made[0] == pytest.approx(50e-6 + meta()["crossing_s"] + 1000 * 4096 * 2 * crossed / (50e9 * 0.5))
    quick = exchange_s(H100, half, np.array([1000.0]), 4096, 8, ranks=16, network_bytes_per_s=1e15)
    assert quick[0] == pytest.approx(
        50e-6 + meta()["crossing_s"] + 1000 * 8192 * 16 * (1 - (15 / 16) ** 8) * 15 / 16 / (450e9 * 0.5)
    )
    with pytest.raises(ValueError, match="network_bytes_per_s"):
        exchange_s(H100, half, np.array([1.0]), 4096, 8, ranks=16)


def test_measured_exchanges_of_many_tokens_are_hit(shared: Path) -> None:
    columns = read(shared / "data" / "perf" / "operators" / "h100_sxm_vllm0.24.0_moe_a2a.parquet")
    names = np.array([f"{b}:{p}" for b, p in zip(columns["comm_backend"], columns["phase"], strict=True)])
    for name in ("deepep_ht:dispatch", "deepep_ht:combine", "deepep_ll:dispatch"):
        mine = names == name
        errors = []
        for i in np.flatnonzero(mine):
            tokens, hidden, picks = (columns[key][i] for key in ("num_tokens", "hidden_size", "topk"))
            made = exchange_s(H100, exchanges()[name], np.array([tokens]), hidden, picks, ranks=8)[0]
            errors.append(abs(made / (columns["latency"][i] / 1e6) - 1))
        assert np.median(errors) < 0.2
