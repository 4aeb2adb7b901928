"""Prometheus text: numbers, labels, families. `telemetry.page` writes those of GPUs with it."""

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from telemetry.sample import Driver, Gpu

PREFIX = "muster_gpu_"
TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Identity(NamedTuple):
    """What the text says of the node besides its samples."""

    node: str
    driver: Driver
    gpus: tuple[Gpu, ...]
    dcgm: bool = True


def number(value: float) -> str:
    """A value as Prometheus reads it: whole numbers without a point, infinities by name."""
    try:
        whole = int(value)
    except (OverflowError, ValueError):
        return {math.inf: "+Inf", -math.inf: "-Inf"}.get(value, "NaN")
    return str(whole) if whole == value else repr(value)


def escaped(text: str) -> str:
    """A label's value."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def joined(labels: Iterable[tuple[str, str]]) -> str:
    """Labels as they stand between braces."""
    return ",".join([f'{key}="{escaped(value)}"' for key, value in labels])


def labelled(labels: Iterable[tuple[str, str]]) -> str:
    """The same for labels that are written again and again."""
    return _labelled(tuple(labels))


_labelled = lru_cache(maxsize=1 << 8)(joined)


def family(name: str, kind: str, text: str, rows: Iterable[tuple[str, float]]) -> str:
    """One metric: its head, then (labels, value) rows; nothing at all without rows."""
    lines = [
        f"{name}{{{labels}}} {number(value)}\n" if labels else f"{name} {number(value)}\n" for labels, value in rows
    ]
    return headed(name, kind, text, "".join(lines))


def headed(name: str, kind: str, text: str, lines: str) -> str:
    """One metric: its head, then its lines; nothing at all without lines."""
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n{lines}" if lines else ""


def of_gpu(gpu: Gpu) -> tuple[tuple[str, str], ...]:
    """The labels that all series of a GPU carry."""
    return (("gpu", str(gpu.index)), ("uuid", gpu.uuid), *gpu.owner)
