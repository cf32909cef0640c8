"""Executor, device and threads of a run."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from evonas.errors import ConfigurationError
from evonas.files import expanded
from evonas.ranges import THREADS, Range, check_ranges
from evonas.runs.needs import Needs, refuse_unused

if TYPE_CHECKING:
    from evonas.executors import Executor, RayConnection
    from evonas.training.settings import TrainingPrecision

__all__ = [
    "WORKERS_IMPORT",
    "ExecutionOptions",
    "Hardware",
    "make_executor",
    "resolve_device",
    "resolve_hardware",
    "resolve_threads",
    "warm_up_early",
]

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of processor time in a period, and that period, as Linux tells a container."""

WORKERS_IMPORT = (
    "evonas.evaluation.evaluator",
    "evonas.evaluation.prepare",
    "evonas.search.evaluations",
    "torch._dynamo",
)
"""Modules of every worker process, imported once; torch imports the last one at the first step of an optimiser."""

GPU = Path("/dev/nvidiactl")
"""There where a CUDA device may be, which only torch can tell."""

SAME_VERSIONS = ("evonas", "torch", "numpy")
"""Packages whose version a Ray worker shares with the driver: others round differently."""


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions:
    """Place of the evaluations. Device type and threads are part of a run's identity: others round differently."""

    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda or cuda:N."""
    threads: Annotated[int | None, THREADS] = None
    """CPU threads of one evaluation; by default one on a CPU, beside a GPU the processors divided by the evaluations at
    once."""
    executor: Literal["auto", "local", "process", "ray"] = "auto"
    """local: one evaluation after another in this process. process: several at once on this machine. ray: every GPU of
    this machine or of a cluster. auto: ray with --ray-address or on several GPUs, process on several processors, with
    --workers or with --timeout, else local."""
    workers: Annotated[int | None, THREADS, Needs("executor", ("process", "auto"))] = None
    """Processes of the executor process; by default as many as cores or GPUs have room for."""
    gpus_per_task: Annotated[float, Range(above=0, most=1), Needs("executor", ("process", "ray", "auto"))] = 1.0
    """GPUs of one evaluation, a fraction to share one: 0.25 runs four at once, each with a quarter of its memory."""
    ray_address: Annotated[str | None, Needs("executor", ("ray", "auto"))] = None
    """Ray cluster: auto, HOST:PORT or ray://HOST:PORT; else RAY_ADDRESS, else Ray is started on this machine."""
    timeout: Annotated[float | None, Range(above=0, most=10**9), Needs("executor", ("process", "ray", "auto"))] = None
    """Seconds that an evaluation may take from its beginning; then its process is killed and it is failed. Searches of
    cells, trainings to the end and their measurements may take any time."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.device == "cpu" and self.gpus_per_task != 1.0:
            raise ConfigurationError("expected --gpus-per-task with a GPU, got it with --device cpu; leave it out")
        refuse_unused(self)
        if self.workers is not None and self.gpus_per_task != 1.0:
            raise ConfigurationError("expected --workers or --gpus-per-task, got both; each follows from the other")
        if self.workers is not None and self.ray_address is not None:
            raise ConfigurationError(
                "expected --workers or --ray-address, got both; on Ray the evaluations at once follow from --threads "
                "and --gpus-per-task"
            )


@dataclass(frozen=True)
class Hardware:
    """Execution with everything resolved."""

    executor: str
    device: str
    """Device of the evaluations."""
    threads: int
    """CPU threads of one evaluation."""
    workers: int
    """Processes of the executor process; 1 with another one."""
    note: str
    connection: RayConnection | None = None

    @property
    def here(self) -> str:
        """The device for what the driver itself computes: a Ray driver may have none."""
        import torch

        remote = self.connection is not None and self.device == "cuda" and not torch.cuda.is_available()
        return "cpu" if remote else self.device

    def precision(self, asked: str, gpus: float, depthwise: bool = False) -> tuple[TrainingPrecision, str]:
        """See `resolve_precision`; a worker says what its device can where this machine has none."""
        import torch

        from evonas.training.precision import resolve_precision

        if self.here == self.device or asked != "auto" or self.connection is None:
            return resolve_precision(asked, torch.device(self.device), depthwise)
        return self.connection.ask(
            partial(resolve_precision, asked, torch.device(self.device), depthwise), self.threads, gpus
        )

    def images_at_once(self, gpus: float, size: int) -> int | None:
        """See `images_at_once`; a worker of a cluster answers for its device."""
        from evonas.devices import images_at_once

        if self.connection is None:
            return images_at_once(self.device, size)
        if self.device == "cpu":
            return None
        return self.connection.ask(partial(images_at_once, self.device, size), self.threads, gpus)


def resolve_hardware(settings: ExecutionOptions, identity: Mapping[str, Any], alone: bool = False) -> Hardware:
    """Every `auto` resolved, as the identity says, where the run has one, else by what is there; settles the device.

    Args:
        alone: the run does one thing at a time.
    Raises:
        ConfigurationError: the machine cannot be used as asked.
        UnknownNameError: a wrong word in the environment.
    """
    import torch

    from evonas.devices import settle
    from evonas.executors import RayConnection
    from evonas.graphs import switched_off

    switched_off()  # a wrong word there would fail every evaluation
    executor, because = _executor(settings)
    connection = RayConnection(settings.ray_address) if executor == "ray" else None
    asked = identity.get("device", "auto") if settings.device == "auto" else settings.device
    if connection is None:
        device = resolve_device(asked)
    elif asked == "auto":
        device = "cuda" if any(node.gpus for node in connection.nodes()) else "cpu"
    elif asked in ("cpu", "cuda"):
        device = asked
    else:
        raise ConfigurationError(f"expected --device auto, cpu or cuda with Ray, which chooses the GPU, got {asked!r}")
    settle("cpu" if connection is not None and not torch.cuda.is_available() else device)  # before this process uses it
    threads = settings.threads or identity.get("threads")
    processors = resolve_threads(None)
    if connection is None and torch.device(device).type == "cpu":
        threads = threads or (processors if alone else 1)
        if settings.executor == "auto" and executor == "local" and processors // threads > 1:
            executor, because = "process", f" ({processors} processors)"
    workers = _workers(settings, device, threads) if executor == "process" else 1
    if threads is None and connection is not None:
        threads = _ray_threads(connection, device, settings.gpus_per_task)
    threads = threads or max(1, processors // workers)
    many = f"{workers} processes, " if executor == "process" else ""
    note = f"executor: {executor}{because}; device: {device}, {many}threads of an evaluation: {threads}"
    if workers * threads > processors:
        note += f", more than this machine's {processors} processors"
    if connection is not None and asked == "auto" and device == "cpu":
        note += "; no node of the cluster has a GPU now (--device cuda waits for one)"
    return Hardware(executor, device, threads, workers, note, connection)


def make_executor(settings: ExecutionOptions, hardware: Hardware, resident: bool = False) -> Executor:
    """The executor of resolved hardware.

    Args:
        resident: the evaluator keeps something large in its process.
    """
    import torch

    from evonas.evaluation import TorchHost
    from evonas.executors import LocalExecutor, ProcessExecutor, RayExecutor
    from evonas.runs.folder import versions

    cuda = torch.device(hardware.device).type == "cuda"
    if hardware.executor == "process":
        devices = _devices(hardware.device)
        share = 1 / -(-hardware.workers // devices) if cuda else 1.0
        host = TorchHost(hardware.device)
        return ProcessExecutor(hardware.workers, settings.timeout, host, share, devices if cuda else 0, WORKERS_IMPORT)
    if hardware.executor == "ray":
        has = versions()
        host = TorchHost(hardware.device, tuple((name, has[name]) for name in SAME_VERSIONS))
        gpus = settings.gpus_per_task if cuda else 0.0
        return RayExecutor(hardware.connection, hardware.threads, gpus, settings.timeout, host, resident)
    return LocalExecutor()


def warm_up_early(options: Any) -> None:
    """Let the server of worker processes load torch beside this process, where a new run on the CPU will need it.

    Args:
        options: of a command; one that begins no run may find what it makes, such as a set, and need no worker.
    """
    from evonas.runs.options import RunOptions

    if not isinstance(options, RunOptions) or bool(getattr(options, "table", "")):  # a look-up needs no worker
        return
    execution = options.execution
    elsewhere = (
        execution.ray_address is not None or os.environ.get("RAY_ADDRESS") or execution.device.startswith("cuda")
    )
    one = (execution.workers or resolve_threads(None)) == 1 or execution.threads not in (None, 1)
    if elsewhere or one or execution.executor not in ("auto", "process") or GPU.exists():
        return
    begun = True
    with contextlib.suppress(OSError):  # whatever is wrong with the folder is said where it is opened
        if options.out is None:
            begun = any(Path("runs").glob(f"*-{options.preset}-seed{options.seed}/journal.jsonl"))
        else:
            begun = (expanded(options.out) / "journal.jsonl").exists()
    if not begun:
        from evonas.executors.forks import warm_up

        warm_up(WORKERS_IMPORT)


def resolve_device(name: str) -> str:
    """A device that is there. ConfigurationError where it is not."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigurationError(f"expected a device auto, cpu, cuda or cuda:N, got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigurationError(f"expected a device auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(
            f"expected a device that is there, got {name!r}; torch sees {torch.cuda.device_count()} CUDA devices: "
            "use --device cpu, or a machine that has it"
        )
    return name


