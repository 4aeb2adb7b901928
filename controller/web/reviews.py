"""Tokens of a Kubernetes cluster: the API server says whose a token is, and what its holder may do where.

Answers are kept for a short time, by the token's digest; a token is in no error and no log.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from hashlib import sha256
from typing import Generic, TypeVar

from controller.kube.rest import Requests
from controller.web.access import Access, Caller, Unknown

_MOST_TOKEN, _MOST_KEPT = 16_384, 20_000
_KEEP_S = 30.0
_TOKENS = "/apis/authentication.k8s.io/v1/tokenreviews"
_ACCESS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
T = TypeVar("T")


class Reviews:
    """Thread-safe. `clock` is monotonic."""

    open = False

    def __init__(self, api: Requests, keep_s: float = _KEEP_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._callers: _Kept[Caller] = _Kept(keep_s, clock)
        self._may: _Kept[bool] = _Kept(keep_s, clock)

    def remembered(self, token: str) -> Caller | None:
        """The holder of a token that was asked about lately."""
        return self._callers.get(_digest(token))

    def caller(self, token: str) -> Caller:
        """The holder of a token. Raises Unknown, ApiError."""
        if (known := self.remembered(token)) is not None:
            return known
        if not token or len(token) > _MOST_TOKEN:
            raise Unknown
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        status = self._api.request("POST", _TOKENS, review).get("status") or {}
        if not status.get("authenticated"):
            raise Unknown
        user = status["user"]
        digest = _digest(token)
        found = Caller(digest[:16], str(user.get("username", "")), groups=tuple(user.get("groups") or ()))
        self._callers.put(digest, found)
        return found

    def may(self, caller: Caller, access: Access) -> bool:
        """Whether somebody may do something. Raises ApiError."""
        key = (caller.name, caller.groups, access)
        if (known := self._may.get(key)) is not None:
            return known
        if access.plural.startswith("/"):
            asked: dict[str, object] = {"nonResourceAttributes": {"path": access.plural, "verb": access.verb}}
        else:
            asked = {
                "resourceAttributes": {
                    "verb": access.verb,
                    "group": access.group,
                    "resource": access.plural,
                    **({"namespace": access.namespace} if access.namespace else {}),
                    **({"name": access.name} if access.name else {}),
                }
            }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": caller.name, "groups": list(caller.groups), **asked},
        }
        status = self._api.request("POST", _ACCESS, review).get("status") or {}
        found = bool(status.get("allowed")) and not status.get("denied")
        self._may.put(key, found)
        return found


class _Kept(Generic[T]):
    """Answers for a while; those asked for longest ago go first."""

    def __init__(self, keep_s: float, clock: Callable[[], float]) -> None:
        self._keep_s, self._clock = keep_s, clock
        self._rows: OrderedDict[Hashable, tuple[T, float]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> T | None:
        with self._lock:
            found = self._rows.get(key)
        return found[0] if found is not None and self._clock() < found[1] else None

    def put(self, key: Hashable, value: T) -> None:
        with self._lock:
            self._rows.pop(key, None)
            self._rows[key] = value, self._clock() + self._keep_s
            while len(self._rows) > _MOST_KEPT:
                self._rows.popitem(last=False)


def _digest(token: str) -> str:
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
