"""What we export beside what nvidia-smi said in the same second on a real H200."""

from tests.benchmarks.nvidia_smi import compared, rows, without_peer


def test_every_exported_value_agrees_with_nvidia_smi_in_the_same_second() -> None:
    found = rows()
    disagree = [(one.pair.series, one.agree) for one in compared(found) if one.agree < one.pair.least * one.seconds]
    assert disagree == []
    assert len(found) > 75
    # The load was real: at rest 80 W, at work the power limit.
    power = [float(row["power_watts"]) for row in found]
    assert min(power) < 90
    assert max(power) > 650


def test_what_nvidia_smi_has_no_column_for_is_known() -> None:
    kinds = {name.partition("{")[0] for name in without_peer(rows())}
    assert kinds == {
        "clock_event_seconds_total", "dram_active_ratio", "ecc_errors_total", "energy_joules_total", "fabric_state",
        "pcie_bytes_total", "pcie_errors_total", "pcie_replays_total", "power_limit_watts", "process_count",
        "process_memory_used_bytes", "row_remap_banks", "sm_active_ratio", "sm_occupancy_ratio",
        "temperature_margin_celsius", "tensor_active_ratio", "throttled_seconds_total", "up",
    }  # fmt: skip
