"""GPUService files to services: what each key means, and how each mistake is answered."""

from dataclasses import replace
from pathlib import Path

import pytest

from planner.catalog import model
from planner.errors import BadInput
from planner.service import SLO, Bucket, Constraints
from planner.spec import load_services, validate
from planner.yaml_text import NodePath, Plain
from tests.planner.spec_factories import (
    CATALOG,
    INVENTORY,
    SERVICE,
    WORKLOAD,
    changed,
    find_model,
    problems,
    service_of,
    service_with,
    without,
    written,
)

KNOWN = "(known: ClusterInventory, GPUService, Plan)"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def test_a_service_becomes_si_units_and_catalogue_names(tmp_path: Path) -> None:
    service = service_of(tmp_path, SERVICE)
    assert (service.name, service.namespace, service.model.name) == ("chat", "default", "tiny")
    assert service.slos == (
        SLO("fast", ttft_s=0.5, tpot_s=0.05, percentile=0.95),
        SLO("slow", e2e_s=30.0, percentile=0.9),
    )
    assert service.constraints == Constraints(
        gpu_types=("G1", "G2"),
        excluded_gpu_types=("Unpriced",),
        techniques=("fp8",),
        usd_per_hour=40.0,
        survive_replicas=1,
        survive_nodes=1,
        min_zones=2,
        max_zone_share=0.7,
        max_spot_share=0.5,
        min_replicas=1,
        max_replicas=9,
    )
    assert (service.engine, service.deployment, service.approval) == ("sglang", "online", "Manual")
    assert (service.priority, service.quality_floor) == (1, 0.98)


def test_each_class_gets_its_share_of_each_bucket(tmp_path: Path) -> None:
    rates = service_of(tmp_path, SERVICE).workload.rates_per_s
    # 10 requests/s x share of the class x share of the bucket
    assert rates == pytest.approx(
        {
            Bucket("fast", 512, 128): 10 * 0.8 * 0.75,
            Bucket("fast", 4096, 512): 10 * 0.8 * 0.25,
            Bucket("slow", 512, 128): 10 * 0.2 * 0.75,
            Bucket("slow", 4096, 512): 10 * 0.2 * 0.25,
        }
    )


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    spec: Plain = {"model": "tiny", "workload": WORKLOAD, "slos": [{"name": "a", "ttft": "1s"}]}
    service = service_of(tmp_path, changed(SERVICE, ("spec",), spec))
    assert service.constraints == Constraints()
    assert service.slos == (SLO("a", ttft_s=1.0, percentile=0.95),)
    assert (service.engine, service.deployment, service.approval) == ("vllm", "online", "Auto")


def test_shares_written_to_three_digits_are_scaled_to_carry_every_request(tmp_path: Path) -> None:
    rows: Plain = [{"inputTokens": n, "outputTokens": 8, "share": 0.333} for n in (8, 16, 32)]
    workload = service_of(tmp_path, service_with({("workload", "buckets"): rows})).workload
    assert workload.rate_per_s == pytest.approx(10.0, rel=1e-12)


def test_a_bucket_without_requests_is_left_out(tmp_path: Path) -> None:
    rows: Plain = [{"inputTokens": 8 + share, "outputTokens": 8, "share": share} for share in (0, 1)]
    rates = service_of(tmp_path, service_with({("workload", "buckets"): rows})).workload.rates_per_s
    assert {bucket.input_tokens for bucket in rates} == {9}


@pytest.mark.parametrize(("plan_for", "rate"), [("p50", 3.0), ("peak", 5.0), (0.75, 4.0), (None, 5.0)])
def test_a_series_of_rates_is_planned_at_its_percentile_or_peak(tmp_path: Path, plan_for: Plain, rate: float) -> None:
    rates: dict[str, Plain] = {"step": "10m", "perSecond": [1, 2, 3, 4, 5]}
    if plan_for is not None:
        rates["planFor"] = plan_for
    document = without(service_with({("workload", "rates"): rates}), ("spec", "workload", "ratePerSecond"))
    workload = service_of(tmp_path, document).workload
    # Five windows: at most 3/s in 3 of 5 (at least half of them), at most 4/s in 4 of 5.
    assert workload.rate_per_s == pytest.approx(rate)
    assert (workload.series_per_s, workload.series_step_s) == ((1.0, 2.0, 3.0, 4.0, 5.0), 600.0)


