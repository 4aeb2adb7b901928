"""The catalogue of GPUs: names, figures against data sheets, MIG slices, and what a wrong file is told."""

import csv
import json
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from planner.catalog.gpus import ARCHITECTURES, DTYPES, ROWS, gpu, gpus, is_slice, load
from planner.errors import BadInput, MissingFigure, UnknownName
from planner.hardware import GPUType
from tests.pace import pace

WHOLE = [row for row in gpus() if not is_slice(row)]
SLICES = [row for row in gpus() if is_slice(row)]
PUBLISHED = ("hbm_bytes", "hbm_bytes_per_s", "flops_per_s", "tdp_w")
OPTIONAL = ("idle_w", "scale_up_bytes_per_s", "pcie_bytes_per_s", "min_cap_w", "max_cap_w", "usd_per_hour")

ROW = """\
sources:
  sheet: A data sheet (2026)
gpus:
  G1:
    vendor: nvidia
    architecture: hopper
    memory: [80GB, sheet]
    memoryBandwidth: [2TB/s, sheet]
    teraflops: [{fp32: 50, bf16: 400}, sheet]
    tdp: [500W, sheet]
    driverNames: [NVIDIA G1 80GB]
    aliases: [first]
"""


def loaded(tmp_path: Path, text: str) -> tuple[GPUType, ...]:
    file = tmp_path / "gpus.yaml"
    file.write_text(text, "utf-8")
    return load(file)


def card_of(row: GPUType) -> GPUType:
    return gpu(row.name.rpartition("-")[0])


@pytest.mark.parametrize(
    "name",
    [
        *("T4", "V100-16", "V100-32", "A10G", "L4", "L20", "L40S", "A40", "RTX A6000", "RTX 4090", "RTX PRO 6000"),
        *("A100-PCIe-40GB", "A100-SXM-40GB", "A100-PCIe-80GB", "A100-SXM-80GB", "A800", "H100-PCIe", "H100-SXM"),
        *("H100-NVL", "H800", "H20", "H200", "B200", "GB200", "B300", "MI250X", "MI300X", "Ascend 910B"),
    ],
)
def test_the_catalogue_has(name: str) -> None:
    assert gpu(name) in WHOLE


def test_no_name_in_any_case_means_two_gpus() -> None:
    names = Counter(name.casefold() for row in gpus() for name in {row.name, *row.aliases})
    assert [name for name, count in names.items() if count > 1] == []


def test_a_gpu_is_found_by_name_and_alias_in_any_case() -> None:
    for row in gpus():
        for name in (row.name, *row.aliases):
            assert gpu(name) is gpu(name.upper()) is gpu(name.lower()) is row


def test_drivers_and_node_labels_name_the_same_gpu() -> None:
    assert gpu("NVIDIA H100 80GB HBM3") is gpu("NVIDIA-H100-80GB-HBM3") is gpu("H100-SXM")
    assert gpu("NVIDIA A100-SXM4-40GB").name == "A100-SXM-40GB"
    assert gpu("AMD_Instinct_MI300X_OAM").name == "MI300X"


def test_bare_names_mean_the_sxm_module_of_80_gb() -> None:
    assert gpu("A100").name == "A100-SXM-80GB"
    assert gpu("H100").name == "H100-SXM"


def test_the_two_6000s_are_told_apart() -> None:
    assert gpu("RTX A6000").architecture == "ampere"
    assert gpu("RTX PRO 6000").architecture == "blackwell"


@pytest.mark.parametrize("row", gpus(), ids=lambda row: row.name)
def test_every_figure_names_its_source(row: GPUType) -> None:
    stated = {*PUBLISHED, *(field for field in OPTIONAL if getattr(row, field) is not None)}
    assert row.sources.keys() == stated
    assert all(re.search(r"\(.*20\d\d|arXiv|MIT", source) for source in row.sources.values())


