"""Corrections of the performance model for one deployment, learnt from its own metrics: the noun, its file, its scope.

A correction is a factor on TTFT and one on TPOT (measured over predicted, in logarithms shrunk towards 1 by how little
was seen), with 90 % intervals, and what it was learnt from. `muster calibrate` writes the file, predictions read it.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from planner.errors import BadInput
from planner.units import got
from planner.yaml_text import Document, Plain, read

KIND = "Calibration"
# Beyond this factor from the observed concurrency or lengths a correction is not taken as measured any more.
NEAR_RATIO = 2.0


@dataclass(frozen=True, slots=True)
class Factor:
    """What a prediction is multiplied by, and its 90 % interval."""

    ratio: float
    lo_ratio: float
    hi_ratio: float


class Deployment(NamedTuple):
    """What serves. A factor belongs to the engine's version that was predicted with ("" = none given).

    `dp`: attention ranks. `weight_format`: as tables name it, "" = that of the published checkpoint.
    """

    engine: str
    engine_version: str
    model: str
    gpu: str
    tp: int = 1
    pp: int = 1
    dp: int = 1
    weight_format: str = ""


@dataclass(frozen=True, slots=True)
class Correction:
    """One deployment: names as in the catalogue; engine and version as the prediction was asked with ("" = none given).

    `prefill` corrects TTFT, `decode` TPOT. Observed: requests, mean lengths and requests in the system. `inputs_sha256`
    hashes the metrics that were read, `measured_at` is when (ISO 8601, UTC).
    """

    engine: str
    engine_version: str
    model: str
    gpu: str
    tp: int
    pp: int
    dp: int
    weight_format: str
    prefill: Factor
    decode: Factor
    requests: int
    input_tokens: float
    output_tokens: float
    concurrency: float
    measured_at: str
    inputs_sha256: str

    @property
    def deployment(self) -> Deployment:
        """What it was learnt from, and is good for."""
        names = (self.engine, self.engine_version, self.model, self.gpu)
        return Deployment(*names, self.tp, self.pp, self.dp, self.weight_format)

    def near(self, input_tokens: float, output_tokens: float, concurrency: float) -> bool:
        """Whether a load is like the one that was observed, within a factor of two each way."""
        pairs = (
            (input_tokens, self.input_tokens),
            (output_tokens, self.output_tokens),
            (concurrency, self.concurrency),
        )
        return all(abs(math.log(asked / seen)) <= math.log(NEAR_RATIO) + 1e-9 for asked, seen in pairs)


def for_deployment(corrections: Iterable[Correction], deployment: Deployment) -> Correction | None:
    """The last correction that was learnt from such a deployment, or None."""
    found = [one for one in corrections if one.deployment == deployment]
    return found[-1] if found else None


def text(corrections: Iterable[Correction]) -> str:
    """A file's text: JSON, which is YAML too."""
    return json.dumps({"kind": KIND, "corrections": [asdict(one) for one in corrections]}, indent=2) + "\n"


def load(path: Path) -> tuple[Correction, ...]:
    """The corrections of a JSON or YAML file; raises BadInput with the file and what is wrong."""
    document = read(path)[0]
    root = document.root.plain()
    if not isinstance(root, Mapping) or root.get("kind") != KIND or not isinstance(root.get("corrections"), list):
        raise BadInput(f"{path}: got no corrections, allowed: what muster calibrate -o writes (kind: {KIND})")
    rows = root["corrections"]
    assert isinstance(rows, list)
    return tuple(_correction(row, document, ("corrections", index)) for index, row in enumerate(rows))


def _correction(row: Plain, document: Document, at: tuple[str | int, ...]) -> Correction:
    fields = _mapping(row, document, at)

    def word(key: str) -> str:
        value = fields.get(key)
        if not isinstance(value, str):
            raise _refuse(document, at, key, value, "a word")
        return value

    def number(key: str) -> float:
        return _number(fields, key, document, at)

    unknown = sorted(set(fields) - set(Correction.__slots__))
    if unknown:
        raise _refuse(document, at, unknown[0], fields[unknown[0]], f"only {', '.join(Correction.__slots__)}")
    return Correction(
        engine=word("engine"),
        engine_version=word("engine_version"),
        model=word("model"),
        gpu=word("gpu"),
        tp=int(number("tp")),
        pp=int(number("pp")),
        dp=int(number("dp")),
        weight_format=word("weight_format"),
        prefill=_factor(fields.get("prefill"), document, (*at, "prefill")),
        decode=_factor(fields.get("decode"), document, (*at, "decode")),
        requests=int(number("requests")),
        input_tokens=number("input_tokens"),
        output_tokens=number("output_tokens"),
        concurrency=number("concurrency"),
        measured_at=word("measured_at"),
        inputs_sha256=word("inputs_sha256"),
    )


def _factor(row: Plain, document: Document, at: tuple[str | int, ...]) -> Factor:
    fields = _mapping(row, document, at)
    made = Factor(*(_number(fields, key, document, at) for key in Factor.__slots__))
    if not made.lo_ratio <= made.ratio <= made.hi_ratio:
        raise _refuse(document, at, "ratio", made.ratio, f"between {made.lo_ratio:g} and {made.hi_ratio:g}")
    return made


def _number(fields: Mapping[str, Plain], key: str, document: Document, at: tuple[str | int, ...]) -> float:
    value = fields.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e12:
        raise _refuse(document, at, key, value, "a number above 0")
    return float(value)


def _mapping(row: Plain, document: Document, at: tuple[str | int, ...]) -> Mapping[str, Plain]:
    if not isinstance(row, dict):
        raise BadInput(f"{document.where(at)}: got {got(row)}, allowed: keys and values")
    return row


def _refuse(document: Document, at: tuple[str | int, ...], key: str, value: object, allowed: str) -> BadInput:
    return BadInput(f"{document.where((*at, key))}: got {got(value)}, allowed: {allowed}")