@pytest.mark.parametrize(
    "rate",
    [
        {"ratePerSecond": 0},
        {"rates": {"step": "1m", "perSecond": [0, 0]}},
        {"rates": {"step": "1m", "perSecond": [0, 0, 5], "planFor": "p50"}},
    ],
)
@pytest.mark.parametrize("least", [0, 1])
def test_a_service_that_nobody_calls_keeps_its_request_sizes(tmp_path: Path, rate: Plain, least: int) -> None:
    assert isinstance(rate, dict)
    workload: Plain = {**rate, "buckets": WORKLOAD["buckets"]}
    document = service_with({("workload",): workload, ("constraints", "minReplicas"): least})
    service = service_of(tmp_path, document)
    rates = service.workload.rates_per_s
    assert rates == {Bucket(name, *sizes): 0.0 for name in ("fast", "slow") for sizes in ((512, 128), (4096, 512))}
    assert service.constraints.min_replicas == least


def test_the_weights_are_those_that_the_owner_names(tmp_path: Path) -> None:
    known = replace(CATALOG, model=model)
    for asked, loaded in (
        ("Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("qwen3-32b", "Qwen/Qwen3-32B"),
    ):
        [service] = load_services(written(tmp_path, service_with({("model",): asked})), known)
        assert service.checkpoint == loaded


def rows_of(sizes: int, classes: int) -> Plain:
    """A service with so many request sizes and SLO classes."""
    rows: Plain = [{"inputTokens": 1 + n, "outputTokens": 1, "share": 1 / sizes} for n in range(sizes)]
    slos: Plain = [{"name": f"c{n}", "ttft": "1s", "share": 1 / classes} for n in range(classes)]
    return service_with({("workload", "buckets"): rows, ("slos",): slos})


def test_at_most_20000_sizes_times_classes_are_planned(tmp_path: Path) -> None:
    assert len(service_of(tmp_path, rows_of(5000, 4)).workload.rates_per_s) == 20_000
    [found] = problems(tmp_path, rows_of(4001, 5))
    assert found.partition(" ")[2] == (
        "spec.workload.buckets: got 4001 request sizes for each of 5 SLO classes, 20005 rows, "
        "allowed: at most 20000 rows (sizes times classes)"
    )


def test_sizes_counted_in_a_trace_are_limited_too(tmp_path: Path) -> None:
    # 18 steps of 16 tokens to 2 million each way: 324 sizes, for 64 classes.
    lines = [f"2026-01-05 10:00:00,{16 * 2**a},{16 * 2**b}\n" for a in range(18) for b in range(18)]
    (tmp_path / "grid.csv").write_text(AZURE + "".join(lines), "utf-8")
    wide = replace(CATALOG, model=lambda name, folder: replace(find_model(name, folder), max_context=10**8))
    document = changed(rows_of(1, 64), ("spec", "workload"), {"ratePerSecond": 1, "trace": "grid.csv"})
    [found] = validate(written(tmp_path, document), wide)
    assert "spec.workload.trace: got 324 request sizes for each of 64 SLO classes, 20736 rows, allowed: " in found


def test_a_trace_beside_the_spec_gives_sizes_and_rates(tmp_path: Path) -> None:
    rows = [
        f"2026-01-05 10:00:{second:02},{tokens},10\n" for second, tokens in ((0, 100), (1, 100), (3, 100), (4, 300))
    ]
    (tmp_path / "day.csv").write_text(AZURE + "".join(rows), "utf-8")
    workload: Plain = {"trace": "day.csv", "rates": {"step": "2s", "planFor": "peak"}}
    made = service_of(tmp_path, changed(SERVICE, ("spec", "workload"), workload)).workload
    assert made.series_per_s == (1.0, 1.0)
    assert made.rate_per_s == pytest.approx(1.0)
    fast = {bucket: rate for bucket, rate in made.rates_per_s.items() if bucket.slo_class == "fast"}
    assert fast == pytest.approx({Bucket("fast", 128, 10): 0.8 * 0.75, Bucket("fast", 300, 10): 0.8 * 0.25})
    assert made.mean_tokens[Bucket("fast", 128, 10)] == (100.0, 10.0)


def test_a_distribution_gives_sizes_that_keep_its_mean(tmp_path: Path) -> None:
    prompt: Plain = {"name": "lognormal", "mean": 500, "spread": 400, "max": 4096}
    sizes: Plain = {"input": prompt, "output": {"name": "constant", "mean": 50}}
    workload: Plain = {"ratePerSecond": 2, "distribution": sizes}
    made = service_of(tmp_path, changed(SERVICE, ("spec", "workload"), workload)).workload
    mean = sum(rate * made.mean_tokens[bucket][0] for bucket, rate in made.rates_per_s.items()) / made.rate_per_s
    assert mean == pytest.approx(500, rel=0.01)  # what exceeds max counts as max
    assert max(bucket.input_tokens for bucket in made.rates_per_s) == 4096


def test_a_batch_deployment_has_one_class_without_objectives(tmp_path: Path) -> None:
    document = without(service_with({("deployment",): "batch"}), ("spec", "slos"))
    service = service_of(tmp_path, document)
    assert service.slos == (SLO("batch"),)
    assert {bucket.slo_class for bucket in service.workload.rates_per_s} == {"batch"}


def test_gpu_types_are_allowed_by_alias(tmp_path: Path) -> None:
    document = service_with({("constraints", "gpuTypes"): {"allowed": ["NVIDIA-G1", "G1"]}})
    assert service_of(tmp_path, document).constraints.gpu_types == ("G1",)


def test_a_file_holds_several_services_and_may_hold_the_inventory(tmp_path: Path) -> None:
    path = written(tmp_path, SERVICE, INVENTORY, changed(SERVICE, ("metadata", "name"), "code"))
    assert [service.name for service in load_services(path, CATALOG)] == ["chat", "code"]


def test_a_file_without_a_service_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"spec\.yaml: got no GPUService, allowed: a file with at least one"):
        load_services(written(tmp_path, INVENTORY), CATALOG)


