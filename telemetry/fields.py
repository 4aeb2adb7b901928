"""Every value that is read of a GPU (`data/fields.csv`, a row each): how, in which tier, and as which series it leaves.

Field ids are those of NVML's field values (nvml.h 13, NVML_FI_DEV_*); rows without one are filled by a call in
`telemetry.nvml.device`. The unit column says what NVML counts in: mW, mJ, KiB, MHz, ns and percent exist here alone.
Rows of tier `link` are there once for each NVLink.
"""

from types import MappingProxyType
from typing import Literal, NamedTuple, cast

from telemetry.sample import Tier
from telemetry.tables import table

Kind = Literal["gauge", "counter"]
PERCENT, MHZ = 1e-2, 1e6
_SCALES = {"": 1.0, "ns": 1e-9, "milli": 1e-3, "percent": PERCENT, "KiB": 1024.0, "mega": MHZ}


class Field(NamedTuple):
    """One value. `metric` goes without the prefix; `labels` besides those of the GPU; `scale` makes it a base unit."""

    name: str
    metric: str
    kind: Kind
    tier: Tier | Literal["link"]
    field_id: int | None
    scale: float
    labels: tuple[tuple[str, str], ...]
    help: str


def _read() -> list[Field]:
    found = []
    for row in table("fields.csv"):
        labels = tuple((key, value) for key, _, value in (part.partition("=") for part in row["labels"].split()))
        kind, tier = cast(Kind, row["kind"]), cast(Tier, row["tier"])
        field_id = int(row["field_id"]) if row["field_id"] else None
        found.append(Field(row["name"], row["metric"], kind, tier, field_id, _SCALES[row["unit"]], labels, row["help"]))
    return found


_ALL = _read()
FIELDS = tuple(field for field in _ALL if field.tier != "link")
LINK_FIELDS = tuple(field for field in _ALL if field.tier == "link")

# Bits of the clocks' event reasons (nvml.h, nvmlClocksEventReason*), exported as one 0/1 series each.
CLOCK_EVENTS = MappingProxyType(
    {
        "gpu_idle": 0x1,
        "application_clocks": 0x2,
        "sw_power_cap": 0x4,
        "hw_slowdown": 0x8,
        "sync_boost": 0x10,
        "sw_thermal": 0x20,
        "hw_thermal": 0x40,
        "hw_power_brake": 0x80,
        "display_clocks": 0x100,
    }
)
CLOCK_EVENT_MASK = "clock_event_mask"  # the bits as they are read, hot; detectors test them