@pytest.mark.parametrize("row", gpus(), ids=lambda row: row.name)
def test_figures_are_plausible(row: GPUType) -> None:
    assert row.architecture in ARCHITECTURES
    assert row.flops_per_s.keys() <= set(DTYPES)
    assert row.flops_per_s.keys() & {"bf16", "fp16"}  # the performance model needs 16-bit arithmetic
    assert 4e9 < row.hbm_bytes < 400e9
    assert 100e9 < row.hbm_bytes_per_s < 10e12
    assert min(row.flops_per_s.values()) > 5e12 or is_slice(row)
    assert max(row.flops_per_s.values()) < 20e15
    assert (row.idle_w or 0) < row.tdp_w < 2000
    assert (row.min_cap_w or 0) <= (row.max_cap_w or row.tdp_w) <= 1.2 * row.tdp_w


def test_every_source_in_the_file_is_used() -> None:
    text = ROWS.read_text("utf-8")
    keys = re.findall(r"^  ([a-zA-Z0-9]+):", text.split("\ngpus:")[0], re.MULTILINE)
    assert [key for key in keys if not re.search(rf"(?:, |- ){key}(?:\]|$)", text, re.MULTILINE)] == []


# As the data sheets print them; figures "with sparsity" halved by hand.
@pytest.mark.parametrize(
    ("name", "dtype", "tera"),
    [
        ("T4", "fp16", 65.0),
        ("V100-16", "fp16", 125.0),
        ("A10G", "bf16", 140 / 2),
        ("L4", "bf16", 242 / 2),
        ("L4", "fp8", 485 / 2),
        ("L20", "bf16", 119.5),
        ("L40S", "fp8", 1466 / 2),
        ("A40", "bf16", 299.4 / 2),
        ("RTX A6000", "bf16", 309.6 / 2),
        ("RTX 4090", "bf16", 330.4 / 2),
        ("A100", "bf16", 624 / 2),
        ("A100", "tf32", 312 / 2),
        ("A800", "int8", 1248 / 2),
        ("H100-PCIe", "bf16", 1512 / 2),
        ("H100", "bf16", 989.4),
        ("H100", "fp8", 1978.9),
        ("H100-NVL", "bf16", 1671 / 2),
        ("H20", "fp8", 296.0),
        ("H200", "bf16", 989.4),
        ("B200", "fp4", 18_000 / 2),
        ("GB200", "bf16", 5_000 / 2),
        ("B300", "fp8", 72_000 / 8 / 2),
        ("MI250X", "bf16", 383.0 / 2),
        ("MI300X", "fp8", 2614.9),
    ],
)
def test_dense_peaks_are_those_of_the_data_sheet(name: str, dtype: str, tera: float) -> None:
    assert gpu(name).flops(dtype) == pytest.approx(tera * 1e12, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("H100", "scale_up_bytes_per_s", 900e9 / 2),
        ("A100", "scale_up_bytes_per_s", 600e9 / 2),
        ("A800", "scale_up_bytes_per_s", 400e9 / 2),
        ("B200", "scale_up_bytes_per_s", 1800e9 / 2),
        ("MI300X", "scale_up_bytes_per_s", 7 * 128e9 / 2),
        ("L40S", "scale_up_bytes_per_s", None),
        ("A100-PCIe-80GB", "scale_up_bytes_per_s", None),
        ("L4", "pcie_bytes_per_s", 64e9 / 2),
        ("H100", "pcie_bytes_per_s", 128e9 / 2),
        ("H100", "hbm_bytes", 81_079 * 2**20),
        ("RTX 4090", "hbm_bytes", 25_250_627_584.0),
        ("H100", "min_cap_w", 200.0),
        ("A100", "min_cap_w", 100.0),
        ("L4", "tdp_w", 72.0),
        ("A100", "usd_per_hour", 27.44705 / 8),
        ("H100", "usd_per_hour", 55.04 / 8),
        ("B200", "usd_per_hour", 113.9328 / 8),
        ("RTX 4090", "usd_per_hour", None),
    ],
)
def test_other_figures_are_those_of_their_source(name: str, field: str, value: float | None) -> None:
    assert getattr(gpu(name), field) == (None if value is None else pytest.approx(value, rel=1e-9))


def test_dense_peaks_double_from_16_to_8_bits_on_data_centre_gpus() -> None:
    for row in WHOLE:
        if row.architecture in ("ada", "hopper", "blackwell", "cdna3", "cdna4"):
            assert row.flops("fp8") / row.flops("bf16") == pytest.approx(2, rel=0.03), row.name
        else:
            assert "fp8" not in row.flops_per_s


