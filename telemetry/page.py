"""What is read of GPUs, as Prometheus text. Each family keeps what it wrote and is written anew when its values change.

So a scrape formats the numbers that have changed, a few hundred of two thousand. Own names are `muster_gpu_*` in base
units (prometheus.io, "Metric and label naming"); the aliases carry the names, units and labels of dcgm-exporter, so
that dashboards made for it (grafana.com 12239) work unchanged. Threads may write at once: what is kept is replaced.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from telemetry.fields import CLOCK_EVENT_MASK, CLOCK_EVENTS, FIELDS, LINK_FIELDS
from telemetry.render import PREFIX, Identity, family, headed, joined, labelled, number, of_gpu
from telemetry.sample import Gpu, Sample

LABELS_OF_INFO = ("model", "driver", "nvml", "vbios", "serial", "pci", "architecture", "mig", "boot_id", "node")
EVENT = f"{PREFIX}clock_event"
LINK_METRICS = {field.metric: field for field in LINK_FIELDS}


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


Key = tuple[int, str]  # GPU, name of the field


class Family:
    """One metric of all GPUs. `rows`: the value that a series is, and its line up to it."""

    def __init__(self, name: str, kind: str, words: str, rows: Iterable[tuple[Key, str]], factor: float = 1.0) -> None:
        given = tuple(rows)
        self._said = (name, kind, words)
        self._keys = tuple(key for key, _ in given)
        self._starts = tuple(start for _, start in given)
        self._factor = factor
        self._written: tuple[Sequence[float | None], bytes] = ((), b"")

    def text(self, values: Mapping[int, Mapping[str, float]]) -> bytes:
        """Nothing at all where no GPU tells the value. `values`: by GPU."""
        now = [values[gpu].get(field) for gpu, field in self._keys]
        before, text = self._written
        if now != before:
            told = [(start, value) for start, value in zip(self._starts, now, strict=True) if value is not None]
            lines = "".join([f"{start} {number(value * self._factor)}\n" for start, value in told])
            text = headed(*self._said, lines).encode()
            self._written = (now, text)
        return text


class Page:
    """The page of the GPUs that there are."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self._info = _info(identity)
        self._families = list(_families(identity.gpus))
        self._aliases = list(_aliases(identity)) if identity.dcgm else []
        self._links: dict[int, tuple[Sequence[Mapping[str, float]], Mapping[str, str]]] = {}
        self._events: dict[int, tuple[float, str]] = {}
        self._written: tuple[Mapping[int, Sample] | None, Sequence[bytes]] = (None, ())

    def parts(self, samples: Mapping[int, Sample]) -> Sequence[bytes]:
        """The whole of it, in parts. `samples`: another mapping where anything in it has changed."""
        before, parts = self._written
        if samples is not before:
            parts = self._parts(samples)
            self._written = (samples, parts)
        return parts

    def _parts(self, samples: Mapping[int, Sample]) -> Sequence[bytes]:
        gpus = self.identity.gpus
        present = [(gpu, samples[gpu.index]) for gpu in gpus if gpu.index in samples]
        values: dict[int, Mapping[str, float]] = {gpu.index: {} for gpu in gpus}
        values |= {gpu.index: sample.values for gpu, sample in present}
        return [
            self._info.encode(),
            _up(present).encode(),
            *[one.text(values) for one in self._families],
            self._clock_events(present).encode(),
            *[text.encode() for text in self._link_families(present)],
            *[one.text(values) for one in self._aliases],
        ]

    def _clock_events(self, present: Sequence[tuple[Gpu, Sample]]) -> str:
        lines = "".join([self._events_of(gpu, sample.values.get(CLOCK_EVENT_MASK)) for gpu, sample in present])
        return headed(EVENT, "gauge", "1 while the clocks are held down for a reason.", lines)

    def _events_of(self, gpu: Gpu, mask: float | None) -> str:
        if mask is None:
            return ""
        before = self._events.get(gpu.index)
        if before is None or before[0] != mask:
            labels = {bit: joined((*of_gpu(gpu), ("reason", reason))) for reason, bit in CLOCK_EVENTS.items()}
            lines = [f"{EVENT}{{{labels[bit]}}} {int(bool(int(mask) & bit))}\n" for bit in labels]
            before = self._events[gpu.index] = (mask, "".join(lines))
        return before[1]

    def _link_families(self, present: Sequence[tuple[Gpu, Sample]]) -> Iterator[str]:
        """Most of a page, and the same from scrape to scrape while no link errs."""
        of_all = [self._links_of(gpu, sample.links) for gpu, sample in present]
        for metric, field in LINK_METRICS.items():
            lines = "".join([one.get(metric, "") for one in of_all])
            yield headed(PREFIX + metric, field.kind, field.help, lines)

    def _links_of(self, gpu: Gpu, links: Sequence[Mapping[str, float]]) -> Mapping[str, str]:
        before = self._links.get(gpu.index)
        if before is None or before[0] != links:
            before = self._links[gpu.index] = (links, _link_lines(gpu, links))
        return before[1]


