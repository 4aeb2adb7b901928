"""ClusterInventory files to inventories: what each key means, and how each mistake is answered."""

from pathlib import Path

import pytest

from planner.errors import BadInput
from planner.hardware import Commitment, Link, PowerDomain, Quota
from planner.spec import load_inventory
from planner.yaml_text import NodePath, Plain
from tests.planner.spec_factories import CATALOG, GROUP, INVENTORY, SERVICE, changed, inventory_of, problems, written


def with_group(**changes: Plain) -> Plain:
    """The inventory with one group only, changed; None leaves a key out."""
    group: Plain = {key: value for key, value in {**GROUP, **changes}.items() if value is not None}
    groups: list[Plain] = [group, {**GROUP, "name": "other", "zone": "b"}]
    return changed(INVENTORY, ("spec", "nodeGroups"), groups)


def test_an_inventory_becomes_si_units_and_catalogue_rows(tmp_path: Path) -> None:
    made = inventory_of(tmp_path, INVENTORY)
    own, rent, cheap = made.node_groups
    assert (made.name, own.gpu.name, own.gpus, own.zone) == ("lab", "G1", 16, "a")
    assert (own.owned, own.usd_per_gpu_hour, own.power_domain) == (True, 0.0, "rack")
    assert (rent.commitment, rent.network_bytes_per_s) == (Commitment(4, 0.9), 12.5e9)  # 100 Gbit/s
    assert (cheap.spot, cheap.usd_per_gpu_hour) == (True, 0.3)
    assert made.links == (Link("a", "b", 1.25e9, 0.001),)
    assert made.power_domains == (PowerDomain("rack", 40_000.0),)
    assert made.usd_per_joule == pytest.approx(1e-7)  # $0.36 / 3.6 MJ


def test_a_price_that_is_left_out_is_the_published_one(tmp_path: Path) -> None:
    assert inventory_of(tmp_path, INVENTORY).node_groups[1].usd_per_gpu_hour == 2.0


def test_a_group_names_its_gpu_by_alias(tmp_path: Path) -> None:
    assert inventory_of(tmp_path, with_group(gpu="NVIDIA-G1")).node_groups[0].gpu.name == "G1"


def test_energy_is_free_where_no_price_is_given(tmp_path: Path) -> None:
    spec: Plain = {"nodeGroups": [GROUP]}
    assert inventory_of(tmp_path, changed(INVENTORY, ("spec",), spec)).usd_per_joule == 0.0


def test_a_quota_is_of_a_namespace_and_each_name_stands_once_in_it(tmp_path: Path) -> None:
    rows: list[Plain] = [
        {"namespace": "team-a", "gpus": 8},
        {"name": "urgent", "namespace": "team-a", "gpus": 4, "heldGpus": 1, "services": ["chat"]},
        {"namespace": "team-b", "gpus": 0},
    ]
    assert inventory_of(tmp_path, changed(INVENTORY, ("spec", "quotas"), rows)).quotas == (
        Quota("gpus", "team-a", 8),
        Quota("urgent", "team-a", 4, 1, ("chat",)),
        Quota("gpus", "team-b", 0),
    )


