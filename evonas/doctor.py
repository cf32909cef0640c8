"""The doctor: what this machine, or a Ray cluster, has for a search, and whether every executor works here."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from evonas.data import data_root
from evonas.errors import ExecutionError
from evonas.runs.execution import ExecutionOptions, make_executor, resolve_hardware, resolve_threads
from evonas.types import Activity, Note, Progress, reason_of

if TYPE_CHECKING:
    from evonas.executors import RayConnection
    from evonas.objectives import Candidate, Column, CostedSpace

__all__ = ["Examination", "Finding", "examine", "run_doctor"]

SECONDS_AT_MOST = 120.0
"""An executor that gives no result in this time is broken: a start takes seconds, the evaluation less than one."""

BYTES_AT_LEAST = {"runs": 100e6, "data": 0.0, "shared memory": 0.0}
"""Free space below which a disk is broken; the files of a run are small."""

Name = Literal["local", "process", "ray"]


@dataclass(frozen=True, kw_only=True)
class Examination:
    """Parts of this machine, or of a cluster, to look at."""

    ray_address: str | None = None
    """A Ray cluster to look at: auto, HOST:PORT or ray://HOST:PORT; else RAY_ADDRESS, else Ray is started here."""
    data_root: Path | None = None
    """Folder of the data sets; else the variable EVONAS_DATA, else ./data."""
    out: Path = Path("runs")
    """Folder that is to hold runs."""
    executors: tuple[Name, ...] = ("local", "process", "ray")
    """Executors that run a tiny evaluation."""

    @property
    def cluster(self) -> str | None:
        """The address of a Ray cluster that somebody else started."""
        return self.ray_address or os.environ.get("RAY_ADDRESS")


@dataclass(frozen=True)
class Finding:
    """One line about one thing."""

    about: str
    text: str
    broken: bool = False
    """Whether something has to be mended; what is merely not there is no fault."""


def run_doctor(examination: Examination) -> None:
    """Print every finding as it is known. ExecutionError, in one line, where something is broken."""
    broken = []
    for finding in examine(examination):
        broken += [finding.about] * finding.broken
        print(f"{finding.about:<20} {'BROKEN: ' if finding.broken else ''}{finding.text}", flush=True)
    if broken:
        raise ExecutionError(f"{len(broken)} of the above broken: {', '.join(broken)}; mend that and look again")


def examine(examination: Examination) -> Iterator[Finding]:
    """All findings, the executors' last. Nothing is raised for what is broken."""
    import torch

    from evonas.executors import RayConnection

    yield Finding("python", f"{platform.python_version()} ({sys.executable})")
    yield Finding("evonas", f"{_version('evonas')} ({Path(__file__).parents[1]})")
    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    libraries = ", ".join(f"{name} {_version(name)}" for name in ("torchvision", "numpy", "pymoo"))
    yield Finding("torch", f"{torch.__version__}, {build}; {libraries}")
    yield from _checked("devices", _devices)
    yield Finding("cpu", _processors())
    yield from _checked("data", lambda: _data(data_root(examination.data_root)))
    yield from _checked("disk", lambda: _disk(examination))
    connection = RayConnection(examination.ray_address)
    gpus: dict[Name, float] = {"local": torch.cuda.device_count(), "process": torch.cuda.device_count()}
    try:
        if "ray" in examination.executors:
            yield from _checked("ray cluster", lambda: _ray(examination, connection, gpus))
        yield from _executors(examination, gpus)
    finally:
        connection.close()


