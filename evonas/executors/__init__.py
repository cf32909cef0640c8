"""Where evaluations run: in this process, in several, or on a Ray cluster."""

from collections.abc import Callable

from evonas.executors.base import (
    Evaluate,
    EvaluatorFactory,
    Executor,
    Job,
    MakeEvaluate,
    as_factory,
    ignore,
    run_job,
)
from evonas.executors.local import LocalExecutor
from evonas.executors.process import ProcessExecutor
from evonas.executors.ray_cluster import RayConnection
from evonas.executors.ray_tasks import RayExecutor
from evonas.executors.worker import Host, PlainHost

__all__ = [
    "EXECUTORS",
    "Evaluate",
    "EvaluatorFactory",
    "Executor",
    "Host",
    "Job",
    "LocalExecutor",
    "MakeEvaluate",
    "PlainHost",
    "ProcessExecutor",
    "RayConnection",
    "RayExecutor",
    "as_factory",
    "ignore",
    "run_job",
]

EXECUTORS: dict[str, Callable[[], Executor]] = {
    "local": LocalExecutor,
    "process": ProcessExecutor,
    "ray": RayExecutor,
}
"""Name -> class; each can be made without arguments."""
