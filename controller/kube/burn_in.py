"""Burn-in Jobs at an API server: begun, read, and taken away."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.brake import BurnIn as Verdict
from controller.health import burn_in_job, burn_in_name, verdict
from controller.kube.applier import Leader, NotLeading
from controller.kube.discovery import Served
from controller.kube.rest import ApiError, Requests

Object = Mapping[str, Any]
_WRITE_S = 2.0


@dataclass(frozen=True)
class BurnIn:
    """How a node is proved before it comes back; without an image, probation alone decides.

    The image must not need root: Muster's namespace lets no pod have it.
    """

    image: str = ""
    command: Sequence[str] = ()
    namespace: str = "muster-system"
    runtime_class: str = ""
    pull_secrets: Sequence[str] = ()


class BurnIns:
    """The Jobs of nodes that are out. A Job that is there already is one that this round's predecessor began."""

    def __init__(self, api: Requests, served: Served, leader: Leader, how: BurnIn) -> None:
        self._api, self._served, self._leader, self._how = api, served, leader, how

    def begin(self, node: Object) -> None:
        """Make the Job, unless there is one."""
        how = self._how
        job = burn_in_job(node, how.namespace, how.image, how.command, how.runtime_class, how.pull_secrets)
        self._send("POST", "", job, passes=409)

    def found(self, node: Object) -> Verdict:
        """What the Job came to; one that somebody deleted did not pass."""
        path = self._path(burn_in_name(node))
        try:
            return verdict(self._api.request("GET", path, timeout_s=_WRITE_S))
        except ApiError as error:
            if error.status != 404:
                raise
        return "failed"

    def end(self, node: Object) -> None:
        """Take the Job away, with its pod."""
        self._send("DELETE", burn_in_name(node), {"propagationPolicy": "Background"}, passes=404)

    def _send(self, method: str, name: str, body: Object, passes: int) -> None:
        if not self._leader.may_write():
            raise NotLeading("burn-in: got a process that does not lead, allowed: the holder of the lease")
        try:
            self._api.request(method, self._path(name), body, timeout_s=_WRITE_S)
        except ApiError as error:
            if error.status != passes:
                raise

    def _path(self, name: str) -> str:
        return self._served.need("jobs").path(self._how.namespace, name)


def tried(write: Callable[..., object], *about: object) -> ApiError | None:
    """What the API server refused, if it did."""
    try:
        write(*about)
    except ApiError as error:
        return error
    return None
