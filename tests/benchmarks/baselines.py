"""The plan's numbers beside a published planner's answers and beside measured engines.

    python -m tests.benchmarks.baselines [--data DIR]

First table: Llama-3.1, 16 bits, vLLM, a node of 8 GPUs, TTFT <= 1 s, TPOT <= 50 ms: best requests/s per GPU. The other
column is what AIConfigurator 0.12.0 answers for aggregated serving, as published with the shared notes. Ours are given
for the closed loop that it assumes (no queue, mean latencies) and for Poisson arrivals with the objectives at p95,
which is what `muster plan` promises; neither is measured.

Second table: measured closed loops of one model, GPU type and layout, all rows without data-parallel attention:
requests/s per GPU, ours with the plain roofline and as anchored on the measured model. That model was fitted on these
very rows, so the second column says how much of it arrives in the plan; `tests/benchmarks/serving.py` judges it.
"""

import argparse
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.anchor import FORMATS, Anchor, key_of
from planner.batching import COMPUTED, Factors, Replica, steady
from planner.calibration import ENGINES
from planner.catalog import gpu, model
from planner.hardware import Inventory, NodeGroup
from planner.perf.fit_serving import measured
from planner.perf.serving_rows import parse
from planner.perf.tables import numbers
from planner.plan import Profile, Recipe
from planner.profile import BATCHES, anchored, case_of, demand_of, profile
from planner.recipes import gpu_of, recipes
from planner.service import SLO, Bucket, Constraints, Engine, ServiceSpec, Workload
from planner.technique import cost_of
from planner.techniques import techniques
from tests.benchmarks.common import perf_folder

TTFT_S, TPOT_S = 1.0, 0.05
# Model, GPU, input, output -> requests/s per GPU and configuration.
PUBLISHED = (
    ("llama-3.1-8b", "H100-SXM", 1000, 200, 28.76, "tp1 batch 288"),
    ("llama-3.1-8b", "H100-SXM", 4000, 500, 4.77, "tp1 batch 96"),
    ("llama-3.1-8b", "A100-SXM-80GB", 1000, 200, 9.67, "tp1 batch 96"),
    ("llama-3.1-8b", "A100-SXM-80GB", 4000, 500, 1.67, "tp2 batch 80"),
    ("llama-3.1-8b", "L40S", 1000, 200, 4.70, "tp1 batch 48"),
    ("llama-3.1-8b", "L40S", 4000, 500, 0.79, "tp2 batch 40"),
    ("llama-3.1-8b", "L4", 1000, 200, None, "no tables"),
    ("llama-3.1-70b", "H100-SXM", 1000, 200, 2.44, "tp4 batch 96"),
    ("llama-3.1-70b", "H100-SXM", 4000, 500, 0.51, "tp4 batch 48"),
    ("llama-3.1-70b", "A100-SXM-80GB", 1000, 200, 0.66, "tp8 batch 56"),
    ("llama-3.1-70b", "A100-SXM-80GB", 4000, 500, 0.16, "tp8 batch 32"),
)


# Dtype of a published checkpoint -> how rows name it; other formats are a technique's or are left out.
PUBLISHED_AS = {"bf16": ("bf16",), "fp8": ("fp8", "fp8_block"), "mxfp4": ("mxfp4",)}


class Best(NamedTuple):
    """The best recipe for a question."""

    per_gpu: float
    recipe: str


def asked(name: str, inputs: int, outputs: int, engine: Engine = "vllm", percentile: float = 0.5) -> ServiceSpec:
    """A service with one size of request; prompts may be split, weights stay as published."""
    slo = SLO("all", TTFT_S, TPOT_S, percentile=percentile)
    work = Workload({Bucket("all", inputs, outputs): 1.0})
    return ServiceSpec(
        "q", model(name), work, (slo,), engine=engine, constraints=Constraints(techniques=("chunked-prefill",))
    )


def node(card: str) -> Inventory:
    """One node of eight."""
    return Inventory("node", (NodeGroup(card, gpu(card), 8, 1, "a", 1.0),))


def best(service: ServiceSpec, card: str, closed: bool) -> Best | None:
    """Most requests/s per GPU within the objectives; `closed`: users come back at once, so that nobody queues."""
    demand, hardware = demand_of(service), node(card)
    demand = demand._replace(loads=np.ones(1)) if closed else demand
    tried = recipes(service, hardware)[0]
    anchors, found = anchored(service, tried, hardware), []
    for recipe in tried:
        made = profile(service, recipe, gpu_of(recipe, hardware), demand, {}, anchors.get(key_of(recipe)))
        if isinstance(made, Profile):
            (load,) = made.pools[0].load.values()
            found.append(Best(1 / load / made.recipe.gpus, f"{made.recipe} batch {made.recipe.max_batch}"))
    return max(found, default=None)


