"""How an engine is started in its container: its image, its weights, and its command line."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from controller.manifests.passthrough import MODELS, PORT
from planner.catalog import checkpoint_of, engine_options
from planner.plan import Allocation

Object = Mapping[str, Any]
_INIT_PORT = 20000
_IMAGES = {"vllm": "vllm/vllm-openai:v{}", "sglang": "lmsysorg/sglang:v{}"}


def image(serving: Object, engine: str) -> str:
    """The engine's image: the one asked for, or the published one of the release that its flags were checked with."""
    return str(
        serving.get("image") or _IMAGES[engine].format(serving.get("engineVersion") or engine_options(engine).version)
    )


def weights(serving: Object, asked: str, planned: str) -> tuple[str, list[Object], list[Object], list[Object]]:
    """What the engine is told to load; volumes, mounts and environment that lead there.

    `asked`: the model as the service names it; `planned`: the row of the catalogue that it was planned as.
    """
    given = serving.get("weights") or {}
    mount = {"name": "weights", "mountPath": MODELS, "readOnly": True}
    if (claim := given.get("pvc")) is not None:
        volume = {"name": "weights", "persistentVolumeClaim": {"claimName": claim["claimName"], "readOnly": True}}
        return "/".join([MODELS, *([claim["path"]] if claim.get("path") else [])]), [volume], [mount], []
    if (oci := given.get("image")) is not None:
        return MODELS, [{"name": "weights", "image": {"reference": oci["reference"]}}], [mount], []
    remote = given.get("huggingFace") or {"id": checkpoint_of(asked, planned) or planned}
    env: list[Object] = [{"name": "HF_HOME", "value": "/cache"}]
    if (secret := remote.get("secretRef")) is not None:
        source = {"secretKeyRef": {"name": secret["name"], "key": secret.get("key", "token")}}
        env.append({"name": "HF_TOKEN", "valueFrom": source})
    cache = {"name": "cache", "emptyDir": {}}
    return remote["id"], [cache], [{"name": "cache", "mountPath": "/cache"}], env


def arguments(allocation: Allocation, called: Sequence[str], model: str) -> list[str]:
    """The engine's command line for a replica on one node, as a list.

    `called`: what requests may call the model, the name that metrics have first. SGLang takes one, and any in requests.
    """
    if allocation.engine == "sglang":
        told = {**allocation.flags, "host": "0.0.0.0", "port": str(PORT), "enable-metrics": ""}
        start, called = ["python3", "-m", "sglang.launch_server", "--model-path", model], called[:1]
    else:
        told = dict(allocation.flags)
        start = ["vllm", "serve", model, "--port", str(PORT)]
    words = [word for flag, value in told.items() for word in ([f"--{flag}", value] if value else [f"--{flag}"])]
    return [*start, *words, "--served-model-name", *dict.fromkeys(called)]


def command(allocation: Allocation, called: Sequence[str], model: str, size: int) -> list[str]:
    """Of several pods, the workload sets which of them this is (RANK), where the first is (LEADER), and HEADLESS."""
    words = arguments(allocation, called, model)
    if size == 1:
        return words
    line = f"exec {shlex.join(words)} --nnodes {size} --node-rank $RANK"
    if allocation.engine == "sglang":
        return ["/bin/sh", "-c", f"{line} --dist-init-addr $LEADER:{_INIT_PORT}"]
    return ["/bin/sh", "-c", f"{line} --master-addr $LEADER $HEADLESS"]
