"""Samples to Prometheus text. Names, heads and labels are made once, so that a scrape only formats numbers.

Own names are `muster_gpu_*` in base units (prometheus.io, "Metric and label naming"); the aliases carry the names,
units and labels of dcgm-exporter, so that dashboards made for it (grafana.com 12239) work unchanged.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from telemetry.fields import CLOCK_EVENT_MASK, CLOCK_EVENTS, FIELDS, LINK_FIELDS
from telemetry.sample import Driver, Gpu, Sample

PREFIX = "muster_gpu_"
LABELS_OF_INFO = ("model", "driver", "nvml", "vbios", "serial", "pci", "architecture", "mig", "boot_id", "node")
TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Alias(NamedTuple):
    """A series of dcgm-exporter: the value of ours that it is, and what it is multiplied with."""

    name: str
    kind: str
    field: str
    factor: float
    help: str


_MIB = 1 / 2**20
ALIASES = (
    Alias("DCGM_FI_DEV_GPU_TEMP", "gauge", "temperature_c", 1.0, "GPU temperature (in C)."),
    Alias("DCGM_FI_DEV_MEMORY_TEMP", "gauge", "memory_temperature_c", 1.0, "Memory temperature (in C)."),
    Alias("DCGM_FI_DEV_POWER_USAGE", "gauge", "power_w", 1.0, "Power draw (in W)."),
    Alias("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "counter", "energy_j", 1e3, "Energy since boot (in mJ)."),
    Alias("DCGM_FI_DEV_SM_CLOCK", "gauge", "sm_clock_hz", 1e-6, "SM clock frequency (in MHz)."),
    Alias("DCGM_FI_DEV_MEM_CLOCK", "gauge", "memory_clock_hz", 1e-6, "Memory clock frequency (in MHz)."),
    Alias("DCGM_FI_DEV_GPU_UTIL", "gauge", "utilization_ratio", 100.0, "GPU utilization (in %)."),
    Alias("DCGM_FI_DEV_MEM_COPY_UTIL", "gauge", "memory_utilization_ratio", 100.0, "Memory utilization (in %)."),
    Alias("DCGM_FI_DEV_FB_USED", "gauge", "memory_used_bytes", _MIB, "Framebuffer memory used (in MiB)."),
    Alias("DCGM_FI_DEV_FB_FREE", "gauge", "memory_free_bytes", _MIB, "Framebuffer memory free (in MiB)."),
    Alias("DCGM_FI_DEV_FB_RESERVED", "gauge", "memory_reserved_bytes", _MIB, "Framebuffer memory reserved (in MiB)."),
    Alias("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "counter", "pcie_replays", 1.0, "Total number of PCIe retries."),
    Alias("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "counter", "remapped_uncorrected", 1.0, "Remapped rows, by DBE."),
    Alias("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", "counter", "remapped_corrected", 1.0, "Remapped rows, by SBE."),
    Alias("DCGM_FI_DEV_ROW_REMAP_FAILURE", "gauge", "remap_failed", 1.0, "Whether remapping of rows has failed."),
    Alias("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "gauge", "sm_active_ratio", 1.0, "Ratio of time the engine is active."),
    Alias("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "gauge", "tensor_active_ratio", 1.0, "Ratio of cycles tensor is active."),
    Alias("DCGM_FI_PROF_DRAM_ACTIVE", "gauge", "dram_active_ratio", 1.0, "Ratio of cycles memory is active."),
)


class Identity(NamedTuple):
    """What the text says of the node besides its samples."""

    node: str
    driver: Driver
    gpus: tuple[Gpu, ...]
    dcgm: bool = True


def number(value: float) -> str:
    """A value as Prometheus reads it: whole numbers without a point, infinities by name."""
    try:
        whole = int(value)
    except (OverflowError, ValueError):
        return {math.inf: "+Inf", -math.inf: "-Inf"}.get(value, "NaN")
    return str(whole) if whole == value else repr(value)


def escaped(text: str) -> str:
    """A label's value."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def labelled(labels: Iterable[tuple[str, str]]) -> str:
    """Labels as they stand between braces."""
    return _labelled(tuple(labels))


@lru_cache(maxsize=1 << 13)
def _labelled(labels: tuple[tuple[str, str], ...]) -> str:
    return ",".join([f'{key}="{escaped(value)}"' for key, value in labels])


def family(name: str, kind: str, text: str, rows: Iterable[tuple[str, float]]) -> str:
    """One metric: its head, then (labels, value) rows; nothing at all without rows."""
    lines = [
        f"{name}{{{labels}}} {number(value)}\n" if labels else f"{name} {number(value)}\n" for labels, value in rows
    ]
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n{''.join(lines)}" if lines else ""


def text(identity: Identity, samples: Mapping[int, Sample], own: Sequence[str] = ()) -> str:
    """The whole page; `own`: families that others have written, appended as they are."""
    present = [(gpu, samples[gpu.index]) for gpu in identity.gpus if gpu.index in samples]
    parts = [_info(identity), _up(present)]
    for name, kind, words, rows in _families(identity.gpus):
        lines = []
        for sample_of, field, head in rows:
            sample = samples.get(sample_of)
            value = None if sample is None else sample.values.get(field)
            if value is not None:
                lines.append(f"{head} {number(value)}\n")
        if lines:
            parts.append(f"# HELP {name} {words}\n# TYPE {name} {kind}\n{''.join(lines)}")
    parts.append(_clock_events(present))
    parts.append(_links(present))
    if identity.dcgm:
        parts += _aliases(identity, present)
    return "".join([*parts, *own])


