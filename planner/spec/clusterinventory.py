"""The shape of kind `ClusterInventory`, as it is written and as its JSON Schema says."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from planner.spec.fields import (
    Bandwidth,
    Context,
    Count,
    CountOrZero,
    Delay,
    DNSLabel,
    DNSName,
    EnergyPrice,
    GPUName,
    KubernetesObject,
    Label,
    Power,
    Price,
    Problem,
    Shape,
    Text,
    twins,
)
from planner.units import got


class CommitmentShape(Shape):
    """GPUs that are paid for whether used or not (reserved, committed use)."""

    gpus: Count
    """How many GPUs of the group."""
    price_per_hour: Price
    """Dollars per committed GPU and hour, such as $1.10."""


class NodeGroupShape(Shape):
    """Equal nodes in one zone."""

    name: Label
    """Name of the group."""
    gpu: GPUName
    """GPU type, by catalogue name or alias; a MIG slice is a type of its own."""
    gpus_per_node: Annotated[int, Field(ge=1, le=1024)]
    """GPUs (or MIG slices) in one node."""
    nodes: Count
    """Nodes that a plan may use at most."""
    zone: Label
    """Zone that the nodes are in."""
    price_per_hour: Price | None = None
    """Dollars per GPU and hour, such as $2.40. Left out: the catalogue's published on-demand price."""
    owned: bool = False
    """Owned nodes cost their energy only."""
    spot: bool = False
    """Spot nodes may be taken away at any time."""
    power_domain: Label | None = None
    """The power domain that feeds these nodes."""
    commitment: CommitmentShape | None = None
    """GPUs that are already paid for; the others cost pricePerHour."""
    network_bandwidth: Bandwidth | None = None
    """One node to other nodes, one direction, such as 100Gbps."""

    def problems(self, context: Context) -> Iterator[Problem]:
        if self.owned and self.price_per_hour is not None:
            yield ("pricePerHour",), "got a price of owned nodes, allowed: either owned: true or pricePerHour"
        if self.owned and self.spot:
            yield ("spot",), "got true for owned nodes, allowed: either owned or spot"
        if self.commitment is not None and (self.owned or self.spot):
            kind = "owned" if self.owned else "spot"
            yield ("commitment",), f"got a commitment for {kind} nodes, allowed: commitments for on-demand nodes"
        gpus = self.gpus_per_node * self.nodes
        if self.commitment is not None and self.commitment.gpus > gpus:
            yield ("commitment", "gpus"), f"got {self.commitment.gpus}, allowed: at most the group's {gpus} GPUs"
        if not self.owned and self.price_per_hour is None:
            yield from self._unpriced(context)

    def _unpriced(self, context: Context) -> Iterator[Problem]:
        """Prices change daily for spot nodes, and some GPUs have none that is published."""
        allowed = "allowed: pricePerHour such as $2.40, or owned: true"
        if self.spot:
            yield ("pricePerHour",), f"got nothing for spot nodes, whose price no catalogue knows, {allowed}"
        elif context.catalog.gpu(self.gpu).usd_per_hour is None:
            yield ("pricePerHour",), f"got nothing, and no published price of {self.gpu} is known, {allowed}"


class LinkShape(Shape):
    """What connects two zones, or the nodes of one."""

    between: Annotated[list[Label], Field(min_length=2, max_length=2)]
    """The two zones; twice the same for the network inside it."""
    bandwidth: Bandwidth
    """One direction, such as 100Gbps."""
    latency: Delay
    """One way, such as 1ms."""


class PowerDomainShape(Shape):
    """Node groups behind one breaker."""

    name: Label
    """Name of the domain."""
    budget: Power
    """Most that its GPUs may draw together, such as 40kW."""


class QuotaShape(Shape):
    """What the services of one namespace may have between them."""

    name: DNSName = "gpus"
    """Name of the quota."""
    namespace: DNSLabel
    """Namespace of the services."""
    gpus: CountOrZero
    """Most GPUs that they may have between them, in all node groups together."""
    held_gpus: CountOrZero = 0
    """GPUs of it that are taken by what is not planned here."""
    services: Annotated[list[Text], Field(max_length=10_000)] | None = None
    """Names of the services that it is on. Left out: all of the namespace."""


class StockShape(Shape):
    """A group of nodes as its owner knows it, where a plan may use its free GPUs only."""

    name: Label
    """Name of the group."""
    nodes: CountOrZero
    """All nodes of it."""
    gpus: CountOrZero
    """All GPUs of it."""
    free_gpus: CountOrZero
    """GPUs of it that a plan may use."""
    parts: list[Label] = Field(default=[], max_length=1000)
    """Names of the node groups above that its nodes with free GPUs are in."""


class InventoryShape(Shape):
    """Nodes, networks, power, the price of energy, and who may use how much."""

    node_groups: Annotated[list[NodeGroupShape], Field(min_length=1, max_length=1000)]
    """Groups of equal nodes."""
    links: list[LinkShape] = Field(default=[], max_length=1000)
    """Networks between zones."""
    power_domains: list[PowerDomainShape] = Field(default=[], max_length=1000)
    """Power domains: racks, rows, breakers."""
    energy_price: EnergyPrice | None = None
    """Price of energy, such as $0.12/kWh. Left out: energy is not counted."""
    quotas: list[QuotaShape] = Field(default=[], max_length=10_000)
    """Quotas of namespaces."""
    stock: list[StockShape] = Field(default=[], max_length=1000)
    """What there is in all, where the node groups are what is free of it."""

    def problems(self, context: Context) -> Iterator[Problem]:
        yield from twins((group.name for group in self.node_groups), lambda index: ("nodeGroups", index, "name"))
        yield from twins((domain.name for domain in self.power_domains), lambda index: ("powerDomains", index, "name"))
        labels = (f"{quota.namespace}/{quota.name}" for quota in self.quotas)
        yield from twins(labels, lambda index: ("quotas", index, "name"))
        domains = [domain.name for domain in self.power_domains]
        zones = sorted({group.zone for group in self.node_groups})
        for index, group in enumerate(self.node_groups):
            if group.power_domain is not None and group.power_domain not in domains:
                known = ", ".join(domains) or "none; define it under powerDomains"
                yield ("nodeGroups", index, "powerDomain"), f"got {got(group.power_domain)}, allowed: {known}"
        pairs: set[frozenset[str]] = set()
        for index, link in enumerate(self.links):
            for end, zone in enumerate(link.between):
                if zone not in zones:
                    yield ("links", index, "between", end), f"got {got(zone)}, allowed: {', '.join(zones)}"
            if frozenset(link.between) in pairs:
                yield ("links", index, "between"), "got two zones a second time, allowed: one link between two zones"
            pairs.add(frozenset(link.between))


class ClusterInventory(KubernetesObject):
    """The hardware that a plan may use."""

    kind: Literal["ClusterInventory"]
    """What this object is."""
    spec: InventoryShape
    """What the cluster has."""
