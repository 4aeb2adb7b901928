"""A quota stops pods of a replica over several nodes: a StatefulSet of ours says nothing of it, the answer does."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from controller import conditions
from controller.causes import Facts, Planning
from controller.cluster import Running, Target
from controller.kube.discovery import discover
from controller.kube.unmade import Unmade
from controller.manifests.workload import kinds, workload
from planner.plan import Recipe
from tests.controller.live import Site, until
from tests.controller.manifests.factories import DEEPSEEK, SMALL, an_allocation
from tests.controller.plane.plane import Plane

SPACE = "quota"
QUOTAS, SETS = f"/api/v1/namespaces/{SPACE}/resourcequotas", f"/apis/apps/v1/namespaces/{SPACE}/statefulsets"
GROUPS = {"h100": {"name": "h100", "nodeSelector": {"pool": "big"}}}


@pytest.fixture
def site(plane: Plane) -> Iterator[Site]:
    made = Site(plane)
    made.space(SPACE)
    quota = {"metadata": {"name": "q"}, "spec": {"hard": {"requests.nvidia.com/gpu": "8"}}}
    made.post(QUOTAS, quota)
    until(lambda: (made.api.request("GET", f"{QUOTAS}/q").get("status") or {}).get("used"))
    yield made
    made.remove(f"/api/v1/namespaces/{SPACE}")


def test_a_spent_quota_of_a_stateful_set_is_named_until_its_pods_are_made(site: Site) -> None:
    service = site.service("wide", SPACE, model=DEEPSEEK)
    one = an_allocation(Recipe("H100-SXM", 8, 2), 1, model=DEEPSEEK, service=f"{SPACE}/wide")
    (made,) = kinds(service, [one], {SMALL: 8.0}, GROUPS, {"h100": 8})
    site.api.request("POST", SETS, workload(made, 1, service, discover(site.api)))
    asks = Unmade(site.api)

    def stateful() -> Any:
        return site.api.request("GET", f"{SETS}/{made.name}")

    until(lambda: len(site.pods("wide", SPACE)) == 1, 20, "one of two pods fits into the quota")
    why = until(lambda: asks.of(stateful(), 1, time.time()), 30)
    assert (stateful().get("status") or {}).get("conditions") is None, "it says nothing itself"
    assert (why.reason, why.of) == ("QuotaExceeded", f"StatefulSet {made.name}")
    said = conditions.status(
        Facts(
            service=service, now=datetime.now(UTC), planning=Planning("solved", "d-1", 1),
            targets=(Target(made.kind, 1),), running=(Running(made.kind, 1),), unmade=(why,),
        )
    )  # fmt: skip
    ready = next(row for row in said["conditions"] if row["type"] == "Ready")
    assert ready["reason"] == "QuotaExceeded"
    assert said["why"] == "quota q is spent: needs 8 nvidia.com/gpu, 8 of 8 used"
    more = {"spec": {"hard": {"requests.nvidia.com/gpu": "16"}}}
    site.api.request("PATCH", f"{QUOTAS}/q", more, content_type="application/merge-patch+json")
    until(lambda: len(site.pods("wide", SPACE)) == 2, 60)
    assert asks.of(stateful(), 2, time.time()) is None
