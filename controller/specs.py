"""GPUService objects of a cluster as the planner's services, or every problem of theirs in a line each. Pure.

Old API servers drop the rules in CEL without a word, so all of them are checked here again. A model is a name of the
catalogue and nothing else: a path would read files of the controller's own.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from controller.crds.rules import broken
from controller.names import SERVICE
from planner.catalog import catalogued, gpu
from planner.service import ServiceSpec
from planner.spec.fields import Catalog, Context
from planner.spec.load import parse
from planner.techniques import techniques
from planner.yaml_text import show_path

Object = Mapping[str, Any]
_CONTEXT = Context(Catalog(gpu, catalogued, techniques), Path("/nonexistent"))


def key_of(obj: Object) -> str:
    """How a service is called across namespaces: `namespace/name`."""
    return f"{obj['metadata'].get('namespace', 'default')}/{obj['metadata']['name']}"


def service_of(obj: Object) -> str:
    """The service that an object of ours belongs to, by its label; empty for none."""
    meta = obj["metadata"]
    name = (meta.get("labels") or {}).get(SERVICE)
    return f"{meta.get('namespace')}/{name}" if name else ""


def service(obj: Object, rate_per_s: float | None = None) -> ServiceSpec | list[str]:
    """The service of an object, named by `key_of`, at `rate_per_s` where that is known; or its problems."""
    problems = [f"{one.path}: {one.message}" for one in broken("GPUService", obj)]
    if "trace" in ((obj.get("spec") or {}).get("workload") or {}):
        return problems  # its file would be read, and be one of the controller's own; one of them says so
    meta = {key: obj["metadata"][key] for key in ("name", "namespace") if key in obj["metadata"]}
    top = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": meta, "spec": obj.get("spec")}
    found, more = parse(top, _CONTEXT)
    problems += [f"{show_path(path)}: {text}" for path, text in more]
    if problems or not isinstance(found, ServiceSpec):
        return list(dict.fromkeys(problems))
    return at_rate(replace(found, name=key_of(obj)), rate_per_s)


def mean_tokens(spec: ServiceSpec) -> tuple[float, float] | None:
    """Mean input and output tokens of a service's requests; None where none are expected."""
    load = spec.workload
    if not load.rate_per_s:
        return None
    rows = [
        (rate, load.mean_tokens.get(one, (one.input_tokens, one.output_tokens)))
        for one, rate in load.rates_per_s.items()
    ]
    inputs, outputs = (sum(rate * sizes[i] for rate, sizes in rows) / load.rate_per_s for i in (0, 1))
    return inputs, outputs


def sized(spec: ServiceSpec, sizes: tuple[float, float]) -> ServiceSpec:
    """The same service with prompts and answers so many times as long; buckets keep their edges."""
    if sizes == (1.0, 1.0):
        return spec
    load = spec.workload
    means = {one: load.mean_tokens.get(one, (one.input_tokens, one.output_tokens)) for one in load.rates_per_s}
    longer = {
        one: (max(inputs * sizes[0], 1.0), max(outputs * sizes[1], 1.0)) for one, (inputs, outputs) in means.items()
    }
    return replace(spec, workload=replace(load, mean_tokens=longer))


def at_rate(spec: ServiceSpec, rate_per_s: float | None) -> ServiceSpec:
    """The same service at another rate and the same mix; a service planned for none keeps its sizes in equal shares."""
    load = spec.workload
    if rate_per_s is None or not load.rates_per_s:
        return spec
    total = load.rate_per_s
    rates = {
        bucket: rate_per_s * (rate / total if total else 1 / len(load.rates_per_s))
        for bucket, rate in load.rates_per_s.items()
    }
    return replace(spec, workload=replace(load, rates_per_s=rates))
