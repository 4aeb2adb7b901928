"""HiGHS, and nothing else: the one module that imports highspy.

Models are handed over as arrays in one call; building a model object by object costs more CPU than solving it.
Runs are repeatable: one thread, a fixed seed, limits in nodes unless the caller gives seconds.
"""

from dataclasses import dataclass, replace
from enum import Enum

import highspy
import numpy as np
from numpy.typing import NDArray

from planner.errors import SolverFault

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
INFINITY = float(highspy.kHighsInf)

_QUIET: dict[str, bool | int | float | str] = {"output_flag": False, "threads": 1, "random_seed": 0}
# Tiny programs that are re-solved thousands of times: presolve, scaling and perturbation cost more than they save.
_RESOLVED: dict[str, bool | int | float | str] = {
    "presolve": "off",
    "solver": "simplex",
    "simplex_scale_strategy": 0,
    "dual_simplex_cost_perturbation_multiplier": 0.0,
    "primal_simplex_bound_perturbation_multiplier": 0.0,
}
_VERIFY_NODES = 100
_LIMITED = (
    highspy.HighsModelStatus.kTimeLimit,
    highspy.HighsModelStatus.kIterationLimit,
    highspy.HighsModelStatus.kSolutionLimit,
    highspy.HighsModelStatus.kInterrupt,
)
_SETTLED = (highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kInfeasible)
_STRICT: dict[str, bool | int | float | str] = {
    "presolve": "off",
    "mip_feasibility_tolerance": 1e-9,
    "primal_feasibility_tolerance": 1e-9,
    "dual_feasibility_tolerance": 1e-9,
}
_PROVE: dict[str, bool | int | float | str] = {"mip_heuristic_run_rens": False, "mip_heuristic_run_rins": False}
_CAREFUL: dict[str, bool | int | float | str] = {"presolve": "on", "simplex_scale_strategy": 2}


@dataclass(frozen=True, slots=True)
class Columns:
    """A sparse matrix by columns: entries of column j are `index[start[j]:start[j + 1]]`, `value[...]`."""

    start: Ints
    index: Ints
    value: Floats


@dataclass(frozen=True, slots=True)
class LinearModel:
    """Minimise cost·x subject to row_lower <= A x <= row_upper and lower <= x <= upper; `integer` marks counts."""

    cost: Floats
    lower: Floats
    upper: Floats
    row_lower: Floats
    row_upper: Floats
    matrix: Columns
    integer: NDArray[np.bool_] | None = None


