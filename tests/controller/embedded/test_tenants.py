"""A namespace with a quota on the embedded cluster: plans stay within it, and follow when it changes."""

from collections.abc import Callable

from controller.embedded.world import World
from controller.kube.rest import MERGE
from controller.web.binding import binding
from tests.controller.embedded.a_world import ready, run, status, submit, told

Make = Callable[..., World]
QUOTAS = "/api/v1/namespaces/default/resourcequotas"


def allow(world: World, gpus: int) -> None:
    hard = {"spec": {"hard": {"requests.nvidia.com/gpu": str(gpus)}}}
    world.api.request("PATCH", f"{QUOTAS}/gpus", hard, content_type=MERGE)


def test_a_quota_of_the_inventory_binds_and_a_larger_one_is_planned_with_at_once(a_world: Make) -> None:
    world = a_world(None, quotas=[{"namespace": "default", "gpus": 2}])
    submit(world, "chat", 10.0)
    submit(world, "code", 10.0)
    run(world, 300, lambda: ready(world, "chat") and ready(world, "code"))
    assert status(world, "chat")["gpus"] + status(world, "code")["gpus"] == 2
    plan = world.api.request("GET", "/apis/muster.dev/v1alpha1/namespaces/default/plans/chat")
    (limit,) = [one for one in binding(world.loop.known, plan) if one.kind == "quota"]
    assert (limit.what, limit.used, limit.limit) == ("GPUs of ResourceQuota default/gpus", 2, 2)
    submit(world, "late", 200.0)
    run(world, 60, lambda: bool(told(world, "PlanInfeasible")))
    assert "namespace default may use 2 GPUs (quota gpus)" in told(world, "PlanInfeasible")[0]
    allow(world, 20)
    run(world, 300, lambda: ready(world, "late"))
    assert any("what quotas leave of GPUs in the namespace changed" in note for note in told(world, "Replanned"))
    assert sum(status(world, name)["gpus"] for name in ("chat", "code", "late")) <= 20
