"""What users may not add to the pods of a service, in words: what Muster decides, and GPUs that no plan knows of. Pure.

Everything else of a pod template they may: sidecars, init containers, volumes, environment, annotations, security.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from controller import names
from controller.hardware import GPU_RESOURCE

Object = Mapping[str, Any]
ENGINE = "engine"
PORT, PORT_NAME = 8000, "http"
MODELS = "/models"
CLAIM = "gpus"  # of a pod, for its GPUs, where they are claimed
_GPUS = (GPU_RESOURCE, "nvidia.com/mig-")
_MANAGED = "app.kubernetes.io/managed-by"
_CONTAINERS = ("containers", "initContainers")
_INNER = ("resources", "startupProbe", "livenessProbe", "readinessProbe", "lifecycle", "securityContext")
_LISTS = (*_CONTAINERS, "volumes", "tolerations", "imagePullSecrets", "topologySpreadConstraints", "resourceClaims")
_KEYS = {"volumeMounts": "mountPath"}  # of lists that are merged by another key than the name
_DECIDED = {"nodeName": "nodeSelector of the inventory's group", "affinity": "nodeSelector"}
_VOLUMES = {
    "weights": "another name, or spec.serving.weights",
    "cache": "another name, mounted at /cache to keep what is fetched",
    "shm": "another name, mounted at /dev/shm",
}


def refused(given: object) -> list[str]:
    """Fields of a pod template that Muster decides and that nobody else may set, with where to say it instead."""
    if odd := list(_odd(given)):
        return odd
    assert isinstance(given, Mapping)
    return [*_of_pod(given), *(text for part in _CONTAINERS for text in _of_containers(given, part))]


def on_host(given: Object) -> str:
    """The first field of a pod template that takes ports of the node, where one pod keeps another away; or nothing."""
    spec = given.get("spec") or {}
    if spec.get("hostNetwork"):
        return "spec.hostNetwork"
    ports = (
        (f"spec.{part}[{index}].ports[{row}].hostPort", port)
        for part in _CONTAINERS
        for index, one in enumerate(spec.get(part) or ())
        for row, port in enumerate(one.get("ports") or ())
    )
    return next((where for where, port in ports if port.get("hostPort")), "")


def _of_pod(given: Object) -> Iterator[str]:
    meta, spec = given.get("metadata") or {}, given.get("spec") or {}
    for part in ("labels", "annotations"):
        for key in sorted(map(str, meta.get(part) or {})):
            if key.startswith(f"{names.GROUP}/") or (part, key) == ("labels", _MANAGED):
                yield f"metadata.{part}: got {key}, by which Muster knows its own, allowed: others"
    for key, instead in _DECIDED.items():
        if key in spec:
            yield f"spec.{key}: got a value, allowed: {instead}"
    for index, one in enumerate(spec.get("volumes") or ()):
        if (name := one.get("name")) in _VOLUMES:
            yield f"spec.volumes[{index}].name: got {name}, which is Muster's own, allowed: {_VOLUMES[name]}"
    for index, one in enumerate(spec.get("resourceClaims") or ()):
        if one.get("name") == CLAIM:
            yield f"spec.resourceClaims[{index}].name: got {CLAIM}, the claim for the planned GPUs, allowed: others"


def _of_containers(given: Object, part: str) -> Iterator[str]:
    for index, one in enumerate((given.get("spec") or {}).get(part) or ()):
        where = f"spec.{part}[{index}]"
        engine = part == "containers" and one.get("name") == ENGINE
        resources = one.get("resources") or {}
        asked = sorted({key for rows in ("limits", "requests") for key in resources.get(rows) or {}})
        for key in (key for key in asked if str(key).startswith(_GPUS)):
            instead = "cpu and memory" if engine else "GPUs of the engine alone, which are those that the plan counts"
            yield f"{where}.resources: got {key}, allowed: {instead}"
        for row, port in enumerate(one.get("ports") or ()):
            if port.get("containerPort") == PORT or (engine and port.get("name") == PORT_NAME):
                yield f"{where}.ports[{row}]: got {PORT} or {PORT_NAME}, where the engine answers, allowed: others"
        if engine:
            yield from _of_engine(one, where)


def _of_engine(one: Object, where: str) -> Iterator[str]:
    for key in ("command", "args", "image"):
        if key in one:
            instead = "spec.serving.image" if key == "image" else "what the plan says"
            yield f"{where}.{key}: got a value, allowed: {instead}"
    for row, env in enumerate(one.get("env") or ()):
        if env.get("name") == "HF_TOKEN":
            instead = "a Secret named in spec.serving.weights.huggingFace.secretRef"
            yield f"{where}.env[{row}]: got HF_TOKEN, allowed: {instead}"
    for row, mount in enumerate(one.get("volumeMounts") or ()):
        if str(mount.get("mountPath", "")).rstrip("/") == MODELS:
            yield f"{where}.volumeMounts[{row}]: got {MODELS}, allowed: spec.serving.weights, or another path"
    for row, claim in enumerate((one.get("resources") or {}).get("claims") or ()):
        if claim.get("name") == CLAIM:
            yield f"{where}.resources.claims[{row}]: got {CLAIM}, which the engine has, allowed: others"


def _odd(given: object) -> Iterator[str]:
    """What has another form than Kubernetes gives it, as far as anything of ours reads it."""
    if not isinstance(given, Mapping):
        yield f": got {_kind(given)}, allowed: a mapping"
        return
    yield from _mappings(given, ("metadata", "spec"), "")
    if isinstance(meta := given.get("metadata"), Mapping):
        yield from _mappings(meta, ("labels", "annotations"), "metadata.")
    spec = given.get("spec")
    if not isinstance(spec, Mapping):
        return
    for key in _LISTS:
        yield from _rows(spec.get(key), "spec.", key)
    for part in _CONTAINERS:
        rows = spec.get(part)
        for index, one in enumerate(rows if isinstance(rows, list) else ()):
            if isinstance(one, Mapping):
                yield from _odd_container(one, f"spec.{part}[{index}]")


def _odd_container(one: Object, where: str) -> Iterator[str]:
    for key in ("env", "volumeMounts", "ports"):
        yield from _rows(one.get(key), f"{where}.", key)
    yield from _mappings(one, _INNER, f"{where}.")
    if isinstance(resources := one.get("resources"), Mapping):
        yield from _mappings(resources, ("limits", "requests"), f"{where}.resources.")
        yield from _rows(resources.get("claims"), f"{where}.resources.", "claims")


def _mappings(given: Object, keys: tuple[str, ...], where: str) -> Iterator[str]:
    for key in keys:
        if not isinstance(value := given.get(key), Mapping | None):
            yield f"{where}{key}: got {_kind(value)}, allowed: a mapping"


def _rows(value: object, where: str, key: str) -> Iterator[str]:
    if value is None:
        return
    if not isinstance(value, list):
        yield f"{where}{key}: got {_kind(value)}, allowed: a list"
        return
    by = _KEYS.get(key, "name")
    for index, one in enumerate(value):
        if not isinstance(one, Mapping):
            yield f"{where}{key}[{index}]: got {_kind(one)}, allowed: a mapping"
        elif not isinstance(one.get(by), str | None):
            yield f"{where}{key}[{index}].{by}: got {_kind(one[by])}, allowed: text"


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list) else repr(value)[:80]
