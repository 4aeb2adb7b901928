"""The PriorityClass of a service's pods: schedulers and nodes are to rank services as the planner does. Pure.

It never preempts. Who takes whose place is planned, and done with spare replicas and disruption budgets; a scheduler
that preempts looks at neither. Who wants that names another class in `spec.serving.priorityClass`. A priority below
zero is below that of pods without any class, and those may preempt.
"""

from collections.abc import Mapping
from typing import Any

from controller.kube.discovery import Resource

Object = Mapping[str, Any]
_OURS = {"app.kubernetes.io/part-of": "muster", "app.kubernetes.io/managed-by": "muster"}


def class_of(service: Object) -> str:
    """The name of the class that Muster makes for a service; empty where it has priority 0, or a class of its own."""
    spec = service["spec"]
    serving, priority = spec.get("serving") or {}, int(spec.get("priority", 0))
    named = ((serving.get("podTemplate") or {}).get("spec") or {}).get("priorityClassName")
    if not priority or serving.get("priorityClass") or named:
        return ""
    return f"muster-{priority}" if priority > 0 else f"muster-minus-{-priority}"


def class_used(service: Object) -> str:
    """The class that a service's pods name: one of its own, or Muster's; empty for none."""
    serving = service["spec"].get("serving") or {}
    named = ((serving.get("podTemplate") or {}).get("spec") or {}).get("priorityClassName")
    return str(named or serving.get("priorityClass") or class_of(service))


def priority_class(service: Object, resource: Resource) -> Object:
    """The class of a service, which is that of all services of its priority and so belongs to none of them."""
    priority = int(service["spec"]["priority"])
    return {
        "apiVersion": resource.version,
        "kind": resource.kind,
        "metadata": {
            "name": class_of(service),
            "labels": dict(_OURS),
        },
        "value": priority,
        "globalDefault": False,
        "preemptionPolicy": "Never",
        "description": f"Pods of GPUServices of priority {priority}. Muster removes it when nothing uses it.",
    }


def is_ours(obj: Object) -> bool:
    """Whether Muster made a class."""
    labels = obj["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in _OURS.items())
