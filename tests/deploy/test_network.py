"""What the NetworkPolicies shut and leave open, for the pods that they are for and for those of others."""

from typing import Any

import pytest

from controller.health import burn_in_job
from tests.controller.objects import a_node
from tests.deploy.chart import named, refused, rendered

SHARED = ("namespaces.create=false", "namespaces.controller=shared", "namespaces.agents=shared")
THEIRS = {"app": "shop", "app.kubernetes.io/name": "shop", "app.kubernetes.io/component": "agent"}


def selecting(found: list[dict[str, Any]], space: str, labels: dict[str, str]) -> set[str]:
    """The policies that select a pod with these labels."""
    return {
        one["metadata"]["name"]
        for one in found
        if one["kind"] == "NetworkPolicy"
        and one["metadata"]["namespace"] == space
        and one["spec"]["podSelector"].get("matchLabels", {}).items() <= labels.items()
    }


def pod_labels(found: list[dict[str, Any]], kind: str, name: str) -> dict[str, str]:
    labels: dict[str, str] = named(found, kind, name)["spec"]["template"]["metadata"]["labels"]
    return labels


@pytest.mark.parametrize("values", [(), SHARED], ids=["its own namespaces", "a shared one"])
def test_each_pod_of_ours_has_its_policy_and_those_of_others_have_none(values: tuple[str, ...]) -> None:
    found = rendered(*values)
    ours, agents = ("shared", "shared") if values else ("muster-system", "muster-agents")
    node = a_node("a")
    burn_in = burn_in_job(node, ours, "burn:1", ())["spec"]["template"]["metadata"]["labels"]
    assert selecting(found, ours, pod_labels(found, "Deployment", "muster-controller")) == {"muster-controller"}
    assert selecting(found, agents, pod_labels(found, "DaemonSet", "muster-agent")) == {"muster-agent"}
    assert selecting(found, ours, burn_in) == {"muster-burn-in"}
    for space in (ours, agents):
        assert selecting(found, space, THEIRS) == set()
    assert not {"ingress", "egress"} & named(found, "NetworkPolicy", "muster-burn-in")["spec"].keys()


def test_the_controller_reaches_api_servers_at_their_usual_ports_or_at_those_that_are_said() -> None:
    for values, ports in (((), {443, 6443, 8443, 16443}), (("networkPolicy.apiServerPorts={7443}",), {7443})):
        egress = named(rendered(*values), "NetworkPolicy", "muster-controller")["spec"]["egress"]
        anywhere = {port["port"] for rule in egress if "to" not in rule for port in rule["ports"]}
        assert anywhere - {53} == ports
    assert refused("networkPolicy.apiServerPorts={0}")