def answers() -> None:
    """The first table."""
    print(f"requests/s per GPU, 16 bits, vLLM, 8 GPUs, TTFT <= {TTFT_S:g} s, TPOT <= {TPOT_S * 1e3:g} ms")
    print(f"{'model':14} {'GPU':14} {'in/out':>9} {'AIConf.':>8} {'closed':>7} {'ratio':>6} {'p95':>6}  ours, theirs")
    for name, card, inputs, outputs, theirs, how in PUBLISHED:
        closed = best(asked(name, inputs, outputs), card, closed=True)
        opened = best(asked(name, inputs, outputs, percentile=0.95), card, closed=False)
        shown = [f"{one.per_gpu:.2f}" if one else "none" for one in (closed, opened)]
        ratio = f"{closed.per_gpu / theirs:.2f}" if closed and theirs else "-"
        print(
            f"{name:14} {card:14} {inputs:4}/{outputs:<4} {theirs or '-':>8} {shown[0]:>7} {ratio:>6} {shown[1]:>6}  "
            f"{closed.recipe if closed else '-'}; {how}"
        )


def per_gpu(service: ServiceSpec, recipe: Recipe, users: float, anchor: Anchor | None) -> float:
    """Requests/s per GPU of a closed loop of so many users, who wait for nothing but each other's prefills."""
    demand, card = demand_of(service), gpu(recipe.gpu)
    cost = cost_of(case_of(service, recipe, card, demand.sizes), [techniques()[name]() for name in recipe.techniques])
    fix = COMPUTED if anchor is None else Factors(anchor.decode[None, :], anchor.prefill, anchor.first_s)
    run = steady(cost, Replica(card, ENGINES[service.engine], demand.sizes, BATCHES, 1, fix))
    rate = np.exp(np.interp(np.log(users), np.log(BATCHES[0]), np.log(run.requests_per_s[0])))
    # A user whose first token waits for a frontend as well is not served meanwhile.
    return float(users / (users / rate + fix.first_s)) / recipe.gpus


def loops(folder: Path) -> None:
    """The second table."""
    columns = measured(folder)
    rows = parse(columns)
    ttft_s, tpot_s = (numbers(columns, f"silicon_{name}_ms") / 1e3 for name in ("ttft", "tpot"))
    rate = rows.concurrency / (ttft_s + (rows.output_tokens - 1) * tpot_s) / rows.gpus_used
    cards = np.array([card.name for card in rows.gpus])
    plain = (rows.engine > 0) & ~rows.disaggregated & (rows.decode.dp == 1) & (rows.pp == 1) & (rows.refusal == "")
    forms = [
        form if form in FORMATS and m.weight_dtype == "bf16" else ""
        for form, m in zip(rows.gemm_format, rows.models, strict=True)
    ]
    own = np.array(
        [
            bool(form) or f in PUBLISHED_AS[m.weight_dtype]
            for form, f, m in zip(forms, rows.moe_format, rows.models, strict=True)
        ]
    )
    errors: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for row in np.flatnonzero(plain & own & (rows.concurrency <= BATCHES.max())):
        engine: Engine = "vllm" if rows.engine[row] == 1 else "sglang"
        found, card = rows.models[row], str(cards[row])
        recipe = Recipe(
            card,
            tp=int(rows.decode.tp[row]),
            ep=int(rows.decode.moe_ep[row]),
            techniques=(forms[row],) if forms[row] else (),
        )
        spec = replace(
            asked("llama-3.1-8b", int(rows.input_tokens[row]), int(rows.output_tokens[row]), engine), model=found
        )
        anchor = anchored(spec, [recipe], node(card)).get(key_of(recipe))
        both = (per_gpu(spec, recipe, float(rows.concurrency[row]), one) / rate[row] - 1 for one in (None, anchor))
        errors.setdefault((engine, found.name, card), []).append((next(both), next(both)))
    print(f"\n{'engine':7} {'model':20} {'GPU':10} {'rows':>5} {'roofline: bias, median, mean':>34} {'as planned':>26}")
    for (engine_name, name, card), pairs in [
        *errors.items(),
        (("all", "", ""), list(chain.from_iterable(errors.values()))),
    ]:
        off: NDArray[np.float64] = np.array(pairs)
        shown = [f"{np.median(one):+7.1%} {np.median(np.abs(one)):7.1%} {np.abs(one).mean():7.1%}" for one in off.T]
        print(f"{engine_name:7} {name:20} {card:10} {len(off):5} {shown[0]:>34} {shown[1]:>26}")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Folder of measured performance data.")
    folder = parser.parse_args().data
    answers()
    loops(perf_folder(folder))


if __name__ == "__main__":
    main()
