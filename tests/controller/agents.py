"""What agents do on the wire, with tokens of their pods, and how a node looks to an administrator."""

import json
import time
import urllib.error
import urllib.request
from typing import Any

from controller.kube.run import Controller
from controller.names import CONDITION, TAINT
from tests.controller.live import Site

AGENTS = "muster-agents"
LIMITS = {"power_limit_enforced_w": 700.0}
XID = {"detector": "xid", "severity": "fatal_gpu", "phase": "confirmed", "gpu": 3, "words": "Xid 79: fell off the bus"}


def space_of_agents(site: Site) -> None:
    """The namespace and the account of agents."""
    site.space(AGENTS)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "muster-agent"}}
    site.post(f"/api/v1/namespaces/{AGENTS}/serviceaccounts", account)


def an_agent(site: Site, node: str, audience: str = "muster") -> str:
    """The token of an agent's pod on a node."""
    name = f"agent-{node}"
    spec = {
        "nodeName": node,
        "serviceAccountName": "muster-agent",
        "containers": [{"name": "agent", "image": "agent:1"}],
    }
    site.post(f"/api/v1/namespaces/{AGENTS}/pods", {"metadata": {"name": name}, "spec": spec})
    pod = site.api.request("GET", f"/api/v1/namespaces/{AGENTS}/pods/{name}")
    bound = {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": pod["metadata"]["uid"]}
    asked = {"spec": {"audiences": [audience], "expirationSeconds": 3600, "boundObjectRef": bound}}
    path = f"/api/v1/namespaces/{AGENTS}/serviceaccounts/muster-agent/token"
    return str(site.api.request("POST", path, asked)["status"]["token"])


class Agent:
    """What an agent does on the wire."""

    def __init__(self, controller: Controller, node: str, token: str) -> None:
        self.url, self.node, self.token, self.sequence = f"http://127.0.0.1:{controller.port}/v1/report", node, token, 0

    def tell(self, *faults: dict[str, Any], node: str = "", sequence: int | None = None) -> tuple[int, dict[str, Any]]:
        self.sequence += 1
        body = {
            "schema": 1, "node": node or self.node, "boot_id": "b1", "sent_s": time.time(),
            "sequence": self.sequence if sequence is None else sequence, "faults": faults,
            "gpus": [{"gpu": i, "uuid": f"{self.node}-{i}", "values": LIMITS} for i in range(8)],
        }  # fmt: skip
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        asked = urllib.request.Request(self.url, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())


def is_out(site: Site, node: str) -> bool:
    spec = site.api.request("GET", f"/api/v1/nodes/{node}")["spec"]
    return bool(spec.get("unschedulable")) and TAINT in {one["key"] for one in spec.get("taints") or ()}


def healthy(site: Site, node: str) -> str:
    status = site.api.request("GET", f"/api/v1/nodes/{node}")["status"]
    return next((one["status"] for one in status["conditions"] if one["type"] == CONDITION), "")
