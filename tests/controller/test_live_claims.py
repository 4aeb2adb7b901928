"""ResourceClaimTemplates come, change with the device class, and go, on a server that serves them.

The API server of the tests knows no claims in pods and drops them, so its pods have no GPUs; templates it keeps as a
custom resource.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from controller.kube.rest import ApiError
from tests.controller.live import Site, a_controller, until
from tests.controller.plane.nodes import Nodes
from tests.controller.plane.plane import Plane

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
TEMPLATES = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaimtemplates"
_OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_NAMES = {"kind": "ResourceClaimTemplate", "listKind": "ResourceClaimTemplateList"}
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": "resourceclaimtemplates.resource.k8s.io",
        "annotations": {"api-approved.kubernetes.io": "unapproved, a stand-in for tests"},
    },
    "spec": {
        "group": "resource.k8s.io",
        "scope": "Namespaced",
        "names": {**_NAMES, "plural": "resourceclaimtemplates", "singular": "resourceclaimtemplate"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": _OPEN}}],
    },
}


@pytest.fixture
def site(plane: Plane, nodes: Nodes) -> Iterator[Site]:
    made = Site(plane)
    nodes.add("big", 8, pool="big")
    made.inventory()
    made.post(CRDS, CRD)
    until(lambda: serves(made))
    yield made
    made.clear()
    made.remove(f"{CRDS}/resourceclaimtemplates.resource.k8s.io")
    until(lambda: not serves(made))


def serves(site: Site) -> bool:
    try:
        site.api.request("GET", TEMPLATES)
    except ApiError as error:
        if error.status != 404:
            raise
        return False
    return True


def classes(site: Site) -> dict[str, str]:
    """Name of a template -> the device class that it asks for."""

    def asked(one: Any) -> str:
        return str(one["spec"]["spec"]["devices"]["requests"][0]["exactly"]["deviceClassName"])

    return {one["metadata"]["name"]: asked(one) for one in site.api.request("GET", TEMPLATES)["items"]}


def test_another_device_class_makes_another_template_and_the_unused_one_goes(site: Site) -> None:
    with a_controller(site) as controller:
        site.service("chat", serving={"deviceClass": "gpu.nvidia.com"})
        until(lambda: list(classes(site).values()) == ["gpu.nvidia.com"], 40)
        until(lambda: site.is_ready("chat"), 40)
        time.sleep(2.5)
        before, writes = classes(site), controller.applier.writes
        time.sleep(5.0)  # two ticks
        assert controller.applier.writes == writes
        site.change("chat", {"spec": {"serving": {"deviceClass": "mig.nvidia.com"}}})
        until(lambda: list(classes(site).values()) == ["mig.nvidia.com"], 40)
        assert not before.keys() & classes(site).keys()
        site.delete("chat")
        until(lambda: not classes(site) and not site.left("chat"), 40)
