"""Templates are set back where somebody changed them, and nowhere else."""

from typing import Any

from controller.embedded.api import EmbeddedApi
from controller.embedded.loop import Alone
from controller.embedded.paths import SERVED
from controller.embedded.store import Store
from controller.kube.applier import Applier
from controller.kube.drift import Drift
from controller.kube.rest import STRATEGIC
from controller.manifests.workload import Made, kinds, workload
from planner.plan import Recipe
from tests.controller.manifests.factories import GROUPS, SMALL, an_allocation
from tests.controller.objects import a_service

DEPLOYMENTS = "/apis/apps/v1/namespaces/team-a/deployments"


def made(cold_start_s: float) -> Made:
    (one,) = kinds(
        a_service(), [an_allocation(Recipe("H100-SXM"), cold_start_s=cold_start_s)], {SMALL: 8.0}, GROUPS, {"h100": 8}
    )
    return one


def probe(obj: Any) -> int:
    (engine,) = obj["spec"]["template"]["spec"]["containers"]
    return int(engine["startupProbe"]["failureThreshold"])


def test_replicas_keep_the_deadline_that_they_were_made_with() -> None:
    api = EmbeddedApi(Store(None), lambda: 1.8e9)
    applier = Applier(api, SERVED, Alone(1))
    drift = Drift(applier, SERVED)
    live = applier.create(workload(made(300.0), 2, a_service(), SERVED))
    assert not drift.back(live, made(310.0), a_service())
    assert applier.writes == 1
    assert probe(live) == 90
    path = f"{DEPLOYMENTS}/{live['metadata']['name']}"
    other = {"spec": {"template": {"spec": {"containers": [{"name": "engine", "image": "mine:1"}]}}}}
    changed = api.request("PATCH", path, other, content_type=STRATEGIC)
    assert drift.back(changed, made(320.0), a_service())
    again = api.request("GET", path)
    assert again["spec"]["template"] == live["spec"]["template"]