TWICE: list[Plain] = [{"namespace": "team-a", "gpus": 8}, {"namespace": "team-a", "gpus": 4}]
PRICED = "allowed: pricePerHour such as $2.40, or owned: true"
MISTAKES: list[tuple[Plain, str]] = [
    (with_group(gpu="G9"), "nodeGroups[0].gpu: unknown GPU 'G9' (known: G1, G2, NVIDIA-G1, Unpriced)"),
    (
        with_group(gpu="Unpriced"),
        f"nodeGroups[0].pricePerHour: got nothing, and no published price of Unpriced is known, {PRICED}",
    ),
    (
        with_group(spot=True),
        f"nodeGroups[0].pricePerHour: got nothing for spot nodes, whose price no catalogue knows, {PRICED}",
    ),
    (
        with_group(owned=True, pricePerHour="$2"),
        "nodeGroups[0].pricePerHour: got a price of owned nodes, allowed: either owned: true or pricePerHour",
    ),
    (
        with_group(owned=True, spot=True),
        "nodeGroups[0].spot: got true for owned nodes, allowed: either owned or spot",
    ),
    (
        with_group(owned=True, commitment={"gpus": 1, "pricePerHour": "$1"}),
        "nodeGroups[0].commitment: got a commitment for owned nodes, allowed: commitments for on-demand nodes",
    ),
    (
        with_group(commitment={"gpus": 3, "pricePerHour": "$1"}),
        "nodeGroups[0].commitment.gpus: got 3, allowed: at most the group's 2 GPUs",
    ),
    (with_group(powerDomain="rck"), "nodeGroups[0].powerDomain: got 'rck', allowed: rack"),
    (with_group(name="other"), "nodeGroups[1].name: got 'other' a second time, allowed: every name once"),
    (
        changed(INVENTORY, ("spec", "quotas"), TWICE),
        "quotas[1].name: got 'team-a/gpus' a second time, allowed: every name once",
    ),
    (with_group(nodes=0), "nodeGroups[0].nodes: got 0, allowed: at least 1"),
    (with_group(nodes=10**12), "nodeGroups[0].nodes: got 1000000000000, allowed: at most 1e+06"),
    (with_group(nodes="two"), "nodeGroups[0].nodes: got 'two', allowed: a whole number"),
    (with_group(owned="no"), "nodeGroups[0].owned: got 'no', allowed: true or false"),
    (
        with_group(gpuPerNode=1),
        "nodeGroups[0].gpuPerNode: got the key 'gpuPerNode', allowed: name, gpu, gpusPerNode, nodes, zone, "
        "pricePerHour, owned, spot, powerDomain, commitment, networkBandwidth; did you mean 'gpusPerNode'?",
    ),
    (
        with_group(gpusPerNode=None),
        "nodeGroups[0].gpusPerNode: got nothing, allowed: gpusPerNode, which is required: "
        "GPUs (or MIG slices) in one node",
    ),
    (
        with_group(pricePerHour="$999999999"),
        "nodeGroups[0].pricePerHour: got '$999999999', allowed: an amount of dollars from zero to $100000",
    ),
    (
        with_group(zone="a b"),
        "nodeGroups[0].zone: got 'a b', allowed: letters, digits and . _ - between them, at most 63",
    ),
]


@pytest.mark.parametrize(("document", "line"), MISTAKES)
def test_a_mistake_is_answered_with_what_was_got_and_what_is_allowed(
    tmp_path: Path, document: Plain, line: str
) -> None:
    found = problems(tmp_path, document)
    assert f"spec.{line}" in [text.partition(" ")[2] for text in found]


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        (("links", 0, "between"), ["a", "c"], "links[0].between[1]: got 'c', allowed: a, b"),
        (("links", 0, "between"), ["a"], "links[0].between: got a list of 1, allowed: at least 2 entries"),
        (("links", 0, "latency"), "1", "links[0].latency: got '1', allowed: a duration such as 500ms, 2s, 1m"),
        (("powerDomains", 0, "budget"), "0W", "powerDomains[0].budget: got '0W', allowed: a power from more than zero"),
        (("energyPrice",), "$0.12", "energyPrice: got '$0.12', allowed: a price of energy such as $0.12/kWh"),
        (("nodeGroups",), [], "nodeGroups: got an empty list, allowed: at least 1 entries"),
    ],
)
def test_a_mistake_beside_the_groups_is_answered_too(tmp_path: Path, path: NodePath, value: Plain, line: str) -> None:
    [found] = problems(tmp_path, changed(INVENTORY, ("spec", *path), value))
    assert f"spec.{line}" in found


def test_two_links_between_the_same_zones_are_refused(tmp_path: Path) -> None:
    link: Plain = {"between": ["b", "a"], "bandwidth": "1Gbps", "latency": "0s"}
    [found] = problems(tmp_path, changed(INVENTORY, ("spec", "links"), [link, link]))
    assert "links[1].between: got two zones a second time" in found


def test_a_file_without_an_inventory_or_with_two_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="got no ClusterInventory, allowed: a file with one"):
        load_inventory(written(tmp_path, SERVICE), CATALOG)
    with pytest.raises(BadInput, match="kind: got a second ClusterInventory, allowed: one in a file"):
        load_inventory(written(tmp_path, INVENTORY, INVENTORY), CATALOG)
