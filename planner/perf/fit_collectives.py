"""Packs measured collectives and fits all-to-alls of experts: `muster fit collectives --data DIR`."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.catalog import gpu
from planner.errors import BadInput
from planner.perf.collectives import Curve, collective_s, link_bytes_per_s, links
from planner.perf.conformal import half_width
from planner.perf.tables import read

Array = NDArray[np.float64]
SOURCE = (
    "collective tables of aiconfigurator-core 0.12.0 (github ai-dynamo/aiconfigurator, Apache-2.0); "
    "send and receive of Vidur (github microsoft/vidur, MIT)"
)
GPUS = {"a100_sxm": "A100-SXM-80GB", "h100_sxm": "H100-SXM", "h200_sxm": "H200-SXM"}
FOLDS = 5


def fit(data: Path) -> dict[str, NDArray[Any]]:
    """Every curve, every exchange, and the errors of sizes and GPUs left out."""
    folder = data / "operators"
    tables = {path: name for prefix, name in GPUS.items() for path in _files(folder, prefix)}
    if not tables:
        raise BadInput(f"{folder}: got no table of all-reduces, such as {next(iter(GPUS))}_nccl2.27.3.parquet")
    rows = measured(tables)
    made = curves_of(rows, np.ones(len(rows["time_s"]), bool))
    sent, exchanged = folder / "vidur_a100_dgx_send_recv.parquet", folder / "h100_sxm_vllm0.24.0_moe_a2a.parquet"
    exchanges, errors = _exchanges(exchanged)
    names = list(GPUS.values())
    meta = {
        "source": SOURCE,
        "inputs_sha256": {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted([*tables, sent, exchanged])
        },
        "rows": len(rows["time_s"]),
        "gpus": names,
        "exchanges": exchanges,
        "crossing_s": _crossing_s(sent),
        "cross_validation": {**{f"allreduce:{k}": v for k, v in evaluate(rows).items()}, **errors},
    }
    return {
        "keys": np.array([[names.index(c.gpu), c.kind, c.backend, c.narrow, c.gpus] for c in made], dtype=np.int16),
        "counts": np.array([len(c.size) for c in made], dtype=np.int16),
        "size": np.concatenate([c.size for c in made]),
        "time_s": np.concatenate([c.time_s for c in made]).astype(np.float32),
        "meta": np.array(json.dumps(meta, sort_keys=True)),
    }


def _files(folder: Path, prefix: str) -> list[Path]:
    return sorted([*folder.glob(f"{prefix}_nccl*.parquet"), *folder.glob(f"{prefix}_*custom_allreduce.parquet")])


def measured(tables: dict[Path, str]) -> dict[str, NDArray[Any]]:
    """Every row of every table: what `links` says of it, its GPU and its seconds."""
    parts = []
    for path, name in tables.items():
        columns = read(path)
        figures, refusal = links(columns)
        fine = refusal == ""
        more = {"time_s": columns["latency"] / 1e3, "gpu": np.full(len(fine), name, dtype=object)}
        parts.append({key: values[fine] for key, values in {**figures, **more}.items()})
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def tables_of(data: Path) -> dict[Path, str]:
    """The files of collectives in a data folder, and the GPU of each."""
    return {path: name for prefix, name in GPUS.items() for path in _files(data / "operators", prefix)}


def curves_of(rows: dict[str, NDArray[Any]], train: NDArray[np.bool_]) -> tuple[Curve, ...]:
    """A curve of each collective, through the medians of what was measured of one size."""
    made = []
    names = ("gpu", "kind", "backend", "narrow", "gpus")
    keys = list(zip(*(rows[name].tolist() for name in names), strict=True))
    every = sorted(set(keys))
    at = np.array([every.index(key) for key in keys])
    for i, key in enumerate(every):
        mine = train & (at == i)
        sizes = np.unique(rows["bytes"][mine])
        if len(sizes) < 4:
            continue
        times = [np.median(rows["time_s"][mine & (rows["bytes"] == size)]) for size in sizes]
        name, kind, backend, narrow, gpus = key
        made.append(Curve(name, int(kind), int(backend), bool(narrow), int(gpus), sizes, np.array(times)))
    return tuple(made)


def evaluate(rows: dict[str, NDArray[Any]]) -> dict[str, dict[str, float]]:
    """Errors of whole message sizes left out, in five folds, and of each GPU in turn."""
    specs = {name: gpu(name) for name in GPUS.values()}
    sizes, at = np.unique(rows["bytes"], return_inverse=True)
    fold = np.random.default_rng(0).permutation(len(sizes))[at] % FOLDS
    shapes = np.concatenate([_residual(rows, fold == i, specs) for i in range(FOLDS)])
    apart = {name: _residual(rows, rows["gpu"] == name, specs) for name in specs}
    medians = {f"median:{name}": float(np.median(np.abs(np.expm1(r)))) for name, r in apart.items()}
    return {
        "shapes": {**_errors(shapes), "rows": float(len(shapes))},
        "gpus": {**_errors(np.concatenate(list(apart.values()))), **medians},
    }


def _residual(rows: dict[str, NDArray[Any]], out: NDArray[np.bool_], specs: dict[str, Any]) -> Array:
    """Log of predicted over measured time of rows that no curve has seen."""
    among = curves_of(rows, ~out)
    left = []
    for name in np.unique(rows["gpu"][out].astype(str)):
        mine = out & (rows["gpu"] == name)
        figures = {key: values[mine] for key, values in rows.items()}
        made = collective_s(specs[name], figures, among, specs)
        left.append(np.log(made.time_s / rows["time_s"][mine].astype(float)))
    return np.concatenate(left)


def _errors(residual: Array) -> dict[str, float]:
    error = np.abs(np.expm1(residual))
    return {"mean": float(error.mean()), "median": float(np.median(error)), "half_width": half_width(residual)}


def _exchanges(path: Path) -> tuple[dict[str, list[float]], dict[str, dict[str, float]]]:
    """Start and share of the link's rate of every library and direction; errors with each model's width left out."""
    columns = read(path)
    rate = link_bytes_per_s(gpu(GPUS["h100_sxm"]))
    ranks, picks = columns["ep_size"], columns["topk"]
    met = ranks * (1 - (1 - 1 / ranks) ** picks) * (1 - 1 / ranks)
    ideal_s = columns["num_tokens"] * columns["hidden_size"] * 2 * met / rate
    names = np.array([f"{b}:{p}" for b, p in zip(columns["comm_backend"], columns["phase"], strict=True)])
    found, errors = {}, {}
    for name in np.unique(names):
        mine = names == name
        x, y, width = ideal_s[mine], columns["latency"][mine] / 1e6, columns["hidden_size"][mine]
        start_s, price = _line(x, y)
        found[str(name)] = [start_s, 1 / price]
        left = []
        for hidden in np.unique(width):
            a, b = _line(x[width != hidden], y[width != hidden])
            left.append(np.log((a + b * x[width == hidden]) / y[width == hidden]))
        errors[f"exchange:{name}"] = _errors(np.concatenate(left))
    return found, errors


def _line(x: Array, y: Array) -> tuple[float, float]:
    """a and b of y = a + b x with the least absolute log error, on a grid."""
    best = (np.inf, 0.0, 1.0)
    for b in np.exp(np.linspace(0.0, np.log(20), 100)):
        for a in np.exp(np.linspace(np.log(1e-6), np.log(1e-3), 120)):
            loss = float(np.abs(np.log((a + b * x) / y)).mean())
            best = min(best, (loss, float(a), float(b)))
    return best[1], best[2]


def _crossing_s(path: Path) -> float:
    """What a small message takes more between two nodes than between two GPUs of one."""
    columns = read(path)
    small = columns["size"] <= 8192
    apart, together = (columns["send_recv_ms"][small & (columns["devices_per_node"] == n)] for n in (1, 2))
    return float(np.median(apart) - np.median(together)) / 1e3
