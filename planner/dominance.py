"""Profiles that no plan needs, because another of the same GPU type does everything they do at no more cost.

One profile beats another when as many copies of it as fit into the other's GPUs carry at least as much of every
bucket, for no more joules a request. GPUs of a type cost the same whatever runs on them, so a plan that uses the
loser can be rewritten to use the winner.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from planner.plan import Profile, Refusal


def undominated(made: Sequence[Profile], copies: bool = True) -> tuple[list[Profile], list[Refusal]]:
    """What remains, in the given order, and a refusal for each of the rest. Profiles of one service, one pool each.

    `copies` False where the number of replicas is limited: one replica must then be beaten by one.
    """
    losers: dict[int, Profile] = {}
    for gpu in {profile.recipe.gpu for profile in made}:
        rows = [i for i, profile in enumerate(made) if profile.recipe.gpu == gpu]
        for row, winner in _beaten([made[i] for i in rows], copies).items():
            losers[rows[row]] = made[rows[winner]]
    kept = [profile for i, profile in enumerate(made) if i not in losers]
    refused = [
        Refusal(made[i].service, str(made[i].recipe), f"{winner.recipe} does as much with no more GPUs or energy")
        for i, winner in sorted(losers.items())
    ]
    return kept, refused


def _beaten(made: Sequence[Profile], copies: bool) -> dict[int, int]:
    """Row -> the row that beats it. Equals keep the earlier one."""
    buckets = sorted({bucket for profile in made for bucket in profile.pools[0].load})
    load = np.array([[profile.pools[0].load.get(bucket, np.inf) for bucket in buckets] for profile in made])
    gpus = np.array([profile.pools[0].gpus_per_replica for profile in made])
    joules = np.array([profile.pools[0].power_w for profile in made])[:, None] * load
    at_once = gpus[None, :] // gpus[:, None]  # [winner, loser]: copies of the winner in the loser's GPUs
    at_once = at_once if copies else np.minimum(at_once, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        carries = _all_at_most(load[:, None, :] / at_once[:, :, None], load[None, :, :])
    beats = (at_once > 0) & carries & _all_at_most(joules[:, None, :], joules[None, :, :])
    order = np.arange(len(made))
    beats &= ~(beats.T & (order[:, None] >= order[None, :]))
    return {int(loser): int(beats[:, loser].argmax()) for loser in np.flatnonzero(beats.any(axis=0))}


def _all_at_most(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether left <= right in the whole last axis, to the last few bits; what neither carries does not count."""
    return np.all((left <= right * (1 + 1e-9)) | np.isinf(right), axis=-1)


def distinct(refused: Sequence[Refusal]) -> list[Refusal]:
    """One refusal for each GPU type and reason: the first."""
    seen: dict[tuple[str, str], Refusal] = {}
    for refusal in refused:
        gpu = re.sub(r"^\d+x", "", refusal.recipe.split(" ")[0])
        seen.setdefault((gpu, refusal.reason), refusal)
    return list(seen.values())
