"""Writes objects: only what differs, by server-side apply, while this process leads, never over what it has not seen.

A leader that was frozen may wake after another took over, with a write already on its way. So an update names the
resource version that it was decided on, and a new leader first stamps its epoch on everything (`stamp`): what the old
one still sends meets a newer version and is refused by the server. What is not there yet is made by POST, which fails
where the name is taken, be it by a predecessor or by a user: an object that is not ours is left alone (`NameTaken`).
Fields that came by POST are owned for good, so what `apply` made is adopted: its fields become those of an apply, and
an update drops what is no longer wanted. What `create` made is not, which suits objects whose every change is a value
of a field that stays.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Protocol, TypeAlias

import orjson

from controller import names
from controller.kube.discovery import Served
from controller.kube.rest import APPLY, JSON, MERGE, ApiError, Requests
from planner.errors import MusterError

Object: TypeAlias = Mapping[str, Any]
_WRITE_S = 2.0  # a write that takes longer is given up well before another may lead


class NotLeading(MusterError):
    """A write by a process that does not lead, or no longer."""


class NameTaken(MusterError):
    """An object that is not ours has the name of one that is wanted."""


class Leader(Protocol):
    """Who may write: `controller.kube.elector.Elector`."""

    @property
    def epoch(self) -> int | None:
        """Which leadership this is; None for none."""

    def may_write(self) -> bool:
        """Whether this process leads, now."""


class Applier:
    """One writer: `manager` owns the fields that it writes, and takes them from others that wrote them."""

    def __init__(self, api: Requests, served: Served, leader: Leader, manager: str = names.CONTROLLER) -> None:
        self._api, self._served, self._leader, self._manager = api, served, leader, manager
        self.writes = 0

    def apply(self, desired: Object, live: Object | None) -> Object:
        """Make the object so; `live` is it as last seen, None if it is not there. Gives it as it is afterwards.

        Raises ApiError: 409 where it changed or came since it was seen, so look again; NameTaken; NotLeading.
        """
        wanted = self._stamped(desired)
        if live is None:
            return self._made(wanted)
        if _of_another(live, wanted):
            raise _refusal(live, wanted)
        if covers(live, wanted):
            return live
        if names.HASH not in (live["metadata"].get("annotations") or {}):  # whoever made it ended before adopting it
            live = self._adopted(self._there(wanted), {})
        meta = {**wanted["metadata"], "resourceVersion": live["metadata"]["resourceVersion"]}
        return self._send("PATCH", wanted, {**wanted, "metadata": meta}, APPLY, self._query())

    def create(self, desired: Object) -> Object:
        """Make a new object; raises ApiError 409 if there is one of its name."""
        return self._posted(self._stamped(desired))

    def create_ours(self, desired: Object) -> Object:
        """Make a new object; raises ApiError 409 if there is one of its name that is ours, NameTaken if it is not."""
        return self._ours(self._stamped(desired))

    def _posted(self, wanted: Object) -> Object:
        self._may_write()
        path = self._served.of(wanted).path(wanted["metadata"].get("namespace", ""))
        self.writes += 1
        return self._api.request("POST", path, wanted, query=self._owned(), timeout_s=_WRITE_S)

    def _ours(self, wanted: Object) -> Object:
        try:
            return self._posted(wanted)
        except ApiError as error:
            if error.status != 409:
                raise
            if _foreign(there := self._there(wanted), wanted):
                raise _refusal(there, wanted) from None
            raise  # the caches come after

    def _there(self, wanted: Object) -> Object:
        meta = wanted["metadata"]
        path = self._served.of(wanted).path(meta.get("namespace", ""), meta["name"])
        try:
            return self._api.request("GET", path, timeout_s=_WRITE_S)
        except ApiError as error:
            if error.status == 404:
                raise ApiError(
                    409, "Conflict", f"{wanted['kind']} {meta['name']}: it went while it was written"
                ) from None
            raise

    def _made(self, wanted: Object) -> Object:
        """Make an object and adopt it. Until then it has no digest, so that whoever finds it so adopts it."""
        meta = wanted["metadata"]
        notes = {key: value for key, value in meta["annotations"].items() if key != names.HASH}
        made = self._ours({**wanted, "metadata": {**meta, "annotations": notes}})
        return self._adopted(made, {names.HASH: meta["annotations"][names.HASH]})

    def _adopted(self, made: Object, notes: Mapping[str, str]) -> Object:
        """Have the fields that came by POST be those of an apply."""
        meta = {
            "resourceVersion": made["metadata"]["resourceVersion"],
            "annotations": {names.EPOCH: str(self._leader.epoch), **notes},
            "managedFields": _as_applied(made["metadata"].get("managedFields") or (), self._manager),
        }
        return self._send("PATCH", made, {"metadata": meta}, MERGE, self._owned())

    def replace(self, desired: Object, live: Object | None) -> Object:
        """Make an object that is ours alone so, whole.

        Where optional parts with defaults of their own come and go, server-side apply leaves their defaults behind.
        """
        if live is None:
            return self.create(desired)
        wanted = self._stamped(desired)
        meta = wanted["metadata"]
        there = live["metadata"].get("annotations") or {}
        if there.get(names.HASH) == meta["annotations"][names.HASH] and covers(live, wanted):
            return live
        body = {**wanted, "metadata": {**meta, "resourceVersion": live["metadata"]["resourceVersion"]}}
        return self._send("PUT", wanted, body, JSON, self._owned())

    def status(self, live: Object, status: Object) -> Object:
        """Have what this writer owns of an object's status be so."""
        if covers(live.get("status") or {}, status):
            return live
        meta = live["metadata"]
        body = {
            "apiVersion": live["apiVersion"],
            "kind": live["kind"],
            "metadata": {key: meta[key] for key in ("name", "namespace", "resourceVersion") if key in meta},
            "status": status,
        }
        return self._send("PATCH", live, body, APPLY, self._query(), "status")

    @property
    def epoch(self) -> int:
        """The leadership under which this writes."""
        return self._leader.epoch or 0

    def finalizer(self, live: Object, present: bool) -> Object:
        """Have an object wait for us before it goes, or let it go."""
        have = [name for name in live["metadata"].get("finalizers") or () if name != names.FINALIZER]
        meta = {
            "resourceVersion": live["metadata"]["resourceVersion"],
            "finalizers": [*have, names.FINALIZER] if present else have,
        }
        return self._send("PATCH", live, {"metadata": meta}, MERGE, self._owned())

    def stamp(self, live: Object) -> Object:
        """Mark an object with this leader's epoch, so that writes decided before are refused."""
        if live["metadata"].get("annotations", {}).get(names.EPOCH) == str(self._leader.epoch):
            return live
        meta = {
            "resourceVersion": live["metadata"]["resourceVersion"],
            "annotations": {names.EPOCH: str(self._leader.epoch)},
        }
        return self._send("PATCH", live, {"metadata": meta}, MERGE, self._owned())

    def scale(self, live: Object, replicas: int) -> Object:
        """Have so many replicas of a workload."""
        if live["spec"].get("replicas") == replicas:
            return live
        meta = {
            "resourceVersion": live["metadata"]["resourceVersion"],
            "annotations": {names.EPOCH: str(self._leader.epoch)},
        }
        return self._send("PATCH", live, {"metadata": meta, "spec": {"replicas": replicas}}, MERGE, self._owned())

    def template(self, live: Object, template: Object) -> Object:
        """Have a workload's template say what is given; what it says beside that stays."""
        meta = {
            "resourceVersion": live["metadata"]["resourceVersion"],
            "annotations": {names.EPOCH: str(self._leader.epoch)},
        }
        return self._send("PATCH", live, {"metadata": meta, "spec": {"template": template}}, MERGE, self._owned())

    def delete(self, live: Object) -> None:
        """Delete an object as it was seen, with what it owns in the background; gone already is well."""
        meta = live["metadata"]
        seen = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background", "preconditions": seen}
        try:
            self._send("DELETE", live, body)
        except ApiError as error:
            if error.status != 404:
                raise

    def _stamped(self, desired: Object) -> dict[str, Any]:
        """The object with what tells whose and which write it is."""
        meta = desired["metadata"]
        marks = {names.EPOCH: str(self._leader.epoch), names.HASH: digest(desired)}
        return {**desired, "metadata": {**meta, "annotations": {**meta.get("annotations", {}), **marks}}}

    def _owned(self) -> Mapping[str, str]:
        return {"fieldManager": self._manager}

    def _query(self) -> Mapping[str, str]:
        return {**self._owned(), "force": "true"}

    def _send(
        self,
        method: str,
        of: Object,
        body: Object,
        content_type: str = JSON,
        query: Mapping[str, str] | None = None,
        subresource: str = "",
    ) -> Object:
        self._may_write()
        meta = of["metadata"]
        path = self._served.of(of).path(meta.get("namespace", ""), meta["name"], subresource)
        self.writes += 1
        return self._api.request(method, path, body, query=query, content_type=content_type, timeout_s=_WRITE_S)

    def _may_write(self) -> None:
        if not self._leader.may_write():
            raise NotLeading("write: got a process that does not lead, allowed: the holder of the lease")