def test_both_16_bit_formats_run_alike_where_both_exist() -> None:
    for row in WHOLE:
        if {"bf16", "fp16"} <= row.flops_per_s.keys():
            assert row.flops("bf16") == row.flops("fp16")
        assert ("bf16" in row.flops_per_s) == (row.architecture not in ("turing", "volta", "davinci"))
        assert ("fp4" in row.flops_per_s) == (row.architecture in ("blackwell", "cdna4"))


def test_an_unpublished_peak_is_refused_in_words() -> None:
    with pytest.raises(MissingFigure, match="T4 has no bf16 peak in the catalogue"):
        gpu("T4").flops("bf16")


@pytest.mark.parametrize(
    "card", ["A100-SXM-40GB", "A100-SXM-80GB", "H100-SXM", "H100-PCIe", "H100-NVL", "H200", "B200"]
)
def test_a_card_has_slices_from_one_to_seven_sevenths(card: str) -> None:
    slices = [row for row in SLICES if card_of(row) is gpu(card)]
    assert [re.findall(r"-(\d)g\.", row.name) for row in slices] == [["1"], ["1"], ["2"], ["3"], ["4"], ["7"]]


@pytest.mark.parametrize("card", ["A30", "RTX-PRO-6000"])
def test_some_cards_have_four_slices(card: str) -> None:
    slices = [row for row in SLICES if card_of(row) is gpu(card)]
    assert [re.findall(r"-(\d)g\.", row.name) for row in slices] == [["1"], ["2"], ["4"]]
    whole = gpu(card)
    for row, share in zip(slices, (1 / 4, 2 / 4, 4 / 4), strict=True):
        assert row.tdp_w == whole.tdp_w * share
        assert row.hbm_bytes == whole.hbm_bytes * share
        assert row.flops("bf16") == whole.flops("bf16") * share
    assert gpu(f"{card}-1g.{'6' if card == 'A30' else '24'}gb").sources["tdp_w"].startswith(f"derived: 1/4 of {card}")


def slices_of(card: GPUType) -> int:
    """Compute slices of a card."""
    return 4 if card.name in ("A30", "RTX-PRO-6000") else 7


@pytest.mark.parametrize("row", SLICES, ids=lambda row: row.name)
def test_a_slice_is_a_share_of_its_card(row: GPUType) -> None:
    card = card_of(row)
    share = int(row.name.rpartition("-")[2][0]) / slices_of(card)
    assert row.tdp_w == pytest.approx(card.tdp_w * share)
    assert row.flops("bf16") <= card.flops("bf16") * max(share, 26 / 132) * 1.07
    assert row.hbm_bytes <= card.hbm_bytes
    assert (row.hbm_bytes_per_s / card.hbm_bytes_per_s * 8) % 1 == 0
    assert [getattr(row, field) for field in OPTIONAL[1:]] == [None] * 5


