"""Commands that are clients of a running Muster's API, with kubectl's habits.

Exit codes: 0 done, 1 differs (diff), 2 bad input or refused, 3 not there, 4 no answer.
"""

from typing import Annotated

import typer

from controller.web.asking import LOCAL, CaFile, Server, TokenFile, run, the_client
from planner.errors import BadInput

Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace.", show_default=False)]
Files = Annotated[list[str], typer.Option("--filename", "-f", help="File of objects; - for standard input.")]
Output = Annotated[str, typer.Option("--output", "-o", help="wide, json, yaml or name.", show_default="a table")]
Data = Annotated[str, typer.Option("--output", "-o", help="json or yaml.", show_default="a report")]
AsJson = Annotated[bool, typer.Option("--json", help="The same as -o json.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Go on, and print what changes.")]
DIFFERS = 1
_OUTPUTS = ("", "wide", "json", "yaml", "name")


def apply(
    files: Files,
    namespace: Namespace = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    force: Annotated[bool, typer.Option("--force-conflicts", help="Take over fields that others applied.")] = False,
    output: Output = "",
    server: Server = LOCAL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Make the objects of files, or change them to be so; fields that you applied before and leave out now are removed.

    Example: muster apply -f deploy/examples/chat.yaml
    """
    from controller.web.commands import applied

    _known(output)
    with the_client(server, token_file, ca_file) as client:
        run(lambda: applied(client, files, namespace, dry_run, force, output))


def get(
    what: Annotated[str, typer.Argument(help="services, plans, nodes, gpus, ... or KIND/NAME.", show_default=False)],
    name: Annotated[str, typer.Argument(help="One of them.", show_default="all")] = "",
    namespace: Namespace = "",
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")] = False,
    output: Output = "",
    watch: Watch = False,
    as_json: AsJson = False,
    server: Server = LOCAL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """List services, plans, nodes, gpus, inventories, powerdomains or events, or show one.

    \b
    Examples: muster get services
              muster get plan chat -o yaml
    """
    from controller.web.commands import gotten

    output = _known(output, as_json)
    what, name = _split(what, name)
    with the_client(server, token_file, ca_file) as client:
        run(lambda: gotten(client, what, name, "" if everywhere else namespace or "default", output, watch))


def describe(
    what: Annotated[str, typer.Argument(help="service, plan, node, powerdomain, or KIND/NAME.", show_default=False)],
    name: Annotated[str, typer.Argument(help="Which one.", show_default=False)] = "",
    namespace: Namespace = "default",
    output: Data = "",
    as_json: AsJson = False,
    server: Server = LOCAL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Tell all about one service, plan, node or power domain: state and why, figures, events.

    Example: muster describe service chat
    """
    from controller.web.commands import described
    from controller.web.describe import has_report
    from controller.web.tables import resource

    output = _data(output, as_json)
    what, name = _split(what, name)
    has_report(resource(what))
    if not name:
        raise BadInput("NAME: got none, allowed: which one to describe, such as muster describe service chat")
    with the_client(server, token_file, ca_file) as client:
        run(lambda: described(client, what, name, namespace, output))


def diff(
    files: Files,
    namespace: Namespace = "",
    server: Server = LOCAL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Show what applying files would change. Exits with 1 where something would.

    Example: muster diff -f deploy/examples/chat.yaml
    """
    from controller.web.commands import differences

    with the_client(server, token_file, ca_file) as client:
        differs: list[bool] = []
        run(lambda: differs.append(differences(client, files, namespace)))
    if any(differs):
        raise typer.Exit(DIFFERS)


def delete(
    what: Annotated[
        str, typer.Argument(help="service, inventory, powerdomain, or KIND/NAME.", show_default=False)
    ] = "",
    names: Annotated[list[str] | None, typer.Argument(help="Which ones.", show_default=False)] = None,
    files: Annotated[
        list[str] | None, typer.Option("--filename", "-f", help="The objects of a file; - for standard input.")
    ] = None,
    namespace: Namespace = "",
    missing_ok: Annotated[bool, typer.Option("--ignore-not-found", help="What is not there is no error.")] = False,
    server: Server = LOCAL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Delete services, inventories or power domains, by name or by the files that made them.

    Example: muster delete service chat
    """
    from controller.web.commands import deleted

    if "/" in what:
        what, _, first = what.partition("/")
        names = [first, *(names or [])]
    if bool(files) == bool(what):
        raise BadInput("got both or neither of KIND NAME and -f, allowed: one of them")
    with the_client(server, token_file, ca_file) as client:
        run(lambda: deleted(client, what, names or [], files or [], namespace, missing_ok))


def events(
    about: Annotated[str, typer.Option("--for", help="Only those about KIND/NAME or NAME.", show_default=False)] = "",
    namespace: Namespace = "",
    output: Output = "",
    watch: Watch = False,
    as_json: AsJson = False,
    server: Server = LOCAL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Show what Muster did and saw, the oldest first; with -w go on as it happens.

    Exits with 3 where there is nothing of the name that --for says; with -w it waits for one to come.

    Example: muster events --for service/chat -w
    """
    from controller.web.commands import told

    output = _known(output, as_json)
    with the_client(server, token_file, ca_file) as client:
        run(lambda: told(client, about, namespace, output, watch))


def top(
    what: Annotated[
        str, typer.Argument(help="services, nodes, gpus or powerdomains.", show_default="the fleet at a glance")
    ] = "",
    watch: Watch = False,
    every: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two looks, with -w.")] = 2.0,
    output: Data = "",
    as_json: AsJson = False,
    server: Server = LOCAL,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Show cost, power, load and objectives as they are now.

    Example: muster top -w
    """
    from controller.web.commands import at_the_top

    output = _data(output, as_json)
    with the_client(server, token_file, ca_file) as client:
        run(lambda: at_the_top(client, what, watch, every, output))


def _split(what: str, name: str) -> tuple[str, str]:
    """`service/chat` as `service chat`."""
    kind, slash, after = what.partition("/")
    if slash and name:
        raise BadInput(f"NAME: got {name!r} beside {what!r}, allowed: one of KIND NAME and KIND/NAME")
    return (kind, after) if slash else (what, name)


def _known(output: str, as_json: bool = False) -> str:
    """The form that is asked for; empty for a table."""
    if output not in _OUTPUTS or (as_json and output not in ("", "json")):
        got = f"{output!r}{' with --json' if as_json else ''}"
        raise BadInput(f"-o: got {got}, allowed: {', '.join(_OUTPUTS[1:])}")
    return "json" if as_json else output


def _data(output: str, as_json: bool) -> str:
    """The form that is asked for; empty for a report."""
    if output not in ("", "json", "yaml") or (as_json and output == "yaml"):
        raise BadInput(f"-o: got {output!r}{' with --json' if as_json else ''}, allowed: json, yaml")
    return "json" if as_json else output
