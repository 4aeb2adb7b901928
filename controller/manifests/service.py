"""What stands around a service's replicas: names to reach them by, disruption budgets, and the router's weights."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import orjson

from controller import names
from controller.cluster import Weights
from controller.kube.discovery import Served
from controller.manifests.apart import POOLS, ROUTER, router_of
from controller.manifests.passthrough import CLAIM, PORT
from controller.manifests.pod import claims_name
from controller.manifests.workload import PEERS, Made, pool_of, templates
from controller.plans import owner
from planner.service import Bucket

Object = Mapping[str, Any]
TABLE = "weights.json"
_MOST_NAME = 63


def around(service: Object, made: Sequence[Made], served: Served) -> list[Object]:
    """Services, disruption budget and claim templates of a service; the same for the same plan."""
    meta, serving = service["metadata"], service["spec"].get("serving") or {}
    pools, router = {one.kind.pool for one in made} & set(POOLS), router_of(service)
    entry = {names.SERVICE: meta["name"], names.ENTRY: "true"}
    if pools and router:  # without one nothing of the plan is started, and what served before still does
        entry = {ROUTER: router}
    found = [_service(service, meta["name"], entry)]
    found += [_service(service, one.name, {names.KIND: one.name, names.SERVES: "true"}) for one in made]
    for pool in sorted(pools):  # under a name that no plan changes, for routers that are told names
        of_pool = {names.SERVICE: meta["name"], names.ROLE: pool, names.SERVES: "true"}
        found.append(_service(service, _short(meta["name"], f"-{pool}-pods"), of_pool, headless=True))
    if served.get("leaderworkersets") is None:  # those have names of their own
        peers = [one for one in made if one.pod.size > 1]
        found += [_service(service, one.name + PEERS, {names.KIND: one.name}, True, early=True) for one in peers]
    found.append(_budget(service, served, int(serving.get("maxUnavailable", 0)), made))
    if serving.get("deviceClass") and (claims := served.get("resourceclaimtemplates")) is not None:
        found += [_claims(service, gpus, claims.version) for gpus in sorted({one.pod.gpus for one in made})]
    return found


def _meta(service: Object, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": service["metadata"]["namespace"],
        "labels": names.labels(service["metadata"]["name"]),
        "ownerReferences": [owner(service)],
    }


def _service(
    service: Object, name: str, selector: Mapping[str, str], headless: bool = False, early: bool = False
) -> Object:
    """`headless`: its name means the pods' own addresses; `early`: also those of pods that do not serve yet."""
    spec: dict[str, Any] = {
        "selector": dict(selector),
        "ports": [{"name": "http", "port": PORT, "protocol": "TCP", "targetPort": "http"}],
    }
    if headless:
        spec["clusterIP"] = "None"
    if early:  # the pods of a replica find each other by name before they serve
        spec["publishNotReadyAddresses"] = True
    meta = _meta(service, name)
    meta["labels"] |= {key: value for key, value in selector.items() if key == names.KIND}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}


def _budget(service: Object, served: Served, most: int, made: Sequence[Made]) -> Object:
    """Of a StatefulSet's replica only the first pod is ever ready, so there it is said how many are to be."""
    resource = served.need("poddisruptionbudgets")
    most = max(most, 1)  # with none, nobody could ever drain a node
    first_only = served.get("leaderworkersets") is None and any(one.pod.size > 1 for one in made)
    ready = max(sum(one.replicas for one in made) - most, 0)
    return {
        "apiVersion": resource.version,
        "kind": resource.kind,
        "metadata": _meta(service, service["metadata"]["name"]),
        "spec": {
            **({"minAvailable": ready} if first_only else {"maxUnavailable": most}),
            "selector": {"matchLabels": {names.SERVICE: service["metadata"]["name"]}},
        },
    }


def _claims(service: Object, gpus: int, version: str) -> Object:
    exactly = {
        "deviceClassName": service["spec"]["serving"]["deviceClass"],
        "allocationMode": "ExactCount",
        "count": gpus,
    }
    return {
        "apiVersion": version,
        "kind": "ResourceClaimTemplate",
        "metadata": _meta(service, claims_name(service, gpus)),
        "spec": {"spec": {"devices": {"requests": [{"name": CLAIM, "exactly": exactly}]}}},
    }