@pytest.mark.parametrize("row", SLICES, ids=lambda row: row.name)
def test_slices_that_fill_a_card_never_exceed_it(row: GPUType) -> None:
    card = card_of(row)
    eighths = round(row.hbm_bytes_per_s / card.hbm_bytes_per_s * 8)
    fitting = min(slices_of(card) // int(row.name.rpartition("-")[2][0]), 8 // eighths)
    assert fitting * row.hbm_bytes <= card.hbm_bytes
    assert fitting * row.flops("bf16") <= card.flops("bf16") * (1 + 1e-12)
    assert fitting * row.tdp_w <= card.tdp_w * (1 + 1e-12)


def test_a_slice_of_an_h100_is_what_its_driver_lists() -> None:
    row = gpu("NVIDIA-H100-80GB-HBM3-MIG-1g.10gb")
    assert row.name == "H100-SXM-1g.10gb"
    assert row.hbm_bytes == 9.75 * 2**30
    assert row.hbm_bytes_per_s == 3352e9 / 8
    assert row.flops("bf16") == pytest.approx(989.4e12 * 16 / 132)  # 16 of 132 SMs
    assert row.sources["tdp_w"].startswith("derived: 1/7 of H100-SXM")


def test_a_slice_is_found_by_any_name_of_its_card() -> None:
    assert gpu("H100-1g.10gb") is gpu("h100-sxm-1G.10GB") is gpu("NVIDIA H100 80GB HBM3 MIG 1g.10gb")
    assert gpu("a100-80gb-3g.40gb").name == "A100-SXM-80GB-3g.40gb"


def test_an_unknown_name_is_answered_with_the_nearest_and_the_known_ones() -> None:
    with pytest.raises(
        UnknownName, match=r"unknown GPU 'H100-SXN'; did you mean 'H100-SXM'\? \(known: H100-SXM, "
    ) as raised:
        gpu("H100-SXN")
    assert "1g." not in str(raised.value)


def test_an_unknown_slice_is_answered_with_the_slices_of_its_card() -> None:
    with pytest.raises(UnknownName, match=r"did you mean .H200-SXM-1g\.18gb.") as raised:
        gpu("H200-1g.10gb")
    assert "A100" not in str(raised.value)


@pytest.mark.parametrize("name", ["", " ", "g.", "-1g.10gb", "T4-1g.10gb", "x" * 10_000])
def test_any_other_text_is_an_unknown_name(name: str) -> None:
    with pytest.raises(UnknownName):
        gpu(name)


def test_the_file_loads_within_60_ms_of_cpu() -> None:
    def cpu_s() -> float:
        before = time.process_time()
        load(ROWS)
        return time.process_time() - before

    assert min(cpu_s() for _ in range(3)) <= 0.06 * pace()  # the least: others share the machine


def test_a_row_of_ones_own_is_read(tmp_path: Path) -> None:
    (row,) = loaded(tmp_path, ROW)
    assert row.flops_per_s == {"fp32": 50e12, "bf16": 400e12}
    assert row.aliases == ("NVIDIA G1 80GB", "NVIDIA-G1-80GB", "first")
    assert row.sources == dict.fromkeys(PUBLISHED, "A data sheet (2026)")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    tdp:", "    tpd:", r":10: gpus\.G1\.tpd: got the key 'tpd', allowed: aliases, architecture, "),
        ("    tdp: [500W, sheet]\n", "", r":4: gpus\.G1: got no tdp, allowed: every one of vendor, "),
        ("[500W, sheet]", "500W", r":10: gpus\.G1\.tdp: got '500W', allowed: \[figure, source\]"),
        ("[500W, sheet]", "[500W]", r"tdp: got \['500W'\], allowed: \[figure, source\]"),
        ("[500W, sheet]", "[500W, rumour]", r":10: gpus\.G1\.tdp\[1\]: got 'rumour', allowed: sheet"),
        ("[500W, sheet]", "[500, sheet]", r":10: gpus\.G1\.tdp\[0\]: got 500, allowed: a power such as 700W"),
        ("[500W, sheet]", "[-500W, sheet]", r"tdp\[0\]: got '-500W', allowed: a power"),
        ("80GB, sheet", "80 apples, sheet", r":7: gpus\.G1\.memory\[0\]: got '80 apples', allowed: a size such as"),
        ("bf16: 400", "bf17: 400", r":9: .*: got the key 'bf17', allowed: bf16, fp16, fp32, fp4, fp8, int8, tf32"),
        ("bf16: 400", "bf16: 0", r":9: gpus\.G1\.teraflops\[0\]\.bf16: got 0, allowed: a number above 0"),
        ("bf16: 400", "bf16: .inf", r"bf16: got inf, allowed: a number above 0"),
        ("bf16: 400", "bf16: true", r"bf16: got True, allowed: a number above 0"),
        ("{fp32: 50, bf16: 400}", "{}", r"teraflops\[0\]: got {}, allowed: a mapping"),
        ("hopper", "hooper", r":6: gpus\.G1\.architecture: got 'hooper', allowed: turing, volta, "),
        ("nvidia\n", "acme\n", r":5: gpus\.G1\.vendor: got 'acme', allowed: nvidia, amd, huawei"),
        ("[first]", "first", r":12: gpus\.G1\.aliases: got 'first', allowed: a list of texts"),
        ("[first]", "[4090]", r":12: gpus\.G1\.aliases\[0\]: got 4090, allowed: a text"),
        ("[first]", "[first]\n    idle: [500W, sheet]", r":13: gpus\.G1\.idle: got 500 W, allowed: less than tdp"),
        ("[first]", "[first]\n    mig: [{1h: [1/7, 1/8]}, sheet]", r":13: .*'1h', allowed: a MIG profile such as 1g"),
        ("[first]", "[first]\n    mig: [{1g.10gb: [1/7]}, sheet]", r"got \['1/7'\], allowed: \[share of the SMs, "),
        ("[first]", "[first]\n    mig: [{1g.10gb: [9/7, 1/8]}, sheet]", r"got '9/7', allowed: a share such as 1/8"),
        ("sheet: A data sheet (2026)", "sheet: 2026", r":2: sources\.sheet: got 2026, allowed: a text"),
        ("gpus:\n", "cpus:\n", r":3: cpus: got the key 'cpus', allowed: gpus, sources"),
    ],
)
def test_a_wrong_row_is_refused_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in ROW
    with pytest.raises(BadInput, match=message):
        loaded(tmp_path, ROW.replace(old, new, 1))


