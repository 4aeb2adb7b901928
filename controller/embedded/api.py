"""Answers requests as an API server does, from the store: the controller, the API and the pages cannot tell them apart.

Of an API server it has what those use: get, list by label, create, replace, the three kinds of patch, delete with
owners and finalizers, status apart from spec, versions that a write may name, eviction under disruption budgets.
It has no users and no watch: whoever lives in the process is trusted, and is told of changes by `Store.listeners`.
"""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import orjson

from controller.embedded import patches, schema
from controller.embedded.evictions import keeps
from controller.embedded.paths import RESOURCES, Asked, asked_of, missing, named, refused
from controller.embedded.store import Key, Row, Store
from controller.kube.rest import APPLY, JSON, MERGE, STRATEGIC, ApiError
from controller.when import text

Object = Mapping[str, Any]
_OWN_STATUS = frozenset(RESOURCES) - {"events", "configmaps", "priorityclasses"}
_SERVERS = ("uid", "creationTimestamp", "resourceVersion", "generation", "deletionTimestamp", "selfLink")


class EmbeddedApi:
    """One cluster. Thread-safe. `clock` is Unix time there."""

    server = "embedded"

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self.store, self._clock = store, clock

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = JSON,
        timeout_s: float = 10.0,
    ) -> dict[str, Any]:
        """One request; the object that came of it. Raises ApiError for anything but success."""
        asked, query = asked_of(path), query or {}
        if method == "GET":
            return self._get(asked, query)
        sent = None if body is None else orjson.loads(orjson.dumps(body))  # nobody shares what is stored
        with self.store.together():
            if method == "POST" and asked.subresource == "eviction":
                return self._evict(asked, (sent or {}).get("deleteOptions") or {})
            if method == "DELETE" and asked.name:
                return self._delete(asked, sent or {})
            if not isinstance(sent, dict):
                raise refused(422, f"{asked}: got a body of {type(sent).__name__}, allowed: an object")
            if method == "POST" and not asked.name:
                return self._create(asked, sent, query)
            if method == "PUT" and asked.name:
                return self._change(asked, sent, lambda live, _: _put(live, sent, asked), query)
            if method == "PATCH" and asked.name:
                return self._patch(asked, sent, query, content_type)
        raise refused(405, f"{method} {path}: got no such way to ask")

    def _get(self, asked: Asked, query: Mapping[str, str]) -> dict[str, Any]:
        if asked.name:
            found = self.store.get(asked.key)
            if found is None:
                raise missing(asked)
            if query.get("history") == "true":
                return {"kind": "List", "items": [found.body, *_before(found.body, self.store.past(asked.key))]}
            return dict(found.body)
        items = [one for one in self.store.items(asked.resource.plural, asked.namespace) if _chosen(one, query)]
        meta = {"resourceVersion": str(self.store.version_seen())}
        kind = f"{asked.resource.kind}List"
        return {"apiVersion": asked.resource.version, "kind": kind, "metadata": meta, "items": items}

    def _create(self, asked: Asked, sent: dict[str, Any], query: Mapping[str, str]) -> dict[str, Any]:
        meta = dict(sent.get("metadata") or {})
        if "name" not in meta and meta.get("generateName"):
            meta["name"] = f"{meta.pop('generateName')}{uuid4().hex[:5]}"
        new = named(asked, {**sent, "metadata": meta})
        if self.store.get(new.key) is not None:
            raise ApiError(409, "AlreadyExists", f"{new}: there is one already")
        made = self._new(new, sent, meta)
        return dict(self._stored(new, None, Row(made), _dry(query)))

    def _new(self, named: Asked, sent: Mapping[str, Any], meta: Mapping[str, Any]) -> dict[str, Any]:
        """An object as it is at first: what only servers say of it is said here."""
        kept = {key: value for key, value in meta.items() if key not in _SERVERS}
        head = {"apiVersion": named.resource.version, "kind": named.resource.kind}
        return {
            **sent,
            **head,
            "metadata": {
                **kept,
                "name": named.name,
                **({"namespace": named.namespace} if named.namespace else {}),
                "uid": str(uuid4()),
                "creationTimestamp": text(self._clock()),
                "generation": 1,
            },
        }

    def _patch(self, asked: Asked, sent: dict[str, Any], query: Mapping[str, str], content_type: str) -> dict[str, Any]:
        if content_type == APPLY:
            return self._apply(asked, sent, query)
        how = {MERGE: patches.merge, STRATEGIC: patches.strategic}.get(content_type)
        if how is None:
            raise refused(405, f"{asked}: got a patch of type {content_type}")
        rows = (sent.get("metadata") or {}).pop("managedFields", None) or ()
        row = self.store.get(asked.key)
        owned = (
            {}
            if row is None
            else {one["manager"]: _owned(_unsaid(row.body)) for one in rows if one["operation"] == "Apply"}
        )
        return self._change(asked, sent, lambda live, _: how(live, sent), query, owned)

    def _apply(self, asked: Asked, sent: dict[str, Any], query: Mapping[str, str]) -> dict[str, Any]:
        manager = "/".join(part for part in (query.get("fieldManager", "unknown"), asked.subresource) if part)
        wanted, meta = _owned(sent), sent.get("metadata") or {}
        if self.store.get(asked.key) is None:
            if asked.subresource or "resourceVersion" in meta:
                raise missing(asked)
            made = self._new(asked, sent, meta)
            return dict(self._stored(asked, None, Row(made, {manager: wanted}), _dry(query)))
        return self._change(
            asked, sent, lambda live, row: patches.apply(live, row.applied.get(manager), wanted), query,
            {manager: wanted},
        )  # fmt: skip

    def _change(
        self,
        asked: Asked,
        sent: Mapping[str, Any],
        changed: Callable[[Object, Row], dict[str, Any]],
        query: Mapping[str, str],
        applied: Mapping[str, Object] | None = None,
    ) -> dict[str, Any]:
        """An object after a change; a status changes through its own path alone, and nothing else through that."""
        row = self.store.get(asked.key)
        if row is None:
            raise missing(asked)
        live = row.body
        if (sent.get("metadata") or {}).get("name", asked.name) != asked.name:
            raise refused(400, f"{asked}: metadata.name: got {sent['metadata']['name']!r}, allowed: {asked.name}")
        at = (sent.get("metadata") or {}).get("resourceVersion")
        if at is not None and at != live["metadata"]["resourceVersion"]:
            raise refused(409, f"{asked}: got version {at}, allowed: {live['metadata']['resourceVersion']}")
        made = changed(live, row)
        if asked.subresource == "status":
            made = {**live, "status": made.get("status")}
        else:
            if asked.resource.plural in _OWN_STATUS and not query.get("whole"):
                made = {key: value for key, value in made.items() if key != "status"}
                made |= {"status": live["status"]} if "status" in live else {}
            meta = {key: live["metadata"][key] for key in _SERVERS if key in live["metadata"]}
            rest = {key: value for key, value in made["metadata"].items() if key not in _SERVERS}
            made = {**made, "metadata": {**rest, **meta}}
        return dict(self._stored(asked, row, Row(made, {**row.applied, **(applied or {})}), _dry(query)))

    def _stored(self, asked: Asked, before: Row | None, after: Row, dry: bool) -> Object:
        """Check an object and write it; one that waited for its last finalizer goes."""
        made, old = dict(after.body), None if before is None else before.body
        if schema.is_ours(asked.resource.kind):
            made = schema.filled(made)
            if found := schema.problems(made, old):
                raise refused(422, f"{asked} is invalid: {'; '.join(found)}")
        if old is not None:
            if made == old and before is not None and after.applied == before.applied:
                return old
            meta = dict(made["metadata"])
            meta["generation"] = old["metadata"].get("generation", 1) + (made.get("spec") != old.get("spec"))
            made["metadata"] = meta
        if dry:
            return made
        made["metadata"] = {**made["metadata"], "resourceVersion": str(self.store.next_version())}
        changed_plan = old is not None and asked.resource.plural == "plans" and old.get("spec") != made.get("spec")
        self.store.put(asked.key, Row(made, after.applied), past=changed_plan)
        waits = made["metadata"].get("finalizers") or asked.resource.plural == "pods"  # their node lets pods go
        if made["metadata"].get("deletionTimestamp") and not waits:
            self.gone(asked.key)
        return made

    def _delete(self, asked: Asked, options: Mapping[str, Any]) -> dict[str, Any]:
        row = self.store.get(asked.key)
        if row is None:
            raise missing(asked)
        live = row.body
        _as_seen(asked, live, options)
        waits = live["metadata"].get("finalizers")
        runs = asked.resource.plural == "pods" and (live.get("spec") or {}).get("nodeName")
        if not (waits or runs):
            self.gone(asked.key)
            return dict(live)
        if live["metadata"].get("deletionTimestamp"):
            return dict(live)
        meta = {
            **live["metadata"],
            "deletionTimestamp": text(self._clock()),
            "resourceVersion": str(self.store.next_version()),
        }
        made = {**live, "metadata": meta}
        self.store.put(asked.key, Row(made, row.applied))
        return made

    def gone(self, key: Key) -> None:
        """Take an object away, and what it owned."""
        row = self.store.get(key)
        if row is None:
            return
        self.store.remove(key)
        for plural, space, name in self.store.owned(row.body["metadata"]["uid"]):
            asked = Asked(RESOURCES[plural], space, name, "")
            if self.store.get(asked.key) is not None:
                self._delete(asked, {})

    def _evict(self, asked: Asked, options: Object) -> dict[str, Any]:
        named = Asked(asked.resource, asked.namespace, asked.name, "")
        row = self.store.get(named.key)
        if row is None:
            raise missing(named)
        _as_seen(named, row.body, options)
        budgets = self.store.items("poddisruptionbudgets", asked.namespace)
        if why := keeps(row.body, self.store.items("pods", asked.namespace), budgets):
            raise refused(429, f"{named}: {why}")
        return self._delete(named, {})


