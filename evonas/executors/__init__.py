"""Jobs and where they run: in this process, in several, or on a Ray cluster. Any job, not only genomes."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from evonas.lazy import Table, import_lazily

if TYPE_CHECKING:
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

EXECUTORS: "Table[Callable[[], Executor]]" = Table(
    {
        "local": "evonas.executors.local:LocalExecutor",
        "process": "evonas.executors.process:ProcessExecutor",
        "ray": "evonas.executors.ray_executor:RayExecutor",
    }
)
"""Name -> class; each can be made without arguments."""

import_lazily(__name__)
