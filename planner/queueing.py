"""Waiting in closed form: how long a request waits at a percentile, given how busy the server is.

G/G/c in heavy traffic: a wait is exponential once there is one; its probability is Sakasegawa's (Annals of the
Institute of Statistical Mathematics 29, 1977), its mean Allen and Cunneen's (Allen, "Probability, Statistics and
Queueing Theory", 1990). Exact for M/M/1. Everything broadcasts.
"""

from statistics import NormalDist

import numpy as np

from planner.cost import Figure


def wait_quantile_s(
    utilisation_ratio: Figure, servers: Figure, service_s: Figure, percentile: Figure, service_scv: Figure = 1.0
) -> Figure:
    """Seconds within which a `percentile` of requests get one of `servers` equal servers; Poisson arrivals.

    `service_scv`: squared coefficient of variation of the service time. Infinite at a utilisation of 1 or more.
    """
    rho = np.minimum(utilisation_ratio, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Logarithms throughout: the probability to wait is rho to the power of this.
        log_must_wait = (np.sqrt(2 * (servers + 1)) - 1) * np.log(rho)
        mean_if_waiting_s = service_s * (1 + service_scv) / 2 / (servers * (1 - rho))
        wait_s = mean_if_waiting_s * np.maximum(log_must_wait - np.log(1 - percentile), 0.0)
    return np.where(rho >= 1, np.inf, wait_s)


def mean_wait_s(utilisation_ratio: Figure, servers: Figure, service_s: Figure, service_scv: Figure = 1.0) -> Figure:
    """Mean seconds until a request gets one of `servers` equal servers; infinite at a utilisation of 1 or more."""
    rho = np.minimum(utilisation_ratio, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        must_wait = rho ** (np.sqrt(2 * (servers + 1)) - 1)
        wait_s = must_wait * service_s * (1 + service_scv) / 2 / (servers * (1 - rho))
    return np.where(rho >= 1, np.inf, wait_s)


def count_quantile(mean: Figure, deviates: Figure) -> Figure:
    """The number of Poisson events at `deviates` standard deviations above the mean, by the normal approximation."""
    return np.maximum(mean + deviates * np.sqrt(mean), 0.0)


def deviates(percentile: float) -> float:
    """Standard deviations from the mean to a percentile of the normal distribution."""
    return NormalDist().inv_cdf(percentile)
