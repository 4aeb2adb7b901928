"""Intervals that hold: the half width, in log space, that covers a stated share of residuals left out of a fit.

Split conformal prediction: Lei et al., "Distribution-Free Predictive Inference for Regression", arXiv 1604.04173. A
prediction p gets [p exp(-h), p exp(+h)]; h may be scaled row by row by how uncertain the model says it is.
"""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
COVERAGE = 0.9


def half_width(log_residuals: Array, scale: Array | float = 1.0, coverage: float = COVERAGE) -> float:
    """The smallest h with |residual| <= h x scale for a `coverage` of new rows like these, which no fit has seen."""
    scores = np.sort(np.abs(log_residuals) / scale)
    if not len(scores):
        return math.inf
    rank = math.ceil((len(scores) + 1) * coverage)
    return float(scores[rank - 1]) if rank <= len(scores) else float(scores[-1])


def interval(predicted: Array, half: Array | float) -> tuple[Array, Array]:
    """Lower and upper end of the interval around each prediction."""
    factor = np.exp(half)
    return predicted / factor, predicted * factor
