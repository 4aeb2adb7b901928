"""The form for the common case: a service from a few answers, as YAML that people can go on with. Pure."""

from collections.abc import Mapping
from typing import Any

from controller.embedded.schema import bare
from planner.yaml_text import dump

Object = Mapping[str, Any]

START = """apiVersion: muster.dev/v1alpha1
kind: GPUService
metadata:
  name: chat
  namespace: default
spec:
  model: meta-llama/Llama-3.1-8B-Instruct
  workload:
    ratePerSecond: 10
    buckets:
      - {inputTokens: 512, outputTokens: 128, share: 0.7}
      - {inputTokens: 2048, outputTokens: 512, share: 0.3}
  slos:
    - {name: interactive, ttft: 500ms, tpot: 50ms, percentile: p95}
"""


def service(answers: Object) -> dict[str, Any]:
    """The object of a form's answers; what was left empty is left out."""
    slo = {key: answers[key] for key in ("ttft", "tpot") if answers.get(key)}
    spec: dict[str, Any] = {
        "model": answers["model"],
        "workload": {
            "ratePerSecond": _number(answers["rate"]),
            "buckets": [
                {
                    "inputTokens": _number(answers["input"]),
                    "outputTokens": _number(answers["output"]),
                    "share": 1,
                }
            ],
        },
    }
    if slo:
        spec["slos"] = [{"name": "all", **slo, "percentile": answers.get("percentile") or "p95"}]
    if answers.get("budget"):
        spec["constraints"] = {"budgetPerHour": f"${_number(answers['budget']):g}"}
    if answers.get("priority"):
        spec["priority"] = _number(answers["priority"])
    return {
        "apiVersion": "muster.dev/v1alpha1",
        "kind": "GPUService",
        "metadata": {"name": answers["name"], "namespace": answers.get("namespace") or "default"},
        "spec": spec,
    }


def text(answers: Object) -> str:
    """The same as YAML."""
    return dump(service(answers))


def editable(obj: Object) -> str:
    """A service of the cluster as a person edits it: without what the cluster says of it."""
    meta = {key: obj["metadata"][key] for key in ("name", "namespace", "labels") if obj["metadata"].get(key)}
    return dump({"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": meta, "spec": bare(obj)["spec"]})


def _number(value: object) -> Any:
    """Whole numbers stay whole."""
    number = float(str(value))
    return int(number) if number == int(number) else number