def _as_seen(asked: Asked, live: Object, options: Object) -> None:
    """Refuse to delete another object than the one that whoever asks saw."""
    wanted = options.get("preconditions") or {}
    for key in ("uid", "resourceVersion"):
        if wanted.get(key) not in (None, live["metadata"][key]):
            raise refused(409, f"{asked}: got {key} {wanted[key]}, allowed: {live['metadata'][key]}")


def _owned(sent: Object) -> dict[str, Any]:
    """What whoever applies an object owns of it."""
    meta = sent.get("metadata") or {}
    wanted = {key: value for key, value in sent.items() if key not in ("apiVersion", "kind", "metadata")}
    return {
        **wanted,
        "metadata": {key: meta[key] for key in ("labels", "annotations", "ownerReferences") if key in meta},
    }


def _unsaid(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if key != "status"}


def _put(live: Object, sent: dict[str, Any], asked: Asked) -> dict[str, Any]:
    if asked.subresource:
        return {**live, asked.subresource: sent.get(asked.subresource)}
    return {**sent, "apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": _whole(live, sent)}


def _whole(live: Object, sent: Object) -> dict[str, Any]:
    """Metadata as a whole object has it; a name can't change."""
    meta = dict(sent.get("metadata") or {})
    return meta | {key: live["metadata"][key] for key in ("name", "namespace") if key in live["metadata"]}


def _before(obj: Object, past: list[Object]) -> list[Object]:
    """Earlier versions; another may have been written since the object was looked at."""
    version = int(obj["metadata"]["resourceVersion"])
    return [one for one in past if int(one["metadata"]["resourceVersion"]) < version]


def _chosen(obj: Object, query: Mapping[str, str]) -> bool:
    """Whether an object has the labels that are asked for (`key=value`, `key`)."""
    labels = obj["metadata"].get("labels") or {}
    for term in filter(None, query.get("labelSelector", "").split(",")):
        key, equals, value = term.partition("=")
        if (labels.get(key) != value.removeprefix("=")) if equals else key not in labels:
            return False
    return True


def _dry(query: Mapping[str, str]) -> bool:
    return query.get("dryRun") == "All"
