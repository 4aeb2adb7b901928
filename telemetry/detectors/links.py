"""NVLink and PCIe: errors, links that are down or narrow.

NVLink: DCGM fails at 100 CRC errors a second; replays and recoveries are judged by windows, as one is common while
links train (214 of 288 GB200 nodes raised a false alarm at boot: NVSentinel issue 1701), hence the grace after boot.
PCIe: DCGM allows 0.15, 0.3, 0.48, 0.96, 1.92, 3.84 replays a minute and lane for generations 1 to 6.
"""

import math
from collections.abc import Callable

from telemetry.detector import Detector, Looks, whole
from telemetry.fault import Look, Rule
from telemetry.view import View

BOOT_S = 300.0
CRC_PER_S = 100.0
WINDOW_S = 10.0
# Errors that the link repeats or recovers from, of both generations of counters.
MENDED = ("replay", "recovery", "link_recovery", "received", "retry_blocks")
REPLAYS_PER_LANE_MINUTE = {1: 0.15, 2: 0.3, 3: 0.48, 4: 0.96, 5: 1.92, 6: 3.84}
BUSY_RATIO = 0.2
PARTS = tuple(f"link {number}" for number in range(64))
CLEAN = Look(False)  # nearly all looks are, on many links: no words for those


def _crc(view: View) -> Looks:
    found = {}
    for link, _ in view.links():
        rate = view.history.rate("crc", link)
        if rate is not None:
            hit = Look(True, rate, f"NVLink {link}: {rate:,.0f} CRC errors a second") if rate >= CRC_PER_S else CLEAN
            found[PARTS[link]] = hit
    return found


def _mended(view: View) -> Looks:
    found = {}
    for link, values in view.links():
        rises = [view.history.rise(name, WINDOW_S, link) or 0.0 for name in MENDED if name in values]
        if rises:
            total = sum(rises)
            hit = Look(True, total, f"NVLink {link}: {total:,.0f} replays and recoveries") if total > 0 else CLEAN
            found[PARTS[link]] = hit
    return found


def _down(view: View) -> Looks:
    """A link that was never up is not there; what goes down all at once is the driver's business, not a link's."""
    if not any(link.get("up") for _, link in view.links()):
        return {}
    return {
        PARTS[link]: CLEAN if values["up"] else Look(True, 0.0, f"NVLink {link} is down")
        for link, values in view.links()
        if "up" in values
    }


def _replays(view: View) -> Looks:
    rise, generation, width = (
        view.history.rise("pcie_replays", 60.0),
        view.get("pcie_generation"),
        view.get("pcie_width"),
    )
    if rise is None or generation is None or width is None:
        return {}
    allowed = math.ceil(REPLAYS_PER_LANE_MINUTE.get(int(generation), 3.84) * width)
    return whole(rise > allowed, rise, f"{rise:,.0f} PCIe replays in a minute, {allowed} are usual at this speed")


def _narrow(view: View) -> Looks:
    """Width at any time, speed only under load: an idle link slows down by itself."""
    width, widest = view.get("pcie_width"), view.get("pcie_width_max")
    speed, fastest = view.get("pcie_generation"), view.get("pcie_generation_max")
    if width is None or widest is None or speed is None or fastest is None:
        return {}
    busy = view.history.over("utilization_ratio", 30.0)
    loaded = bool(busy) and min(busy) > BUSY_RATIO
    words = f"PCIe runs at x{width:.0f} generation {speed:.0f}, of x{widest:.0f} generation {fastest:.0f}"
    return whole(width < widest or (loaded and speed < fastest), width, words)


def _detector(
    name: str,
    severity: str,
    action: str,
    rule: Rule,
    look: Callable[[View], Looks],
    text: str,
    every_s: float = WINDOW_S,
) -> Detector:
    return Detector(name, severity, action, "warm", rule, look, text, every_s)  # type: ignore[arg-type]


DETECTORS = (
    _detector(
        "nvlink_crc", "fatal_gpu", "drain", Rule(2, 3, 600.0, grace_s=BOOT_S), _crc, "A link corrupts packets.", 1.5
    ),
    _detector(
        "nvlink_errors", "degraded", "ticket", Rule(3, 10, 600.0, grace_s=BOOT_S), _mended,
        "An NVLink repeats packets or recovers, again and again.",
    ),
    _detector(
        "nvlink_failing", "fatal_gpu", "drain", Rule(16, 30, 600.0, grace_s=BOOT_S), _mended,
        "An NVLink repeats packets or recovers most of the time.",
    ),
    _detector("nvlink_down", "fatal_gpu", "drain", Rule(3, 3, 600.0, grace_s=BOOT_S), _down, "An NVLink is down.", 1.5),
    _detector("pcie_replays", "degraded", "ticket", Rule(13, 36, 600.0), _replays, "PCIe packets are lost.", 5.0),
    _detector("pcie_narrow", "degraded", "ticket", Rule(6, 6, 300.0, grace_s=60.0), _narrow, "PCIe is too narrow."),
)  # fmt: skip