def test_all_problems_of_all_documents_are_found_in_one_go(tmp_path: Path) -> None:
    one = service_with({("engine",): "vlm", ("model",): "tinny", ("slos", 0, "ttft"): "fast"})
    two = changed(INVENTORY, ("spec", "nodeGroups", 0, "nodes"), -1)
    found = problems(tmp_path, one, two)
    assert sorted(line.partition(": got")[0].partition(": unknown")[0].partition(" ")[2] for line in found) == [
        "spec.engine",
        "spec.model",
        "spec.nodeGroups[0].nodes",
        "spec.slos[0].ttft",
    ]


def test_the_loader_raises_the_first_twenty_problems_and_counts_the_others(tmp_path: Path) -> None:
    path = written(tmp_path, service_with({("workload", "buckets"): [{"inputTokens": 0}] * 10}))
    assert len(validate(path, CATALOG)) == 30
    with pytest.raises(BadInput) as refused:
        load_services(path, CATALOG)
    lines = str(refused.value).splitlines()
    assert lines[:20] == validate(path, CATALOG)[:20]
    assert lines[20:] == [f"{path}: and 10 more problems"]


def test_a_message_has_file_line_and_path(tmp_path: Path) -> None:
    path = tmp_path / "chat.yaml"
    path.write_text(
        "apiVersion: muster.dev/v1alpha1\nkind: GPUService\nmetadata:\n  name: a\n  nam: b\nspec: 3\n", "utf-8"
    )
    head = "name, namespace, labels, annotations"
    fields = "model, workload, slos, qualityFloor, priority, constraints, engine, deployment, approval, serving"
    assert validate(path, CATALOG) == [
        f"{path}:5: metadata.nam: got the key 'nam', allowed: {head}; did you mean 'name'?",
        f"{path}:6: spec: got 3, allowed: a mapping with {fields}",
    ]