def test_a_name_that_another_gpu_has_is_refused_with_its_line(tmp_path: Path) -> None:
    second = ROW[ROW.index("  G1:") :].replace("G1", "G2").replace("first", "g1")
    with pytest.raises(BadInput, match=r":13: gpus\.G2: got the name 'g1', allowed: other names \(G1 has this one\)"):
        loaded(tmp_path, ROW + second)


def test_limits_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    limits = "    minCap: [300W, sheet]\n    maxCap: [200W, sheet]\n"
    with pytest.raises(BadInput, match=r":13: gpus\.G1\.minCap: got 300 W, allowed: at most maxCap, 200 W"):
        loaded(tmp_path, ROW + limits)


def names_of_instances(shared: Path) -> set[str]:
    """GPUs of the allocation instances; `4xL40S` is four of one type."""
    instances = (shared / "data/planner/alloc/instances").glob("*.json")
    names = {name for path in instances for name in json.loads(path.read_text("utf-8"))["gpu_info"]}
    return {re.sub(r"^\d+x", "", name) for name in names}


def column(path: Path, name: str) -> set[str]:
    with path.open(encoding="utf-8", newline="") as lines:
        return {row[name] for row in csv.DictReader(lines)}


def test_the_gpus_of_all_allocation_instances_are_known(shared: Path) -> None:
    names = names_of_instances(shared)
    assert len(names) >= 8
    assert {gpu(name).name for name in names} <= {row.name for row in WHOLE}


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("planner/serving/llmd_planner_gpu_catalog.csv", "gpu_type"),
        ("planner/serving/splitwise_perf_llama2-70b.csv", "hardware"),
        ("perf/engine/llm_inference_bench.csv", "hardware"),
        ("perf/engine/llmd_h100_runs.csv", "gpu"),
        ("perf/engine/ml_energy_llm.csv", "gpu_model"),
        ("perf/engine/mlperf_inference_v5.1.csv", "accelerator"),
        ("perf/engine/silicon_sample.csv", "system"),
        ("perf/training/mlperf_training_llama.csv", "accelerator"),
    ],
)
def test_the_gpus_of_published_measurements_are_known(shared: Path, file: str, name: str) -> None:
    for found in column(shared / "data" / file, name):
        # A power cap and virtualisation are no other GPU.
        assert gpu(found.removesuffix("-pcap").removeprefix("Virtualized ")) in WHOLE


def test_memory_is_near_the_size_on_the_label(shared: Path) -> None:
    with (shared / "data/planner/serving/llmd_planner_gpu_catalog.csv").open(encoding="utf-8", newline="") as lines:
        sizes = {row["gpu_type"]: float(row["memory_gb"]) for row in csv.DictReader(lines)}
    del sizes["B100"]  # there 80 GB, NVIDIA's brief says 192 GB
    for name, gigabytes in sizes.items():
        assert gpu(name).hbm_bytes == pytest.approx(gigabytes * 1e9, rel=0.08), name
