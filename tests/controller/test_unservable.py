"""What is planned and can't be started is said in the status, and starts nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from controller.embedded.world import World
from tests.controller.embedded.a_world import ready, run, status, submit
from tests.controller.embedded.conftest import a_world  # noqa: F401  # fixture

ON_HOST = {"podTemplate": {"spec": {"hostNetwork": True}}}


def applied(world: World, name: str) -> tuple[str, str, str]:
    rows = status(world, name).get("conditions") or ()
    return next(((row["status"], row["reason"], row["message"]) for row in rows if row["type"] == "Applied"), ("",) * 3)


@pytest.mark.parametrize(
    ("serving", "words"),
    [
        ({"deviceClass": "gpu.nvidia.com"}, "spec.serving.deviceClass: got gpu.nvidia.com, but this API server serves"),
        (ON_HOST, "spec.serving.podTemplate.spec.hostNetwork: got a value, but a port of a node is one pod's"),
    ],
    ids=["deviceClass", "hostNetwork"],
)
def test_the_status_says_why_nothing_is_started(
    a_world: Callable[..., World],  # noqa: F811
    serving: dict[str, Any],
    words: str,
) -> None:
    world = a_world()
    submit(world, "odd", serving=serving)
    submit(world, "good")
    run(world, 600, lambda: applied(world, "odd")[0] == "False" and ready(world, "good"))
    status_, reason, message = applied(world, "odd")
    assert (status_, reason) == ("False", "ApplyFailed")
    assert words in message
    assert words[:30] in str(status(world, "odd")["why"])
    pods = world.api.request("GET", "/api/v1/namespaces/default/pods")["items"]
    assert {one["metadata"]["labels"]["muster.dev/service"] for one in pods} == {"good"}


def test_a_pod_template_of_another_form_is_a_wrong_spec_and_no_traceback(
    a_world: Callable[..., World],  # noqa: F811
) -> None:
    world = a_world()
    submit(world, "odd", serving={"podTemplate": {"spec": {"containers": [{"name": "engine", "env": "A=b"}]}}})
    run(world, 600, lambda: bool(status(world, "odd").get("conditions")))
    rows = {row["type"]: (row["reason"], row["message"]) for row in status(world, "odd")["conditions"]}
    reason, message = rows["Planned"]
    assert reason == "InvalidSpec"
    assert "spec.serving.podTemplate.spec.containers[0].env: got 'A=b', allowed: a list" in message
    assert not world.loop.troubles
