"""Profiles that no plan needs, because another of the same GPU type does everything they do at no more cost.

One profile beats another when some number of its replicas carry at least as much of every bucket as one of the other,
on no more GPUs and, where watts count, for no more watts, those of GPUs that it leaves at rest included. GPUs of a type
cost the same whatever runs on them, so a plan that uses the loser can be rewritten to use the winner, node by node. A
capped recipe may run only behind a breaker: it beats none without a cap. Of recipes with several pools, each pool must
be beaten by its like.
"""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from planner.plan import PoolProfile, Profile, Refusal
from planner.refusals import beaten

_SAME = 1e-9  # ratio within which two loads or powers are equal


def undominated(
    made: Sequence[Profile],
    copies: bool = True,
    watts: bool = True,
    running: Collection[str] = (),
    rest_w: float = 0.0,
) -> tuple[list[Profile], list[Refusal]]:
    """What remains, in the given order, and a refusal for each of the rest. Profiles of one service.

    `copies` False where the number of replicas is limited: one replica must then be beaten by one. `watts` False where
    they are neither limited nor paid for; `rest_w`: of a GPU at rest, where budgets hold those too. Recipes that are
    `running` (as shown) remain: to replace them has a price.
    """
    losers: dict[int, Profile] = {}
    for gpu, pools in {(profile.recipe.gpu, len(profile.pools)) for profile in made}:
        rows = [i for i, p in enumerate(made) if (p.recipe.gpu, len(p.pools)) == (gpu, pools)]
        for row, winner in _beaten([made[i] for i in rows], copies, watts, rest_w).items():
            if str(made[rows[row]].recipe) not in running:
                losers[rows[row]] = made[rows[winner]]
    kept = [profile for i, profile in enumerate(made) if i not in losers]
    refused = [
        Refusal(made[i].service, str(made[i].recipe), beaten(winner.recipe)) for i, winner in sorted(losers.items())
    ]
    return kept, refused


def _beaten(made: Sequence[Profile], copies: bool, watts: bool, rest_w: float) -> dict[int, int]:
    """Row -> the row that beats it. Equals keep the earlier one."""
    beats = np.ones((len(made), len(made)), dtype=bool)
    for pool in range(len(made[0].pools)):
        beats &= _outdone([profile.pools[pool] for profile in made], copies, watts, rest_w)
    capped = np.array([profile.recipe.power_cap_w is not None for profile in made])
    beats &= ~capped[:, None] | capped
    order = np.arange(len(made))
    beats &= ~(beats.T & (order[:, None] >= order[None, :]))
    lost = beats.any(axis=0)
    beats[lost] = False  # whatever beats a winner beats the loser too: name one that remains
    return {int(loser): int(beats[:, loser].argmax()) for loser in np.flatnonzero(lost)}


def _outdone(pools: Sequence[PoolProfile], copies: bool, watts: bool, rest_w: float) -> NDArray[np.bool_]:
    """[winner, loser]: whether some number of the winner's replicas does all that one of the loser's does."""
    buckets = sorted({bucket for pool in pools for bucket in pool.load})
    load = np.array([[pool.load.get(bucket, np.inf) for bucket in buckets] for pool in pools])
    gpus = np.array([pool.gpus_per_replica for pool in pools])
    power_w = np.array([pool.power_w for pool in pools])
    # How much slower in the worst bucket; what the loser cannot carry does not count.
    served = np.isfinite(load)
    ratios = ((load[:, mine] / row[mine]).max(axis=1, initial=0.0) for row, mine in zip(load, served, strict=True))
    slower = np.stack(list(ratios), axis=1)
    needed = np.maximum(np.ceil(slower - _SAME), 1.0)  # winners in place of one loser
    beats: NDArray[np.bool_] = (needed * gpus[:, None] <= gpus) & (copies | (needed <= 1))
    if watts:
        rests = gpus - needed * gpus[:, None]
        beats &= needed * power_w[:, None] + np.maximum(rests, 0.0) * rest_w <= power_w * (1 + _SAME)
    return beats
