"""Jobs and where they run: in this process, in several, or on a Ray cluster. Any job, not only genomes."""

from collections.abc import Callable

from evonas.executors.base import Executor, Job, MakeWork, Outcome, Work, ignore, run_jobs, run_work
from evonas.executors.local import LocalExecutor
from evonas.executors.process import ProcessExecutor
from evonas.executors.ray_cluster import RayConnection
from evonas.executors.ray_executor import RayExecutor
from evonas.executors.worker import Host, PlainHost

__all__ = [
    "EXECUTORS",
    "Executor",
    "Host",
    "Job",
    "LocalExecutor",
    "MakeWork",
    "Outcome",
    "PlainHost",
    "ProcessExecutor",
    "RayConnection",
    "RayExecutor",
    "Work",
    "ignore",
    "run_jobs",
    "run_work",
]

EXECUTORS: dict[str, Callable[[], Executor]] = {
    "local": LocalExecutor,
    "process": ProcessExecutor,
    "ray": RayExecutor,
}
"""Name -> class; each can be made without arguments."""
