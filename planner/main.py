"""The command `muster`: finds subcommands by entry point and loads only the chosen one.

Every package of ours names its subcommands in the entry-point group `muster.commands`: each a function with typer
annotations, or a `typer.Typer` for a group. Exit codes: what the subcommand says; 2 for a MusterError and wrong usage,
4 for a SolverFault (the input may be fine), 130 when interrupted, 1 when whoever read the output has gone.
"""

import ast
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from planner.errors import MusterError, SolverFault, UnknownName

BAD_INPUT, NO_PLAN, INTERRUPTED, OUTPUT_CLOSED = 2, 4, 130, 1


def main() -> None:
    """Run the subcommand that the arguments name; leaves the process with its exit code."""
    try:
        try:
            known = commands()
            name = _chosen(known, _words())
            app = _app_without_commands()
            if name is None:
                _add_summaries(app, known.values())
            else:
                _add(app, known[name])
            app(sys.argv[1:] or ["--help"], prog_name="muster")
        finally:
            sys.stdout.flush()  # here, where a closed pipe can still be caught
    except SolverFault as fault:
        typer.echo(f"no plan: the solver failed: {fault}", err=True)
        sys.exit(NO_PLAN)
    except MusterError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again at exit
        sys.exit(OUTPUT_CLOSED)


def commands() -> Mapping[str, EntryPoint]:
    """Every installed subcommand, by name."""
    return {entry.name: entry for entry in entry_points(group="muster.commands")}


def summary(command: EntryPoint) -> str:
    """First line of a subcommand's help, read from its source so that `muster --help` imports no subcommand.

    Empty where there is none: the module is no Python source, or the object has no docstring and no `help=`.
    """
    for node in _statements(command.module):
        match node:
            case ast.FunctionDef(name=command.attr):
                return (ast.get_docstring(node) or "").partition("\n")[0]
            case ast.Assign(targets=[ast.Name(id=command.attr)], value=ast.Call(keywords=keywords)):
                given = {word.arg: word.value for word in keywords}
                text = given.get("help")
                return str(text.value).partition("\n")[0] if isinstance(text, ast.Constant) else ""
    return ""


@cache
def _statements(module: str) -> Sequence[ast.stmt]:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return ()
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body


def _words() -> Sequence[str]:
    """What was typed so far, less the program's name: the arguments, or the line that a shell asks to complete."""
    if _completing():
        line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")
        return line.split()[1:]
    return sys.argv[1:]


def _completing() -> bool:
    return "_MUSTER_COMPLETE" in os.environ


def _chosen(known: Mapping[str, EntryPoint], words: Sequence[str]) -> str | None:
    """Name of the subcommand that the words choose, or None; raises UnknownName if there is no such subcommand."""
    name = next((word for word in words if not word.startswith("-")), None)
    if name is None or name in known:
        return name
    if _completing():
        return None  # half a word, still being typed
    raise UnknownName("command", name, known)


def _app_without_commands() -> typer.Typer:
    # Plain text: quicker than boxes, and neither a pipe nor a bracket in a docstring spoils it.
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.callback()(_muster)
    return app


def _add(app: typer.Typer, entry: EntryPoint) -> None:
    command = entry.load()
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=entry.name)
    else:
        app.command(entry.name)(command)


def _add_summaries(app: typer.Typer, entries: Iterable[EntryPoint]) -> None:
    for entry in entries:
        app.command(entry.name, short_help=summary(entry))(_not_loaded)


def _not_loaded() -> None:
    """Stands for a subcommand in the list of subcommands; never called."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"muster {version('muster-gpu')}")
        raise typer.Exit


def _muster(
    print_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Plan mixed GPU fleets for language models: the cheapest allocation that keeps every latency objective, proved."""


if __name__ == "__main__":
    main()
