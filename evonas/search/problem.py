"""The search as a pymoo problem, so that pymoo's own algorithms run on it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pymoo.core.problem import Problem

from evonas.executors import Work, ignore, run_work
from evonas.search.evaluations import (
    Evaluate,
    EvaluationWork,
    EvaluatorFactory,
    check_objectives,
    evaluation_job,
    evaluation_result,
)
from evonas.search.pareto import minimised
from evonas.types import EvaluationResult, Genome, Space

__all__ = ["NASProblem", "penalised"]

WORST = 1e9
"""Finite stand-in for objectives that were never measured; its constraint keeps it off every front."""


def penalised(
    result: EvaluationResult | None, violation: float, objectives: Sequence[str], maximize: Sequence[str]
) -> tuple[list[float], float]:
    """(F, G) for pymoo: finite numbers always, and G > 0 for infeasible genomes (None), failed and stopped results."""
    if result is None or not result.ok:
        return [WORST] * len(objectives), max(violation, 0.0) + 1.0
    return minimised(result.objectives, objectives, maximize), min(violation, 0.0)


class NASProblem(Problem):  # type: ignore[misc]
    """Integer genomes, objectives F (minimised) and one constraint G: feasible and evaluated for G <= 0.

    `minimize(NASProblem(...), NSGA2())` works with pymoo's stock operators: the floats they send are rounded. Equal
    networks are evaluated once. `results` keeps every EvaluationResult by its canonical genome's key.

    Args:
        space: see `evonas.types.Space`.
        evaluate: (genome, seed) -> EvaluationResult, or a factory with make_evaluate(report).
        objectives: columns of the results, in the order of F.
        maximize: objectives that are maximised; F holds their negative.
        seed: seed of the run; the seed of an evaluation follows from it and the canonical genome.
    """

    def __init__(
        self,
        space: Space,
        evaluate: Evaluate | EvaluatorFactory,
        objectives: Sequence[str] = ("clean_error", "macs"),
        seed: int = 0,
        maximize: Sequence[str] = (),
    ) -> None:
        check_objectives(objectives, maximize)
        super().__init__(
            n_var=space.n_genes, n_obj=len(objectives), n_ieq_constr=1, xl=0, xu=np.asarray(space.upper), vtype=int
        )
        self.space = space
        self.objectives = tuple(objectives)
        self.maximize = tuple(maximize)
        self.seed = seed
        self.results: dict[str, EvaluationResult] = {}
        self._make = EvaluationWork(evaluate)
        self._work: Work | None = None

    def _evaluate(self, X: npt.NDArray[Any], out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        rows = [self._row(genome) for genome in np.rint(np.asarray(X, dtype=float)).astype(np.int64)]
        out["F"] = np.array([f for f, _ in rows])  # (n, m)
        out["G"] = np.array([[g] for _, g in rows])  # (n, 1)

    def _row(self, genome: Genome) -> tuple[list[float], float]:
        violation = self.space.violation(genome)
        result = None if violation > 0 else self._result(genome)
        return penalised(result, violation, self.objectives, self.maximize)

    def _result(self, genome: Genome) -> EvaluationResult:
        job = evaluation_job(self.space.canonical(genome), self.seed)
        if job.key not in self.results:
            if self._work is None:
                self._work = self._make(ignore)
            self.results[job.key] = evaluation_result(job, run_work(self._work, job), self.objectives)
        return self.results[job.key]
