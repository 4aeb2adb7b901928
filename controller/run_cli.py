"""Commands about a cluster: controller, approve, replay. Exit codes: 0 done, 2 bad input, 3 not so, 4 failed."""

import json
import logging
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.web.asking import LOCAL, CaFile, Server, TokenFile, run, the_client
from planner.errors import BadInput

if TYPE_CHECKING:
    from controller.approval import Waiting
    from controller.kube.rest import Api

DIFFERS, FAILED = 3, 4
Kubeconfig = Annotated[
    Path | None,
    typer.Option("--kubeconfig", help="Cluster to use; left out, that of the pod, or ~/.kube/config.", dir_okay=False),
]
Context = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.", show_default="current")]


def controller(
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Annotated[str, typer.Option(help="Namespace of the lease and of burn-in Jobs.")] = "muster-system",
    listen: Annotated[str, typer.Option(help="HOST:PORT for agents, metrics and probes.")] = "127.0.0.1:8443",
    tls_certificate: Annotated[Path | None, typer.Option(help="Certificate (PEM) to serve with.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
    agent_account: Annotated[
        list[str] | None, typer.Option(help="Service account NAMESPACE:NAME of agents; repeatable.")
    ] = None,
    audience: Annotated[str, typer.Option(help="Audience that agents' tokens are made for.")] = "muster",
    prometheus: Annotated[str, typer.Option(help="URL to ask for rates and latencies.", show_default="none")] = "",
    prometheus_token_file: Annotated[Path | None, typer.Option(help="Bearer token for it.", dir_okay=False)] = None,
    most_moving: Annotated[int, typer.Option(min=1, max=10_000, help="Replicas that may start or stop at once.")] = 8,
    max_priority: Annotated[
        list[str] | None,
        typer.Option(help="Highest priority that counts: N, or NAMESPACE=N; repeatable.", show_default="1000"),
    ] = None,
    brake_share: Annotated[float, typer.Option(min=0, max=1, help="Share of nodes that may be out at once.")] = 0.05,
    probation: Annotated[float, typer.Option(min=0, help="Seconds without a fault before a node comes back.")] = 900.0,
    burn_in_image: Annotated[str, typer.Option(help="Image that proves a node first.", show_default="none")] = "",
    burn_in_runtime_class: Annotated[str, typer.Option(help="RuntimeClass of its pod.", show_default="none")] = "",
    burn_in_pull_secret: Annotated[
        list[str] | None, typer.Option(help="Secret to pull its image with; repeatable.")
    ] = None,
    out_for: Annotated[
        list[str] | None,
        typer.Option(help="Detector whose finds take a node out though its GPUs work (slow_clock); repeatable."),
    ] = None,
    drain: Annotated[bool, typer.Option(help="Evict replicas from nodes that are out.")] = True,
    snapshots: Annotated[Path | None, typer.Option(help="Folder for decisions, for muster replay.")] = None,
    lease: Annotated[int, typer.Option(min=3, max=300, help="Seconds until another may lead.")] = 15,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log more.")] = False,
) -> None:
    """Apply plans to a Kubernetes cluster, watch it, and plan again when it departs from them.

    Needs Muster's CRDs and roles (muster install --print). Several may run: one leads.

    Example: muster controller --kubeconfig ~/.kube/config --prometheus http://127.0.0.1:9090
    """
    from controller.brake import Brake
    from controller.ceilings import parsed
    from controller.kube.burn_in import BurnIn
    from controller.kube.known import Settings
    from controller.kube.lease import Terms
    from controller.kube.node_round import NodeSettings
    from controller.kube.rest import ApiError, connect
    from controller.kube.run import Controller, Options
    from controller.server import Listen

    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    for chatty in ("urllib3", "kubernetes"):  # at that level they log headers
        logging.getLogger(chatty).setLevel(logging.WARNING)
    host, port = _address(listen)
    if (tls_certificate is None) != (tls_key is None):
        raise BadInput("--tls-certificate, --tls-key: got one without the other")
    options = Options(
        namespace=namespace,
        terms=Terms(lease_s=lease, renew_s=lease * 2 / 3, retry_s=min(2.0, lease / 8)),
        settings=Settings(most_moving=most_moving, ceilings=parsed(max_priority or ())),
        snapshots=snapshots,
        nodes=NodeSettings(
            Brake(share_ratio=brake_share, probation_s=probation),
            BurnIn(burn_in_image, (), namespace, burn_in_runtime_class, tuple(burn_in_pull_secret or ())),
            drain,
            frozenset(out_for or ()),
        ),
        listen=Listen(host, port, tls_certificate, tls_key),
        agents=tuple(agent_account or ("muster-agents:muster-agent",)),
        audience=audience,
        prometheus=prometheus,
        prometheus_token_file=prometheus_token_file,
    )
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        made = Controller(connect(kubeconfig, context), options)
        made.start()
    except (ApiError, OSError) as error:
        typer.echo(f"muster controller: {error}", err=True)
        raise typer.Exit(FAILED) from None
    typer.echo(f"muster controller: reports at port {made.port}, cluster at {made.address}", err=True)
    ended.wait()
    made.stop()


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 <= int(port) < 65_536:
        raise BadInput(f"--listen: got {text!r}, allowed: HOST:PORT such as 0.0.0.0:8443")
    return host.strip("[]"), int(port)


def approve(
    service: Annotated[str, typer.Argument(help="GPUService, as NAME or NAMESPACE/NAME.", show_default=False)],
    decision: Annotated[
        str, typer.Option("--decision", help="The decision that you looked at.", show_default="the one that waits")
    ] = "",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    server: Server = "",
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Let a plan that waits for a person be applied (services with approval: Manual).

    It is said to the Muster of --server or MUSTER_SERVER, else to the cluster of the kubeconfig, which needs no server;
    without a kubeconfig to the Muster of this machine (muster up).

    \b
    Examples: muster approve team-a/chat --decision 1b42ebb885a9
              muster approve chat --server http://127.0.0.1:8080
    """
    from controller.approval import approved, waiting
    from controller.web.approving import approved_at, waiting_at

    space, _, name = ("default/" + service if "/" not in service else service).partition("/")
    key = f"{space}/{name}"
    if (api := _cluster(server, kubeconfig, context)) is not None:
        _approve(key, decision, yes, partial(waiting, api, space, name), partial(approved, api, space, name))
        return
    with the_client(server or LOCAL, token_file, ca_file) as client:
        ask, say = partial(waiting_at, client, space, name), partial(approved_at, client, space, name)
        run(lambda: _approve(key, decision, yes, ask, say))


def _cluster(server: str, kubeconfig: Path | None, context: str | None) -> "Api | None":
    """The cluster that is meant; None where it is a running Muster. Raises BadInput."""
    from controller.kube.rest import connect

    if kubeconfig is not None or context is not None:
        return connect(kubeconfig, context)
    if server:
        return None
    try:
        return connect(None, None)
    except BadInput:  # there is none: as for the other commands it is the Muster of this machine
        return None


def _approve(
    key: str, decision: str, yes: bool, waiting: "Callable[[], Waiting]", approved: Callable[[str], None]
) -> None:
    plan = waiting()
    if decision and decision != plan.decision:
        raise BadInput(f"--decision: got {decision}, allowed: {plan.decision}, which is what waits now")
    typer.echo("\n".join(plan.words))
    if not yes and not decision and not _agreed():
        typer.echo(f"nothing was approved; to say it in one go: --decision {plan.decision}", err=True)
        raise typer.Exit(DIFFERS)
    approved(plan.decision)
    typer.echo(f"{key}: decision {plan.decision} is approved")


def install(
    print_only: Annotated[bool, typer.Option("--print", help="Print the manifests; apply nothing.")] = False,
    namespace: Annotated[str, typer.Option(help="Namespace of the controller.")] = "muster-system",
    agents_namespace: Annotated[str, typer.Option(help="Namespace of the agents.")] = "muster-agents",
    controller_image: Annotated[str, typer.Option(help="Image of the controller.", show_default="as shipped")] = "",
    agent_image: Annotated[str, typer.Option(help="Image of the agent.", show_default="as shipped")] = "",
    prometheus: Annotated[str, typer.Option(help="URL that the controller asks for rates.", show_default="none")] = "",
    crds: Annotated[bool, typer.Option(help="Custom resources too.")] = True,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Install Muster in a cluster, or print what would be applied. The Helm chart has more to choose from.

    Example: muster install --print --prometheus http://prometheus.monitoring.svc:9090 | kubectl apply -f -
    """
    from controller.install import Choices, apply, text
    from controller.kube.rest import connect

    chosen = Choices(namespace, agents_namespace, controller_image, agent_image, prometheus, crds)
    if print_only:
        sys.stdout.write(text(chosen))
        return
    for line in apply(connect(kubeconfig, context), chosen):
        typer.echo(line)


def _agreed() -> bool:
    try:
        return typer.confirm("Apply it?")
    except typer.Abort:  # nobody is at the keyboard
        return False


def replay(
    snapshot: Annotated[Path, typer.Argument(help="File that --snapshots wrote.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Make a decision of the controller again, offline, from its snapshot: the same plan to the last bit.

    Exits with 3 if the file was changed since: its name is the digest of what it holds.

    Example: muster replay snapshots/1b42ebb885a9.json
    """
    from controller.decision import decide, decision_id
    from controller.snapshots import load, matches
    from planner.spec.plan_file import plan_document, plan_text

    found = load(snapshot)
    plan = decide(found)
    name = decision_id(found)
    if as_json:
        sys.stdout.write(json.dumps(plan_document(plan, name), indent=2) + "\n")
    else:
        sys.stdout.write(plan_text(plan, name))
    if not matches(snapshot, found):
        typer.echo(f"{snapshot}: is decision {name}; the file was changed or renamed", err=True)
        raise typer.Exit(DIFFERS)
