"""Forests of regression trees as plain arrays: fitted with scikit-learn, shipped as numbers, evaluated in numpy.

A node is a row of four numbers; children of node i are `left[i]` and `right[i]`, and a leaf points at itself, so that
walking `depth` steps from the root ends in a leaf for every row, with no branch in Python.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """Trees one after another: `roots` are their first nodes; a prediction is `base` + `factor` x sum of leaf values.

    A row goes left where x[feature] <= threshold. NaN goes right.
    """

    roots: NDArray[np.int32]
    feature: NDArray[np.int16]
    threshold: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float32]
    depth: int
    base: float
    factor: float


def constant(value: float) -> Forest:
    """One leaf: the same for every row."""
    nothing, leaf = np.zeros(1, dtype=np.int32), np.full(1, value, dtype=np.float32)
    return Forest(nothing, nothing.astype(np.int16), 0 * leaf, nothing, nothing, leaf, depth=0, base=0.0, factor=1.0)


def predict(forest: Forest, x: NDArray[Any], rows_at_once: int = 4096) -> Array:
    """One figure for each row of `x` (rows, features)."""
    parts = [forest.base + forest.factor * leaves.sum(axis=1) for leaves in _leaves(forest, x, rows_at_once)]
    return np.concatenate(parts) if parts else np.zeros(0)


def predict_middle(forest: Forest, x: NDArray[Any], rows_at_once: int = 4096) -> tuple[Array, Array]:
    """The mean of the middle half of the trees, and the standard deviation between all (a measure of doubt).

    Trees that end in the leaf of a run that broke do not decide so.
    """
    middle, spread = [np.zeros(0)], [np.zeros(0)]
    for leaves in _leaves(forest, x, rows_at_once):
        trees = leaves.shape[1]
        middle.append(np.sort(leaves, axis=1)[:, trees // 4 : trees - trees // 4].mean(axis=1))
        spread.append(leaves.std(axis=1))
    return np.concatenate(middle), np.concatenate(spread)


def _leaves(forest: Forest, x: NDArray[Any], rows_at_once: int) -> Iterator[Array]:
    """(rows, trees): leaf values, so many rows at a time."""
    x = np.asarray(x, dtype=np.float32)
    for start in range(0, len(x), rows_at_once):
        yield _walk(forest, x[start : start + rows_at_once]).astype(np.float64)


def _walk(forest: Forest, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """(rows, trees): the leaf value of each. Tree by tree, which the cache likes, and only those not in a leaf yet."""
    rows, width = x.shape
    flat = np.ascontiguousarray(x).ravel()
    node = np.repeat(forest.roots.astype(np.intp), rows)
    start = np.tile(np.arange(rows, dtype=np.intp) * width, len(forest.roots))
    moving = np.arange(len(node))
    for _ in range(forest.depth):
        at = node[moving]
        left = flat.take(start[moving] + forest.feature.take(at)) <= forest.threshold.take(at)
        there = np.where(left, forest.left.take(at), forest.right.take(at))
        node[moving] = there
        moving = moving[there != at]
    leaves: NDArray[np.float32] = forest.value.take(node).reshape(len(forest.roots), rows).T
    return leaves


def from_sklearn(model: Any) -> Forest:
    """The arrays of a fitted HistGradientBoostingRegressor, RandomForestRegressor or ExtraTreesRegressor."""
    boosted = hasattr(model, "_predictors")
    trees = (
        [_boosted(p[0].nodes) for p in model._predictors] if boosted else [_grown(e.tree_) for e in model.estimators_]
    )
    sizes = np.array([len(tree[0]) for tree in trees])
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)
    feature, threshold, left, right, value = (
        np.concatenate([tree[i] + (root if i in (2, 3) else 0) for tree, root in zip(trees, roots, strict=True)])
        for i in range(5)
    )
    return Forest(
        roots,
        feature.astype(np.int16),
        threshold.astype(np.float32),
        left.astype(np.int32),
        right.astype(np.int32),
        value.astype(np.float32),
        depth=max(_depth(tree[2], tree[3]) for tree in trees),
        base=float(np.ravel(model._baseline_prediction)[0]) if boosted else 0.0,
        factor=1.0 if boosted else 1.0 / len(trees),
    )


def _boosted(nodes: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    own = np.arange(len(nodes))
    leaf = nodes["is_leaf"].astype(bool)
    left, right = np.where(leaf, own, nodes["left"]), np.where(leaf, own, nodes["right"])
    # Rounded down, so that a threshold in 32 bits sends no training row to the other side.
    return nodes["feature_idx"], _below(nodes["num_threshold"]), left, right, nodes["value"]


def _grown(tree: Any) -> tuple[NDArray[Any], ...]:
    own = np.arange(tree.node_count)
    leaf = tree.children_left < 0
    left, right = np.where(leaf, own, tree.children_left), np.where(leaf, own, tree.children_right)
    return np.where(leaf, 0, tree.feature), _below(tree.threshold), left, right, tree.value[:, 0, 0]


def _below(threshold: NDArray[Any]) -> NDArray[np.float32]:
    finite: NDArray[np.float32] = np.clip(threshold, -3e38, 3e38).astype(np.float32)
    return np.where(finite > threshold, np.nextafter(finite, np.float32(-np.inf)), finite)


def _depth(left: NDArray[Any], right: NDArray[Any]) -> int:
    """Steps from the root to the deepest leaf; children stand after their parents."""
    level = np.zeros(len(left), dtype=int)
    for node, (one, other) in enumerate(zip(left, right, strict=True)):
        for child in (one, other):
            if child != node:
                level[child] = level[node] + 1
    return int(level.max(initial=0))


def rounded(x: NDArray[Any]) -> NDArray[np.float32]:
    """Features in steps of 16-bit floats: what a forest sees that `compact` is to store exactly."""
    with np.errstate(over="ignore"):  # beyond 16 bits is beyond every threshold
        return np.asarray(x, dtype=np.float16).astype(np.float32)


def compact(forest: Forest) -> Forest:
    """The same forest in numbers that 16 bits hold; rows that are `rounded` end in the same leaves as before."""
    half = forest.threshold.astype(np.float16)
    above = half.astype(np.float32) > forest.threshold
    threshold = np.where(above, np.nextafter(half, np.float16(-np.inf)), half).astype(np.float32)
    leaf = forest.right == np.arange(len(forest.right))
    value = np.where(leaf, forest.value, 0.0).astype(np.float16).astype(np.float32)
    return replace(forest, threshold=threshold, value=value)


def pack(forest: Forest, name: str) -> dict[str, NDArray[Any]]:
    """Arrays under names that begin with `name`, to be stored with others in one npz, in as few bytes as hold them.

    Where left children follow their parents, as scikit-learn grows trees, only the distances to the right ones are
    kept, 0 for leaves.
    """
    arrays = {key: getattr(forest, key) for key in ("roots", "feature", "threshold", "left", "right", "value")}
    own = np.arange(len(forest.left))
    leaf = forest.right == own
    if (forest.left == own + ~leaf).all():
        del arrays["left"]
        arrays["right"] = _narrow(forest.right - own, np.uint16)
    arrays["feature"] = _narrow(forest.feature, np.int8)
    for key in ("threshold", "value"):
        arrays[key] = _narrow(arrays[key], np.float16)
    arrays["numbers"] = np.array([forest.depth, forest.base, forest.factor], dtype=np.float64)
    return {f"{name}.{key}": array for key, array in arrays.items()}


def unpack(stored: Mapping[str, NDArray[Any]], name: str) -> Forest:
    """What `pack` stored under `name`."""
    roots, feature, threshold, right, value, numbers = (
        stored[f"{name}.{key}"] for key in ("roots", "feature", "threshold", "right", "value", "numbers")
    )
    if f"{name}.left" in stored:
        left = stored[f"{name}.left"]
    else:
        own = np.arange(len(right), dtype=np.int32)
        left, right = own + (right > 0).astype(np.int32), own + right.astype(np.int32)
    return Forest(
        roots,
        feature.astype(np.int16),
        threshold.astype(np.float32),
        left,
        right,
        value.astype(np.float32),
        depth=int(numbers[0]),
        base=float(numbers[1]),
        factor=float(numbers[2]),
    )


def _narrow(x: NDArray[Any], to: type[np.generic]) -> NDArray[Any]:
    """In a narrower type where that loses nothing."""
    with np.errstate(over="ignore"):
        small = x.astype(to)
    return small if (small.astype(x.dtype) == x).all() else x
