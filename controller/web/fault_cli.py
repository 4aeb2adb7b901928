"""The command fault: faults of simulated GPUs, by the API of a Muster that embeds its cluster."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.web.asking import LOCAL, CaFile, Server, TokenFile, run, the_client
from planner.errors import BadInput

if TYPE_CHECKING:
    from controller.web.client import Client

fault = typer.Typer(no_args_is_help=True, help="Play faults on simulated GPUs: list, inject, clear.")
Where = Annotated[str, typer.Argument(metavar="NODE/GPU", help="Which GPU, such as h100-1/0.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_MOST_GPU = 255
_ARGUMENTS = {  # of what is sent
    "node, gpu": "NODE/GPU", "node": "NODE/GPU", "gpu": "NODE/GPU", "kind": "KIND", "xid": "--xid",
    "factor": "--factor",
}  # fmt: skip


@fault.command("list")
def listed(
    as_json: AsJson = False, server: Server = LOCAL, token_file: TokenFile = None, ca_file: CaFile = None
) -> None:
    """List the faults that are played now. What agents detect of them is told by `muster describe node NODE`.

    A Muster on a Kubernetes cluster plays none, and says so with exit code 3.

    Example: muster fault list
    """
    with the_client(server, token_file, ca_file) as client:
        run(lambda: _list(client, as_json))


@fault.command("inject")
def inject(
    where: Where,
    kind: Annotated[str, typer.Argument(help="xid, slow or lost.", show_default=False)],
    xid: Annotated[int | None, typer.Option(help="Which Xid, with xid.", show_default=False)] = None,
    factor: Annotated[
        float | None, typer.Option(help="The share of its speed that is left, with slow.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    server: Server = LOCAL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Have a GPU report an Xid, run slow, or be lost, until it is cleared.

    A Muster on a Kubernetes cluster plays none, and says so with exit code 3.

    \b
    Examples: muster fault inject h100-1/0 xid --xid 79
              muster fault inject h100-1/0 slow --factor 0.6
              muster fault inject h100-1/0 lost
    """
    node, gpu = _place(where)
    if (xid is not None) != (kind == "xid") or (factor is not None) != (kind == "slow"):
        raise BadInput(f"KIND: got {kind!r} with other options, allowed: xid --xid N, slow --factor SHARE, lost")
    body = {"node": node, "gpu": gpu, "kind": kind, "xid": xid, "factor": factor}
    sent = {key: value for key, value in body.items() if value is not None}
    with the_client(server, token_file, ca_file) as client:
        run(lambda: _done(client, sent, as_json))


@fault.command("clear")
def clear(
    where: Annotated[
        str, typer.Argument(metavar="NODE/GPU", help="Which GPU, such as h100-1/0.", show_default="with --all, all")
    ] = "",
    every: Annotated[bool, typer.Option("--all", help="Mend every GPU.")] = False,
    as_json: AsJson = False,
    server: Server = LOCAL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Mend a GPU, or all: no fault is played on it any more.

    \b
    Examples: muster fault clear h100-1/0
              muster fault clear --all
    """
    if every == bool(where):
        raise BadInput("got both or neither of NODE/GPU and --all, allowed: one of them")
    place = None if every else _place(where)
    with the_client(server, token_file, ca_file) as client:
        run(lambda: _clear(client, place, as_json))


def _place(where: str) -> tuple[str, int]:
    node, _, gpu = where.rpartition("/")
    if not node or not gpu.isdecimal() or int(gpu[:4]) > _MOST_GPU:
        raise BadInput(f"NODE/GPU: got {where!r}, allowed: a node and the index of a GPU on it, such as h100-1/0")
    return node, int(gpu)


def _list(client: "Client", as_json: bool) -> None:
    from planner.show import Table, percent, printed

    rows, _ = client.all("/faults")
    if as_json:
        _print({"items": rows})
        return
    if not rows:
        typer.echo("no fault is played", err=True)
        return
    made = Table(("NODE", "GPU", "KIND", "HOW"), right=("GPU",))
    for row in rows:
        how = {"xid": f"Xid {row['xid']}", "slow": f"{percent(row['factor'] or 0.0)} of its speed"}
        made.rows.append((row["node"], str(row["gpu"]), row["kind"], how.get(row["kind"], "-")))
    printed([made])


def _clear(client: "Client", place: tuple[str, int] | None, as_json: bool) -> None:
    rows = [place] if place is not None else [(row["node"], row["gpu"]) for row in client.all("/faults")[0]]
    for node, gpu in rows:
        _done(client, {"node": node, "gpu": gpu, "kind": "clear"}, as_json)
    if not rows:
        typer.echo("no fault is played", err=True)


def _done(client: "Client", body: dict[str, Any], as_json: bool) -> None:
    from controller.web.client import Answered

    try:
        found = client.ask("POST", "/faults", body).found
    except Answered as error:
        raise Answered(error.status, _named(str(error)), error.errors) from None
    if as_json:
        _print(found)
    else:
        typer.echo(found["said"])


def _named(words: str) -> str:
    """What is wrong by the names of arguments: whoever types them sends no body that they know of."""
    words = words.removeprefix("the body: ").removeprefix("parameters: ")
    for field, argument in _ARGUMENTS.items():
        if words.startswith(f"{field}: "):
            return f"{argument}: {words.removeprefix(f'{field}: ')}"
    return words


def _print(found: object) -> None:
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
