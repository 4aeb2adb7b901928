"""Every error that the planner raises on purpose, in one tree.

MusterError                 what, got, allowed and where: printed as one line, exit code 2
  BadInput                  a file or an argument that cannot be used
    UnknownName             a name that is not in a catalogue; says which are
  MissingFigure             a figure that no source states is needed; nothing is invented in its place
  SolverFault               the solver answered with a state that has no meaning here: a bug, ours or its; exit code 4

An infeasible problem is no error: `planner.plan.Infeasible` is a value.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType

_MOST_NAMES, _MOST_NEAR, _LONGEST_NAME = 20, 5, 60


class MusterError(Exception):
    """Base of all errors that a user can act on; `str()` is the line to print."""


class BadInput(MusterError):
    """A file or an argument that cannot be used."""


class UnknownName(BadInput):
    """A name that is not in a catalogue; `aliases` (of which name) are suggested too where they are near.

    `otherwise` says what may be given in place of a name.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        known: Iterable[str],
        aliases: Mapping[str, str] = MappingProxyType({}),
        otherwise: str = "",
    ) -> None:
        names = sorted(known)
        folded = {known_name.casefold(): known_name for known_name in (*aliases, *names)}
        near = get_close_matches(name.casefold(), folded, n=_MOST_NEAR)
        hint = f"; did you mean {folded[near[0]]!r}?" if near else ""
        meant = list(dict.fromkeys(aliases.get(folded[one], folded[one]) for one in near))
        shown = names if len(names) <= _MOST_NAMES else meant or names[:_MOST_NAMES]
        more = f", and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
        short = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
        super().__init__(
            f"unknown {kind} {short!r}{hint} (known: {', '.join(shown)}{more}{otherwise and f'; {otherwise}'})"
        )


class MissingFigure(MusterError):
    """A figure that no source states is needed."""


class SolverFault(MusterError):
    """The solver answered with a state that has no meaning here."""
