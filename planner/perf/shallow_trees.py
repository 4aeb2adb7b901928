"""Boosted trees of bounded depth as bytes: fitted with scikit-learn, shipped small, walked fast.

Every tree is stored complete, level by level: node i of a level has the children 2 i and 2 i + 1 of the next, also
across trees, so that all trees of all rows go down one level with a few array operations. A split is a feature and the
position of its threshold among all thresholds of that feature, a byte each; leaves have 16 bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
AT_ONCE = 1 << 16  # nodes that are walked together: they stay in the cache


@dataclass(frozen=True, slots=True, eq=False)
class Shallow:
    """`edges`: ascending thresholds of each feature. `feature`, `bin`: of level 0 of all trees, then of level 1, ...

    A row goes left where x[feature] <= edges[feature][bin]; NaN goes right. `value`: leaves, tree by tree.
    """

    edges: tuple[NDArray[np.float32], ...]
    feature: NDArray[np.uint8]
    bin: NDArray[np.uint8]
    value: NDArray[np.float16]
    trees: int
    depth: int
    base: float


def predict(forest: Shallow, x: NDArray[Any]) -> Array:
    """One figure for each row of `x` (rows, features)."""
    x = np.asarray(x, dtype=np.float32)
    total = np.full(len(x), forest.base)
    step = min(max(len(x), 1), 4096)
    offset, edge, leaves = forest.feature.astype(np.intp), forest.bin, forest.value.astype(np.float64)
    for start in range(0, len(x), step):
        part = x[start : start + step]
        codes = np.stack([np.searchsorted(e, part[:, i]) for i, e in enumerate(forest.edges)]).astype(np.uint8)
        total[start : start + step] += _sums(forest, codes, offset, edge, leaves)
    return total


def _sums(
    forest: Shallow, codes: NDArray[np.uint8], offset: NDArray[np.intp], edge: NDArray[np.uint8], leaves: Array
) -> Array:
    """Sum of the leaves that each row ends in; `codes`: (features, rows), how many thresholds lie below."""
    rows = codes.shape[1]
    flat, row = codes.ravel(), np.arange(rows)
    total, at_once = np.zeros(rows), max(AT_ONCE // rows, 1)
    for first in range(0, forest.trees, at_once):
        node = np.repeat(np.arange(first, min(first + at_once, forest.trees))[:, None], rows, axis=1)
        begin = 0
        for level in range(forest.depth):
            place = node + begin
            at = offset.take(place)
            at *= rows
            at += row
            right = flat.take(at) > edge.take(place)
            node = 2 * node + right
            begin += forest.trees << level
        total += leaves.take(node).sum(axis=0)
    return total


def from_sklearn(model: Any, features: int) -> Shallow:
    """The bytes of a fitted HistGradientBoostingRegressor whose depth is bounded."""
    trees = [predictors[0].nodes for predictors in model._predictors]
    edges = _edges(trees, features)
    depth = max(int(nodes["depth"].max()) for nodes in trees)
    # Nothing there: whatever comes goes left.
    feature = [np.zeros((len(trees), 1 << level), np.uint8) for level in range(depth)]
    split = [np.full((len(trees), 1 << level), 255, np.uint8) for level in range(depth)]
    value = np.zeros((len(trees), 1 << depth), np.float16)
    for tree, nodes in enumerate(trees):
        waiting = [(0, 0)]
        while waiting:
            node, place = waiting.pop()
            level, held = int(nodes["depth"][node]), nodes[node]
            if held["is_leaf"]:
                value[tree, place << (depth - level)] = held["value"]
                continue
            which = int(held["feature_idx"])
            feature[level][tree, place] = which
            split[level][tree, place] = int(np.searchsorted(edges[which], _below(held["num_threshold"])))
            waiting += [(int(held["left"]), 2 * place), (int(held["right"]), 2 * place + 1)]
    return Shallow(
        edges,
        np.concatenate([level.ravel() for level in feature]),
        np.concatenate([level.ravel() for level in split]),
        value.ravel(),
        len(trees),
        depth,
        float(np.ravel(model._baseline_prediction)[0]),
    )


def _edges(trees: list[NDArray[Any]], features: int) -> tuple[NDArray[np.float32], ...]:
    """Every threshold of each feature; at most 255 of them, as scikit-learn has 255 bins."""
    inner = np.concatenate([nodes[nodes["is_leaf"] == 0] for nodes in trees])
    thresholds = _below(inner["num_threshold"])
    return tuple(np.unique(thresholds[inner["feature_idx"] == i]) for i in range(features))


def _below(threshold: Any) -> NDArray[np.float32]:
    """Rounded down, so that a threshold in 32 bits sends no training row to the other side."""
    exact = np.asarray(threshold, dtype=np.float64)
    finite = np.clip(exact, -3e38, 3e38).astype(np.float32)
    return np.where(finite > exact, np.nextafter(finite, np.float32(-np.inf)), finite)


def pack(forest: Shallow, name: str) -> dict[str, NDArray[Any]]:
    """Arrays under names that begin with `name`, to be stored with others in one npz."""
    return {
        f"{name}.edges": np.concatenate(forest.edges),
        f"{name}.counts": np.array([len(e) for e in forest.edges], dtype=np.int16),
        f"{name}.feature": forest.feature,
        f"{name}.bin": forest.bin,
        f"{name}.value": forest.value,
        f"{name}.numbers": np.array([forest.trees, forest.depth, forest.base], dtype=np.float64),
    }


def unpack(stored: Mapping[str, NDArray[Any]], name: str) -> Shallow:
    """What `pack` stored under `name`."""
    edges, counts, feature, split, value, numbers = (
        stored[f"{name}.{key}"] for key in ("edges", "counts", "feature", "bin", "value", "numbers")
    )
    each = tuple(np.split(edges, np.cumsum(counts)[:-1]))
    return Shallow(each, feature, split, value, int(numbers[0]), int(numbers[1]), float(numbers[2]))