BUCKET: dict[str, Plain] = {"inputTokens": 8, "outputTokens": 8, "share": 1}
NORMAL: Plain = {"name": "normal", "mean": 10, "spread": 9}
MISTAKES: list[tuple[NodePath, Plain, str, str]] = [
    (("model",), "tinny", "model", "unknown model 'tinny'; did you mean 'tiny'? (known: tiny)"),
    (("engine",), "vlm", "engine", "got 'vlm', allowed: 'vllm' or 'sglang'; did you mean 'vllm'?"),
    (("workload", "ratePerSecond"), float("nan"), "workload.ratePerSecond", "got nan, allowed: a finite number"),
    (("workload", "ratePerSecond"), -1, "workload.ratePerSecond", "got -1, allowed: at least 0"),
    (("workload", "ratePerSecond"), 1e300, "workload.ratePerSecond", "got 1e+300, allowed: at most 1e+09"),
    (("workload", "ratePerSecond"), "10", "workload.ratePerSecond", "got '10', allowed: a number"),
    (("workload", "ratePerSecond"), True, "workload.ratePerSecond", "got True, allowed: a number"),
    (("workload", "ratePerSecond"), None, "workload", "got none of them, allowed: one of ratePerSecond, rates"),
    (
        ("workload", "trace"),
        "a.csv",
        "workload.trace",
        "got buckets and trace, allowed: one of buckets, trace, distribution",
    ),
    (("workload", "buckets"), [], "workload.buckets", "got an empty list, allowed: at least 1 entries"),
    (("workload", "buckets"), {"a": 1}, "workload.buckets", "got a mapping, allowed: a list"),
    (
        ("workload", "buckets", 0, "share"),
        0.7,
        "workload.buckets",
        "got shares that sum to 0.95, allowed: a sum of 1 (within 0.001)",
    ),
    (
        ("workload", "buckets", 0, "inputTokens"),
        1.5,
        "workload.buckets[0].inputTokens",
        "got 1.5, allowed: a whole number",
    ),
    (
        ("workload", "buckets", 1, "inputTokens"),
        8000,
        "workload.buckets[1]",
        "got 8000 + 512 tokens, allowed: up to the 8192 tokens of tiny's context",
    ),
    (
        ("workload", "buckets"),
        [{**BUCKET, "share": 0.5}] * 2,
        "workload.buckets[1]",
        "got the sizes of buckets[0] again, allowed: every size once",
    ),
    (
        ("slos",),
        None,
        "slos",
        "got nothing, allowed: a list of classes with at least one of ttft, tpot, e2e, or deployment: batch",
    ),
    (("slos", 0, "ttft"), 500, "slos[0].ttft", "got 500, allowed: a duration such as 500ms, 2s, 1m"),
    (("slos", 0, "ttft"), "0s", "slos[0].ttft", "got '0s', allowed: a duration from more than zero to 30d"),
    (
        ("slos", 0, "percentile"),
        "p100",
        "slos[0].percentile",
        "got 'p100', allowed: a percentile such as p95, p99.9 or 0.95, between 0 and 1",
    ),
    (("slos", 1, "name"), "fast", "slos[1].name", "got 'fast' a second time, allowed: every name once"),
    (("slos", 1, "e2e"), None, "slos[1]", "got no latency, allowed: at least one of ttft, tpot, e2e"),
    (("slos", 0, "e2e"), "100ms", "slos[0].e2e", "got 100ms, below the ttft of 500ms, allowed: at least the ttft"),
    (
        ("slos", 1, "share"),
        None,
        "slos[1]",
        "got no share, allowed: a share in each of several classes, which sum to 1",
    ),
    (("slos", 1, "share"), 0.3, "slos", "got shares that sum to 1.1, allowed: a sum of 1 (within 0.001)"),
    (
        ("deployment",),
        "batch",
        "slos",
        "got latency objectives in a batch deployment, allowed: none, or deployment: online",
    ),
    (
        ("constraints", "gpuTypes", "allowed", 0),
        "G9",
        "constraints.gpuTypes.allowed[0]",
        "unknown GPU 'G9' (known: G1, G2, NVIDIA-G1, Unpriced)",
    ),
    (
        ("constraints", "gpuTypes", "excluded"),
        ["NVIDIA-G1"],
        "constraints.gpuTypes.allowed[0]",
        "got 'G1', which is also excluded, allowed: a GPU type in one list only",
    ),
    (
        ("constraints", "techniques"),
        ["fp9"],
        "constraints.techniques[0]",
        "unknown technique 'fp9'; did you mean 'fp8'? (known: fp8, w4a16)",
    ),
    (
        ("constraints", "minReplicas"),
        10,
        "constraints.minReplicas",
        "got 10, above maxReplicas 9, allowed: at most maxReplicas",
    ),
    (
        ("constraints", "redundancy", "replicas"),
        9,
        "constraints.redundancy.replicas",
        "got 9 with maxReplicas 9, allowed: fewer than maxReplicas",
    ),
    (("constraints", "zones", "maxShare"), 0, "constraints.zones.maxShare", "got 0, allowed: more than 0"),
    (
        ("constraints", "budgetPerHour"),
        "40",
        "constraints.budgetPerHour",
        "got '40', allowed: an amount of dollars such as $2.40, $98",
    ),
]


@pytest.mark.parametrize(("path", "value", "at", "text"), MISTAKES)
def test_a_mistake_is_answered_with_what_was_got_and_what_is_allowed(
    tmp_path: Path, path: NodePath, value: Plain, at: str, text: str
) -> None:
    [found] = problems(tmp_path, service_with({path: value}))
    assert found.partition(" ")[2] == f"spec.{at}: {text}"


