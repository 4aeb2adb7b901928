"""Forests as arrays give what scikit-learn gives; conformal half widths cover what they promise."""

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor, RandomForestRegressor

from planner.perf.conformal import half_width, interval
from planner.perf.trees import compact, constant, from_sklearn, pack, predict, predict_middle, rounded, unpack

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(500, 4)).astype(np.float32)
Y = np.sin(X[:, 0]) + X[:, 1] * X[:, 2]


@pytest.mark.parametrize(
    "model",
    [
        HistGradientBoostingRegressor(max_iter=30, random_state=0),
        RandomForestRegressor(10, random_state=0),
        ExtraTreesRegressor(10, random_state=0),
    ],
)
def test_a_forest_predicts_what_scikit_learn_predicts(model: HistGradientBoostingRegressor) -> None:
    forest = from_sklearn(model.fit(X, Y))
    assert predict(forest, X) == pytest.approx(model.predict(X), abs=1e-5)
    again = unpack(pack(forest, "f"), "f")
    assert (predict(again, X) == predict(forest, X)).all()


def test_trees_that_disagree_say_so() -> None:
    forest = from_sklearn(ExtraTreesRegressor(20, random_state=0).fit(X, Y))
    near, far = predict_middle(forest, X[:50])[1], predict_middle(forest, 3 * RANDOM.normal(size=(50, 4)))[1]
    assert near.mean() < far.mean()


def test_a_quarter_of_the_trees_at_each_end_has_no_say() -> None:
    model = ExtraTreesRegressor(20, random_state=0).fit(X, Y)
    trees = np.sort([tree.predict(X) for tree in model.estimators_], axis=0)
    assert predict_middle(from_sklearn(model), X)[0] == pytest.approx(trees[5:15].mean(axis=0), abs=1e-5)


def test_half_widths_cover_nine_in_ten() -> None:
    assert half_width(np.arange(1, 10) / 10) == 0.9  # of 9 residuals, the 9th covers (9 + 1) x 0.9 = 9
    fresh = np.abs(RANDOM.normal(size=4000))
    assert np.mean(fresh <= half_width(RANDOM.normal(size=4000))) == pytest.approx(0.9, abs=0.02)
    low, high = interval(np.array([2.0]), np.log(2))
    assert (low[0], high[0]) == pytest.approx((1, 4))


def test_a_compact_forest_sends_rounded_rows_to_the_same_leaves_in_fewer_bytes() -> None:
    x = rounded(X)
    whole = from_sklearn(ExtraTreesRegressor(10, random_state=0).fit(x, Y))
    small = compact(whole)
    # Half-precision values of about 1 are off by at most 2^-11 of that.
    assert predict(small, x) == pytest.approx(predict(whole, x), abs=3 * 2**-11)
    stored = pack(small, "f")
    assert sum(a.nbytes for a in stored.values()) < 0.65 * sum(a.nbytes for a in pack(whole, "f").values())
    assert (predict(unpack(stored, "f"), x) == predict(small, x)).all()


def test_a_constant_forest_says_the_same_of_every_row() -> None:
    assert predict(unpack(pack(constant(0.25), "f"), "f"), X).tolist() == [0.25] * len(X)
