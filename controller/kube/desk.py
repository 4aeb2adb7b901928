"""The desk that reports come to in a cluster: who may report, what a report does, which caps go back."""

from collections.abc import Callable, Mapping, Sequence, Set
from functools import lru_cache
from typing import Any

from controller import names
from controller.caps import Capped
from controller.cluster import Kind
from controller.grants import Domain, Grants
from controller.hardware import PRODUCT, group_of, node_gpus
from controller.identity import Identities
from controller.kube.cache import WORKLOADS
from controller.kube.known import Known, gpu_of_product
from controller.kube.node_round import NodeRound
from controller.kube.view import kind_of
from controller.overruns import allotments
from controller.page import page
from controller.reports import Kept, Report
from controller.wants import Pod, Want, of_gpus, wants
from planner.catalog import gpu as catalogue
from planner.hardware import GPUType
from planner.power import idle_w
from planner.units import POWER

Object = Mapping[str, Any]
_LIMIT = "power_limit_enforced_w"
_FRESH_S = 60.0
_MOST_KINDS = 10_000
_REST_RATIO = 2.0  # of the catalogue's watts at rest: clocks that are up draw more than that
_ANY_W = 1e12  # of nodes that no power domain feeds


class KubernetesDesk:
    """Everything is asked of those that keep it; nothing is kept here but what was granted.

    `renews`: caps are worked out with replies; else whoever made this calls `grants.renew` now and then, in a thread
    that nobody waits for.
    """

    def __init__(
        self,
        known: Known,
        rounds: NodeRound,
        identities: Identities,
        leads: Callable[[], bool],
        ready: Callable[[], bool],
        renews: bool = True,
    ) -> None:
        self._known, self._rounds, self._identities = known, rounds, identities
        self._leads, self._ready, self._renews = leads, ready, renews
        self._settled: set[str] = set()  # nodes that were heard of since they had a reply of this process
        self._kinds: dict[tuple[str, str, str], Kind | None] = {}  # as read from workloads, of each version
        self._read: dict[str, tuple[object, list[Capped]]] = {}
        self.grants = Grants(self._domains, known.clock)

    def leads(self) -> bool:
        """Whether this process leads."""
        return self._leads()

    def ready(self) -> bool:
        """Whether the caches are filled."""
        return self._ready()

    def remembered(self, token: str) -> str | None:
        """The node of a token that was checked lately."""
        return self._identities.remembered(token)

    def node(self, token: str) -> str:
        """The node of a token."""
        return self._identities.node(token)

    def hear(self, report: Report, node: str) -> Kept:
        """Take a report."""
        known = self._rounds.kept.get(node)
        kept = self._rounds.hear(report, node, self._known.clock())
        if known is not None:
            self._settled.add(node)
        for gpu in report.gpus:
            if _LIMIT in gpu.values:
                self.grants.confirmed(_id(node, gpu.uuid), gpu.values[_LIMIT])
        return kept

    def caps(self, report: Report) -> Sequence[dict[str, object]]:
        """The caps of a node's GPUs."""
        if self._renews:
            self.grants.renew()
        rows = self.grants.reply([_id(report.node, gpu.uuid) for gpu in report.gpus])
        return [{**row, "uuid": str(row["uuid"]).partition("/")[2]} for row in rows]

    def allotments(self, report: Report) -> Sequence[dict[str, object]]:
        """What the plans in force give a node's GPUs, which their agent compares with what their replicas do."""
        return allotments(report, self._kind_of_pod, self._known.spec_of)

    def _kind_of_pod(self, space: str, pod: str) -> Kind | None:
        found = self._known.cache.get("pods", space, pod)
        name = "" if found is None else (found["metadata"].get("labels") or {}).get(names.KIND, "")
        workloads = (self._known.cache.get(plural, space, name) for plural in WORKLOADS) if name else ()
        workload = next((one for one in workloads if one is not None), None)
        if workload is None:
            return None
        mark = (space, name, workload["metadata"]["resourceVersion"])
        if mark not in self._kinds:
            self._kinds = {**self._kinds, mark: kind_of(workload)} if len(self._kinds) < _MOST_KINDS else {}
        return self._kinds.get(mark) or kind_of(workload)

    def metrics(self) -> str:
        """What Prometheus is told."""
        return page(self._known, self._rounds, self.grants, self._leads())

    def _domains(self) -> list[Domain]:
        """Every power domain with what its GPUs are to have, by the plans in force; and the GPUs of none."""
        facts, now_s = self._known.facts(), self._known.clock()
        budget_w = {
            one["metadata"]["name"]: POWER.parse(one["spec"]["budget"]) for one in self._known.items("powerdomains")
        }
        wanted = self._wants(bool(budget_w))
        self._forget({one["metadata"]["name"] for one in self._known.items("nodes")})
        members: dict[str, list[Capped]] = {}
        for node in self._known.items("nodes"):
            name = node["metadata"]["name"]
            kept, group = self._rounds.kept.get(name), group_of(node, facts.groups)
            if not group:
                continue
            domain = facts.groups[group].get("powerDomain", "")
            domain = domain if domain in budget_w else ""
            mine = wanted.get(name, {})
            if not domain and (kept is None or all(one.cap_w is None for one in mine.values())):
                continue  # nobody asks for a cap there
            rows = _silent(node, facts.groups[group], mine) if kept is None else self._capped(kept, mine, now_s)
            members.setdefault(domain, []).extend(rows)
        return [Domain(name, budget_w.get(name, _ANY_W), gpus) for name, gpus in sorted(members.items())]

    def _forget(self, names: Set[str]) -> None:
        """Keep nothing of nodes that are gone."""
        self._settled &= names
        for name in self._read.keys() - names:
            del self._read[name]

    def _wants(self, metered: bool) -> Mapping[str, Mapping[Pod, Want]]:
        """Node -> what the plans in force ask for its pods; nothing where neither a budget nor a plan caps anything."""
        decided = [one for plan in self._known.items("plans") for one in self._known.decided(plan)]
        if not metered and all(one.recipe.power_cap_w is None for one in decided):
            return {}
        kinds = (kind_of(one) for plural in WORKLOADS for one in self._known.items(plural))
        return wants(decided, kinds, self._known.items("pods"))

    def _capped(self, kept: Kept, wanted: Mapping[Pod, Want], now_s: float) -> list[Capped]:
        """A node's GPUs, read once for each report: most nodes say the same as a moment ago."""
        fresh = now_s - kept.came_s <= _FRESH_S
        name = kept.report.node
        settled = name in self._settled
        mark = (kept.report.boot_id, kept.report.sequence, wanted, fresh, settled)
        found = self._read.get(name)
        if found is None or found[0] != mark:
            found = self._read[name] = (mark, _capped(kept, wanted, fresh, settled))
        return found[1]


