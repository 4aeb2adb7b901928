"""Memory that fails: uncorrectable errors, rows that are or cannot be replaced, corrected errors that soar.

Thresholds: DCGM's health checks (pending remap warns, failed remap fails, 512 rows by uncorrectable errors warn; DCGM
4, Apache-2.0); a corrected error alone is nothing (operators alarm from 10^7 on: azurehpc-health-checks,
facebookresearch/gcm).
"""

import math

from telemetry.detector import Detector, Looks, whole
from telemetry.fault import Rule
from telemetry.view import View

MOST_ROWS = 512
SOARS_RATIO, SOARS_PER_HOUR = 100.0, 1000.0
HOUR_S, WEEK_S = 3600.0, 7 * 86400.0
UNTIL_RESET = Rule(clear_s=math.inf)


def _uncorrected(view: View) -> Looks:
    rise = view.history.rise("ecc_uncorrected_volatile_all", 60.0)
    if rise is None:
        return {}
    return whole(rise > 0, rise, f"{rise:.0f} uncorrectable ECC errors in the last minute")


def _pending(view: View) -> Looks:
    pending = view.get("remap_pending")
    return {} if pending is None else whole(pending > 0, pending, "a row of memory waits for a reset to be replaced")


def _failed(view: View) -> Looks:
    failed = view.get("remap_failed")
    return {} if failed is None else whole(failed > 0, failed, "a row of memory could not be replaced")


def _many_rows(view: View) -> Looks:
    rows, spent = view.get("remapped_uncorrected"), view.get("remap_banks_none")
    if rows is None:
        return {}
    if spent:
        return whole(True, spent, f"{spent:.0f} banks have no spare row left")
    return whole(rows >= MOST_ROWS, rows, f"{rows:.0f} rows were replaced after uncorrectable errors")


def _soars(view: View) -> Looks:
    """Against the GPU's own pace of up to a week; the hour that is judged counts in it, so a first hour cannot hit."""
    hour = view.history.rise("ecc_corrected_volatile_all", HOUR_S)
    seen_s = min(view.history.seen_s("ecc_corrected_volatile_all"), WEEK_S)
    if hour is None or seen_s < 2 * HOUR_S:
        return {}
    week = view.history.rise("ecc_corrected_volatile_all", WEEK_S) or 0.0
    usual = max((week - hour) / (seen_s - HOUR_S) * HOUR_S, 1e-9)
    words = f"{hour:,.0f} corrected ECC errors in an hour, {usual:,.1f} is usual"
    return whole(hour > SOARS_PER_HOUR and hour > SOARS_RATIO * usual, hour, words)


DETECTORS = (
    Detector(
        "ecc_uncorrected", "fatal_gpu", "reset_gpu", "hot", UNTIL_RESET, _uncorrected,
        "An uncorrectable ECC error: data was lost.",
    ),
    Detector(
        "row_remap_pending", "degraded", "reset_gpu", "hot", UNTIL_RESET, _pending,
        "A faulty row is replaced at the next reset; let the GPU run dry first.",
    ),
    Detector("row_remap_failed", "fatal_gpu", "replace", "hot", UNTIL_RESET, _failed, "No spare row was left."),
    Detector(
        "rows_remapped", "degraded", "ticket", "warm", Rule(clear_s=math.inf), _many_rows,
        "Many rows were replaced, or a bank has no spare one left.",
    ),
    Detector(
        "ecc_corrected_soars", "degraded", "ticket", "warm", Rule(3, 5, 3600.0), _soars,
        "Corrected errors come far more often than usual on this GPU.", every_s=60.0,
    ),
)  # fmt: skip