def of_gpu(gpu: Gpu) -> tuple[tuple[str, str], ...]:
    """The labels that all series of a GPU carry."""
    return (("gpu", str(gpu.index)), ("uuid", gpu.uuid), *gpu.owner)


@lru_cache(maxsize=4)
def _families(gpus: tuple[Gpu, ...]) -> list[tuple[str, str, str, list[tuple[int, str, str]]]]:
    """(name, kind, help, [(GPU, field, line up to the value)]) of every field; fields of one metric stand together."""
    found: dict[str, tuple[str, str, str, list[tuple[int, str, str]]]] = {}
    for field in FIELDS:
        name = PREFIX + field.metric
        rows = found.setdefault(name, (name, field.kind, field.help, []))[3]
        for gpu in gpus:
            rows.append((gpu.index, field.name, f"{name}{{{labelled((*of_gpu(gpu), *field.labels))}}}"))
    return list(found.values())


@lru_cache(maxsize=2)
def _info(identity: Identity) -> str:
    rows = []
    for gpu in identity.gpus:
        told = (
            gpu.model, identity.driver.driver, identity.driver.nvml, gpu.vbios, gpu.serial, gpu.pci, gpu.architecture,
            "1" if gpu.mig else "0", identity.driver.boot_id, identity.node,
        )  # fmt: skip
        rows.append((labelled((*of_gpu(gpu), *zip(LABELS_OF_INFO, told, strict=True))), 1.0))
    return family(f"{PREFIX}info", "gauge", "Who the GPU is; always 1.", rows)


def _up(present: Sequence[tuple[Gpu, Sample]]) -> str:
    up = [(labelled(of_gpu(gpu)), 0.0 if sample.lost else 1.0) for gpu, sample in present]
    seen = [(labelled(of_gpu(gpu)), max(sample.at_s.values())) for gpu, sample in present if not sample.lost]
    return family(f"{PREFIX}up", "gauge", "0 while the driver has lost the GPU.", up) + family(
        f"{PREFIX}last_seen_timestamp_seconds", "gauge", "When the GPU was last read, Unix time.", seen
    )


def _clock_events(present: Sequence[tuple[Gpu, Sample]]) -> str:
    rows = []
    for gpu, sample in present:
        mask = sample.values.get(CLOCK_EVENT_MASK)
        if mask is not None:
            bits = int(mask)
            rows += [
                (labelled((*of_gpu(gpu), ("reason", reason))), float(bool(bits & bit)))
                for reason, bit in CLOCK_EVENTS.items()
            ]
    return family(f"{PREFIX}clock_event", "gauge", "1 while the clocks are held down for a reason.", rows)


def _links(present: Sequence[tuple[Gpu, Sample]]) -> str:
    return _link_lines(tuple((gpu, tuple(tuple(link.items()) for link in one.links)) for gpu, one in present))


@lru_cache(maxsize=1)
def _link_lines(present: tuple[tuple[Gpu, tuple[tuple[tuple[str, float], ...], ...]], ...]) -> str:
    """Most of a page, and the same from scrape to scrape while no link errs."""
    lines: dict[str, list[str]] = {field.metric: [] for field in LINK_FIELDS}
    for gpu, links in present:
        for heads, values in zip(_link_heads(gpu, len(links)), links, strict=True):
            for name, value in values:
                if name not in heads:
                    continue
                metric, head = heads[name]
                lines[metric].append(f"{head} {number(value)}\n")
    said = {field.metric: field for field in LINK_FIELDS}
    return "".join(
        f"# HELP {PREFIX}{metric} {said[metric].help}\n# TYPE {PREFIX}{metric} {said[metric].kind}\n{''.join(found)}"
        for metric, found in lines.items()
        if found
    )


@lru_cache(maxsize=64)
def _link_heads(gpu: Gpu, links: int) -> tuple[Mapping[str, tuple[str, str]], ...]:
    """For each link: field -> (metric, its line up to the value)."""
    found = []
    for link in range(links):
        own = (*of_gpu(gpu), ("link", str(link)))
        series = [(f.name, f.metric, labelled((*own, *f.labels))) for f in LINK_FIELDS]
        found.append({name: (metric, f"{PREFIX}{metric}{{{labels}}}") for name, metric, labels in series})
    return tuple(found)


def _aliases(identity: Identity, present: Sequence[tuple[Gpu, Sample]]) -> list[str]:
    parts = []
    for alias in ALIASES:
        rows = [
            (_alias_labels(identity.node, gpu, identity.driver.driver), sample.values[alias.field] * alias.factor)
            for gpu, sample in present
            if alias.field in sample.values
        ]
        parts.append(family(alias.name, alias.kind, alias.help, rows))
    return parts


@lru_cache(maxsize=64)
def _alias_labels(node: str, gpu: Gpu, driver: str) -> str:
    own = (("gpu", str(gpu.index)), ("UUID", gpu.uuid), ("pci_bus_id", gpu.pci), ("device", f"nvidia{gpu.minor}"))
    rest = (("modelName", gpu.model), ("Hostname", node), ("hostname", node), ("DCGM_FI_DRIVER_VERSION", driver))
    return labelled((*own, *rest, *gpu.owner))
