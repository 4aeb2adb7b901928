"""The command up: a whole Muster in one process, on a cluster that it brings, or on one of Kubernetes."""

import logging
import os
import shutil
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.errors import BadInput

if TYPE_CHECKING:
    from controller.up_kube import Options as KubeOptions

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
    seed: Annotated[int | None, typer.Option(help="Decides chance: arrivals and routing.", show_default="0")] = None,
    exit_after: Annotated[bool, typer.Option("--exit-after-story", help="End when the story has been played.")] = False,
    kubeconfig: Annotated[
        Path | None, typer.Option("--kubeconfig", help="Run on this cluster, not on one inside.", dir_okay=False)
    ] = None,
    context: Annotated[str | None, typer.Option(help="Context of the kubeconfig.", show_default="current")] = None,
    namespace: Annotated[str | None, typer.Option(help="Namespace of the lease.", show_default="muster-system")] = None,
    prometheus: Annotated[
        str | None, typer.Option(help="URL to ask for rates and latencies.", show_default="none")
    ] = None,
    prometheus_token_file: Annotated[Path | None, typer.Option(help="Bearer token for it.", dir_okay=False)] = None,
    reports: Annotated[
        str | None, typer.Option(help="HOST:PORT where agents report, with the same certificate.", show_default="none")
    ] = None,
) -> None:
    """Serve Muster's API and pages in one process with the controller's loop, on a cluster inside the process.

    Requests, engines and GPUs are simulated there; plans, decisions and pages are those of a real cluster. What is kept
    survives a kill: start again to go on. Ctrl-C ends it.

    With --kubeconfig it is the controller of that cluster, which needs Muster's custom resources (muster install).
    Nothing is simulated and no traffic is played; callers sign in with the cluster's tokens and may what its roles say.

    Examples: muster up --demo
              muster up --inventory deploy/examples/cluster.yaml --speed 60
              muster up --kubeconfig ~/.kube/config --prometheus http://127.0.0.1:9090
    """
    _one_kind(
        kubeconfig is not None,
        {
            "--inventory": inventory, "--demo": demo or None, "--story": story, "--speed": speed, "--seed": seed,
            "--fresh": fresh or None, "--exit-after-story": exit_after or None,
        },
        {
            "--context": context, "--namespace": namespace, "--prometheus": prometheus,
            "--prometheus-token-file": prometheus_token_file, "--reports": reports,
        },
    )  # fmt: skip
    from controller.embedded.world import Rules
    from controller.server import Listen as Reports
    from controller.up import Embedded, Options
    from controller.up_parts import beginning, chosen_story, gentle, hardware, midnight_s, narrate
    from controller.web.access import is_loopback
    from controller.web.server import Listen

    host, port = _address("--listen", listen)
    if (tls_certificate is None) != (tls_key is None):
        raise BadInput("--tls-certificate, --tls-key: got one without the other")
    if kubeconfig is not None:
        from controller.up_kube import Options as KubeOptions

        pair = tls_certificate, tls_key
        _on_kubernetes(
            kubeconfig, context,
            KubeOptions(
                state or _folder("kubernetes"), Listen(host, port, *pair), auth is not False,
                namespace or "muster-system", prometheus or "", prometheus_token_file,
                None if reports is None else Reports(*_address("--reports", reports), *pair),
            ),
        )  # fmt: skip
        return
    told = chosen_story(story, demo)
    folder = state or _folder("demo" if told is not None else "up")
    if fresh and folder.exists():
        shutil.rmtree(folder)
    options = Options(
        state=folder,
        listen=Listen(host, port, tls_certificate, tls_key),
        speed=speed or (1.0 if told is None else told.speed),
        seed=seed or 0,
        auth=auth if auth is not None else told is None or not is_loopback(host),
    )
    found, document = hardware(inventory, told)
    made = Embedded(options, Rules(start_s=midnight_s(), seed=seed or 0, nodes=gentle()), typer.echo)
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


def _on_kubernetes(kubeconfig: Path, context: str | None, options: "KubeOptions") -> None:
    from controller.kube.rest import ApiError, connect
    from controller.up_kube import OnKubernetes

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", force=True)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    api = connect(kubeconfig, context)
    try:
        made = OnKubernetes(api, options)
        made.start()
    except (ApiError, OSError) as error:
        typer.echo(f"muster up: {api.server}: {error}", err=True)
        raise typer.Exit(FAILED) from None
    for line in made.beginning():
        typer.echo(line)
    made.narrate(ended, typer.echo)
    made.stop()
    typer.echo("ended; what was planned stays in the cluster, and runs on")


def _one_kind(kubernetes: bool, of_ours: Mapping[str, object], of_kubernetes: Mapping[str, object]) -> None:
    """Raises BadInput where an option is of the other kind of cluster."""
    for name, value in (of_ours if kubernetes else of_kubernetes).items():
        if value is not None:
            where = "without --kubeconfig, on a cluster inside the process" if kubernetes else "with --kubeconfig"
            raise BadInput(f"{name}: got it {'with' if kubernetes else 'without'} --kubeconfig, allowed: {where}")


def _address(option: str, text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 <= int(port) < 65_536:
        raise BadInput(f"{option}: got {text!r}, allowed: HOST:PORT such as 127.0.0.1:8080")
    return host.strip("[]"), int(port)


def _folder(name: str) -> Path:
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "muster" / name