def _checked(about: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings; an exception is a broken one of one line, because no defect of a machine is ours."""
    try:
        yield from look()
    except Exception as error:
        yield Finding(about, reason_of(error), broken=True)


def _devices() -> Iterator[Finding]:
    import torch

    from evonas.training import resolve_precision

    if not torch.cuda.is_available():
        yield Finding("devices", "no CUDA device that torch can use")
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        kind, _ = resolve_precision("auto", torch.device("cuda", number))
        free, total = torch.cuda.mem_get_info(number)
        memory = f"{total / 2**30:.0f} GiB, {free / 2**30:.0f} GiB free"
        yield Finding(f"cuda:{number}", f"{about.name}, {memory}, precision auto is {kind}")


def _processors() -> str:
    import torch

    from evonas.training import resolve_precision

    kind, _ = resolve_precision("auto", torch.device("cpu"))
    return f"{resolve_threads(None)} of {os.cpu_count()} processors for this process, precision auto is {kind}"


def _data(root: Path) -> Iterator[Finding]:
    from evonas.data import DATA_SETS

    there = [name for name, entry in sorted(DATA_SETS.items()) if entry.found(root)]
    there += [f"npz:{path}" for path in sorted(root.glob("*.npz"))[:5]]
    found = ", ".join(there) or "no other one there, torchvision downloads what is asked for"
    yield Finding("data", f"digits (always there); below {root.absolute()}: {found}")


def _disk(examination: Examination) -> Iterator[Finding]:
    paths = {"runs": examination.out, "data": data_root(examination.data_root), "shared memory": Path("/dev/shm")}
    for about, path in paths.items():
        place = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
        usage = shutil.disk_usage(place)
        text = f"{usage.free / 1e9:.1f} of {usage.total / 1e9:.1f} GB free at {path.absolute()}"
        refused = about == "runs" and not os.access(place, os.W_OK)
        if refused:
            text += ", which cannot be written"
        if about == "shared memory" and usage.total < 1e9:
            text += ", little for Ray, which then shares through the disk; a container gets more with --shm-size"
        yield Finding(f"disk, {about}", text, broken=refused or usage.free < BYTES_AT_LEAST[about])


def _ray(examination: Examination, connection: RayConnection, gpus: dict[Name, float]) -> Iterator[Finding]:
    """Ray, and its cluster: one that was asked for and is not there is broken, Ray that is not installed is not.

    Args:
        gpus: gets those of the cluster, as "ray", where there is one.
    """
    installed = find_spec("ray") is not None
    yield Finding("ray", f"{_version('ray')}{'' if installed else '; --executor ray needs it'}")
    if not installed and examination.cluster is None:
        return
    nodes = connection.nodes()
    gpus["ray"] = sum(node.gpus for node in nodes)
    has = f"{len(nodes)} machine(s), {sum(node.cpus for node in nodes):g} CPUs, {gpus['ray']:g} GPUs"
    yield Finding("ray cluster", f"at {examination.cluster}: {has}" if examination.cluster else f"started here: {has}")


def _executors(examination: Examination, gpus: dict[Name, float]) -> Iterator[Finding]:
    """One tiny evaluation on the CPU per executor that has an entry in `gpus`, and one on a GPU where it has any."""
    first: dict[str, float] = {}
    for name in (name for name in examination.executors if name in gpus):
        for device in ["cpu", "cuda"] if gpus[name] else ["cpu"]:
            yield from _checked(f"{name} on {device}", partial(_evaluated, examination, name, device, first))


def _evaluated(examination: Examination, name: Name, device: str, first: dict[str, float]) -> Iterator[Finding]:
    """Seconds of the executor, and whether its values are those in `first`, which the first executor fills."""
    began = time.monotonic()
    values = _evaluate(examination, name, device)
    text = f"ok, {time.monotonic() - began:.1f} s with its start"
    if device == "cpu" and first:
        equal = values == first
        elsewhere = name == "ray" and examination.cluster is not None
        text += ", equal to the first" if equal else f", but it found {values} where the first found {first}"
        text += "; another kind of CPU rounds differently" if elsewhere and not equal else ""
        yield Finding(f"{name} on {device}", text, broken=not equal and not elsewhere)
        return
    first |= values if device == "cpu" else {}
    yield Finding(f"{name} on {device}", text)


def _evaluate(examination: Examination, name: Name, device: str) -> dict[str, float]:
    """Sum of the weights of a network of one phase after two steps on digits, found by the executor of this name."""
    from evonas.data import load_data
    from evonas.evaluation import Evaluator, TrainFromScratch
    from evonas.executors import run_jobs
    from evonas.search.evaluations import EvaluationWork, evaluation_job, evaluation_result
    from evonas.spaces import PhaseSpace
    from evonas.training import TrainingConfig

    options = ExecutionOptions(
        executor=name,
        device=device,
        threads=1,
        workers=1 if name == "process" else None,
        ray_address=examination.ray_address if name == "ray" else None,
    )
    space = PhaseSpace(phases=1, nodes=3, channels=4)
    training = TrainingConfig(epochs=1, batch_size=20, lr=0.1, precision="fp32")
    prepare = TrainFromScratch(space, load_data("digits", train_limit=40, val_limit=20), training, device)
    work = EvaluationWork(Evaluator(prepare, (WeightSum(),), threads=1))
    job = evaluation_job(space.designs()["chain"], seed=0)
    executor = make_executor(options, resolve_hardware(options, {}))
    began = time.monotonic()

    def watch(event: Progress | Activity | Note) -> None:
        if time.monotonic() - began > SECONDS_AT_MOST:
            slots = f", {event.running} of {event.slots} slots are busy" if isinstance(event, Activity) else ""
            raise ExecutionError(f"expected a result within {SECONDS_AT_MOST:g} seconds, got none{slots}")

    ((_, outcome),) = run_jobs(executor, work, [job], watch)
    result = evaluation_result(job, outcome, (WeightSum.name,))
    if not result.ok:
        raise ExecutionError(result.reason)
    return dict(result.objectives)


@dataclass(frozen=True)
class WeightSum:
    """Sum of the absolute weights: one step trained otherwise, and it is another."""

    name: ClassVar[str] = "weight_sum"

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        from evonas.objectives import Column

        return (Column(self.name, reference=0.0),)

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        return {self.name: sum(float(each.detach().double().abs().sum()) for each in candidate.network.parameters())}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
