"""Each Xid comes twice, as an event of NVML and as a line of the kernel log, in either order. Pure.

An Xid of one source that another of the same GPU and code from the other source has announced is the same one. Each
announces one only, so that a burst of equal Xids is counted right; what nobody answered is forgotten after a while.
"""

from collections.abc import Iterable

from telemetry.sample import Xid

LIVE_S = 2.0  # both come this close
# A line that was logged while no agent ran carries the kernel's clock, which drifts from ours.
LOOK_BACK_S = 60.0
MOST = 256


class Pairs:
    """Xids that one source has told of, and the other not yet."""

    def __init__(self, waiting: Iterable[Xid] = ()) -> None:
        self._waiting: list[Xid] = list(waiting)

    def again(self, xid: Xid, within_s: float = LIVE_S) -> bool:
        """Whether the other source has told of this one; if not, it waits for the other."""
        self._waiting = [one for one in self._waiting if abs(xid.at_s - one.at_s) <= LOOK_BACK_S][-MOST:]
        for one in self._waiting:
            same = (one.gpu, one.code) == (xid.gpu, xid.code) and one.source != xid.source
            if same and abs(xid.at_s - one.at_s) <= within_s:
                self._waiting.remove(one)
                return True
        self._waiting.append(xid)
        return False

    def waiting(self) -> tuple[Xid, ...]:
        """To be kept on disk: their other half may come after a restart."""
        return tuple(self._waiting)


def row(xid: Xid) -> list[object]:
    """As it is kept on disk, without its text."""
    return [xid.gpu, xid.code, xid.at_s, xid.source]


def from_row(found: Iterable[object]) -> Xid:
    """An Xid from `row`. Raises ValueError and TypeError."""
    gpu, code, at_s, source = found
    if source not in ("nvml", "kmsg"):
        raise ValueError(f"source is {source!r}")
    return Xid(int(gpu), int(code), float(at_s), source)  # type: ignore[call-overload, arg-type]
