"""What accelerators a host has by its PCI bus, whatever drivers are loaded: a broken driver is no lack of a GPU."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

NVIDIA, AMD = 0x10DE, 0x1002
# PCI classes: display controllers (3D, VGA) and processing accelerators (pcisig.com, "PCI Code and ID Assignment").
_DISPLAY, _ACCELERATOR = 0x03, 0x12
_COMPUTE_DRIVERS = frozenset({"amdgpu"})  # of AMD's: one that drives nothing else is a display, not a GPU to plan with


class Accelerator(NamedTuple):
    """One device. `model`: the PCI device id, as nobody tells its name without its driver."""

    vendor: int
    pci: str
    model: str


def accelerators(sysfs: Path) -> list[Accelerator]:
    """NVIDIA's GPUs, and AMD's that compute driver amdgpu holds, in order of bus address."""
    return sorted(_found(sysfs / "bus" / "pci" / "devices"), key=lambda one: one.pci)


def _found(devices: Path) -> Iterator[Accelerator]:
    try:
        folders = list(devices.iterdir())
    except OSError:
        return  # no PCI bus, or it is not shown to us
    for folder in folders:
        try:
            vendor, kind, model = (
                int((folder / name).read_text("ascii"), 16) for name in ("vendor", "class", "device")
            )
            driver = (folder / "driver").resolve().name
        except (OSError, ValueError):
            continue
        if kind >> 16 not in (_DISPLAY, _ACCELERATOR):
            continue
        if vendor == NVIDIA or (vendor == AMD and driver in _COMPUTE_DRIVERS):
            yield Accelerator(vendor, folder.name, f"{model:04x}")
