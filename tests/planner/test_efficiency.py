"""The six metrics of EfficientLLM by hand: of a replica, of a service, on the screen and in the file."""

from dataclasses import replace
from pathlib import Path

import pytest

from planner.calibration import HBM_RATIO
from planner.catalog import recovery
from planner.efficiency import MEANING, by_service, efficiency
from planner.plan import Allocation, Plan, Profile, Recipe
from planner.profile import demand_of, profile
from planner.service import SLO, Bucket
from planner.show import Table, Words
from planner.show_tables import metrics
from planner.spec.plan_file import load_plan, plan_text
from planner.view import plan_json
from tests.planner.factories import prediction
from tests.planner.perf_factories import H100, LLAMA_8B, service


def allocation(gpu: str, replicas: int, each: int, power_w: float, **figures: float) -> Allocation:
    """Replicas of so many GPUs with these predicted figures."""
    expected = replace(prediction(), **figures)  # type: ignore[arg-type]  # names are checked by the dataclass
    recipe = Recipe(gpu, tp=each)
    shares = {Bucket("std", 512, 128): 0.5}
    return Allocation("chat", "tiny", "serve", gpu, "z", recipe, replicas, each, 1.0, power_w, expected, shares)


BIG = allocation(
    "G1", 2, 4, 4000.0, tokens_per_s=3000.0, mean_latency_s=4.0, memory_utilisation_ratio=0.6,
    compute_utilisation_ratio=0.3, compression_ratio=2.0,
)  # fmt: skip
LITTLE = allocation(
    "G2", 8, 1, 800.0, tokens_per_s=250.0, mean_latency_s=8.0, memory_utilisation_ratio=0.8,
    compute_utilisation_ratio=0.1, compression_ratio=1.0,
)  # fmt: skip
PLAN = Plan("optimal", 2.0, 2.0, 0.0, 4800.0, 0.1, (BIG, LITTLE))


def test_shares_weigh_gpus_and_the_rest_weighs_tokens() -> None:
    made = efficiency([BIG, LITTLE])
    assert made is not None
    assert made.memory_utilisation_ratio == pytest.approx((8 * 0.6 + 8 * 0.8) / 16)
    assert made.compute_utilisation_ratio == pytest.approx((8 * 0.3 + 8 * 0.1) / 16)
    assert made.tokens_per_s == 2 * 3000 + 8 * 250
    assert made.mean_latency_s == pytest.approx((6000 * 4 + 2000 * 8) / 8000)
    assert made.power_w == 4800
    assert made.compression_ratio == pytest.approx((6000 * 2 + 2000 * 1) / 8000)
    assert efficiency([]) is None


def test_tokens_of_a_service_in_two_pools_are_those_that_are_decoded() -> None:
    made = efficiency([replace(BIG, pool="prefill"), replace(LITTLE, pool="decode")])
    assert made is not None
    assert (made.tokens_per_s, made.mean_latency_s) == (2000.0, 8.0)


def test_metrics_are_in_the_json_the_file_and_the_report(tmp_path: Path) -> None:
    assert plan_json(PLAN)["efficiency"] == {
        "chat": {name: getattr(by_service(PLAN)["chat"], name) for name in MEANING}
    }
    text = plan_text(PLAN, "p")
    assert "compressionRatio: 1.75" in text
    (tmp_path / "plan.yaml").write_text(text, "utf-8")
    assert load_plan(tmp_path / "plan.yaml") == PLAN
    table, words = metrics(PLAN)
    assert isinstance(table, Table)
    assert isinstance(words, Words)
    assert table.rows == [("chat", "70%", "20%", "5.00 s", "8,000", "4.80 kW", "1.75")]
    assert all(short in words.text for short, _ in MEANING.values())


def test_what_is_predicted_of_a_replica_is_its_own_arithmetic() -> None:
    # A batch job of one size at full load, so nothing waits: memory, arithmetic and latency follow from its batch.
    size = Bucket("chat", 1000, 200)
    spec = replace(service(rates_per_s={size: 1.0}, slos=(SLO("chat"),)), deployment="batch")
    made = profile(spec, Recipe("H100", techniques=("fp8",)), H100, demand_of(spec), {})
    assert isinstance(made, Profile)
    expected, rate = made.pools[0].prediction, 1 / made.pools[0].load[size]
    batch = made.recipe.max_batch
    # Little's law: what is in flight is the rate times the time that a request takes.
    assert expected.mean_latency_s == pytest.approx(batch / rate, rel=0.05)
    kv_bytes = 2 * 8 * 128 * 2 * 32  # key and value of 8 heads of 128, in 32 layers
    held = expected.weights_bytes + batch * (1000 + 200 / 2) * kv_bytes
    assert held / 80e9 < expected.memory_utilisation_ratio < HBM_RATIO
    assert expected.memory_utilisation_ratio == pytest.approx(held / 80e9, abs=0.1)  # workspace and activations
    # 6.98e9 weights of the blocks in fp8 (the head in 16 bits for outputs only), 1200 tokens a request at 1979e12.
    blocks_s = 2 * 6.98e9 * 1200 / 1979e12
    assert 1.0 < expected.compute_utilisation_ratio / (rate * blocks_s) < 1.15  # and attention and the head
    # Blocks halve, embeddings and head (2 x 128256 x 4096 weights) stay.
    tables = 2 * 128256 * 4096 * 2
    blocks = 6.98e9 * 2
    kept = recovery("fp8", LLAMA_8B)
    assert kept is not None
    assert expected.compression_ratio == pytest.approx(
        (blocks + tables) / (blocks / 2 + tables) * kept.kept_ratio, rel=1e-3
    )
    assert LLAMA_8B.weight_dtype == "bf16"
