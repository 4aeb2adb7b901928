"""The command up: a whole Muster in one process, on a cluster that it brings, or on one of Kubernetes."""

import logging
import os
import shutil
import signal
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.errors import BadInput

if TYPE_CHECKING:
    from controller.web.server import Listen

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
        typer.Option(
            help="Folder of all that is kept (of Kubernetes: what pages draw, and decisions).",
            file_okay=False,
            show_default="in ~/.local/state/muster",
        ),
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
        Path | None,
        typer.Option("--kubeconfig", help="Run on this cluster, not on one inside; no traffic.", dir_okay=False),
    ] = None,
    context: Annotated[str | None, typer.Option(help="Context of the kubeconfig.", show_default="current")] = None,
    namespace: Annotated[str | None, typer.Option(help="Namespace of the lease.", show_default="muster-system")] = None,
    prometheus: Annotated[
        str | None, typer.Option(help="URL to ask for rates and latencies.", show_default="none")
    ] = None,
    prometheus_token_file: Annotated[Path | None, typer.Option(help="Bearer token for it.", dir_okay=False)] = None,
    max_priority: Annotated[
        list[str] | None,
        typer.Option(help="Highest priority that counts: N, or NAMESPACE=N; repeatable.", show_default="1000"),
    ] = None,
    reports: Annotated[
        str | None, typer.Option(help="HOST:PORT where agents report, with the same certificate.", show_default="none")
    ] = None,
) -> None:
    """Serve Muster's API and pages in one process with the controller's loop, on a cluster inside the process.

    Requests, engines and GPUs are simulated there; plans, decisions and pages are those of a real cluster. What is kept
    survives a kill: start again to go on. Ctrl-C ends it.

    With --kubeconfig it is the controller of that cluster, which needs Muster's custom resources (muster install).
    Nothing is simulated, no traffic and no faults are played; callers sign in with the cluster's tokens and may what
    its roles say. Where another leads, such as a controller in the cluster, it shows what there is and stands by.

    Exit codes: 0 ended, 2 bad input, 3 the lease was lost (start it again), 4 failed: no cluster, no port, no rights.

    \b
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
            "--max-priority": max_priority,
        },
    )  # fmt: skip
    from controller.ceilings import parsed
    from controller.web.server import Listen

    if (tls_certificate is None) != (tls_key is None):
        raise BadInput("--tls-certificate, --tls-key: got one without the other")
    served = Listen(*_address("--listen", listen), tls_certificate, tls_key)
    if kubeconfig is None:
        _embedded(served, inventory, demo, story, state, fresh, auth, speed, seed or 0, exit_after)
    else:
        agents = None if reports is None else _address("--reports", reports)
        ceilings = None if max_priority is None else parsed(max_priority)
        more = {
            "ceilings": ceilings,
            "namespace": namespace,
            "prometheus": prometheus,
            "prometheus_token_file": prometheus_token_file,
        }
        given = {key: value for key, value in more.items() if value is not None}
        _on_kubernetes(kubeconfig, context, state, served, agents, auth is not False, given)


def _embedded(
    listen: "Listen",
    inventory: Path | None,
    demo: bool,
    story: Path | None,
    state: Path | None,
    fresh: bool,
    auth: bool | None,
    speed: float | None,
    seed: int,
    exit_after: bool,
) -> None:
    from controller.embedded.world import Rules
    from controller.up import Embedded, Options
    from controller.up_parts import beginning, chosen_story, gentle, hardware, narrate, start_s
    from controller.web.access import is_loopback

    told = chosen_story(story, demo)
    folder = state or _folder("demo" if told is not None else "up")
    if fresh and folder.exists():
        shutil.rmtree(folder)
    options = Options(
        state=folder,
        listen=listen,
        speed=speed or (1.0 if told is None else told.speed),
        seed=seed,
        auth=auth if auth is not None else told is None or not is_loopback(listen.host),
    )
    found, document = hardware(inventory, told)
    made = Embedded(options, Rules(start_s=start_s(told), seed=seed, nodes=gentle()), typer.echo)
    made.furnish(found, document)
    ended = _told_to_end()
    try:
        made.start()
    except OSError as error:
        made.stop()
        typer.echo(f"muster up: --listen {listen.host}:{listen.port}: {error}", err=True)
        raise typer.Exit(FAILED) from None
    which = "--demo" if story is None else f"--story {story}"
    again = f"muster up {which}{f' --state {state}' if state else ''} --fresh"
    for line in beginning(made, told, again):
        typer.echo(line)
    if told is not None:
        made.tell(told)
    narrate(made, told, ended, typer.echo, exit_after, again)
    made.stop()
    if made.failed is not None:
        typer.echo(f"muster up: ended by {type(made.failed).__name__}: {made.failed}", err=True)
        raise typer.Exit(FAILED)
    typer.echo(f"ended; all is kept in {folder}, start again to go on")


def _on_kubernetes(
    kubeconfig: Path,
    context: str | None,
    state: Path | None,
    listen: "Listen",
    agents: tuple[str, int] | None,
    auth: bool,
    given: Mapping[str, Any],
) -> None:
    from controller.kube.rest import ApiError, connect
    from controller.server import Listen as Reports
    from controller.up_fit import Unfit, check, check_prometheus, cluster_id
    from controller.up_kube import OnKubernetes, Options
    from controller.web.access import NoTokens

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", force=True)
    reports = None if agents is None else Reports(*agents, listen.certificate, listen.key)
    api = connect(kubeconfig, context)
    try:
        options = Options(Path(), listen, auth, reports=reports, **given)
        if not auth:
            NoTokens(listen.host)
        check_prometheus(options.prometheus, options.prometheus_token_file)
        check(api, options.namespace, auth)
        options = replace(options, state=state or _folder(f"kubernetes-{cluster_id(api)}"))
        ended = _told_to_end()
        made = OnKubernetes(api, options)
        made.start()
    except (Unfit, ApiError) as error:
        typer.echo(f"muster up: {api.server} of {kubeconfig}: {error}", err=True)
        raise typer.Exit(FAILED) from None
    except OSError as error:
        typer.echo(f"muster up: {error}", err=True)
        raise typer.Exit(FAILED) from None
    typer.echo(f"cluster {api.server}, context {context or 'as the kubeconfig has it'}: services of all namespaces")
    for line in made.beginning():
        typer.echo(line)
    made.narrate(ended, typer.echo)
    released = made.stop()
    how = "the lease is released, and what was planned" if released else "what was planned"
    typer.echo(f"ended; {how} stays in the cluster and runs on")


def _told_to_end() -> threading.Event:
    """Set by SIGTERM and by Ctrl-C. A second one ends the process as it stands, should something hang."""
    ended = threading.Event()

    def told(number: int, _: object) -> None:
        ended.set()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    return ended


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