def _silent(node: Object, group: Object, wanted: Mapping[Pod, Want]) -> list[Capped]:
    """The GPUs of a node that no agent told of since this process began: they may draw all that they can.

    Otherwise a new leader would give away the watts of nodes that it has not heard of yet.
    """
    product = group.get("gpu") or gpu_of_product((node["metadata"].get("labels") or {}).get(PRODUCT, ""))
    if product is None:
        return []
    name, card = node["metadata"]["name"], _card(product)
    rows = of_gpus(wanted, [()] * node_gpus(node))
    most_w = catalogue(product).tdp_w
    return [_row(f"{name}/{i}", one, card, (most_w,) * 3, most_w, fresh=False) for i, one in enumerate(rows)]


def _id(node: str, uuid: str) -> str:
    """A GPU as its own node tells of it: what another node says of the same UUID is not about it."""
    return f"{node}/{uuid}"


@lru_cache(maxsize=256)  # names come from agents
def _card(model: str) -> GPUType | None:
    """A GPU by the driver's name of it; None for one that the catalogue does not have."""
    known = gpu_of_product(model)
    return None if known is None else catalogue(known)


def _capped(kept: Kept, wanted: Mapping[Pod, Want], fresh: bool, settled: bool) -> list[Capped]:
    """A node's GPUs; one that no plan caps would have its default limit.

    A raise that a leader before this one granted may be on its way still, so until a node was heard of twice its GPUs
    count with all that they may draw, and are not raised.
    """
    rows = []
    told = [tuple((space, pod) for space, pod, _ in gpu.pods) for gpu in kept.report.gpus]
    for gpu, want in zip(kept.report.gpus, of_gpus(wanted, told), strict=True):
        limit_w = gpu.values.get(_LIMIT)
        if limit_w is None:
            continue
        card = _card(gpu.model)
        usual_w = max(card.tdp_w if card is not None else limit_w, limit_w)
        asked_w = min((want.cap_w if want is not None else None) or usual_w, usual_w)
        limits = (asked_w, limit_w, usual_w) if settled else (min(asked_w, limit_w), usual_w, usual_w)
        rows.append(_row(_id(kept.report.node, gpu.uuid), want, card, limits, gpu.values.get("power_w", 0.0), fresh))
    return rows


def _row(
    gpu: str, want: Want | None, card: GPUType | None, limits: tuple[float, float, float], power_w: float, fresh: bool
) -> Capped:
    """`limits`: wanted, reported and safe. One whose least limit nobody published is not cut unless a plan caps it.

    Where nothing is known to run, and it draws more than GPUs do at rest, something does.
    """
    wanted_w, limit_w, safe_w = limits
    least_w = card.min_cap_w if card is not None and card.min_cap_w is not None else wanted_w
    rest_w = idle_w(card) if card is not None else wanted_w
    rests = want is None and power_w <= _REST_RATIO * rest_w
    needs_w = 0.0 if want is None else want.needs_w
    return Capped(
        gpu, wanted_w, limit_w, safe_w, fresh=fresh, least_w=least_w, needs_w=needs_w, idle_w=rest_w, rests=rests
    )