LONG: Plain = {"name": "constant", "mean": 9000}
FALLING: Plain = {"step": "1m", "perSecond": [0, -1]}
WORKLOADS: list[tuple[Plain, str]] = [
    ({"ratePerSecond": 1, "distribution": {"input": NORMAL, "output": LONG}}, "distribution.input: got spread 9"),
    ({"ratePerSecond": 1, "distribution": {"input": LONG, "output": LONG}}, "max says where sizes end"),
    ({"rates": FALLING, "buckets": [BUCKET]}, "rates.perSecond[1]: got -1, allowed: at least 0"),
    ({"rates": {"step": "1m", "perSecond": []}, "buckets": [BUCKET]}, "rates.perSecond: got an empty list"),
    ({"rates": {"step": "1m"}, "buckets": [BUCKET]}, "rates: got no perSecond and no trace"),
    ({"ratePerSecond": 1, "trace": "absent.csv"}, "trace: "),
    ({"ratePerSecond": 1, "trace": "a\nb.csv"}, "trace: got 'a\\nb.csv', allowed: text without control characters"),
    ({"ratePerSecond": 1, "trace": "long.csv"}, "got 1 of 2 requests with more input and output tokens than tiny"),
    ({"ratePerSecond": 1, "trace": "bad.csv"}, "bad.csv:2: got a row whose cells do not fit, allowed: 3 cells"),
    ({"rates": {"step": "1us"}, "trace": "long.csv"}, "rates: got a step of"),
]


@pytest.mark.parametrize(("workload", "part"), WORKLOADS)
def test_a_workload_that_cannot_be_counted_is_refused(tmp_path: Path, workload: Plain, part: str) -> None:
    (tmp_path / "long.csv").write_text(f"{AZURE}2026-01-05 10:00:00,9000,1\n2026-01-05 10:01:00,9,1\n", "utf-8")
    (tmp_path / "bad.csv").write_text(f"{AZURE}x,1,1\n", "utf-8")
    document = changed(SERVICE, ("spec", "workload"), workload)
    found = problems(tmp_path, document)
    assert part in found[0]
    assert all(line.startswith("spec.yaml:") for line in found)


@pytest.mark.parametrize("name", ["9chat", "a.b", "chat-", "a" * 64])
def test_a_service_is_called_as_services_of_kubernetes_can_be(tmp_path: Path, name: str) -> None:
    [found] = problems(tmp_path, changed(SERVICE, ("metadata", "name"), name))
    assert "metadata.name: got " in found
    assert found.endswith("allowed: lower-case letters, digits and - between them, a letter first, at most 63")


def test_classes_of_a_cluster_have_names_with_dots(tmp_path: Path) -> None:
    serving: Plain = {"deviceClass": "gpu.nvidia.com", "priorityClass": "high.example.com"}
    assert problems(tmp_path, changed(SERVICE, ("spec", "serving"), serving)) == []
    [found] = problems(tmp_path, changed(SERVICE, ("spec", "serving"), {"deviceClass": "GPU"}))
    assert "spec.serving.deviceClass: got 'GPU', allowed: lower-case letters and digits, - and . between them" in found


def test_a_second_service_of_one_name_is_refused(tmp_path: Path) -> None:
    [found] = problems(tmp_path, SERVICE, SERVICE)
    assert found.endswith("metadata.name: got 'chat' a second time, allowed: every service once")


@pytest.mark.parametrize(
    ("document", "line"),
    [
        ([1], "spec.yaml:1: got a list, allowed: a mapping with apiVersion, kind, metadata and spec"),
        ("word", "spec.yaml:1: got 'word', allowed: a mapping with apiVersion, kind, metadata and spec"),
        ({"kind": 3}, "spec.yaml:1: kind: got 3, allowed: GPUService, ClusterInventory, Plan"),
        ({}, "spec.yaml:1: kind: got nothing, allowed: GPUService, ClusterInventory, Plan"),
        ({"kind": "GPUservice"}, f"spec.yaml:1: kind: unknown kind 'GPUservice'; did you mean 'GPUService'? {KNOWN}"),
    ],
)
def test_a_document_of_no_kind_is_refused(tmp_path: Path, document: Plain, line: str) -> None:
    assert problems(tmp_path, document) == [line]


def test_a_hostile_file_is_answered_with_a_bounded_number_of_lines(tmp_path: Path) -> None:
    rows: Plain = {f"key{n}": n for n in range(20_000)}
    found = problems(tmp_path, changed(SERVICE, ("spec", "constraints"), rows))
    assert len(found) == 1001
    assert found[-1] == "spec.yaml:1: got 19000 more problems, allowed: none"
