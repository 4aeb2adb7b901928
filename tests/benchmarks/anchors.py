"""Numbers that papers print, beside what our operation counts, rooflines and techniques give for the same conditions.

    python -m tests.benchmarks.anchors

A row counts where ours is within 15 % of the paper's. Inputs and settings of a paper that our models share are marked
"given". At most a tenth of the rows may be explained instead, each by the input that is missing.
"""

import argparse
import csv
import re
import sys
from pathlib import Path

from tests.benchmarks import anchors_nexus, anchors_overlap, anchors_step3
from tests.benchmarks.anchor_rows import CLOSE, Figure, Row
from tests.benchmarks.common import bar, perf_folder

PAPERS = ("P02", "P03", "P09", "P17")  # as the table of anchors names them
MOST_EXPLAINED = 0.1


def rows(folder: Path) -> list[Row]:
    """Every numeric figure of the papers' rows."""
    found: list[Row] = []
    with (folder / "papers" / "anchors.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["seed"] in PAPERS:
                parts = re.findall(r"\d+\.?\d*(?:e[+-]?\d+)?", row["value"])
                name = f"{row['id']}: {row['quantity']}"
                found += [Row(name, float(p), f) for p, f in zip(parts, _figures(row, folder), strict=True)]
    return found


def _figures(row: dict[str, str], folder: Path) -> list[Figure]:
    if row["seed"] == "P02":
        return anchors_step3.figures(row, folder)
    return anchors_nexus.figures(row) if row["seed"] == "P09" else anchors_overlap.figures(row, folder)


def main() -> None:
    """Print every figure; exit code 1 where one is missed, or more than a tenth is explained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Folder of measured performance data.")
    found = rows(perf_folder(parser.parse_args().data))
    for row in found:
        if row.found.kind == "explained":
            print(f"why  {row.paper:32.4g}  {row.name}\n{'':39}missing: {row.found.why}")
            continue
        word = "MISS" if not row.hit else "ok  " if row.found.kind == "computed" else "same"
        error = row.found.ours / row.paper - 1
        print(f"{word} {row.found.ours:12.4g} {100 * error:+6.1f} % {row.paper:12.4g}  {row.name}")
    kinds = {kind: sum(row.found.kind == kind for row in found) for kind in ("computed", "given", "explained")}
    missed = sum(not row.hit and row.found.kind != "explained" for row in found)
    met = not missed and kinds["explained"] <= MOST_EXPLAINED * len(found)
    figure = (
        f"of {len(found)}: {kinds['computed']} computed, {kinds['given']} given as inputs, "
        f"{missed} of both missed by more than {100 * CLOSE:g} %"
    )
    sys.exit(0 if bar("paper anchors", met, f"{figure}, {kinds['explained']} explained (a tenth may be)") else 1)


if __name__ == "__main__":
    main()
