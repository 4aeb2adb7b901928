"""The read model: everything that API, commands and pages show of a running controller, as frozen dataclasses.

Keys carry their units; times are Unix seconds by the cluster's clock. This module only gathers the others' names.
"""

from controller.web.binding import Binding
from controller.web.model_events import EventRow, events
from controller.web.model_nodes import FaultRow, GpuTile, Health, NodeRow, PlacementRow, node, nodes, tiles
from controller.web.model_overview import Change, GpuCount, Overview, changes, overview
from controller.web.model_plans import (
    AllocationRow,
    ChangeOfLimit,
    History,
    MoveRow,
    NoPlan,
    Outcome,
    PlanDiff,
    PlanView,
    diff,
    history,
    plan,
    plans,
)
from controller.web.model_power import CapRow, DomainRow, domain, domains
from controller.web.model_services import (
    ConditionRow,
    LatencyRow,
    ReplicaRow,
    ServiceDetail,
    ServiceRow,
    WeightRow,
    service,
    services,
)

__all__ = [
    "AllocationRow",
    "Binding",
    "CapRow",
    "Change",
    "ChangeOfLimit",
    "ConditionRow",
    "DomainRow",
    "EventRow",
    "FaultRow",
    "GpuCount",
    "GpuTile",
    "Health",
    "History",
    "LatencyRow",
    "MoveRow",
    "NoPlan",
    "NodeRow",
    "Outcome",
    "Overview",
    "PlacementRow",
    "PlanDiff",
    "PlanView",
    "ReplicaRow",
    "ServiceDetail",
    "ServiceRow",
    "WeightRow",
    "changes",
    "diff",
    "domain",
    "domains",
    "events",
    "history",
    "node",
    "nodes",
    "overview",
    "plan",
    "plans",
    "service",
    "services",
    "tiles",
]
