"""Xids, as the policy reads them: fatal ones at once, the application's own by how often they come.

Bursts as NVSentinel counts them (Apache-2.0): Xids less than 180 s apart are one burst; 74, 79, 95, 109 and 119
repeat for up to 3 h; 5 bursts in a day are more than an application. Xid 45 follows others and says nothing by
itself; two of 31 (a fault in the GPU's memory management) on one GPU in a day do.
"""

import math
from collections.abc import Callable

from telemetry.detector import Detector, Looks
from telemetry.fault import Action, Look, Rule, Severity
from telemetry.view import View

DAY_S, BURST_S, STICKY_S = 86400.0, 180.0, 3 * 3600.0
STICKY = (74, 79, 95, 109, 119)
MOST_BURSTS = 5
SPEAKS_TWICE, SAYS_NOTHING = 31, 45
CANCELS = {162: 163}  # power smoothing is back after it was gone


def _meant(meaning: Severity) -> Callable[[View], Looks]:
    def look(view: View) -> Looks:
        cancelled = {CANCELS[one.xid] for one in view.xids if one.xid in CANCELS}
        clear = {f"xid {code}": Look(False) for code in cancelled}
        hits = {
            f"xid {one.xid}": Look(True, float(one.xid), f"Xid {one.xid} {one.name}")
            for one in view.xids
            if one.meaning == meaning and one.xid not in cancelled
        }
        return clear | hits if meaning == "degraded" else hits

    return look


def bursts(times_s: list[float], code: int) -> int:
    """How many bursts a list of times of one code makes."""
    gap_s = STICKY_S if code in STICKY else BURST_S
    return sum(1 for i, at_s in enumerate(times_s) if i == 0 or at_s - times_s[i - 1] >= gap_s)


def _again_and_again(view: View) -> Looks:
    found = {}
    for code in {one.xid for one in view.xids if one.meaning in ("app", "degraded")} - {SAYS_NOTHING}:
        times_s = [at_s for at_s, one in view.history.xids if one.xid == code and view.now_s - at_s <= DAY_S]
        count = bursts(times_s, code)
        hit = count >= MOST_BURSTS or (code == SPEAKS_TWICE and len(times_s) >= 2)
        found[f"xid {code}"] = Look(hit, float(count), f"Xid {code} {len(times_s)} times in {count} bursts of a day")
    return found


def _detector(name: str, meaning: Severity, action: Action, clear_s: float, text: str) -> Detector:
    return Detector(name, meaning, action, "xid", Rule(clear_s=clear_s), _meant(meaning), text)


DETECTORS = (
    _detector("xid_fatal", "fatal_gpu", "reset_gpu", math.inf, "An Xid after which the GPU needs a reset."),
    _detector("xid_fatal_node", "fatal_node", "reboot_node", math.inf, "An Xid after which the node needs a reboot."),
    _detector("xid_degraded", "degraded", "ticket", DAY_S, "An Xid that somebody should look into."),
    Detector(
        "xid_repeated", "degraded", "ticket", "xid", Rule(clear_s=DAY_S), _again_and_again,
        "Xids of applications that come again and again on one GPU.",
    ),
)  # fmt: skip
