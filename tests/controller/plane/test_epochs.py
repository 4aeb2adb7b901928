"""The judge of leaders knows a write that is late, one that hides whose it is, and one that is nobody's business."""

from dataclasses import replace

from controller.names import EPOCH
from tests.controller.plane.audit import Write
from tests.controller.plane.epochs import unfenced

ONE = Write(
    "", "admin", "python-urllib3/2", "patch", "apps", "deployments", "", "default", "d", 200, "muster-controller", {}
)


def of(epoch: int, **more: object) -> Write:
    return replace(ONE, body={"metadata": {"annotations": {EPOCH: str(epoch)}}}, **more)  # type: ignore[arg-type]


def test_an_older_leader_after_a_newer_is_found_whoever_says_that_it_wrote() -> None:
    assert unfenced([of(1), of(2), of(2)]) == []
    assert len(unfenced([of(2), of(1, manager="another", agent="curl")])) == 1
    assert unfenced([of(2), of(1, code=409)]) == []
    assert len(unfenced([of(1)], newest=2)) == 1
    assert unfenced([of(2), of(1, agent="kube-controller-manager/v1", manager="", subresource="status")]) == []


def test_a_write_that_does_not_say_whose_it_is_is_found() -> None:
    silent = ("deployments", "services", "configmaps", "poddisruptionbudgets", "plans")
    assert len(unfenced([replace(ONE, resource=name, manager="") for name in silent])) == len(silent)
    assert unfenced([replace(ONE, agent="kube-controller-manager/v1", manager="")]) == []
    assert unfenced([replace(ONE, group="", resource="nodes", manager="muster-nodes")]) == []


def test_deletions_and_statuses_name_a_version() -> None:
    gone = replace(ONE, verb="delete", manager="")
    assert len(unfenced([gone])) == 1
    assert unfenced([replace(gone, body={"preconditions": {"resourceVersion": "7"}})]) == []
    said = replace(ONE, group="muster.dev", resource="gpuservices", subresource="status")
    assert len(unfenced([said])) == 1
    assert unfenced([replace(said, body={"metadata": {"resourceVersion": "7"}})]) == []
