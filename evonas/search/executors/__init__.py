"""Where evaluations run: in this process, in several, or on a Ray cluster."""

from evonas.search.executors.base import (
    Evaluate,
    EvaluatorFactory,
    Executor,
    Job,
    MakeEvaluate,
    as_factory,
    ignore,
    run_job,
)
from evonas.search.executors.local import LocalExecutor

__all__ = [
    "Evaluate",
    "EvaluatorFactory",
    "Executor",
    "Job",
    "LocalExecutor",
    "MakeEvaluate",
    "as_factory",
    "ignore",
    "run_job",
]
