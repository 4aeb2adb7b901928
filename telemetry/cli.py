"""Command of the node: agent. Exit codes: 0 ended as asked, 1 what was named cannot be used, 2 bad input, 3 no GPU."""

import math
import os
import socket
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from planner.errors import BadInput
from telemetry.pods import DEFAULT_SOCKET
from telemetry.settings import Settings
from telemetry.uplink import address
from telemetry.xid_policy import overridden

_FILE = {"exists": True, "dir_okay": False, "readable": True}


def agent(
    listen: Annotated[str, typer.Option(help="Address and port of /metrics, /healthz and /readyz.")] = "127.0.0.1:9410",
    node: Annotated[str, typer.Option(help="Name of this node.", show_default="the host's name")] = "",
    hot: Annotated[float, typer.Option(help="Seconds between readings of load, power and clocks.", min=0.05)] = 1.0,
    warm: Annotated[float, typer.Option(help="Seconds between readings of errors and links.", min=0.05)] = 5.0,
    cold: Annotated[float, typer.Option(help="Seconds between readings of what seldom changes.", min=0.05)] = 60.0,
    dcgm_aliases: Annotated[bool, typer.Option(help="Also export the names of dcgm-exporter.")] = True,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token that /metrics asks for; read anew each time.", **_FILE)
    ] = None,
    tls_certificate: Annotated[
        Path | None, typer.Option(help="Certificate (PEM) to serve HTTPS with; a renewed one is taken up.", **_FILE)
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key (PEM).", **_FILE)] = None,
    state: Annotated[Path | None, typer.Option(help="Folder for faults to survive a restart.", file_okay=False)] = None,
    jobs: Annotated[Path | None, typer.Option(help="Unix socket on which jobs tell of their steps.")] = None,
    record: Annotated[Path | None, typer.Option(help="Append all readings to this file, without serials.")] = None,
    replay: Annotated[Path | None, typer.Option(help="Play a recording in place of a driver.", **_FILE)] = None,
    replay_speed: Annotated[float, typer.Option(help="How many times as fast.", min=0.01)] = 1.0,
    controller: Annotated[str, typer.Option(help="HTTPS URL to report to.", show_default="metrics only")] = "",
    controller_ca: Annotated[
        Path | None, typer.Option(help="CA (PEM) that the controller's certificate must be signed by.", **_FILE)
    ] = None,
    controller_token_file: Annotated[
        Path | None, typer.Option(help="File with the token to show it; read anew for each report.", **_FILE)
    ] = None,
    report_every: Annotated[float, typer.Option(help="Seconds between reports without news.", min=0.1)] = 5.0,
    setter: Annotated[
        Path | None, typer.Option(help="Unix socket of `muster setter`, to hold the controller's caps.")
    ] = None,
    pod_labels: Annotated[bool, typer.Option(help="Label series with the pod that has the GPU.")] = False,
    pod_resources: Annotated[Path, typer.Option(help="The kubelet's socket that tells it.")] = Path(DEFAULT_SOCKET),
    xid: Annotated[
        list[str] | None, typer.Option(help="CODE=MEANING of an Xid, as --xid 94=ignore. May be given more than once.")
    ] = None,
    allow_no_gpu: Annotated[bool, typer.Option(help="Serve also on a host without a GPU.")] = False,
) -> None:
    """Watch this node's GPUs, serve what is read to Prometheus, report to the controller and hold its caps.

    Runs until SIGTERM. Needs an NVIDIA driver (or --replay) and no privileges.

    Example: muster agent --listen 0.0.0.0:9410 --token-file /etc/muster/scrape-token --controller
    https://muster.example:8443 --controller-token-file /var/run/secrets/muster/token --setter
    /run/muster-setter/setter.sock
    """
    if controller:
        address(controller)
    elif controller_ca or controller_token_file:
        raise BadInput("--controller-ca, --controller-token-file: got one without --controller")
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise BadInput(f"--listen: got {listen!r}, allowed: ADDRESS:PORT with a port up to 65535")
    if (tls_key is not None) and tls_certificate is None:
        raise BadInput("--tls-key: got a key without --tls-certificate")
    for seconds, option in ((hot, "--hot"), (warm, "--warm"), (cold, "--cold"), (report_every, "--report-every")):
        if not math.isfinite(seconds):
            raise BadInput(f"{option}: got {seconds}, allowed: a number of seconds")
    if state is not None:
        _made(state)
    xids = _overrides(xid or [])
    settings = Settings(
        node=node or socket.gethostname(),
        host=host.strip("[]"),
        port=int(port),
        hot_s=hot,
        warm_s=warm,
        cold_s=cold,
        dcgm=dcgm_aliases,
        token_file=str(token_file or ""),
        tls_certificate=str(tls_certificate or ""),
        tls_key=str(tls_key or ""),
        record=str(record or ""),
        state=str(state or ""),
        jobs=str(jobs or ""),
        replay=str(replay or ""),
        replay_speed=replay_speed,
        controller=controller,
        controller_ca=str(controller_ca or ""),
        controller_token_file=str(controller_token_file or ""),
        report_s=report_every,
        setter=str(setter or ""),
        pods=str(pod_resources) if pod_labels else "",
        allow_no_gpu=allow_no_gpu,
        version=_version(),
        xids=xids,
    )
    # A fresh interpreter: what the command line has loaded would stay in memory for as long as the agent runs.
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "telemetry.serve", settings.dumped()])


def _overrides(given: list[str]) -> dict[str, str]:
    """CODE=MEANING by code. Raises BadRecord for what is neither, in words."""
    found = {code.strip(): meaning.strip() for code, _, meaning in (one.partition("=") for one in given)}
    overridden(found)
    return found


def _made(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--state: {folder} cannot be made: {error.strerror}") from None


def _version() -> str:
    try:
        return version("muster-gpu")
    except PackageNotFoundError:
        return ""  # run from a checkout that was not installed
