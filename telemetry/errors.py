"""Errors of the node agent.

MusterError (planner.errors)
└── TelemetryError
    ├── NvmlUnavailable   no driver, or no library to speak to it
    ├── BadRecord         a recording, a trace or a message that is not what it should be
    └── CannotStart       a socket, a folder or a file that the agent was told to use and cannot
"""

from planner.errors import MusterError


class TelemetryError(MusterError):
    """What went wrong on a node, in words for its owner."""


class NvmlUnavailable(TelemetryError):
    """NVML cannot be loaded or initialised."""


class CannotStart(TelemetryError):
    """The agent cannot use what it was told to."""


class BadRecord(TelemetryError):
    """Input that is refused: what it should be, what was got, where."""
