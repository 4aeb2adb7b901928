"""What was read of a GPU: values in SI base units by name, each with the series that it is exported as.

A sample holds only what the driver gave; what a GPU cannot tell is absent, never zero. Values of links are kept apart
by link. Everything is plain data, so that a recording is the same thing as a reading: named tuples, as the processes
that read have no room for what dataclasses import.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

Tier = Literal["hot", "warm", "cold"]
TIERS: tuple[Tier, ...] = ("hot", "warm", "cold")
NOTHING: Mapping[str, float] = MappingProxyType({})


class Gpu(NamedTuple):
    """Who a GPU is. `index` is NVML's, `uuid` survives reboots; empty = not told."""

    index: int  # type: ignore[assignment]  # a tuple has a method of this name, which nobody needs
    uuid: str
    model: str = ""
    pci: str = ""
    minor: int = -1
    serial: str = ""
    vbios: str = ""
    architecture: str = ""
    mig: bool = False
    links: int = 0
    owner: tuple[tuple[str, str], ...] = ()  # labels of the pod that has it, where pods are known


class Instance(NamedTuple):
    """One MIG device: a compute instance in a GPU instance. Its load is not told by NVML, its memory is."""

    uuid: str
    gpu_instance: int
    compute_instance: int
    profile: str = ""
    memory_total_bytes: float = 0.0
    memory_used_bytes: float = 0.0
    memory_free_bytes: float = 0.0


class Driver(NamedTuple):
    """Versions of what reads the GPUs, and the boot that they were read in."""

    driver: str = ""
    nvml: str = ""
    boot_id: str = ""


class Sample(NamedTuple):
    """The latest values of one GPU. `at_s`: Unix time of each tier's newest reading. `lost`: why it answers no more.

    `values`: name of `telemetry.fields` -> value. `links`: the same for each NVLink, in order of link. `instances`: MIG
    devices, read with the warm tier.
    """

    gpu: int
    at_s: Mapping[Tier, float]
    values: Mapping[str, float]
    links: tuple[Mapping[str, float], ...] = ()
    lost: str = ""
    instances: tuple[Instance, ...] = ()

    def get(self, name: str) -> float | None:
        """A value, or None where the GPU does not tell it."""
        return self.values.get(name)


class Reading(NamedTuple):
    """One tier of one GPU, read at `at_s` (Unix time), which took `took_s`."""

    gpu: int
    tier: Tier
    at_s: float
    values: Mapping[str, float] = NOTHING
    links: tuple[Mapping[str, float], ...] = ()
    lost: str = ""
    took_s: float = 0.0
    instances: tuple[Instance, ...] = ()


class Xid(NamedTuple):
    """One Xid. `source`: "nvml" (event set) or "kmsg" (kernel log, which has `text` and, for NVLink 5, two words)."""

    gpu: int
    code: int
    at_s: float
    source: Literal["nvml", "kmsg"]
    text: str = ""


def merged(before: Sample | None, reading: Reading) -> Sample:
    """A GPU's sample with one more reading: the values of other tiers stay; a lost GPU keeps none."""
    if reading.lost:
        return Sample(reading.gpu, {reading.tier: reading.at_s}, {}, (), reading.lost)
    if before is None or before.lost:
        at_s, values = {reading.tier: reading.at_s}, reading.values
        return Sample(reading.gpu, at_s, values, reading.links, instances=reading.instances)
    at_s = {**before.at_s, reading.tier: reading.at_s}
    instances = reading.instances if reading.tier == "warm" else before.instances
    return Sample(
        reading.gpu, at_s, {**before.values, **reading.values}, reading.links or before.links, instances=instances
    )
