"""What the client commands do once their arguments are read. They print; failures are raised."""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches, unified_diff
from http import HTTPStatus
from typing import Any

import typer

from controller.web.client import Answered, Client
from controller.web.describe import report_of, view_of
from controller.web.files import Given, given
from controller.web.overview_text import overview_report
from controller.web.tables import Resource, below, resource, table
from planner.errors import BadInput
from planner.show import Report, printed
from planner.yaml_text import dump

Object = Mapping[str, Any]
APPLY = "application/apply-patch+yaml"
_MANAGER = "muster-client"
_LOOK_S = 2.0
_SERVERS = ("managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "finalizers")
_CLEAR = "\x1b[H\x1b[2J"


def applied(client: Client, files: Sequence[str], namespace: str, dry: bool, force: bool, output: str) -> None:
    """Apply the objects of files, one after the other; the first that is refused ends it.

    Nothing is sent while anything is wrong in any file.
    """
    for one in _sound(files, namespace):
        before = _live(client, one)
        reply = _apply(client, one, dry, force)
        word = "created" if before is None else "unchanged" if _same(before, reply.found) else "configured"
        if output in ("json", "yaml"):
            _print(reply.found, output)
        else:
            typer.echo(f"{one}" if output == "name" else f"{one} {word}{' (dry run)' if dry else ''}")


def _apply(client: Client, one: Given, dry: bool, force: bool) -> Any:
    query = {"fieldManager": _MANAGER, "dryRun": str(dry).lower(), "force": str(force).lower()}
    try:
        return client.ask("PATCH", one.path, one.obj, query=query, content_type=APPLY)
    except Answered as error:
        lines = tuple(f"{one.at(path)}: {words}" for path, words in error.errors)
        raise Answered(error.status, lines[0] if len(lines) == 1 else f"{one.at('')}: {error}", (), lines) from None


def _sound(files: Sequence[str], namespace: str) -> list[Given]:
    """The objects of files; raises Answered, before anything is asked, with a line for every problem that they have."""
    found = given(files, namespace)
    if problems := [line for one in found for line in one.problems()]:
        raise Answered(HTTPStatus.UNPROCESSABLE_ENTITY, problems[0], (), tuple(problems))
    return found


def _live(client: Client, one: Given) -> Object | None:
    try:
        found: Object = client.ask("GET", one.path).found
    except Answered as error:
        if error.status == 404:
            return None
        raise
    return found


def _same(a: Object, b: Object) -> bool:
    return _bare(a) == _bare(b)


def _bare(obj: Object) -> Object:
    """What a person wrote of an object, or may."""
    meta = {key: value for key, value in obj["metadata"].items() if key not in _SERVERS}
    return {key: value for key, value in {**obj, "metadata": meta}.items() if key != "status"}


def gotten(client: Client, what: str, name: str, namespace: str, output: str, watch: bool) -> None:
    """Print one or all of a resource; with `watch` then what changes."""
    kind = resource(what)
    if watch and output in ("json", "yaml"):
        raise BadInput(f"-o: got {output} with -w, allowed: a table, wide or name")
    seen: dict[str, tuple[str, ...]] = {}
    while True:
        rows, now_s = _rows(client, kind, name, namespace, whole=output in ("json", "yaml"))
        if output in ("json", "yaml"):
            _print(rows[0] if name else {"kind": "List", "items": rows}, output)
            return
        _print_rows(kind, rows, now_s, output, spaces=not namespace and not name, seen=seen)
        if not rows and not seen and not watch:
            typer.echo(
                f"no {kind.name}{f' in namespace {namespace}' if kind.namespaced and namespace else ''}", err=True
            )
        if not watch:
            return
        sys.stdout.flush()
        time.sleep(_LOOK_S)


def _rows(client: Client, kind: Resource, name: str, namespace: str, whole: bool) -> tuple[list[Object], float]:
    """What is to be shown, and the cluster's time. `whole`: objects, where there are any behind the rows."""
    if name and kind.name in ("gpus", "events"):
        raise BadInput(f"NAME: got {name!r}, allowed: none for {kind.name}")
    if name:
        place = f"/{kind.path}/{namespace or 'default'}/{name}" if kind.namespaced else f"/{kind.path}/{name}"
        reply = client.ask("GET", place if whole or kind.name != "powerdomains" else f"{place}/view")
        return [reply.found], reply.clock_s
    rows, now_s = client.all(f"/{kind.path}", {"namespace": namespace} if kind.namespaced and namespace else None)
    found: list[Object] = list(rows)
    if whole and kind.kind:
        found = [row if "metadata" in row else client.ask("GET", f"/{kind.path}/{row['name']}").found for row in rows]
    return found, now_s


def _print_rows(
    kind: Resource, rows: Sequence[Object], now_s: float, output: str, spaces: bool, seen: dict[str, tuple[str, ...]]
) -> None:
    """Print rows that are new or not as they were. `seen`: what was printed last of each."""
    if output == "name":
        for row in rows:
            if kind.key(row) not in seen:
                typer.echo(f"{kind.name}/{kind.key(row).rpartition('/')[2] if kind.kind else kind.key(row)}")
            seen[kind.key(row)] = ()
        return
    made = table(kind, rows, now_s, output == "wide", spaces)
    still = [heading not in ("AGE", "LAST", "HEARD") for heading in made.headings]  # time passes without any change
    keep, kept_rows = [], []
    for row, cells in zip(rows, list(made.rows), strict=True):
        mark = tuple(cell for cell, kept in zip(cells, still, strict=True) if kept)  # type: ignore[arg-type]
        if seen.get(kind.key(row)) != mark:
            keep.append(cells)
            kept_rows.append(row)
        seen[kind.key(row)] = mark
    made.rows[:] = keep
    if keep:
        printed([below(kind, made, kept_rows)])


def described(client: Client, what: str, name: str, namespace: str, output: str = "") -> None:
    """Print all about one thing."""
    if output:
        _print(view_of(client, resource(what), name, namespace), output)
        return
    printed(report_of(client, resource(what), name, namespace))


def differences(client: Client, files: Sequence[str], namespace: str) -> bool:
    """Print what applying would change; whether it would change anything."""
    differs = False
    for one in _sound(files, namespace):
        before = _live(client, one)
        after = _bare(_apply(client, one, dry=True, force=True).found)
        old = "" if before is None else dump(json.loads(json.dumps(_bare(before))))
        new = dump(json.loads(json.dumps(after)))
        lines = list(unified_diff(
            old.splitlines(), new.splitlines(), f"live/{one}", f"applied/{one}", lineterm=""
        ))  # fmt: skip
        differs = differs or bool(lines)
        for line in lines:
            typer.echo(line)
    return differs


def deleted(
    client: Client, what: str, names: Sequence[str], files: Sequence[str], namespace: str, missing_ok: bool
) -> None:
    """Delete by name, or what files hold, the last of them first."""
    if files:
        paths = [(one.path, str(one)) for one in reversed(given(files, namespace))]
    else:
        kind = resource(what)
        if not kind.kind:
            raise BadInput(f"KIND: got {what!r}, allowed: service, inventory, powerdomain")
        if not names:
            raise BadInput("NAME: got none, allowed: which ones to delete")
        space = f"{namespace or 'default'}/" if kind.namespaced else ""
        paths = [(f"/{kind.path}/{space}{name}", f"{kind.kind.lower()}/{name}") for name in names]
    for path, shown in paths:
        try:
            client.ask("DELETE", path)
        except Answered as error:
            if error.status != 404 or not missing_ok:
                raise
            continue
        typer.echo(f"{shown} deleted")


def told(client: Client, about: str, namespace: str, output: str, watch: bool) -> None:
    """Print events, the oldest first; with `watch` then as they come."""
    kind = resource("events")
    name = about.rpartition("/")[2]
    query = {"namespace": namespace} if namespace else {}
    every, now_s = client.all("/events", query)
    rows = sorted((row for row in every if _is_about(row, name)), key=lambda row: (row["last_s"], row["version"]))
    if name and not rows:
        _there(client, name, every, watch)
    if output in ("json", "yaml"):
        if watch:
            raise BadInput(f"-o: got {output} with -w, allowed: a table or wide")
        _print({"kind": "List", "items": rows}, output)
        return
    if rows:
        printed([table(kind, rows, now_s, output == "wide", False)])
    elif not watch:
        typer.echo("no events", err=True)
    if not watch:
        return
    sys.stdout.flush()
    for row in client.events(query, max((row["version"] for row in rows), default=0)):
        if _is_about(row, name):
            typer.echo(f"{row['type']:7}  {row['reason']}  {row['kind'].lower()}/{row['about']}  {row['note']}")
            sys.stdout.flush()


def _there(client: Client, name: str, every: Sequence[Object], watch: bool) -> None:
    """Raises Answered where nothing is called so; who waits for events is told, since it may come."""
    known = {str(row["about"]).rpartition("/")[2] for row in every}
    for what in ("services", "nodes", "powerdomains", "inventories"):
        kind = resource(what)
        try:
            known |= {kind.key(row).rpartition("/")[2] for row in client.all(f"/{kind.path}")[0]}
        except Answered as error:
            if error.status != HTTPStatus.FORBIDDEN:
                raise
    if name in known:
        return
    near = get_close_matches(name, sorted(known), n=3, cutoff=0.5)
    words = f"there is nothing called {name}" + (f"; did you mean {' or '.join(near)}?" if near else "")
    if not watch:
        raise Answered(HTTPStatus.NOT_FOUND, words)
    typer.echo(f"{words}; waiting for it", err=True)


def _is_about(row: Object, name: str) -> bool:
    return not name or str(row["about"]).rpartition("/")[2] == name


def at_the_top(client: Client, what: str, watch: bool, every_s: float, output: str = "") -> None:
    """Print the fleet, or one resource, as it is now; with `watch` again and again."""
    if output:
        if watch:
            raise BadInput(f"-o: got {output} with -w, allowed: a table")
        kind = _in_top(what) if what else None
        found = client.ask("GET", "/overview").found if kind is None else _listed(client, kind)
        _print(found, output)
        return
    look = _top_of(client, what)
    while True:
        report = look()
        if watch and sys.stdout.isatty():
            sys.stdout.write(_CLEAR)
        printed(report)
        if not watch:
            return
        sys.stdout.flush()
        time.sleep(every_s)


def _top_of(client: Client, what: str) -> Callable[[], Report]:
    if not what:
        return lambda: overview_report(client)
    kind = _in_top(what)

    def look() -> Report:
        rows, now_s = client.all(f"/{kind.path}")
        return [below(kind, table(kind, rows, now_s, wide=False, spaces=True), rows)]

    return look


def _in_top(what: str) -> Resource:
    kind = resource(what)
    if kind.name not in ("services", "nodes", "gpus", "powerdomains"):
        raise BadInput(f"got {what!r}, allowed: services, nodes, gpus, powerdomains")
    return kind


def _listed(client: Client, kind: Resource) -> Object:
    return {"kind": "List", "items": client.all(f"/{kind.path}")[0]}


def _print(found: object, output: str) -> None:
    if output == "json":
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        sys.stdout.write(dump(json.loads(json.dumps(found))))
