"""How far the serving model is off for a deployment, by its own metrics, and the correction that follows.

The logarithm of measured over predicted is taken as the model's error for this deployment. Before anything is seen it
is zero, give or take the interval that the model states for itself; what was seen weighs by its number of requests, but
never as surer than one run of an engine repeats another (published runs: TPOT to 1.8 %, TTFT to 3.4 %). The posterior
of two normal distributions gives factor and interval (Gelman et al., "Bayesian Data Analysis", section 2.5).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.corrections import Correction, Deployment, Factor, for_deployment
from planner.perf.observed import Histogram, Observed
from planner.perf.serving import predict
from planner.perf.serving_rows import Rows, parse
from planner.perf.tables import Columns

Z_90 = 1.645
REPEATS_RATIO: Mapping[str, float] = MappingProxyType({"ttft": 0.034, "tpot": 0.018})


@dataclass(frozen=True, slots=True)
class Compared:
    """One latency: as measured, as predicted with its 90 % interval, and corrected. Means, in seconds."""

    name: str
    measured_s: float
    predicted_s: float
    lo_s: float
    hi_s: float
    corrected_s: float

    @property
    def off_ratio(self) -> float:
        """Predicted over measured, less one."""
        return self.predicted_s / self.measured_s - 1

    @property
    def surprising(self) -> bool:
        """Whether the measured figure lies outside of the interval that was stated for it."""
        return not self.lo_s <= self.measured_s <= self.hi_s


@dataclass(frozen=True, slots=True)
class Calibration:
    """The answer: each latency compared, and the correction that was learnt. `source`: of the uncorrected model."""

    observed: Observed
    compared: tuple[Compared, ...]
    correction: Correction
    source: str

    def drifted(self, tolerance_ratio: float) -> tuple[Compared, ...]:
        """Latencies that were predicted further off than this, either way."""
        most = math.log1p(tolerance_ratio)
        return tuple(row for row in self.compared if abs(math.log(row.predicted_s / row.measured_s)) > most)


def calibrate(
    observed: Observed, deployment: Deployment, measured_at: str, inputs_sha256: str, earlier: Sequence[Correction] = ()
) -> Calibration | str:
    """Compare and learn; or in words why the deployment cannot be predicted. `earlier` corrections apply first."""
    columns = _columns(observed, deployment)
    raw = predict(columns)
    if raw["refusal"][0]:
        return str(raw["refusal"][0])
    known = corrected(columns, raw, earlier)
    rows = parse(columns)
    ttft = _factor("ttft", observed.ttft.mean, raw, _error(observed.ttft, observed.requests, "ttft"))
    tpot = _factor("tpot", observed.tpot_s, raw, _error(observed.tpot, observed.requests, "tpot"))
    correction = Correction(
        deployment.engine,
        deployment.engine_version,
        rows.models[0].name,
        rows.gpus[0].name,
        deployment.tp,
        deployment.pp,
        deployment.dp,
        str(rows.gemm_format[0]),
        ttft,
        tpot,
        int(observed.requests),
        observed.input_tokens,
        observed.output_tokens,
        observed.concurrency,
        measured_at,
        inputs_sha256,
    )
    after = corrected(columns, raw, (correction,))
    measured = {"TTFT": observed.ttft.mean, "TPOT": observed.tpot_s}
    if observed.e2e is not None:
        measured["E2E"] = observed.e2e.mean
    compared = [_compared(name, seen_s, known, after, observed.output_tokens) for name, seen_s in measured.items()]
    return Calibration(observed, tuple(compared), correction, str(raw["source"][0]))


def _compared(
    name: str, measured_s: float, known: Mapping[str, NDArray[Any]], after: Mapping[str, NDArray[Any]], tokens: float
) -> Compared:
    def of(made: Mapping[str, NDArray[Any]], end: str) -> float:
        ttft_s, tpot_s = float(made[f"ttft{end}"][0]), float(made[f"tpot{end}"][0])
        return {"TTFT": ttft_s, "TPOT": tpot_s, "E2E": ttft_s + (tokens - 1) * tpot_s}[name]

    return Compared(name, measured_s, of(known, "_s"), of(known, "_lo_s"), of(known, "_hi_s"), of(after, "_s"))


def corrected(
    columns: Columns, added: Mapping[str, NDArray[Any]], corrections: Sequence[Correction]
) -> dict[str, NDArray[Any]]:
    """Predictions with the corrections of the deployments that they are for; the rest stays as it is.

    Near the load that was observed the source becomes `measured` and the interval the correction's; further away the
    model's own interval moves along.
    """
    out = {key: values.copy() for key, values in added.items()}
    if not corrections:
        return out
    rows = parse(columns)
    for i in np.flatnonzero(out["refusal"] == ""):
        found = for_deployment(corrections, _deployment(rows, int(i)))
        if found is not None and not rows.disaggregated[i]:
            load = (float(rows.input_tokens[i]), float(rows.output_tokens[i]), float(rows.concurrency[i]))
            _correct(out, int(i), found, found.near(*load), load, float(rows.gpus_used[i]))
    return out


def _deployment(rows: Rows, i: int) -> Deployment:
    engine, _, version = str(rows.version[i]).partition(":")
    names = (engine, version, rows.models[i].name, rows.gpus[i].name)
    degrees = (int(rows.decode.tp[i]), int(rows.pp[i]), int(rows.decode.dp[i]))
    return Deployment(*names, *degrees, str(rows.gemm_format[i]))


def _correct(
    out: dict[str, NDArray[Any]],
    i: int,
    one: Correction,
    near: bool,
    load: tuple[float, float, float],
    gpus: float,
) -> None:
    for key, factor in (("ttft", one.prefill), ("tpot", one.decode)):
        base, low, high = (out[f"{key}{end}_s"][i] for end in ("", "_lo", "_hi"))
        bounds = (base * factor.lo_ratio, base * factor.hi_ratio) if near else (low * factor.ratio, high * factor.ratio)
        out[f"{key}_s"][i] = base * factor.ratio
        out[f"{key}_lo_s"][i], out[f"{key}_hi_s"][i] = bounds
    _, output_tokens, concurrency = load
    rate = concurrency * output_tokens / (out["ttft_s"][i] + (output_tokens - 1) * out["tpot_s"][i])
    out["tokens_per_s_per_gpu"][i] = rate / gpus
    out["joules_per_token"][i] = out["power_w"][i] / rate
    if near:
        out["source"][i] = "measured"


def _columns(observed: Observed, deployment: Deployment) -> dict[str, NDArray[Any]]:
    words = {"model_path": deployment.model, "system": deployment.gpu, "backend": deployment.engine}
    words |= {"backend_version": deployment.engine_version, "gemm_quant_mode": deployment.weight_format}
    degrees = {"tp_size": deployment.tp, "pp_size": deployment.pp, "attention_dp_size": deployment.dp}
    load = {"isl": observed.input_tokens, "osl": observed.output_tokens, "concurrency": observed.concurrency}
    columns: dict[str, NDArray[Any]] = {key: np.array([word], dtype=object) for key, word in words.items()}
    return columns | {key: np.array([float(value)]) for key, value in {**degrees, **load}.items()}


def _error(seen: Histogram | None, requests: float, key: str) -> float:
    """Standard deviation of the logarithm of a measured mean: of so many requests, and from run to run."""
    spread = 1.0 if seen is None else seen.variation_ratio
    return math.hypot(spread / math.sqrt(requests), REPEATS_RATIO[key])


def _factor(key: str, measured_s: float, raw: Mapping[str, NDArray[Any]], error: float) -> Factor:
    """The posterior of the model's error at this deployment."""
    predicted_s, hi_s = float(raw[f"{key}_s"][0]), float(raw[f"{key}_hi_s"][0])
    prior = max(math.log(hi_s / predicted_s) / Z_90, 1e-6)
    weight = prior**2 / (prior**2 + error**2)
    middle, half = weight * math.log(measured_s / predicted_s), Z_90 * math.sqrt(weight) * error
    return Factor(math.exp(middle), math.exp(middle - half), math.exp(middle + half))
