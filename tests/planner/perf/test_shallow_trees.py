"""Trees in bytes: what scikit-learn predicts, and a tree by hand."""

import numpy as np
import pytest

from planner.perf.shallow_trees import Shallow, from_sklearn, pack, predict, unpack

EDGES = (np.array([1.0, 2.0], np.float32), np.array([5.0], np.float32))


def by_hand() -> Shallow:
    """x0 <= 2: (x1 <= 5: 10, else 20), else 30."""
    feature = np.array([0, 1, 0], np.uint8)
    split = np.array([1, 0, 255], np.uint8)
    return Shallow(EDGES, feature, split, np.array([10, 20, 30, 0], np.float16), trees=1, depth=2, base=1.0)


def test_a_row_walks_down_to_its_leaf() -> None:
    x = np.array([[2.0, 5.0], [2.0, 5.1], [2.1, 0.0], [np.nan, 0.0], [0.0, np.nan]])
    assert predict(by_hand(), x).tolist() == [11, 21, 31, 31, 21]


def test_no_rows_give_no_figures() -> None:
    assert predict(by_hand(), np.empty((0, 2))).tolist() == []


def test_packed_trees_predict_what_scikit_learn_predicts() -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    x = np.random.default_rng(0).normal(size=(6000, 5))
    y = np.sin(x[:, 0]) + x[:, 1] * x[:, 2]
    model = ensemble.HistGradientBoostingRegressor(max_iter=40, max_depth=6, max_leaf_nodes=40, early_stopping=False)
    model.fit(x[:3000].astype(np.float32), y[:3000])
    forest = from_sklearn(model, 5)
    stored = {key: np.asarray(value) for key, value in pack(forest, "t").items()}
    made = predict(unpack(stored, "t"), x[3000:])
    # Leaves have 16 bits: 40 roundings of at most 1 / 2048 of a leaf.
    assert np.abs(made - model.predict(x[3000:].astype(np.float32))).max() < 40 * np.abs(y).max() / 2048
    assert sum(value.nbytes for value in stored.values()) < 40 * (63 * 2 + 64 * 2) + 5 * 255 * 4 + 100
