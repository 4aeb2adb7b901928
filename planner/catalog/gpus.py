"""The GPU types that Muster knows: the rows of gpus.yaml, and the MIG slices that follow from them.

The file's head says what each key means. Whatever is wrong in it is refused with its line.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import NamedTuple

from planner.errors import BadInput, UnknownName
from planner.hardware import GPUType
from planner.units import BANDWIDTH, BYTES, MONEY, POWER, Quantity, got
from planner.yaml_text import Document, Node, NodePath, read

ROWS = Path(__file__).with_name("gpus.yaml")
DTYPES = ("fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4")
ARCHITECTURES = ("turing", "volta", "ampere", "ada", "hopper", "blackwell", "cdna2", "cdna3", "cdna4", "davinci")
# What joins the words of a driver's name in the node label (nvidia.com/gpu.product, amd.com/gpu.product-name).
LABEL_JOINTS: Mapping[str, str] = {"nvidia": "-", "amd": "_", "huawei": "-"}

_FIGURES: Mapping[str, tuple[str, Quantity]] = {  # key of the file -> field of GPUType, how it is written
    "memory": ("hbm_bytes", BYTES),
    "memoryBandwidth": ("hbm_bytes_per_s", BANDWIDTH),
    "scaleUp": ("scale_up_bytes_per_s", BANDWIDTH),
    "pcie": ("pcie_bytes_per_s", BANDWIDTH),
    "tdp": ("tdp_w", POWER),
    "idle": ("idle_w", POWER),
    "minCap": ("min_cap_w", POWER),
    "maxCap": ("max_cap_w", POWER),
    "pricePerHour": ("usd_per_hour", MONEY),
}
_NEEDED = ("vendor", "architecture", "memory", "memoryBandwidth", "teraflops", "tdp")
_KEYS = {*_NEEDED, *_FIGURES, "driverNames", "aliases", "mig"}
_PROFILE = re.compile(r"([1-7])g\.[1-9][0-9]*gb")
_SHARE = re.compile(r"[1-9][0-9]{0,2}/[1-9][0-9]{0,2}")


@cache
def gpus() -> tuple[GPUType, ...]:
    """Every GPU type, the MIG slices of a GPU behind it; the file is read once."""
    return load(ROWS)


def gpu(name: str) -> GPUType:
    """The GPU type of a name or an alias, in any case; a slice also as `H100-1g.10gb`; raises UnknownName."""
    known = _by_name()
    found = known.get(name.casefold())
    card, profile = _parted(name)
    whole = known.get(card.casefold())
    if found is None and whole is not None:
        found = known.get(f"{whole.name}-{profile}".casefold())
    if found is None:
        # Slices are many, and nobody means one by chance: only those who ask for one read their names.
        near = [row.name for row in gpus() if is_slice(row) and (whole is None or _parted(row.name)[0] == whole.name)]
        if profile and near:
            raise UnknownName("GPU", name, near)
        cards = [row for row in gpus() if not is_slice(row)]
        aliases = {alias: row.name for row in cards for alias in row.aliases}
        raise UnknownName("GPU", name, [row.name for row in cards], aliases)
    return found


def is_slice(row: GPUType) -> bool:
    """Whether a GPU type is a MIG slice of another."""
    return bool(_parted(row.name)[1])


def load(path: Path) -> tuple[GPUType, ...]:
    """The GPU types of a file in the form of gpus.yaml; raises BadInput, which names the file and the line."""
    documents = read(path)
    file = _File(documents[0])
    file.keys((), {"sources", "gpus"}, needed=("sources", "gpus"))
    sources = {key: file.text(("sources", key)) for key in file.keys(("sources",))}
    taken: dict[str, str] = {}
    rows: list[GPUType] = []
    for name in file.keys(("gpus",)):
        for row in _types(file, name, sources):
            for word in (row.name, *row.aliases):
                if taken.setdefault(word.casefold(), row.name) != row.name:
                    other = taken[word.casefold()]
                    raise file.refuse(("gpus", name), f"the name {got(word)}", f"other names ({other} has this one)")
            rows.append(row)
    return tuple(rows)


def _parted(name: str) -> tuple[str, str]:
    """The names of the card and of the MIG profile: `H100-SXM-1g.10gb` -> (`H100-SXM`, `1g.10gb`); "" where none."""
    card, _, profile = name.rpartition("-")
    return (card, profile) if _PROFILE.fullmatch(profile.casefold()) else (name, "")


@cache
def _by_name() -> Mapping[str, GPUType]:
    return {name.casefold(): row for row in gpus() for name in (row.name, *row.aliases)}


@dataclass(frozen=True, slots=True)
class _File:
    """A document, read key by key; every refusal names the line."""

    document: Document

    def refuse(self, path: NodePath, what: str, allowed: str) -> BadInput:
        """The error for one place."""
        return BadInput(f"{self.document.where(path)}: got {what}, allowed: {allowed}")

    def node(self, path: NodePath) -> Node | None:
        node: Node | None = self.document.root
        for step in path:
            node = node.child(step) if node is not None else None
        return node

    def plain(self, path: NodePath) -> object:
        node = self.node(path)
        return None if node is None else node.plain()

    def keys(
        self, path: NodePath, allowed: Collection[str] | None = None, needed: Sequence[str] = ()
    ) -> Collection[str]:
        """The keys of a mapping with one key at least; `allowed` None allows any."""
        value = self.plain(path)
        if not isinstance(value, dict) or not value:
            raise self.refuse(path, got(value), "a mapping")
        for key in value:
            if allowed is not None and key not in allowed:
                raise self.refuse((*path, key), f"the key {got(key)}", ", ".join(sorted(allowed)))
        for key in needed:
            if key not in value:
                raise self.refuse(path, f"no {key}", f"every one of {', '.join(needed)}")
        return value.keys()

    def text(self, path: NodePath, allowed: Collection[str] | None = None) -> str:
        value = self.plain(path)
        if not isinstance(value, str) or not value or (allowed is not None and value not in allowed):
            raise self.refuse(path, got(value), "a text" if allowed is None else ", ".join(allowed))
        return value

    def texts(self, path: NodePath) -> list[str]:
        """A list of texts; an absent one is empty."""
        value = [] if self.node(path) is None else self.plain(path)
        if not isinstance(value, list):
            raise self.refuse(path, got(value), "a list of texts")
        return [self.text((*path, index)) for index in range(len(value))]

    def quantity(self, path: NodePath, quantity: Quantity) -> float:
        value = self.plain(path)
        try:
            return quantity.parse(value)
        except BadInput:
            raise self.refuse(path, got(value), quantity.allowed) from None

    def number(self, path: NodePath) -> float:
        value = self.plain(path)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise self.refuse(path, got(value), "a number above 0")
        return float(value)

    def share(self, path: NodePath) -> Fraction:
        value = self.plain(path)
        if not isinstance(value, str) or not _SHARE.fullmatch(value) or Fraction(value) > 1:
            raise self.refuse(path, got(value), "a share such as 1/8, at most 1")
        return Fraction(value)

    def sourced(self, path: NodePath, sources: Mapping[str, str]) -> str:
        """The source of a figure, which is written [figure, key of `sources`]."""
        value = self.plain(path)
        if not isinstance(value, list) or len(value) != 2:
            raise self.refuse(path, got(value), "[figure, source]")
        return sources[self.text((*path, 1), sources)]


def _types(file: _File, name: str, sources: Mapping[str, str]) -> Iterator[GPUType]:
    """A row of the file as a GPU type, then its MIG slices."""
    row: NodePath = ("gpus", name)
    keys = file.keys(row, _KEYS, _NEEDED)
    texts = {"flops_per_s": file.sourced((*row, "teraflops"), sources)}
    figures: dict[str, float] = {}
    for key in keys & _FIGURES.keys():
        field, quantity = _FIGURES[key]
        texts[field] = file.sourced((*row, key), sources)
        figures[field] = file.quantity((*row, key, 0), quantity)
    vendor = file.text((*row, "vendor"), LABEL_JOINTS)
    drivers = file.texts((*row, "driverNames"))
    peaks = (*row, "teraflops", 0)
    whole = GPUType(
        name,
        vendor,
        file.text((*row, "architecture"), ARCHITECTURES),
        hbm_bytes=figures.pop("hbm_bytes"),
        hbm_bytes_per_s=figures.pop("hbm_bytes_per_s"),
        flops_per_s={dtype: 1e12 * file.number((*peaks, dtype)) for dtype in file.keys(peaks, DTYPES)},
        tdp_w=figures.pop("tdp_w"),
        aliases=_names(name, [*drivers, *_labels(vendor, drivers), *file.texts((*row, "aliases"))]),
        sources=texts,
        **figures,
    )
    _check_watts(file, row, whole)
    yield whole
    if "mig" in keys:
        yield from _slices(file, (*row, "mig"), whole, drivers, file.sourced((*row, "mig"), sources))


def _check_watts(file: _File, row: NodePath, gpu: GPUType) -> None:
    """Refuse watts that contradict each other."""
    if gpu.idle_w is not None and gpu.idle_w >= gpu.tdp_w:
        raise file.refuse((*row, "idle"), f"{gpu.idle_w:g} W", f"less than tdp, {gpu.tdp_w:g} W")
    if gpu.min_cap_w is not None and gpu.max_cap_w is not None and gpu.min_cap_w > gpu.max_cap_w:
        raise file.refuse((*row, "minCap"), f"{gpu.min_cap_w:g} W", f"at most maxCap, {gpu.max_cap_w:g} W")


def _slices(file: _File, mig: NodePath, whole: GPUType, drivers: Sequence[str], source: str) -> Iterator[GPUType]:
    """The MIG slices of a GPU: profile -> [share of the SMs, share of the memory, size where it is stated]."""
    profiles = file.keys((*mig, 0))
    for profile in profiles:
        if not _PROFILE.fullmatch(profile):
            raise file.refuse((*mig, 0, profile), f"the key {got(profile)}", "a MIG profile such as 1g.10gb")
    most = max(map(_compute_slices, profiles))  # the largest profile is the whole card: 7 slices, or 4
    for profile in profiles:
        place = (*mig, 0, profile)
        parts = file.plain(place)
        if not isinstance(parts, list) or len(parts) not in (2, 3):
            raise file.refuse(place, got(parts), "[share of the SMs, share of the memory, size where it is stated]")
        compute, memory = file.share((*place, 0)), file.share((*place, 1))
        stated = file.quantity((*place, 2), BYTES) if len(parts) == 3 else None
        device_names = [f"{driver} MIG {profile}" for driver in drivers]
        aliases = (*device_names, *_labels(whole.vendor, device_names))
        cut = replace(whole, name=f"{whole.name}-{profile}", aliases=aliases)
        yield _slice(cut, whole.name, source, _Cut(compute, memory, Fraction(_compute_slices(profile), most)), stated)


def _compute_slices(profile: str) -> int:
    """Compute slices of a MIG profile: 3 of `3g.40gb`."""
    return int(profile.partition("g")[0])


class _Cut(NamedTuple):
    """Shares of a card that one slice gets."""

    compute: Fraction
    memory: Fraction
    watts: Fraction


def _slice(cut: GPUType, card: str, source: str, part: _Cut, stated: float | None) -> GPUType:
    """The card's figures cut to one slice: arithmetic by SMs, memory by memory slices, watts by compute slices.

    That watts go by compute slices is an assumption. A slice has no link, no power limit and no price of its own.
    """
    compute, memory, watts = part
    shares = {"flops_per_s": compute, "hbm_bytes": memory, "hbm_bytes_per_s": memory, "tdp_w": watts, "idle_w": watts}
    sources = {
        field: f"derived: {share} of {card} ({source}); {card}: {cut.sources[field]}"
        for field, share in shares.items()
        if field in cut.sources
    }
    return replace(
        cut,
        hbm_bytes=cut.hbm_bytes * float(memory) if stated is None else stated,
        hbm_bytes_per_s=cut.hbm_bytes_per_s * float(memory),
        flops_per_s={dtype: flops_per_s * float(compute) for dtype, flops_per_s in cut.flops_per_s.items()},
        tdp_w=cut.tdp_w * float(watts),
        idle_w=None if cut.idle_w is None else cut.idle_w * float(watts),
        scale_up_bytes_per_s=None,
        pcie_bytes_per_s=None,
        min_cap_w=None,
        max_cap_w=None,
        usd_per_hour=None,
        sources=sources if stated is None else {**sources, "hbm_bytes": source},
    )


def _labels(vendor: str, drivers: Sequence[str]) -> list[str]:
    """Drivers' names as the vendor's node labels write them."""
    return [driver.replace(" ", LABEL_JOINTS[vendor]) for driver in drivers]


def _names(name: str, aliases: Sequence[str]) -> tuple[str, ...]:
    """The aliases in their order, each once in any case, without the name itself."""
    first = {alias.casefold(): alias for alias in reversed(aliases) if alias.casefold() != name.casefold()}
    return tuple(reversed(first.values()))