def claimed(workloads: Iterable[Object]) -> set[str]:
    """The ResourceClaimTemplates that workloads name."""
    return {
        str(one.get("resourceClaimTemplateName"))
        for workload in workloads
        for template in templates(workload)
        for one in (template.get("spec") or {}).get("resourceClaims") or ()
    }


def table_name(service: str) -> str:
    """The name of a service's ConfigMap of weights."""
    return _short(service, "-routing")


def _short(service: str, behind: str) -> str:
    """A service's name with something behind it, in at most 63 characters and apart from those that begin alike."""
    if len(service) + len(behind) <= _MOST_NAME:
        return service + behind
    mark = sha256(service.encode()).hexdigest()[:8]
    return f"{service[: _MOST_NAME - len(behind) - len(mark) - 1]}-{mark}{behind}"


def table(service: Object, weights: Weights) -> Object:
    """The router's table: for each size of request, the share of each kind's Service."""
    rows = [
        {
            "sloClass": bucket.slo_class,
            "inputTokens": bucket.input_tokens,
            "outputTokens": bucket.output_tokens,
            "backends": {kind.rpartition("/")[2]: round(share, 6) for kind, share in sorted(shares.items())},
        }
        for bucket, shares in sorted(weights.items())
    ]
    text = orjson.dumps({"port": PORT, "buckets": rows}, option=orjson.OPT_INDENT_2).decode()
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _meta(service, table_name(service["metadata"]["name"])),
        "data": {TABLE: text},
    }


def weights_of(obj: Object) -> Weights:
    """The weights behind `table`, kinds by their names in the cluster; nothing for a table that cannot be read."""
    space = obj["metadata"]["namespace"]
    try:
        rows = orjson.loads((obj.get("data") or {}).get(TABLE) or "{}").get("buckets") or ()
        return {
            Bucket(row["sloClass"], row["inputTokens"], row["outputTokens"]): {
                f"{space}/{name}": float(share) for name, share in row["backends"].items()
            }
            for row in rows
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def route(service: Object, weights: Weights, rates_per_s: Mapping[Bucket, float], served: Served) -> Object | None:
    """The HTTPRoute of a service with a Gateway, weighed by requests of all sizes; None without one."""
    gateway = (service["spec"].get("serving") or {}).get("gateway")
    resource = served.get("httproutes")
    if gateway is None or resource is None:
        return None
    name = service["metadata"]["name"]
    total: dict[str, float] = {}
    for bucket, shares in weights.items():
        for kind, share in shares.items():
            backend = name if pool_of(kind) in POOLS else kind.rpartition("/")[2]  # two pools: the router's Service
            total[backend] = total.get(backend, 0.0) + share * (rates_per_s.get(bucket) or 1e-9)
    summed = sum(total.values())
    backends = [
        {"name": backend, "port": PORT, "weight": round(1000 * rate / summed)}
        for backend, rate in sorted(total.items())
    ]
    parent = {key: gateway[key] for key in ("name", "namespace") if gateway.get(key)}
    spec: dict[str, Any] = {
        "parentRefs": [parent],
        "rules": [{"backendRefs": backends or [{"name": name, "port": PORT, "weight": 1}]}],
    }
    if gateway.get("hostnames"):
        spec["hostnames"] = list(gateway["hostnames"])
    return {"apiVersion": resource.version, "kind": resource.kind, "metadata": _meta(service, name), "spec": spec}


def foreign_scalers(workloads: Iterable[str], scalers: Iterable[Object]) -> list[str]:
    """Autoscalers that set replicas of workloads, which Muster owns: `kind name targets workload`."""
    ours = set(workloads)
    found = []
    for one in scalers:
        target = str(((one.get("spec") or {}).get("scaleTargetRef") or {}).get("name", ""))
        if target in ours:
            found.append(f"{one.get('kind', 'autoscaler')} {one['metadata']['name']} targets {target}")
    return sorted(found)
