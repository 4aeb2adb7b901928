"""How commands ask a running Muster: the options that say which and as whom, and what becomes of its refusals."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.errors import MusterError

if TYPE_CHECKING:
    from controller.web.client import Client

Server = Annotated[
    str,
    typer.Option(
        "--server",
        "-s",
        help="Address of Muster; else that of MUSTER_SERVER.",
        envvar="MUSTER_SERVER",
        show_envvar=False,
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file", help="File with a token; else that of MUSTER_TOKEN.", dir_okay=False, show_default="none"
    ),
]
CaFile = Annotated[Path | None, typer.Option("--ca-file", help="Certificates (PEM) to trust.", dir_okay=False)]
LOCAL = "http://127.0.0.1:8080"
NOT_THERE, NO_ANSWER = 3, 4


def the_client(server: str, token_file: Path | None, ca_file: Path | None) -> "Client":
    """Asks a server; raises BadInput for a token or an address that is none."""
    from controller.web.client import Client, token_of

    return Client(server, token_of(token_file), ca_file)


def run(work: Any) -> None:
    """Do it; what the server refused is told in lines, with an exit code of its own."""
    from controller.web.client import Answered, Unreachable

    try:
        work()
    except Unreachable as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(NO_ANSWER) from None
    except Answered as error:
        words = str(error)
        if len(error.lines) > 1:
            typer.echo("\n".join(error.lines), err=True)
            words = f"{len(error.lines)} problems"
        if error.status == 404:
            typer.echo(f"error: {words}", err=True)
            raise typer.Exit(NOT_THERE) from None
        raise MusterError(words) from None
    finally:
        sys.stdout.flush()
