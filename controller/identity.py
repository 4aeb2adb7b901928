"""Whose a bearer token is: the API server says, and the pod that it is bound to says on which node.

A token is known here by its digest alone, for a short time, and is in no error and no log.
"""

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from controller.kube.rest import Requests
from planner.errors import MusterError

_POD, _UID = "authentication.kubernetes.io/pod-name", "authentication.kubernetes.io/pod-uid"
_NODE = "authentication.kubernetes.io/node-name"
_MOST_TOKEN = 16_384
_JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+")  # tokens of service accounts; others are nobody's, unasked
_PREFIX = "system:serviceaccount:"


class NotKnown(MusterError):
    """A token that nobody vouches for (401), or that is not an agent's (403: `known`)."""

    def __init__(self, message: str, known: bool = False) -> None:
        super().__init__(message)
        self.known = known


@dataclass(frozen=True, slots=True)
class _Answer:
    node: str
    until_s: float
    refused: NotKnown | None = None


class Identities:
    """Node names by token. `accounts`: service accounts `namespace:name` whose pods are agents.

    A refusal is kept for `refuse_s`, apart from what is known, so that neither an agent whose token is refused nor one
    who makes up tokens has the API server asked with each report, or drives out what is known of others.
    """

    def __init__(
        self,
        api: Requests,
        accounts: Sequence[str],
        audience: str,
        keep_s: float = 60.0,
        refuse_s: float = 10.0,
        most: int = 20_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api, self._audience, self._keep_s, self._most, self._clock = api, audience, keep_s, most, clock
        self._users = {_PREFIX + account for account in accounts}
        self._kept: OrderedDict[bytes, _Answer] = OrderedDict()
        self._refuse_s = refuse_s
        self._refused: OrderedDict[bytes, _Answer] = OrderedDict()
        self._lock = threading.Lock()

    def remembered(self, token: str) -> str | None:
        """The node of a token that was asked about lately. Raises NotKnown where it was refused lately."""
        if not token or len(token) > _MOST_TOKEN or not _JWT.fullmatch(token):
            raise NotKnown("token: got none of a pod, allowed: Authorization: Bearer with the token of an agent's pod")
        digest = sha256(token.encode()).digest()
        with self._lock:
            found = self._kept.get(digest) or self._refused.get(digest)
        if found is None or self._clock() >= found.until_s:
            return None
        if found.refused is not None:
            raise NotKnown(str(found.refused), found.refused.known)
        return found.node

    def node(self, token: str) -> str:
        """The node whose agent a token is. Raises NotKnown, or ApiError where the API server cannot be asked."""
        if (known := self.remembered(token)) is not None:
            return known
        digest, now_s = sha256(token.encode()).digest(), self._clock()
        try:
            node = self._asked(token)
        except NotKnown as error:
            self._keep(self._refused, digest, _Answer("", now_s + self._refuse_s, error))
            with self._lock:
                self._kept.pop(digest, None)
            raise
        self._keep(self._kept, digest, _Answer(node, now_s + self._keep_s))
        return node

    def _keep(self, rows: OrderedDict[bytes, _Answer], digest: bytes, answer: _Answer) -> None:
        with self._lock:
            rows.pop(digest, None)
            rows[digest] = answer
            while len(rows) > self._most:
                rows.popitem(last=False)

    def _asked(self, token: str) -> str:
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self._audience]},
        }
        status = self._api.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)["status"]
        if not status.get("authenticated") or self._audience not in (status.get("audiences") or ()):
            raise NotKnown(f"token: not valid for the audience {self._audience}")
        user = status["user"]
        if user.get("username") not in self._users:
            raise NotKnown(f"token: got one of {user.get('username')}, allowed: an agent's service account", known=True)
        return self._node_of(user["username"], user.get("extra") or {})

    def _node_of(self, user: str, extra: Mapping[str, Any]) -> str:
        """New servers say the node; older ones the pod, which says it."""
        if nodes := extra.get(_NODE):
            return str(nodes[0])
        pods, uids = extra.get(_POD), extra.get(_UID)
        if not pods or not uids:
            raise NotKnown("token: bound to no pod, allowed: the projected token of an agent's pod", known=True)
        space = user.removeprefix(_PREFIX).partition(":")[0]
        pod = self._api.request("GET", f"/api/v1/namespaces/{space}/pods/{pods[0]}")
        if pod["metadata"]["uid"] != uids[0] or not pod["spec"].get("nodeName"):
            raise NotKnown("token: its pod is gone", known=True)
        return str(pod["spec"]["nodeName"])