class Outcome(Enum):
    """How a solve ended."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"  # a limit was reached with an incumbent
    INFEASIBLE = "infeasible"
    UNKNOWN = "unknown"  # a limit was reached with nothing in hand


@dataclass(frozen=True, slots=True)
class Solution:
    """x is empty unless the outcome is OPTIMAL or FEASIBLE; `bound` is proved in any case (-inf where nothing is)."""

    outcome: Outcome
    objective: float
    bound: float
    x: Floats
    row_dual: Floats


def columns_of(rows: Ints, cols: Ints, values: Floats, count: int) -> Columns:
    """Triplets (no duplicates) as columns; `count` columns in all."""
    order = np.argsort(cols, kind="stable")
    start = np.zeros(count + 1, np.int32)
    np.cumsum(np.bincount(cols, minlength=count), out=start[1:])
    return Columns(start, rows[order].astype(np.int32), values[order].astype(np.float64))


def _engine(options: dict[str, bool | int | float | str]) -> highspy.Highs:
    engine: highspy.Highs = highspy.Highs()  # type: ignore[no-untyped-call]  # its stub has no annotation here
    for name, value in options.items():
        engine.setOptionValue(name, value)
    return engine


def _passed(engine: highspy.Highs, model: LinearModel) -> None:
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(model.cost), len(model.row_lower)
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = model.cost, model.lower, model.upper
    lp.row_lower_, lp.row_upper_ = model.row_lower, model.row_upper
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = (
        model.matrix.start,
        model.matrix.index,
        model.matrix.value,
    )
    if model.integer is not None:
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        lp.integrality_ = [kinds[int(i)] for i in model.integer]
    if engine.passModel(lp) == highspy.HighsStatus.kError:
        raise SolverFault("HiGHS refused the model: an index, a bound or a coefficient is not a number")


def solve(
    model: LinearModel,
    *,
    gap_ratio: float = 0.0,
    nodes: int | None = None,
    time_limit_s: float | None = None,
    start: Floats | None = None,
    verify: bool = True,
    strict: bool = False,
    polish: bool = True,
) -> Solution:
    """Solve once, as a mixed-integer program where `model.integer` marks any column.

    `start`: a feasible point to begin from. `time_limit_s` is wall time and makes the answer depend on the machine;
    `nodes` does not. `verify`: believe that a mixed-integer program is infeasible only when it is so without presolve
    too (or nothing turns up in a short search), whose reductions were seen to cut off badly scaled programs whole.
    `strict`: with the tightest tolerances there are, without presolve, for programs whose figures are far apart.
    `polish` False leaves out the search for better solutions near the one in hand, which is most of the time of a
    program that needs a proof only.
    """
    options = {"mip_rel_gap": gap_ratio, **(_STRICT if strict else {}), **({} if polish else _PROVE)}
    engine = _engine({**_QUIET, **options})
    if nodes is not None:
        engine.setOptionValue("mip_max_nodes", nodes)
    if time_limit_s is not None:
        engine.setOptionValue("time_limit", time_limit_s)
    _passed(engine, model)
    if start is not None:
        given = highspy.HighsSolution()
        given.col_value = list(start)
        engine.setSolution(given)
    engine.run()
    found = _answer(engine, model)
    if verify and found.outcome is Outcome.INFEASIBLE and model.integer is not None and not _relaxed_infeasible(model):
        engine.clearSolver()
        engine.setOptionValue("presolve", "off")
        engine.setOptionValue("mip_max_nodes", min(_VERIFY_NODES, nodes or _VERIFY_NODES))
        engine.run()
        again = _answer(engine, model)
        found = again if again.outcome in (Outcome.OPTIMAL, Outcome.FEASIBLE) else found
    return found


def _relaxed_infeasible(model: LinearModel) -> bool:
    """Whether no fractions would do either, found without presolve: a proof that costs one linear program."""
    engine = _engine({**_QUIET, "presolve": "off"})
    _passed(engine, replace(model, integer=None))
    engine.run()
    return bool(engine.getModelStatus() == highspy.HighsModelStatus.kInfeasible)


def _answer(engine: highspy.Highs, model: LinearModel) -> Solution:
    status, info = engine.getModelStatus(), engine.getInfo()
    solution = engine.getSolution()
    nothing: Floats = np.empty(0)
    mixed = model.integer is not None and bool(model.integer.any())
    bound = info.mip_dual_bound if mixed else info.objective_function_value
    done = highspy.HighsModelStatus
    if status == done.kModelEmpty:
        return Solution(Outcome.OPTIMAL, 0.0, 0.0, nothing, nothing)
    # primal_solution_status 2 = a feasible point is in hand; a model status alone does not say so.
    if status == done.kOptimal or info.primal_solution_status == 2:
        outcome = Outcome.OPTIMAL if status == done.kOptimal else Outcome.FEASIBLE
        bound = bound if mixed or status == done.kOptimal else -INFINITY
        dual = nothing if mixed else np.array(solution.row_dual)
        return Solution(outcome, info.objective_function_value, bound, np.array(solution.col_value), dual)
    if status in (done.kInfeasible, done.kUnboundedOrInfeasible):
        return Solution(Outcome.INFEASIBLE, INFINITY, INFINITY, nothing, nothing)
    if status in _LIMITED:
        return Solution(Outcome.UNKNOWN, INFINITY, bound if mixed else -INFINITY, nothing, nothing)
    return Solution(Outcome.UNKNOWN, INFINITY, -INFINITY, nothing, nothing)  # it gave up on the figures


class Resolved:
    """A small linear program kept hot: columns are added and bounds and costs changed between solves."""

    def __init__(self, model: LinearModel) -> None:
        self._engine = _engine({**_QUIET, **_RESOLVED})
        _passed(self._engine, model)
        self._first = np.arange(len(model.cost), dtype=np.int32)
        self._rows = np.arange(len(model.row_lower), dtype=np.int32)

    def add(self, column: Floats) -> None:
        """Add a free-of-charge column x >= 0; `column` has one entry per row."""
        self._engine.addCol(0.0, 0.0, INFINITY, len(self._rows), self._rows, column)

    def charge(self, cost: Floats) -> None:
        """Change the cost of the first columns."""
        self._engine.changeColsCost(len(cost), self._first[: len(cost)], cost)

    def solve(self, lower: Floats, upper: Floats) -> Solution:
        """Solve under new bounds on the first columns, from the last basis."""
        self._engine.changeColsBounds(len(lower), self._first[: len(lower)], lower, upper)
        self._engine.run()
        if self._engine.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            self._engine.clearSolver()  # a stale basis can stall; from scratch the status is mostly final
            self._engine.run()
        if self._engine.getModelStatus() not in _SETTLED:
            self._carefully()
        return self._read()

    def _carefully(self) -> None:
        """Once more with presolve and scaling, which cost time but cope with badly scaled programs."""
        for name, value in _CAREFUL.items():
            self._engine.setOptionValue(name, value)
        self._engine.clearSolver()
        self._engine.run()
        for name in _CAREFUL:
            self._engine.setOptionValue(name, _RESOLVED[name])

    def _read(self) -> Solution:
        status = self._engine.getModelStatus()
        if status == highspy.HighsModelStatus.kInfeasible:
            return Solution(Outcome.INFEASIBLE, INFINITY, INFINITY, np.empty(0), np.empty(0))
        if status != highspy.HighsModelStatus.kOptimal:
            raise SolverFault(f"HiGHS ended a linear program with {self._engine.modelStatusToString(status)!r}")
        found, value = self._engine.getSolution(), self._engine.getInfo().objective_function_value
        return Solution(Outcome.OPTIMAL, value, value, np.array(found.col_value), np.array(found.row_dual))
