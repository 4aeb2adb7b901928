"""Times as the Kubernetes API writes them."""

import time
from collections.abc import Callable
from datetime import UTC, datetime


def seconds(written: str) -> float:
    """Unix time."""
    return datetime.fromisoformat(written.replace("Z", "+00:00")).timestamp()


def text(at_s: float) -> str:
    """To the second, which is what metav1.Time keeps."""
    return datetime.fromtimestamp(int(at_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def steady(
    wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
) -> Callable[[], float]:
    """Unix time as it was when this was called, and from then on as it passes.

    A wall clock that is set an hour on or back would end leases and probations at once, or never.
    """
    began_s = wall() - monotonic()
    return lambda: began_s + monotonic()