def _refusal(live: Object, wanted: Object) -> MusterError:
    """Why an object is not written; what an owner of the same name left behind is about to be collected."""
    meta = wanted["metadata"]
    before, now = (
        {(one.get("kind"), one.get("name")) for one in obj["metadata"].get("ownerReferences") or ()}
        for obj in (live, wanted)
    )
    if before & now:
        return ApiError(
            409, "Conflict", f"{wanted['kind']} {meta['name']}: one of an owner that is gone is there still"
        )
    return NameTaken(
        f"{wanted['kind']} {meta['name']} is there already and is not Muster's: it is left alone; "
        "remove it, or give the service another name"
    )


def _uids(obj: Object) -> set[str]:
    return {one["uid"] for one in obj["metadata"].get("ownerReferences") or ()}


def _of_another(live: Object, wanted: Object) -> bool:
    """Whether an object belongs to another owner than the one that is wanted."""
    mine, theirs = _uids(wanted), _uids(live)
    return bool(mine and theirs and not mine & theirs)


def _foreign(live: Object, wanted: Object) -> bool:
    """Whether an object is not ours: the caches show only what carries our label."""
    there, ours = (obj["metadata"].get("labels") or {} for obj in (live, wanted))
    return _of_another(live, wanted) or any(
        there.get(key) != ours.get(key) for key in (names.MANAGED_BY, names.SERVICE)
    )


def _as_applied(rows: Iterable[Object], manager: str) -> list[Object]:
    """Who owns which fields, with what a manager wrote by POST as if it had been applied."""
    found = [
        {**row, "operation": "Apply"} if (row.get("manager"), row.get("operation")) == (manager, "Update") else row
        for row in rows
    ]
    return found or [{"manager": manager, "operation": "Apply"}]  # an embedded cluster keeps no rows


def covers(live: Any, wanted: Any) -> bool:
    """Whether everything in `wanted` is so in `live`; a server adds defaults, so more may be there."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(
            key in live and covers(live[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(live, list) and len(live) == len(wanted) and all(map(covers, live, wanted))
    return bool(live == wanted)


def digest(desired: Object) -> str:
    """Sixteen hexadecimal digits that change with anything in the object."""
    return sha256(orjson.dumps(desired, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
