"""The search as a pymoo problem, so that pymoo's own algorithms run on it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pymoo.core.problem import Problem

from evonas.errors import ConfigurationError
from evonas.executors import Evaluate, EvaluatorFactory, Job, as_factory, ignore, run_job
from evonas.seeding import derive_seed
from evonas.types import EvaluationResult, Genome, Space, arch_id

__all__ = ["NASProblem", "check_objectives", "checked", "evaluation_seed", "minimised", "penalised"]

WORST = 1e9
"""Finite stand-in for the objectives of what was never measured; its constraint keeps it off every front."""


def evaluation_seed(seed: int, key: str) -> int:
    """Seed of one evaluation: from the run's seed and the canonical genome's key, nothing else."""
    return derive_seed(seed, "evaluation", key)


def checked(result: EvaluationResult, objectives: Sequence[str]) -> EvaluationResult:
    """The result as it is journalled, or a failed one where a searched objective is missing or a value not finite."""
    seconds = round(result.seconds, 3) if math.isfinite(result.seconds) else 0.0
    result = replace(result, seconds=seconds)
    if not result.ok:
        return replace(result, objectives={}, reason=result.reason or "no reason was given")
    missing = [name for name in objectives if name not in result.objectives]
    broken = [f"{name} is {value}" for name, value in result.objectives.items() if not math.isfinite(value)]
    if not missing and not broken:
        return result
    reason = f"the evaluator gave no {', '.join(missing)}" if missing else "; ".join(broken)
    return EvaluationResult.failure(result.genome, result.seed, reason, result.seconds)


def minimised(values: Mapping[str, float], objectives: Sequence[str], maximize: Sequence[str]) -> list[float]:
    """Objectives in order, those to be maximised with their sign changed."""
    return [-float(values[name]) if name in maximize else float(values[name]) for name in objectives]


def penalised(
    result: EvaluationResult | None, violation: float, objectives: Sequence[str], maximize: Sequence[str]
) -> tuple[list[float], float]:
    """(F, G) for pymoo: finite numbers always, and G > 0 for whatever is infeasible (None) or failed."""
    if result is None or not result.ok:
        return [WORST] * len(objectives), max(violation, 0.0) + 1.0
    return minimised(result.objectives, objectives, maximize), min(violation, 0.0)


class NASProblem(Problem):  # type: ignore[misc]
    """Integer genomes, objectives F (minimised) and one constraint G: feasible and evaluated where G <= 0.

    `minimize(NASProblem(...), NSGA2())` works with pymoo's stock operators: the floats they send are rounded. Networks
    that are the same are evaluated once. `results` keeps every EvaluationResult by its canonical genome's key.

    Args:
        space: see `evonas.types.Space`.
        evaluate: (genome, seed) -> EvaluationResult, or a factory with make_evaluate(report).
        objectives: columns of the results, in the order of F.
        maximize: those of them that are maximised; F holds their negative.
        seed: of the run; an evaluation's seed follows from it and the canonical genome.
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
        self._factory = as_factory(evaluate)
        self._evaluate_one: Evaluate | None = None

    def _evaluate(self, X: npt.NDArray[Any], out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        rows = [self._row(genome) for genome in np.rint(np.asarray(X, dtype=float)).astype(np.int64)]
        out["F"] = np.array([f for f, _ in rows])  # (n, m)
        out["G"] = np.array([[g] for _, g in rows])  # (n, 1)

    def _row(self, genome: Genome) -> tuple[list[float], float]:
        violation = self.space.violation(genome)
        result = None if violation > 0 else self._result(genome)
        return penalised(result, violation, self.objectives, self.maximize)

    def _result(self, genome: Genome) -> EvaluationResult:
        canonical = self.space.canonical(genome)
        key = arch_id(canonical)
        if key not in self.results:
            if self._evaluate_one is None:
                self._evaluate_one = self._factory(ignore)
            job = Job(tuple(canonical.tolist()), evaluation_seed(self.seed, key), len(self.results))
            self.results[key] = checked(run_job(self._evaluate_one, job), self.objectives)
        return self.results[key]


def check_objectives(objectives: Sequence[str], maximize: Sequence[str] = ()) -> None:
    """At least one, none twice, and only searched ones are maximised."""
    if not objectives or isinstance(objectives, str) or len(set(objectives)) != len(objectives):
        raise ConfigurationError(f"expected different objectives, at least one, got {objectives!r}")
    if not set(maximize) <= set(objectives):
        raise ConfigurationError(f"expected to maximise some of {', '.join(objectives)}, got {', '.join(maximize)}")
