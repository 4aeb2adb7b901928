"""Objects of a cluster in SQLite, all of them in memory too: what was answered is on disk, so a kill loses nothing.

One process has a store at a time (a lock on the file beside it says so). Objects are never changed in place: who holds
one may keep it. Whoever reads sees what was there after the last writes that belong together, and waits for nobody:
a step of the cluster takes long, and those who only look come by the hundred.
"""

import fcntl
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from controller.embedded.fair_lock import FairLock
from planner.errors import BadInput

Object = Mapping[str, Any]
Key = tuple[str, str, str]
"""Plural, namespace (empty for what belongs to the cluster), name."""
Changed = Callable[[str, Object | None, Object | None], None]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (plural TEXT, namespace TEXT, name TEXT, body BLOB NOT NULL, applied BLOB NOT NULL,
    PRIMARY KEY (plural, namespace, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS past (plural TEXT, namespace TEXT, name TEXT, version INTEGER, body BLOB NOT NULL,
    PRIMARY KEY (plural, namespace, name, version)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS said (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""
_MOST_PAST = 1000


class InUse(BadInput):
    """Another process has the store."""


@dataclass(frozen=True, slots=True)
class Row:
    """An object, and what each writer last applied to it: `manager` or `manager/subresource` -> its document."""

    body: Object
    applied: Mapping[str, Object] = field(default_factory=dict)


class Store:
    """The objects, and a few values by name (`said`). Thread-safe."""

    def __init__(self, file: Path | None) -> None:
        self._lock = FairLock()
        self.listeners: list[Changed] = []
        self._held = None if file is None else _only(file)
        self._disk = _opened(file)
        self._disk.executescript(_SCHEMA)
        self._reading = threading.Lock()
        self._view = self._disk if file is None else _opened(file)  # sees what is committed alone
        self._rows: dict[str, dict[tuple[str, str], Row]] = {}
        self._seen: dict[str, dict[tuple[str, str], Row]] = {}  # as of the last commit, replaced whole
        self._changed: set[str] = set()
        self._owned: dict[str, set[Key]] = {}  # uid -> objects that name it as an owner
        self._depth, self._told = 0, list[tuple[str, Object | None, Object | None]]()
        for plural, space, name, body, applied in self._disk.execute("SELECT * FROM objects"):
            self._keep((plural, space, name), Row(orjson.loads(body), orjson.loads(applied)))
        self.version = self._seen_version = int(self.said("version") or 0)
        self._publish()

    def close(self) -> None:
        """End; the store may be opened again."""
        with self._lock, self._reading:
            self._disk.close()
            self._view.close()
            if self._held is not None:
                self._held.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """A kill leaves all writes inside on disk, or none. An error takes none back: what is in memory is on disk too.

        Listeners are told after the outermost ends."""
        with self._lock:
            if self._depth == 0:
                self._disk.execute("BEGIN")
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self._disk.execute("COMMIT")
                    self._publish()
                    told, self._told = self._told, []
                    for row in told:
                        for listener in self.listeners:
                            listener(*row)

    def get(self, key: Key) -> Row | None:
        """An object as it is."""
        return self._now().get(key[0], {}).get(key[1:])

    def items(self, plural: str, namespace: str = "") -> list[Object]:
        """All objects of a resource, or those in a namespace, by namespace and name."""
        rows = sorted(self._now().get(plural, {}).items())
        return [row.body for (space, _), row in rows if not namespace or space == namespace]

    def owned(self, uid: str) -> list[Key]:
        """The objects that name an object as an owner."""
        with self._lock:
            return sorted(self._owned.get(uid, ()))

    def version_seen(self) -> int:
        """The newest version in what `items` gives."""
        return self.version if self._lock.mine() else self._seen_version

    def next_version(self) -> int:
        """A version that no write had before."""
        self.version += 1
        return self.version

    def put(self, key: Key, row: Row, past: bool = False) -> None:
        """Write an object; with `past` its earlier version is kept too."""
        with self.together():
            before = self.get(key)
            if past and before is not None:
                self._keep_past(key, before.body)
            self._disk.execute(
                "REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", (*key, orjson.dumps(row.body), orjson.dumps(row.applied))
            )
            self.say("version", self.version)
            self._forget(key)
            self._keep(key, row)
            self._told.append((key[0], None if before is None else before.body, row.body))

    def remove(self, key: Key) -> None:
        """Take an object away."""
        with self.together():
            before = self.get(key)
            if before is None:
                return
            self._disk.execute("DELETE FROM objects WHERE plural = ? AND namespace = ? AND name = ?", key)
            self._disk.execute("DELETE FROM past WHERE plural = ? AND namespace = ? AND name = ?", key)
            self.say("version", self.next_version())
            self._forget(key)
            self._told.append((key[0], before.body, None))

    def past(self, key: Key) -> list[Object]:
        """Earlier versions of an object, the newest first."""
        sql = "SELECT body FROM past WHERE plural = ? AND namespace = ? AND name = ? ORDER BY version DESC"
        return [orjson.loads(body) for (body,) in self.query(sql, key)]

    def said(self, name: str) -> Any:
        """A value by name; None where there is none."""
        found = self.query("SELECT value FROM said WHERE name = ?", (name,))
        return orjson.loads(found[0][0]) if found else None

    def say(self, name: str, value: object) -> None:
        """Keep a value by name."""
        with self.together():
            self._disk.execute("REPLACE INTO said VALUES (?, ?)", (name, orjson.dumps(value)))

    def execute(self, sql: str, rows: Iterable[tuple[object, ...]] = ()) -> None:
        """Run a statement for each of some rows: for those who keep tables of their own beside the objects."""
        with self.together():
            self._disk.executemany(sql, rows)

    def query(self, sql: str, about: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        if self._lock.mine():
            return self._disk.execute(sql, about).fetchall()
        with self._lock if self._view is self._disk else self._reading:
            return self._view.execute(sql, about).fetchall()

    def _now(self) -> dict[str, dict[tuple[str, str], Row]]:
        """The objects: as they are to who is writing, as of the last commit to everybody else."""
        return self._rows if self._lock.mine() else self._seen

    def _publish(self) -> None:
        """Let everybody see what was written."""
        changed, self._changed = self._changed, set()
        if changed:
            self._seen_version = self.version
            self._seen = {**self._seen, **{plural: dict(self._rows[plural]) for plural in changed}}

    def _keep_past(self, key: Key, body: Object) -> None:
        version = int(body["metadata"]["resourceVersion"])
        self._disk.execute("REPLACE INTO past VALUES (?, ?, ?, ?, ?)", (*key, version, orjson.dumps(body)))
        self._disk.execute(
            "DELETE FROM past WHERE plural = ? AND namespace = ? AND name = ? AND version NOT IN (SELECT version"
            " FROM past WHERE plural = ? AND namespace = ? AND name = ? ORDER BY version DESC LIMIT ?)",
            (*key, *key, _MOST_PAST),
        )

    def _keep(self, key: Key, row: Row) -> None:
        self._rows.setdefault(key[0], {})[key[1:]] = row
        self._changed.add(key[0])
        for owner in row.body["metadata"].get("ownerReferences") or ():
            self._owned.setdefault(owner["uid"], set()).add(key)

    def _forget(self, key: Key) -> None:
        row = self._rows.setdefault(key[0], {}).pop(key[1:], None)
        self._changed.add(key[0])
        for owner in () if row is None else row.body["metadata"].get("ownerReferences") or ():
            mine = self._owned.get(owner["uid"], set())
            mine.discard(key)
            if not mine:
                self._owned.pop(owner["uid"], None)


def _opened(file: Path | None) -> sqlite3.Connection:
    made = sqlite3.connect(file or ":memory:", check_same_thread=False, isolation_level=None)
    made.execute("PRAGMA journal_mode=WAL")
    made.execute("PRAGMA synchronous=NORMAL")
    return made


def _only(file: Path) -> BinaryIO:
    """A lock on a store that ends with the process; raises InUse."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        held = file.with_name(file.name + ".lock").open("ab")  # open for as long as the store is
    except OSError as error:
        raise BadInput(f"store {file}: {error.strerror}") from None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        held.close()
        raise InUse(f"store {file}: another process has it open; end that one, or name another with --state") from None
    return held
