"""A plan as the JSON of the command line and the API: snake_case keys that carry their units."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TypeAlias

from planner.architecture import active_parameters, parameters
from planner.efficiency import by_service
from planner.model import Model
from planner.moves import moves
from planner.plan import Allocation, Infeasible, Plan, Prediction, Refusal
from planner.service import Bucket

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"


def changes_json(running: Sequence[Allocation] | None, plan: Plan) -> dict[str, JSON]:
    """`changes` of `muster plan --current ... --json`: what to start and stop; nothing where nobody said what runs."""
    return {} if running is None else {"changes": [asdict(move) for move in moves(running, plan.allocations)]}


def plan_json(plan: Plan) -> dict[str, JSON]:
    """The view that `muster plan --json` prints; its keys are a public interface."""
    return {
        "status": plan.status,
        "usd_per_hour": plan.usd_per_hour,
        "bound_usd_per_hour": plan.bound_usd_per_hour,
        "gap_ratio": plan.gap_ratio,
        "power_w": plan.power_w,
        "solve_s": plan.solve_s,
        "allocations": [allocation_json(a) for a in plan.allocations],
        "refused": [refusal_json(r) for r in plan.refused],
        "infeasible": infeasible_json(plan.infeasible),
        "one_type_usd_per_hour": dict(plan.one_type),
        "one_type_unknown": list(plan.one_type_unknown),
        "idle_cold_start_s": dict(plan.idle_cold_start_s),
        "usable_gpus": {name: list(gpus) for name, gpus in plan.usable_gpus.items()},
        "efficiency": {name: asdict(metrics) for name, metrics in by_service(plan).items()},
    }


def allocation_json(allocation: Allocation) -> dict[str, JSON]:
    """One allocation; `shares` are rows [SLO class, input tokens, output tokens, share]."""
    recipe = allocation.recipe
    return {
        "service": allocation.service,
        "model": allocation.model,
        "pool": allocation.pool,
        "node_group": allocation.node_group,
        "zone": allocation.zone,
        "gpu": recipe.gpu,
        "replicas": allocation.replicas,
        "gpus_per_replica": allocation.gpus_per_replica,
        "tp": recipe.tp,
        "pp": recipe.pp,
        "ep": recipe.ep,
        "dp": recipe.dp,
        "cp": recipe.cp,
        "max_batch": recipe.max_batch,
        "techniques": list(recipe.techniques),
        "power_cap_w": recipe.power_cap_w,
        "usd_per_hour": allocation.usd_per_hour,
        "power_w": allocation.power_w,
        "predicted": prediction_json(allocation.predicted),
        "shares": share_rows(allocation.shares),
        "busy_ratio": allocation.busy_ratio,
        "engine": allocation.engine,
        "flags": dict(allocation.flags),
    }


def share_rows(shares: Mapping[Bucket, float]) -> list[list[JSON]]:
    """Shares as rows, in order of bucket."""
    return [[b.slo_class, b.input_tokens, b.output_tokens, share] for b, share in sorted(shares.items())]


def prediction_json(prediction: Prediction) -> dict[str, JSON]:
    """What the model expects of one replica."""
    return asdict(prediction)


def model_json(model: Model) -> dict[str, JSON]:
    """One model of the catalogue."""
    return {
        "name": model.name,
        "family": model.family,
        "parameters": parameters(model),
        "active_parameters": active_parameters(model),
        "layers": sum(block.count for block in model.blocks),
        "max_context_tokens": model.max_context,
        "aliases": list(model.aliases),
        "source": model.source,
    }


def refusal_json(refusal: Refusal) -> dict[str, JSON]:
    """One refused recipe."""
    return {"service": refusal.service, "recipe": refusal.recipe, "reason": refusal.reason}


def infeasible_json(infeasible: Infeasible | None) -> dict[str, JSON] | None:
    """Why there is no plan, or None."""
    if infeasible is None:
        return None
    return {
        "why": infeasible.why,
        "constraints": list(infeasible.constraints),
        "relaxation": infeasible.relaxation,
        "changes": [asdict(change) for change in infeasible.changes],
    }
