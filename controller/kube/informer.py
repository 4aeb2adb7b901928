"""A cache of one resource that equals the server's state soon after any trouble.

Lists in pages, then watches from the list's resource version. A watch that ends, breaks or stays silent is resumed from
the last version seen; where the server no longer has that (410, or 504 for a version it does not know yet), everything
is listed again and *compared* with the cache, so that deletions during the gap are told like any others. Bookmarks keep
the version fresh. Failures in a row wait longer, with jitter, and no less than the server asks for.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

from controller.kube.backoff import Backoff
from controller.kube.discovery import Resource
from controller.kube.rest import Api, ApiError, Stream

Key: TypeAlias = tuple[str, str]
"""Namespace ("" for none) and name."""
Object: TypeAlias = Mapping[str, Any]
Change: TypeAlias = Callable[[Object | None, Object | None], None]
"""Called with an object before and after; None for not there. Must not wait."""

_LOG = logging.getLogger("muster")
_PAGE = 500
_SERVER_S = (240, 480)  # the server is asked to end a watch after so long, drawn so that they don't end together
_STALE = (410, 504)


def whole(obj: dict[str, Any]) -> Object:
    """Keep all of an object but its managed fields, which are large and which only the server reads."""
    obj["metadata"].pop("managedFields", None)
    return obj


@dataclass
class Counts:
    """What happened to a watch so far."""

    relists: int = 0
    restarts: dict[str, int] = field(default_factory=dict)
    last_event_s: float = 0.0  # of the informer's clock


class Informer:
    """A thread that keeps the objects of a resource. `trim` says what is kept of each."""

    def __init__(
        self,
        api: Api,
        resource: Resource,
        *,
        selector: str = "",
        trim: Callable[[dict[str, Any]], Object] = whole,
        silent_s: float = 15.0,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.resource, self.counts = resource, Counts()
        self._api, self._selector, self._trim, self._silent_s, self._clock = api, selector, trim, silent_s, clock
        self._backoff = backoff or Backoff(first_s=0.05, most_s=10.0)
        self._lock = threading.Lock()
        self._kept: dict[Key, Object] = {}
        self._version = ""
        self._stream: Stream | None = None
        self._callbacks: list[Change] = []
        self._synced, self._stopped, self._kicked = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"informer-{resource.plural}", daemon=True)

    def on_change(self, callback: Change) -> None:
        """Have `callback` called for each change; before `start`."""
        self._callbacks.append(callback)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self.kick()
        self._thread.join()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the first list; whether it came."""
        return self._synced.wait(timeout_s)

    def kick(self) -> None:
        """Watch anew at once: the network was away and came back, and old connections may hang for ever."""
        self._kicked.set()
        if (stream := self._stream) is not None:
            stream.end()

    def get(self, namespace: str, name: str) -> Object | None:
        """An object as last seen."""
        return self._kept.get((namespace, name))

    def items(self) -> list[Object]:
        """All objects as last seen."""
        with self._lock:
            return list(self._kept.values())

    @property
    def version(self) -> str:
        """The resource version up to which everything was seen."""
        return self._version

    def _run(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            try:
                if not self._version:
                    self._list()
                    failures = 0  # a watch that breaks at once after a list is resumed, not listed again
                if self._watch():
                    failures = 0
                self._restart("ended")
            except ApiError as error:
                if error.status in _STALE:
                    self._version = ""
                if error.reason != "Silent":  # the server is there, or the next request will say so
                    failures += 1
                self._restart(error.reason or str(error.status))
                self._kicked.wait(self._backoff.wait_s(failures, random.random, error.retry_after_s))
            except Exception:  # of a callback, or bytes that are no JSON: what was seen is in doubt, so all is listed
                _LOG.exception("%s", self.resource.plural)
                self._version = ""
                failures += 1
                self._restart("Failed")
                self._kicked.wait(self._backoff.wait_s(failures, random.random))
            self._kicked.clear()

    def _restart(self, cause: str) -> None:
        self.counts.restarts[cause] = self.counts.restarts.get(cause, 0) + 1

    def _query(self, **more: str) -> dict[str, str]:
        return more | ({"labelSelector": self._selector} if self._selector else {})

    def _list(self) -> None:
        """List all pages, then tell how that differs from the cache."""
        self.counts.relists += 1
        found: dict[Key, Object] = {}
        token = ""
        while True:
            query = self._query(limit=str(_PAGE)) | ({"continue": token} if token else {})
            page = self._api.request("GET", self.resource.root, query=query, timeout_s=30.0)
            for obj in page.get("items") or ():
                kept = self._trim({"apiVersion": self.resource.version, "kind": self.resource.kind, **obj})
                found[_key(kept)] = kept
            token = page["metadata"].get("continue") or ""
            if not token:
                break
        with self._lock:
            before, self._kept = self._kept, found
            self._version = page["metadata"]["resourceVersion"]
        self.counts.last_event_s = self._clock()
        self._synced.set()
        for key in before.keys() - found.keys():
            self._tell(before[key], None)
        for key, obj in found.items():
            old = before.get(key)
            if old is None or _version(old) != _version(obj):
                self._tell(old, obj)

    def _watch(self) -> bool:
        """Follow the changes until the watch ends; whether anything came."""
        query = self._query(
            watch="true",
            allowWatchBookmarks="true",
            resourceVersion=self._version,
            timeoutSeconds=str(random.randint(*_SERVER_S)),
        )
        came = False
        self._stream = self._api.stream(self.resource.root, query, self._silent_s)
        if self._stopped.is_set():
            self._stream.end()
        for line in self._stream:
            if line:
                self._take(_event(line))
                came = True
        return came

    def _take(self, event: dict[str, Any]) -> None:
        kind, obj = event["type"], event["object"]
        if kind == "ERROR":
            status = int(obj.get("code") or 500)
            raise ApiError(status, str(obj.get("reason") or "WatchError"), f"watch: {obj.get('message')}")
        self.counts.last_event_s = self._clock()
        if kind == "BOOKMARK":
            self._version = _version(obj)
            return
        kept = self._trim(obj)
        key = _key(kept)
        with self._lock:
            old = self._kept.pop(key, None) if kind == "DELETED" else self._kept.get(key)
            if kind != "DELETED":
                self._kept[key] = kept
            self._version = _version(kept)
        if kind == "DELETED":
            self._tell(kept, None)
        elif old is None or _version(old) != _version(kept):
            self._tell(old, kept)

    def _tell(self, old: Object | None, new: Object | None) -> None:
        for callback in self._callbacks:
            callback(old, new)


def _event(line: bytes) -> dict[str, Any]:
    """An event of a watch. A line that was cut off is a watch that broke."""
    try:
        found: dict[str, Any] = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ApiError(0, "Broken", f"watch: a line of {len(line)} bytes is no JSON: {error}") from None
    return found


def _key(obj: Object) -> Key:
    return obj["metadata"].get("namespace") or "", obj["metadata"]["name"]


def _version(obj: Object) -> str:
    return str(obj["metadata"]["resourceVersion"])
