"""What the audit log says of leaders: every write of ours is of one, and none of an older comes after a newer."""

from collections.abc import Iterable

from controller.names import EPOCH
from tests.controller.plane.audit import Write

MUST = frozenset((
    "deployments", "statefulsets", "leaderworkersets", "configmaps", "services", "poddisruptionbudgets", "httproutes",
    "resourceclaimtemplates", "priorityclasses", "plans",
))  # fmt: skip
"""Resources that nobody but a leader writes, in the clusters of these tests."""
_COPIES = "kube-controller-manager"  # writes objects whole, with the epoch that it read
_AGENT = "python-urllib3"  # the controller's and the tests' own


def epoch_of(one: Write) -> int:
    """The leadership under which a write was decided; 0 where it does not say."""
    meta = one.body.get("metadata")
    notes = meta.get("annotations") if isinstance(meta, dict) else None
    return int((notes or {}).get(EPOCH, 0))


def is_ours(one: Write) -> bool:
    """Whether a leader wrote it, as far as the log tells."""
    return one.manager.startswith("muster-") or (one.resource in MUST and one.agent.startswith(_AGENT))


def unfenced(found: Iterable[Write], newest: int = 0) -> list[str]:
    """Accepted writes that another leader could not have refused, or that come after one of a newer leader.

    What makes or changes an object of ours carries the epoch; what deletes one, or writes a status, names the version
    that it was decided on. `newest`: the epoch that is known already.
    """
    broken = []
    for one in found:
        if not one.accepted or one.agent.startswith(_COPIES):
            continue
        epoch = epoch_of(one)
        what = f"{one.verb} {one.resource}{'/' if one.subresource else ''}{one.subresource} {one.name}"
        if epoch and epoch < newest:
            broken.append(f"a write of epoch {epoch} after one of {newest}: {what}")
        newest = max(newest, epoch)
        if not is_ours(one):
            continue
        if one.verb == "delete" and one.resource in MUST:
            if not _part(one, "preconditions").get("resourceVersion"):
                broken.append(f"a deletion that names no version: {what}")
        elif one.subresource and one.group == "muster.dev":
            if not _part(one, "metadata").get("resourceVersion"):
                broken.append(f"a status that names no version: {what}")
        elif one.resource in MUST and not epoch:
            broken.append(f"a write without an epoch: {what}")
    return broken


def _part(one: Write, key: str) -> dict[str, object]:
    found = one.body.get(key)
    return found if isinstance(found, dict) else {}
