"""GPUs that are slow and say nothing: clocks lower than they should be, more energy for a step than usual.

Clocks are judged only where nothing holds them down: busy, in P0, no event bit (application clocks have one). What is
right is what the GPU itself did most of the time before under the same power limit, or what others of its node do now
under the same one: a GPU that is capped is not faulty. Clock locks have no bit: whoever locks clocks is seen by this.
Energy is judged by job: a step of the same job costs the same until something is wrong (cooling, voltage, a spin).
"""

from statistics import median

from telemetry.detector import Detector, Looks, whole
from telemetry.fault import Rule
from telemetry.fields import CLOCK_EVENT_MASK
from telemetry.sample import Sample
from telemetry.view import View

BUSY_RATIO = 0.9
SLOW_RATIO = 0.95  # of the usual clock, or of the node's median
SEEN_BEFORE = 600  # readings under load before a GPU's own clock is called usual
LOOK_S = 10.0
LIMIT = "power_limit_enforced_w"
STEP_RATIO = 1.15  # of the usual energy, or of the node's median
FEWEST_PEERS = 3


def free_to_run(sample: Sample) -> bool:
    """Whether a GPU should run as fast as it can: it is busy, and nothing holds its clocks down."""
    values = sample.values
    return (
        values.get("utilization_ratio", 0.0) >= BUSY_RATIO
        and values.get(CLOCK_EVENT_MASK) == 0
        and values.get("performance_state") == 0
    )


def _slow_clock(view: View) -> Looks:
    history = view.history
    busy, masks, clocks = (
        history.over(name, LOOK_S) for name in ("utilization_ratio", CLOCK_EVENT_MASK, "sm_clock_hz")
    )
    if not (clocks and masks and busy) or min(busy) < BUSY_RATIO or any(masks) or view.get("performance_state") != 0:
        return {}
    own_hz = history.clock.median() if history.clock.count >= SEEN_BEFORE else 0.0
    peers = (peer.sample for peer in view.peers() if peer.sample.get(LIMIT) == view.get(LIMIT))
    others = [peer.values.get("sm_clock_hz", 0.0) for peer in peers if free_to_run(peer)]
    right_hz = max(own_hz, median(others) if len(others) >= FEWEST_PEERS else 0.0)
    if not right_hz:
        return {}
    ratio = max(clocks) / right_hz
    words = f"SM clock at {max(clocks) / 1e6:.0f} MHz under load, {right_hz / 1e6:.0f} is usual; nothing holds it down"
    return whole(ratio < SLOW_RATIO, ratio, words)


def _dear_step(view: View) -> Looks:
    """Steps over joules is throughput per watt: the same measure, upside down."""
    history = view.history
    now_j = history.step_energy_j()
    if now_j is None:
        return {}
    usual_j = history.step_j.median() if history.step_j.count >= 10 else 0.0
    peers = (peer.history.step_energy_j() for peer in view.peers() if peer.history.job == history.job)
    others = [found for found in peers if found is not None]
    bounds = [bound for bound in (usual_j, median(others) if len(others) >= FEWEST_PEERS else 0.0) if bound]
    if not bounds:
        return {}
    ratio = now_j / min(bounds)
    return whole(ratio > STEP_RATIO, ratio, f"a step of {history.job} takes {now_j:.0f} J, {min(bounds):.0f} is usual")


DETECTORS = (
    Detector(
        "slow_clock", "degraded", "ticket", "warm", Rule(6, 6, 300.0), _slow_clock,
        "Clocks are low under load, and nothing says why.", LOOK_S,
    ),
    Detector(
        "dear_steps", "degraded", "ticket", "warm", Rule(8, 10, 600.0), _dear_step,
        "A job's steps take more energy on this GPU than they did, or than on others.", 60.0,
    ),
)  # fmt: skip
