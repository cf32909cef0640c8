"""Jobs as Ray tasks or in actors: on every GPU of a machine or of a cluster."""

from evonas.errors import ConfigurationError
from evonas.executors.ray_cluster import RayConnection
from evonas.executors.ray_tasks import RayWorkers
from evonas.executors.supervision import SupervisedExecutor
from evonas.executors.worker import Host, PlainHost

__all__ = ["RayExecutor"]


class RayExecutor(SupervisedExecutor):
    """Jobs on a Ray cluster, or on every GPU of this machine. The driver alone decides which jobs run again.

    Args:
        connection: connection to a cluster, or its address; None: RAY_ADDRESS, else Ray is started on this machine.
        cpus: CPUs of a job; its threads.
        gpus: GPUs of a job; a fraction shares a device.
        timeout: seconds a job may take; None: any.
        host: prepares each worker for its machine.
        resident: for work that keeps something large, such as a supernet, in its process: one actor a slot, kept until
            the executor is closed, instead of one task a job.
    """

    def __init__(
        self,
        connection: RayConnection | str | None = None,
        cpus: int = 1,
        gpus: float = 0.0,
        timeout: float | None = None,
        host: Host | None = None,
        resident: bool = False,
    ) -> None:
        if cpus < 1:
            raise ConfigurationError(f"expected at least one CPU a job, got {cpus}")
        if gpus < 0 or (gpus > 1 and gpus != int(gpus)):
            raise ConfigurationError(f"expected a fraction of one GPU, or whole GPUs, a job, got {gpus:g}")
        self._connection = connection if isinstance(connection, RayConnection) else RayConnection(connection)
        self._tasks = RayWorkers(self._connection, cpus, gpus, host or PlainHost(), resident)
        super().__init__(self._tasks, timeout)

    def count(self, cached: bool, ok: bool) -> None:
        self._tasks.counters.count(cached, ok)

    def close(self) -> None:
        self._connection.close()  # first: leaving ends all tasks, and Ray may crash where Ctrl-C and a cancel meet
        super().close()