def resolve_threads(threads: int | None) -> int:
    """The given number, or as many processors as this process may use, by its affinity and a container's quota."""
    if threads is not None:
        return threads
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(processors, int(_quota(processors))))


def _quota(processors: int) -> float:
    """Processors' worth of time that a container may use; `processors` where nothing limits it."""
    try:
        quota, period = QUOTA.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # no control groups, or `max`
        return processors


def _executor(settings: ExecutionOptions) -> tuple[str, str]:
    """Its name, and why where it was chosen for the user."""
    import torch

    if settings.executor != "auto":
        return settings.executor, ""
    if settings.ray_address is not None:
        return "ray", " (--ray-address)"
    if settings.workers is not None:
        return "process", " (--workers)"
    if os.environ.get("RAY_ADDRESS"):
        return "ray", " (RAY_ADDRESS is set)"
    if settings.device in ("auto", "cuda") and torch.cuda.device_count() > 1:
        if importlib.util.find_spec("ray") is None:
            return "process", f" ({torch.cuda.device_count()} GPUs are here, Ray is not installed)"
        return "ray", f" ({torch.cuda.device_count()} GPUs are here)"
    if settings.timeout is not None or settings.gpus_per_task != 1.0:
        return "process", " (--timeout or --gpus-per-task)"
    return "local", ""


def _workers(settings: ExecutionOptions, device: str, threads: int | None) -> int:
    import torch

    from evonas.executors.ray_cluster import gpu_slots

    if settings.workers is not None:
        return settings.workers
    if torch.device(device).type == "cuda":
        return max(1, gpu_slots(_devices(device), settings.gpus_per_task))
    return max(1, resolve_threads(None) // (threads or 1))


def _ray_threads(connection: RayConnection, device: str, gpus: float) -> int:
    """Threads with which all GPUs of every node can be used; one on CPUs."""
    from evonas.executors.ray_cluster import gpu_slots

    if device == "cpu":
        return 1
    room = [int(node.cpus // max(1, gpu_slots(node.gpus, gpus))) for node in connection.nodes() if node.gpus]
    return max(1, min(room, default=1))


def _devices(device: str) -> int:
    """CUDA devices that evaluations on `device` may use."""
    import torch

    return max(1, torch.cuda.device_count()) if torch.device(device) == torch.device("cuda") else 1
