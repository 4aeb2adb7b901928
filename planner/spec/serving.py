"""How a service's engines run in a cluster: what the planner reads past and the controller needs."""

from typing import Annotated, Any

from pydantic import Field

from planner.spec.fields import REFERENCE, DNSLabel, DNSName, Label, Shape

Reference = Annotated[str, Field(pattern=REFERENCE)]


class SecretKey(Shape):
    """One key of a Secret in the service's namespace."""

    name: DNSName
    """Name of the Secret."""
    key: Label = "token"
    """Key in it."""


class HuggingFaceWeights(Shape):
    """Weights that are fetched when a replica starts."""

    id: Reference
    """Repository, such as meta-llama/Llama-3.1-8B-Instruct."""
    secret_ref: SecretKey | None = None
    """Where the access token is, for repositories that ask for one."""


class ClaimedWeights(Shape):
    """Weights on a PersistentVolumeClaim of the service's namespace."""

    claim_name: DNSName
    """Name of the claim."""
    path: Reference | None = None
    """Folder in it, relative; left out, its root."""


class ImageWeights(Shape):
    """Weights in an OCI image that is mounted as a volume."""

    reference: Reference
    """The image, best with its digest."""


class WeightsShape(Shape):
    """Where the weights are: one of pvc, huggingFace, image."""

    pvc: ClaimedWeights | None = None
    """On a PersistentVolumeClaim."""
    hugging_face: HuggingFaceWeights | None = None
    """In a Hugging Face repository."""
    image: ImageWeights | None = None
    """In an OCI image."""


class GatewayShape(Shape):
    """A Gateway of the Gateway API that requests come in by."""

    name: DNSName
    """Name of the Gateway."""
    namespace: DNSLabel | None = None
    """Its namespace; left out, that of the service."""
    hostnames: list[Annotated[str, Field(max_length=253)]] = Field(default=[], max_length=16)
    """Host names of the service; left out, those of the Gateway."""


class ServingShape(Shape):
    """How the engines of a service run in a cluster; a plan does not depend on it."""

    image: Reference | None = None
    """Container image of the engine, with a tag or digest."""
    engine_version: Label | None = None
    """Release of the engine in the image, such as 0.19.0."""
    weights: WeightsShape | None = None
    """Where the weights are; left out, the model's Hugging Face id."""
    queue: DNSLabel | None = None
    """Kueue LocalQueue that the pods are charged to."""
    priority_class: DNSName | None = None
    """PriorityClass of the pods."""
    device_class: DNSName | None = None
    """DeviceClass to claim GPUs by (dynamic resource allocation); left out, the resource nvidia.com/gpu."""
    gateway: GatewayShape | None = None
    """Gateway whose HTTPRoute Muster weighs; left out, the router reads the weights from a ConfigMap alone."""
    max_unavailable: Annotated[int, Field(ge=0, le=1000)] = 0
    """Replicas that may be missing while the service is moved; with 0, a move waits for spare GPUs."""
    tolerations: list[dict[str, Any]] = Field(default=[], max_length=32)
    """Tolerations of the pods, as Kubernetes has them."""
    pod_template: dict[str, Any] | None = None
    """Whatever else the pods need, merged into their template; containers by name."""