def _families(gpus: Sequence[Gpu]) -> Iterator[Family]:
    """Fields of one metric stand together."""
    by_metric: dict[str, list[tuple[Key, str]]] = {}
    said = {}
    for field in FIELDS:
        said[field.metric] = field
        for gpu in gpus:
            start = f"{PREFIX}{field.metric}{{{joined((*of_gpu(gpu), *field.labels))}}}"
            by_metric.setdefault(field.metric, []).append(((gpu.index, field.name), start))
    for metric, rows in by_metric.items():
        yield Family(PREFIX + metric, said[metric].kind, said[metric].help, rows)


def _info(identity: Identity) -> str:
    rows = []
    for gpu in identity.gpus:
        told = (
            gpu.model, identity.driver.driver, identity.driver.nvml, gpu.vbios, gpu.serial, gpu.pci, gpu.architecture,
            "1" if gpu.mig else "0", identity.driver.boot_id, identity.node,
        )  # fmt: skip
        rows.append((joined((*of_gpu(gpu), *zip(LABELS_OF_INFO, told, strict=True))), 1.0))
    return family(f"{PREFIX}info", "gauge", "Who the GPU is; always 1.", rows)


def _up(present: Sequence[tuple[Gpu, Sample]]) -> str:
    up = [(labelled(of_gpu(gpu)), 0.0 if sample.lost else 1.0) for gpu, sample in present]
    seen = [(labelled(of_gpu(gpu)), max(sample.at_s.values())) for gpu, sample in present if not sample.lost]
    return family(f"{PREFIX}up", "gauge", "0 while the driver has lost the GPU.", up) + family(
        f"{PREFIX}last_seen_timestamp_seconds", "gauge", "When the GPU was last read, Unix time.", seen
    )


def _link_lines(gpu: Gpu, links: Sequence[Mapping[str, float]]) -> Mapping[str, str]:
    """The lines of one GPU, by metric."""
    lines: dict[str, list[str]] = {}
    for link, values in enumerate(links):
        own = (*of_gpu(gpu), ("link", str(link)))
        for field in LINK_FIELDS:
            if field.name in values:
                labels = joined((*own, *field.labels))
                line = f"{PREFIX}{field.metric}{{{labels}}} {number(values[field.name])}\n"
                lines.setdefault(field.metric, []).append(line)
    return {metric: "".join(found) for metric, found in lines.items()}


def _aliases(identity: Identity) -> Iterator[Family]:
    labels = {gpu.index: _alias_labels(identity.node, gpu, identity.driver.driver) for gpu in identity.gpus}
    for name, kind, field, factor, words in ALIASES:
        yield Family(name, kind, words, (((gpu, field), f"{name}{{{own}}}") for gpu, own in labels.items()), factor)


def _alias_labels(node: str, gpu: Gpu, driver: str) -> str:
    own = (("gpu", str(gpu.index)), ("UUID", gpu.uuid), ("pci_bus_id", gpu.pci), ("device", f"nvidia{gpu.minor}"))
    rest = (("modelName", gpu.model), ("Hostname", node), ("hostname", node), ("DCGM_FI_DRIVER_VERSION", driver))
    return joined((*own, *rest, *gpu.owner))
