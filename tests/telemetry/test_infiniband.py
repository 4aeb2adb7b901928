"""Ports of InfiniBand, from files like sysfs'."""

from pathlib import Path

import pytest

from telemetry.infiniband import Port, Ports, ports


def write(root: Path, state: str = "4: ACTIVE", physical: str = "5: LinkUp", **counters: int) -> Path:
    """A port as sysfs shows it."""
    folder = root / "class" / "infiniband" / "mlx5_0" / "ports" / "1"
    (folder / "counters").mkdir(parents=True, exist_ok=True)
    shown = {"state": state, "phys_state": physical, "rate": "400 Gb/sec (4X NDR)", "link_layer": "InfiniBand"}
    for name, text in shown.items():
        (folder / name).write_text(f"{text}\n", "ascii")
    for name, value in counters.items():
        (folder / "counters" / name).write_text(f"{value}\n", "ascii")
    return root


def port(up: bool = True, **counters: float) -> Port:
    return Port("mlx5_0/1", up, 5e10, "InfiniBand", counters)


def hits(seen: Ports, read: Port, at_s: float) -> set[str]:
    return {name for name, _, look in seen.note([read], at_s) if look.hit}


def test_a_port_is_read_as_sysfs_shows_it(tmp_path: Path) -> None:
    (one,) = ports(write(tmp_path, symbol_error=3, port_xmit_data=1000))
    assert (one.name, one.up, one.rate_bytes_per_s) == ("mlx5_0/1", True, 5e10)  # 400 Gb/s
    assert one.counters == {"symbol_error": 3.0, "port_xmit_data": 1000.0}
    seen = Ports()
    seen.note([one], 0.0)
    assert 'muster_infiniband_port_bytes_total{device="mlx5_0",port="1",direction="sent"} 4000' in seen.metrics()


def test_a_node_without_such_ports_has_none_and_exports_nothing(tmp_path: Path) -> None:
    assert ports(tmp_path) == []
    assert Ports().metrics() == ""


@pytest.mark.parametrize("text", ["", "garbage", ":", "\x00"])
def test_files_that_make_no_sense_are_a_port_that_is_down(tmp_path: Path, text: str) -> None:
    (one,) = ports(write(tmp_path, state=text))
    assert not one.up


def test_a_port_down_for_four_minutes_is_told_and_one_without_a_cable_never() -> None:
    seen = Ports()
    assert hits(seen, port(), 0.0) == set()
    assert hits(seen, port(up=False), 10.0) == set()
    assert hits(seen, port(up=False), 249.0) == set()
    assert hits(seen, port(up=False), 250.0) == {"infiniband_down"}
    assert hits(seen, port(), 260.0) == set()
    assert hits(Ports(), port(up=False), 1000.0) == set()


def test_five_flaps_in_a_day_are_told() -> None:
    seen = Ports()
    found = [hits(seen, port(link_downed=float(count)), count * 3600.0) for count in range(6)]
    assert found == [set()] * 5 + [{"infiniband_flaps"}]


def test_a_port_without_the_counter_flaps_when_it_was_down_for_25_seconds() -> None:
    seen = Ports()
    for turn in range(5):
        hits(seen, port(), turn * 1000.0)
        hits(seen, port(up=False), turn * 1000.0 + 10)
        found = hits(seen, port(), turn * 1000.0 + 40)
    assert found == {"infiniband_flaps"}


def test_more_errors_in_an_hour_than_ibqueryerrors_allows_are_told() -> None:
    seen = Ports()
    assert hits(seen, port(symbol_error=7.0), 0.0) == set()  # from before
    assert hits(seen, port(symbol_error=17.0), 60.0) == set()  # ten more are allowed
    assert hits(seen, port(symbol_error=18.0), 120.0) == {"infiniband_errors"}
    assert hits(seen, port(symbol_error=18.0), 3900.0) == set()
