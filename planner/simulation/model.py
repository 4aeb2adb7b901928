"""The pace of a replica of a plan, read off the planner's own cost model: step times, memory and watts."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.anchor import key_of
from planner.calibration import ENGINES, HBM_RATIO, EngineCosts
from planner.cost import Case, Cost, Degrees, Figure
from planner.errors import MissingFigure
from planner.hardware import GPUType, Inventory
from planner.plan import Allocation, Recipe
from planner.pools import contradiction
from planner.power import idle_w, power_w
from planner.profile import BATCHES, WHOLE_PROMPT_TOKENS, anchored
from planner.recipes import gpu_of
from planner.roofline import StepTime, memory_bytes, step_time
from planner.service import ServiceSpec
from planner.simulation.pace import Pace
from planner.technique import Technique, cost_of, parallelisms, sharded
from planner.techniques import techniques

Array = NDArray[np.float64]
# Lengths of a prompt at which its seconds are asked for; between them they are interpolated.
PROMPTS = (16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0)
_CONTEXTS = (64.0, 2048.0)  # a decode step is linear in its context: two points tell the line
# Prompt tokens in a step, of prompts so short that what came before in each costs nothing; between them interpolated.
CHUNKS = (1.0, 16.0, 64.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0)
_BRIEF = 256.0
_SHORT = 2.0  # output tokens of the requests that the grid asks for


class Way(NamedTuple):
    """How a replica runs, and on which GPU (capped)."""

    recipe: Recipe
    gpu: GPUType
    pool: str


def pace_of(service: ServiceSpec, allocation: Allocation, inventory: Inventory) -> Pace | str:
    """The pace of one replica, or why it cannot be simulated, in words."""
    recipe = allocation.recipe
    chosen = [techniques()[name]() for name in recipe.techniques]
    try:
        way = Way(recipe, gpu_of(recipe, inventory), allocation.pool)
        lengths = np.array([*PROMPTS, *_CONTEXTS])[:, None]
        case = _case(service, way, lengths, np.full_like(lengths, _SHORT))
        objection = next((why for one in (*parallelisms(case), *chosen) if (why := one.objection(case))), None)
        cost = cost_of(case, chosen, sharded(case))
        objection = objection or contradiction(cost)
        if objection is None and cost.phases["prefill"].beside is not None:
            objection = "prompts beside decode steps on SMs of their own are not simulated"
        return objection if objection is not None else _pace(service, allocation, inventory, way, cost, chosen)
    except MissingFigure as missing:
        return str(missing)


def pace_under(service: ServiceSpec, allocation: Allocation, inventory: Inventory, cap_w: float | None) -> Pace | str:
    """The pace of one replica whose GPUs have this power limit (None: their own), whatever its recipe plans."""
    recipe = replace(allocation.recipe, power_cap_w=cap_w)
    return pace_of(service, replace(allocation, recipe=recipe), inventory)


def _case(service: ServiceSpec, way: Way, inputs: Array, outputs: Array, prompts: Array | None = None) -> Case:
    recipe = way.recipe
    degrees = Degrees(recipe.tp, recipe.pp, recipe.ep, recipe.dp, recipe.cp)
    hits = service.workload.prefix_hit_ratio
    together = np.ones_like(inputs) if prompts is None else prompts
    return Case(service.model, way.gpu, BATCHES, inputs, outputs, together, *degrees, hits)


def _pace(
    service: ServiceSpec,
    allocation: Allocation,
    inventory: Inventory,
    way: Way,
    cost: Cost,
    chosen: Sequence[Technique],
) -> Pace:
    recipe, gpu, _ = way
    engine = ENGINES[allocation.engine]
    prefill, decode = cost.phases["prefill"], cost.phases["decode"]
    own, step = step_time(prefill, gpu, engine), step_time(decode, gpu, engine)
    anchor = anchored(service, [recipe], inventory).get(key_of(recipe))
    on_decode = anchor.decode if anchor is not None else np.ones(BATCHES.size)
    on_prefill, first_s = (anchor.prefill, anchor.first_s) if anchor is not None else (1.0, 0.0)
    rows = len(PROMPTS)
    steps_s = _grid(step.total_s, cost) * on_decode
    (short_s, long_s), (short, long) = steps_s[rows:], (one + _SHORT / 2 for one in _CONTEXTS)
    batches = BATCHES[0]
    slope_s = np.maximum(long_s - short_s, 0.0) / (long - short) / batches  # of one sequence's token
    fixed_s = np.maximum(short_s - slope_s * short * batches, 0.0)
    most = recipe.max_batch * recipe.pp
    flying = np.arange(most + 1, dtype=float)
    per_lane = np.maximum(flying / recipe.pp, 0.0)
    decode_s = np.interp(per_lane, batches, fixed_s)
    rides = prefill.rides == "decode"
    decode_s[0] = fixed_s[0] if rides else 0.0  # a chunk reads what a decode step would have read
    context_s = np.interp(per_lane, batches, slope_s) / recipe.pp
    drawn_w = _grid(_drawn_w(step, gpu), cost)[rows:].mean(axis=0) * recipe.gpus
    lengths = np.array(PROMPTS)
    whole_s = _grid(own.total_s, cost)[:rows, 0] / _grid(prefill.tokens, cost)[:rows, 0] * lengths
    chunks_s = _chunks_s(service, way, chosen, engine)
    over_s = np.maximum(whole_s - np.interp(lengths, CHUNKS, chunks_s), 0.0) / lengths
    prompts_s, chunks_s = (one * on_prefill / recipe.pp for one in (over_s, chunks_s))
    prompt_w = float(np.median(_grid(_drawn_w(own, gpu), cost)[:rows, 0])) * recipe.gpus
    yielded = float(np.median(_grid(decode.tokens, cost) / batches))
    return Pace(
        max_sequences=most,
        max_step_tokens=max(round(float(np.median(_grid(prefill.tokens, cost)[:rows, 0]))) if rides else _WHOLE, most),
        kv_tokens=_kv_tokens(service, way, chosen),
        decode_s=tuple(map(float, decode_s)),
        context_s=tuple(map(float, context_s)),
        prompt_tokens=PROMPTS,
        prompt_s=tuple(map(float, prompts_s)),
        first_s=first_s,
        idle_w=idle_w(gpu) * recipe.gpus,
        decode_w=tuple(map(float, np.interp(per_lane, batches, drawn_w))),
        prompt_w=prompt_w,
        gpus=recipe.gpus,
        tokens_per_step=max(yielded, 1.0),
        chunk_tokens=CHUNKS,
        chunk_s=tuple(map(float, chunks_s)),
    )


def _chunks_s(service: ServiceSpec, way: Way, chosen: Sequence[Technique], engine: EngineCosts) -> Array:
    """Seconds that brief prompts of so many tokens together add to a step: they share what a step costs anyway."""
    tokens = np.array(CHUNKS)[:, None]
    inputs = np.minimum(tokens, _BRIEF)
    case = _case(service, way, inputs, np.full_like(inputs, _SHORT), tokens / inputs)
    prefill = cost_of(case, chosen, sharded(case)).phases["prefill"]
    shape = (len(CHUNKS), BATCHES.size)
    took_s, computed = (
        np.broadcast_to(one, shape)[:, 0] for one in (step_time(prefill, way.gpu, engine).total_s, prefill.tokens)
    )
    return np.array(took_s / computed * tokens[:, 0])


_WHOLE = int(WHOLE_PROMPT_TOKENS)


def _grid(figure: Figure, cost: Cost) -> Array:
    """A figure over (length, batch)."""
    return np.array(np.broadcast_to(np.asarray(figure, dtype=float), (len(PROMPTS) + len(_CONTEXTS), BATCHES.size)))


def _drawn_w(time: StepTime, gpu: GPUType) -> Figure:
    """Watts of one GPU in a step, by how busy its units are."""
    return power_w(gpu, time.compute_s / time.total_s, time.hbm_s / time.total_s)


def _kv_tokens(service: ServiceSpec, way: Way, chosen: Sequence[Technique]) -> int:
    """Tokens whose cache fits beside the weights, as sequences of the service's mean size keep it."""
    rates = service.workload.rates_per_s
    means = np.array([service.workload.mean_tokens.get(one, one[1:]) for one in rates], dtype=float)
    weights = np.array(list(rates.values())) if sum(rates.values()) else np.ones(len(rates))
    inputs, outputs = np.maximum(weights @ means / weights.sum(), 1.0)
    case = _case(service, way, np.array([[inputs]]), np.array([[outputs]]))
    cost = cost_of(case, chosen, sharded(case))
    mine = next(pool for pool in cost.pools if len(cost.pools) == 1 or pool[0] == way.pool)
    last = np.array([[way.recipe.max_batch]], dtype=float)
    used, held = (
        np.interp(last[0], BATCHES[0], np.broadcast_to(np.asarray(one, dtype=float), BATCHES.shape)[0])[0]
        for one in (memory_bytes(cost, mine), cost.resident(mine)["kv"])
    )
    tokens = float(last[0, 0]) * (inputs if mine == ("prefill",) else inputs + outputs)
    room = max(HBM_RATIO * way.gpu.hbm_bytes - (used - held), 0.0)
    return int(room / held * tokens * way.recipe.pp) if held > 0 else _UNLIMITED


_UNLIMITED = 1 << 40  # a model whose state does not grow with the context
