"""The command up: a whole Muster in one process, on a cluster that it brings, for trying things out."""

import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from planner.errors import BadInput

FAILED = 4


def up(
    inventory: Annotated[
        Path | None,
        typer.Option(
            "--inventory",
            "-i",
            help="Hardware of the embedded cluster (YAML); only the first start reads it.",
            dir_okay=False,
            show_default="the example cluster",
        ),
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Play a day (deploy/examples/demo.yaml).")] = False,
    story: Annotated[Path | None, typer.Option("--story", help="Play another story.", dir_okay=False)] = None,
    state: Annotated[
        Path | None,
        typer.Option(help="Folder of all that is kept.", file_okay=False, show_default="~/.local/state/muster"),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what is kept, and begin anew.")] = False,
    listen: Annotated[str, typer.Option(help="HOST:PORT of API and pages.")] = "127.0.0.1:8080",
    tls_certificate: Annotated[Path | None, typer.Option(help="Certificate (PEM) to serve with.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
    auth: Annotated[
        bool | None,
        typer.Option("--auth/--no-auth", help="Ask for tokens.", show_default="on; off in a story on the loopback"),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(min=0.1, max=100_000, help="Simulated seconds per second.", show_default="1, or the story's"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides chance: arrivals and routing.")] = 0,
    exit_after: Annotated[bool, typer.Option("--exit-after-story", help="End when the story has been played.")] = False,
) -> None:
    """Serve Muster's API and pages on a cluster inside this process, with the controller's loop and the agents' code.

    Requests, engines and GPUs are simulated; plans, decisions and pages are those of a real cluster. What is kept
    survives a kill: start again to go on. Ctrl-C ends it.

    Examples: muster up --demo
              muster up --inventory deploy/examples/cluster.yaml --speed 60
    """
    from controller.embedded.world import Rules
    from controller.up import Embedded, Options
    from controller.up_parts import beginning, chosen_story, gentle, hardware, midnight_s, narrate
    from controller.web.server import Listen

    told = chosen_story(story, demo)
    host, port = _address(listen)
    if (tls_certificate is None) != (tls_key is None):
        raise BadInput("--tls-certificate, --tls-key: got one without the other")
    folder = state or _folder("demo" if told is not None else "up")
    if fresh and folder.exists():
        shutil.rmtree(folder)
    options = Options(
        state=folder,
        listen=Listen(host, port, tls_certificate, tls_key),
        speed=speed or (1.0 if told is None else told.speed),
        seed=seed,
        auth=auth if auth is not None else told is None,
    )
    found, document = hardware(inventory, told)
    made = Embedded(options, Rules(start_s=midnight_s(), seed=seed, nodes=gentle()), typer.echo)
    made.furnish(found, document)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        made.start()
    except OSError as error:
        made.stop()
        typer.echo(f"muster up: {listen}: {error}", err=True)
        raise typer.Exit(FAILED) from None
    for line in beginning(made):
        typer.echo(line)
    if told is not None:
        made.tell(told)
    narrate(made, told, ended, typer.echo, exit_after)
    made.stop()
    if made.failed is not None:
        typer.echo(f"muster up: ended by {type(made.failed).__name__}: {made.failed}", err=True)
        raise typer.Exit(FAILED)
    typer.echo(f"ended; all is kept in {folder}, start again to go on")


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 <= int(port) < 65_536:
        raise BadInput(f"--listen: got {text!r}, allowed: HOST:PORT such as 127.0.0.1:8080")
    return host.strip("[]"), int(port)


def _folder(name: str) -> Path:
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "muster" / name
