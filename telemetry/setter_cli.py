"""Command of the node's setter of power limits. Exit codes: 0 ended as asked, 2 bad input."""

import grp
import json
import os
import pwd
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from planner.errors import BadInput
from telemetry.setter import SetterSettings


def setter(
    allow_user: Annotated[
        list[str], typer.Option(help="Who may ask, by name or id; the agent's user. May be given more than once.")
    ],
    socket: Annotated[Path, typer.Option(help="Unix socket to listen on.")] = Path("/run/muster-setter/setter.sock"),
    state: Annotated[Path, typer.Option(help="Folder for leases to survive a restart.", file_okay=False)] = Path(
        "/var/lib/muster-setter"
    ),
    safe_ratio: Annotated[
        float, typer.Option(help="What a GPU falls to when its lease ends, as a share of its default limit.")
    ] = 0.7,
    group: Annotated[str, typer.Option(help="Group, by name or id, that may connect too.")] = "",
    audit: Annotated[
        Path | None, typer.Option(help="Append every request and what came of it to this file (8 MiB, then FILE.1).")
    ] = None,
) -> None:
    """Set power limits for the agent, each as a lease that ends in a safe limit.

    The one process of the agent that needs privileges: root, or CAP_SYS_ADMIN in a container. Agent and controller may
    die at any time: a lease that nobody renews ends, and its GPU falls to the safe limit.

    Example: muster setter --allow-user muster-agent --group muster-agent --safe-ratio 0.7
    """
    if not 0.0 < safe_ratio <= 1.0:
        raise BadInput(f"--safe-ratio: got {safe_ratio:g}, allowed: above 0 up to 1")
    ids = tuple(int(user) for user in allow_user if user.isdigit())
    names = tuple(user for user in allow_user if not user.isdigit())
    for folder, option in ((socket.parent, "--socket"), (state, "--state")):
        _made(folder, option)
    settings = SetterSettings(
        str(socket), str(state / "leases.json"), ids, safe_ratio, str(audit or ""), names, _group(group)
    )
    for name in names:
        _warn_unknown(name)
    # A fresh interpreter: what the command line has loaded would stay in memory for as long as the setter runs.
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "telemetry.setter", json.dumps(asdict(settings))])


def _group(group: str) -> int:
    if not group or group.isdigit():
        return int(group or -1)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise BadInput(f"--group: got {group!r}, allowed: a group of this host, by name or id") from None


def _warn_unknown(name: str) -> None:
    """A name may come to be later (a service's dynamic user); a typing error never will."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        typer.echo(f"--allow-user: {name} is no user of this host yet; it may ask once it is", err=True)


def _made(folder: Path, option: str) -> None:
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{option}: {folder} cannot be made: {error.strerror}") from None
