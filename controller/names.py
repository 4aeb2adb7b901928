"""The names by which Muster's objects, labels, annotations and writers are known in a cluster."""

GROUP, VERSION = "muster.dev", "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

MANAGED_BY = "app.kubernetes.io/managed-by"  # label: `muster` on what is ours
SERVICE = f"{GROUP}/service"  # label: the GPUService that an object belongs to
KIND = f"{GROUP}/kind"  # label: the kind of replicas, `controller.cluster.Kind.name`
ROLE = f"{GROUP}/role"  # label: serve, prefill or decode
SERVES = f"{GROUP}/serves"  # label: the pod of a replica that answers requests, the first of several
ENTRY = f"{GROUP}/entry"  # label: the same, of the pools that users' requests come in by

DECISION = f"{GROUP}/decision-id"  # annotation: the decision that an object follows
EPOCH = f"{GROUP}/epoch"  # annotation: leadership under which an object was last written
HASH = f"{GROUP}/applied-hash"  # annotation: what was applied, so that a field that is dropped is seen too
PAUSED = f"{GROUP}/paused"  # annotation on a GPUService: nothing of it is moved
APPROVED = (
    f"{GROUP}/approved"  # annotation on a GPUService or Node: the decision that a person approved; on a node, why
)
POWER_LIMIT = f"{GROUP}/power-limit-watts"  # annotation on a Node: the caps of its GPUs
KIND_SPEC = f"{GROUP}/kind-spec"  # annotation on a workload: its `controller.cluster.Kind` as JSON
DEADLINE = f"{GROUP}/ready-within-seconds"  # annotation on a workload: a replica that takes longer is stalled
SIZE = f"{GROUP}/pods-per-replica"  # annotation on a workload, where that is not 1
RECIPE = f"{GROUP}/recipe"  # annotation: how a replica runs, in words

TAINT = f"{GROUP}/gpu-fault"  # on nodes that are out for a fault
CONDITION = "GPUHealthy"  # of nodes
FINALIZER = f"{GROUP}/cleanup"

CONTROLLER, ROUTER, NODES = "muster-controller", "muster-router", "muster-nodes"  # field managers


def labels(service: str) -> dict[str, str]:
    """What every object of a service carries."""
    return {
        "app.kubernetes.io/name": "muster-service",
        "app.kubernetes.io/instance": service,
        "app.kubernetes.io/part-of": "muster",
        MANAGED_BY: "muster",
        SERVICE: service,
    }
