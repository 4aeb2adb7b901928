"""Boxes of counts, and their parts: what a search branches into."""

import numpy as np

from planner.transport import Floats

Box = tuple[Floats, Floats]  # least and most counts


def around(lower: Floats, upper: Floats, point: Floats, relaxed: Floats) -> list[Box]:
    """A box without one whole point of it, in boxes; the option in which `relaxed` is farthest from it parts first."""
    lower, upper, boxes = lower.copy(), upper.copy(), []
    for option in np.argsort(-np.abs(relaxed - point), kind="stable"):
        boxes += parted(lower, upper, int(option), point[option] - 1, point[option] + 1)
        lower[option] = upper[option] = point[option]
    return boxes


def parted(lower: Floats, upper: Floats, option: int, most: float, least: float) -> list[Box]:
    """Of a box what has at most, and what has at least so many of an option; empty boxes left out."""
    boxes = []
    for low, high in ((lower[option], most), (least, upper[option])):
        if low <= high:
            box = lower.copy(), upper.copy()
            box[0][option], box[1][option] = low, high
            boxes.append(box)
    return boxes
