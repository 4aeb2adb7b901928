"""Packs rows of the sweep into one npz: `python -m workloads.pack_sweep PART1.jsonl PART2.jsonl -o FILE.npz`.

Kinds: "burst", "sustained", "idle" as the sweep writes them; "before" is a burst taken just before a sustained row,
often with clocks still held down by the row before that: no measure of a rested GPU.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

INTEGERS = ("m", "n", "k", "batch", "new", "context", "operations", "reasons", "samples")
FIGURES = ("time_s", "spread_ratio", "sm_hz", "power_w", "energy_power_w", "temperature_c", "seconds")
WORDS = ("kind", "dtype", "op")


def pack(texts: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Columns of all rows of all files, in order; what a row does not have is 0, NaN or an empty word."""
    rows: list[dict[str, Any]] = []
    heads: list[dict[str, Any]] = []
    for number, text in enumerate(texts, start=1):
        mine = [json.loads(line) for line in text.splitlines()]
        heads += [row for row in mine if row["kind"] == "head"]
        for row, following in zip(mine, [*mine[1:], {"kind": ""}], strict=True):
            if row["kind"] == "burst" and following["kind"] == "sustained":
                row["kind"] = "before"
            if row["kind"] not in ("head", "refused"):
                rows.append({**row, "part": number})
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    meta = {"source": "our own measurements", "heads": heads, "inputs_sha256": digests, "rows": len(rows)}
    packed: dict[str, NDArray[Any]] = {"part": np.array([row["part"] for row in rows], dtype=np.int8)}
    packed |= {name: np.array([row.get(name, 0) for row in rows], dtype=np.int32) for name in INTEGERS}
    packed |= {name: np.array([row.get(name, np.nan) for row in rows], dtype=np.float32) for name in FIGURES}
    packed |= {name: np.array([row.get(name, "") for row in rows], dtype=np.str_) for name in WORDS}
    return {**packed, "meta": np.array(json.dumps(meta, sort_keys=True))}


def main() -> None:
    """Read the files, write the npz."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="+", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    asked = parser.parse_args()
    arrays: dict[str, Any] = pack([path.read_text("utf-8") for path in asked.parts])
    np.savez_compressed(asked.out, **arrays)


if __name__ == "__main__":
    main()
