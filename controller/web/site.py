"""Everything that the web needs to know of the running controller, on a Kubernetes cluster and on the embedded one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from controller.kube.discovery import Served
from controller.kube.known import Known
from controller.kube.rest import JSON
from controller.reports import Kept


class Objects(Protocol):
    """The objects of a cluster: `controller.kube.rest.Api` or `controller.embedded.api.EmbeddedApi`."""

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = JSON,
        timeout_s: float = 10.0,
    ) -> dict[str, Any]:
        """One request; the object that came back. Raises ApiError for anything but success."""


class History(Protocol):
    """Time series.

    Metrics and their subjects: of a service ("namespace/name"): rate_per_s, planned_per_s, ttft_p50_s, ttft_p95_s,
    tpot_p50_s, tpot_p95_s, e2e_p95_s, attainment_ratio, goodput_per_s, waiting, kv_cache_ratio, replicas_ready,
    usd_per_hour, power_w; of the fleet (subject ""): usd_per_hour, power_w, budget_w, gpus_used, gpus_total,
    attainment_ratio; of a power domain: power_w, budget_w; of a GPU (uuid): power_w, temperature_c, busy_ratio.
    """

    def series(
        self, metric: str, subject: str, start_s: float, end_s: float, points: int = 240
    ) -> tuple[tuple[float, float], ...]:
        """(Unix time, value), at most `points`, averaged."""

    def latest(self, metric: str) -> Mapping[str, float]:
        """The last value by subject."""


class Ill(Protocol):
    """What is wrong with a simulated GPU."""

    @property
    def kind(self) -> str:
        """xid, slow or lost."""

    @property
    def xid(self) -> int:
        """Which Xid, of the kind xid."""

    @property
    def factor(self) -> float:
        """The share of its speed, of the kind slow."""


class Faults(Protocol):
    """Faults that are played on simulated GPUs."""

    def ills(self) -> Mapping[str, Mapping[int, Ill]]:
        """What is wrong with GPUs now: node -> index -> what."""

    def inject(self, node: str, gpu: int, kind: str, xid: int | None = None, factor: float | None = None) -> str:
        """What was done, in a sentence. `kind`: xid, slow, lost or clear. Raises MusterError for what can't be."""


class Sends(Protocol):
    """Traffic that is played on simulated services."""

    def send(self, service: str, row: Mapping[str, Any]) -> None:
        """Have requests of a service come in another way from now on, as `planner.simulation.arrivals.Traffic` has it.

        Raises MusterError for what can't be."""


@dataclass(frozen=True)
class Site:
    """One running controller. `caps`: watts granted by GPU uuid; `speed`: simulated seconds per second.

    `faults`, `sends`: only of an embedded cluster.
    """

    objects: Objects
    served: Served
    known: Known
    kept: Callable[[], Mapping[str, Kept]]  # node -> the last report of its agent, with its state
    caps: Callable[[], Mapping[str, float]]
    history: History
    clock: Callable[[], float]  # Unix time of the cluster; simulated where the cluster is
    faults: Faults | None = None
    sends: Sends | None = None
    speed: Callable[[], float] = lambda: 1.0
    embedded: bool = False
