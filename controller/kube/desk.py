"""The desk that reports come to in a cluster: who may report, what a report does, which caps go back."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from controller import names
from controller.caps import Capped
from controller.grants import Domain, Grants
from controller.hardware import group_of, holds
from controller.identity import Identities
from controller.kube.known import Known, gpu_of_product
from controller.kube.node_round import NodeRound
from controller.page import page
from controller.plans import uncapped
from controller.reports import Kept, Report
from controller.specs import service_of
from planner.catalog import gpu as catalogue
from planner.units import POWER

Object = Mapping[str, Any]
_LIMIT = "power_limit_enforced_w"
_FRESH_S = 60.0
_ANY_W = 1e12  # of nodes that no power domain feeds


class KubernetesDesk:
    """Everything is asked of those that keep it; nothing is kept here but what was granted."""

    def __init__(
        self,
        known: Known,
        rounds: NodeRound,
        identities: Identities,
        leads: Callable[[], bool],
        ready: Callable[[], bool],
    ) -> None:
        self._known, self._rounds, self._identities = known, rounds, identities
        self._leads, self._ready = leads, ready
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
        kept = self._rounds.hear(report, node, self._known.clock())
        for gpu in report.gpus:
            if _LIMIT in gpu.values:
                self.grants.confirmed(gpu.uuid, gpu.values[_LIMIT])
        return kept

    def caps(self, report: Report) -> Sequence[dict[str, object]]:
        """The caps of a node's GPUs."""
        return self.grants.reply([gpu.uuid for gpu in report.gpus])

    def metrics(self) -> str:
        """What Prometheus is told."""
        return page(self._known, self._rounds, self.grants)

    def _domains(self) -> list[Domain]:
        """Every power domain with what its GPUs are to have, by the plans in force; and the GPUs of none."""
        facts, now_s = self._known.facts(), self._known.clock()
        budget_w = {
            one["metadata"]["name"]: POWER.parse(one["spec"]["budget"]) for one in self._known.items("powerdomains")
        }
        planned = self._planned_w()
        members: dict[str, list[Capped]] = {}
        for node in self._known.items("nodes"):
            name = node["metadata"]["name"]
            kept, group = self._rounds.kept.get(name), group_of(node, facts.groups)
            if kept is None or not group:
                continue
            domain = facts.groups[group].get("powerDomain", "")
            domain = domain if domain in budget_w else ""
            if not domain and name not in planned:
                continue  # nobody asks for a cap there
            members.setdefault(domain, []).extend(_capped(kept, planned.get(name), now_s))
        return [Domain(name, budget_w.get(name, _ANY_W), gpus) for name, gpus in sorted(members.items())]

    def _planned_w(self) -> dict[str, float]:
        """Node -> the highest cap that a plan gives replicas on it; a node with an uncapped one is left out."""
        caps: dict[tuple[str, str, str], float] = {}
        for plan in self._known.items("plans"):
            for one in self._known.decided(plan):
                if one.recipe.power_cap_w is not None:
                    key = (one.service, str(uncapped(one.recipe)), one.pool)
                    caps[key] = max(caps.get(key, 0.0), one.recipe.power_cap_w)
        kinds = {one.kind.name: one.kind for one in self._known.fleet().running} if caps else {}
        found: dict[str, float] = {}
        free: set[str] = set()
        for pod in self._known.items("pods") if caps else ():
            labels = pod["metadata"].get("labels") or {}
            kind = kinds.get(f"{pod['metadata']['namespace']}/{labels.get(names.KIND)}")
            if kind is None or not service_of(pod) or not holds(pod):
                continue
            node, watts = pod["spec"]["nodeName"], caps.get((kind.service, kind.recipe, kind.pool))
            if watts is None:
                free.add(node)
            else:
                found[node] = max(found.get(node, 0.0), watts)
        return {node: watts for node, watts in found.items() if node not in free}


def _capped(kept: Kept, wanted_w: float | None, now_s: float) -> list[Capped]:
    """A node's GPUs; one that no plan caps is to have its default limit."""
    rows = []
    for gpu in kept.report.gpus:
        limit_w = gpu.values.get(_LIMIT)
        if limit_w is None:
            continue
        known = gpu_of_product(gpu.model)
        usual_w = limit_w if known is None else max(catalogue(known).tdp_w, limit_w)
        fresh = now_s - kept.came_s <= _FRESH_S
        rows.append(Capped(gpu.uuid, min(wanted_w or usual_w, usual_w), limit_w, usual_w, fresh=fresh))
    return rows
