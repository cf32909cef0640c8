"""Executor, device and threads: what is chosen, what is refused, what a continued run keeps."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from evonas import devices
from evonas.errors import ConfigurationError, ExecutionError, UnknownNameError
from evonas.executors import LocalExecutor, ProcessExecutor, RayConnection, RayExecutor, forks
from evonas.executors.ray_cluster import Node
from evonas.methods.adversarial_set import BuildOptions
from evonas.methods.roco import RocoOptions
from evonas.runs import ExecutionOptions, execution
from evonas.runs.execution import (
    SAME_VERSIONS,
    Hardware,
    make_executor,
    resolve_hardware,
    resolve_threads,
    warm_up_early,
)

CPUS = resolve_threads(None)


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.mark.parametrize(
    ("given", "executor"),
    [
        ({"threads": CPUS}, "local"),
        ({"workers": 2}, "process"),
        ({"timeout": 5.0}, "process"),
        ({"executor": "process"}, "process"),
        ({"ray_address": "auto", "device": "cpu", "threads": 1}, "ray"),
        ({"executor": "ray", "device": "cpu", "threads": 1}, "ray"),
        ({"executor": "local"}, "local"),
    ],
)
def test_the_executor_follows_from_what_is_asked(given: dict[str, Any], executor: str) -> None:
    options = ExecutionOptions(**{"device": "cpu", **given})
    hardware = resolve_hardware(options, {})
    assert hardware.executor == executor
    assert f"executor: {executor}" in hardware.note
    kinds = {"local": LocalExecutor, "process": ProcessExecutor, "ray": RayExecutor}
    assert type(make_executor(options, hardware)) is kinds[executor]


def test_an_address_in_the_environment_is_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    hardware = resolve_hardware(ExecutionOptions(device="cpu", threads=1), {})
    assert hardware.executor == "ray"
    assert "RAY_ADDRESS" in hardware.note


@pytest.mark.parametrize(("processors", "executor", "workers"), [(1, "local", 1), (2, "process", 2), (6, "process", 6)])
def test_a_cpu_has_an_evaluation_of_one_thread_on_each_processor(
    processors: int, executor: str, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "resolve_threads", lambda given: given or processors)
    hardware = resolve_hardware(ExecutionOptions(device="cpu"), {})
    assert (hardware.executor, hardware.workers, hardware.threads) == (executor, workers, 1)
    many = f" ({workers} processors); device: cpu, {workers} processes" if workers > 1 else "; device: cpu"
    assert hardware.note == f"executor: {executor}{many}, threads of an evaluation: 1"
    assert resolve_hardware(ExecutionOptions(device="cpu", executor="local"), {}).threads == 1


def test_a_gpu_has_all_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "resolve_threads", lambda given: given or 8)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("evonas.devices.settle", lambda device: None)
    hardware = resolve_hardware(ExecutionOptions(), {})
    assert (hardware.executor, hardware.device, hardware.threads) == ("local", "cuda", 8)
    hardware = resolve_hardware(ExecutionOptions(gpus_per_task=0.25), {})
    assert (hardware.executor, hardware.workers, hardware.threads) == ("process", 4, 2)


def test_too_many_processes_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "resolve_threads", lambda given: given or 3)
    assert "more" not in resolve_hardware(ExecutionOptions(device="cpu", workers=3), {}).note
    hardware = resolve_hardware(ExecutionOptions(device="cpu", workers=4), {})
    assert hardware.note.endswith("threads of an evaluation: 1, more than this machine's 3 processors")


@pytest.mark.parametrize(
    ("limit", "processors"),
    [("max 100000", 6), ("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("900000 100000", 6)],
)
def test_a_container_may_use_its_quota(
    limit: str, processors: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text(f"{limit}\n")
    monkeypatch.setattr(execution, "QUOTA", quota)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {*range(6)})
    assert resolve_threads(None) == processors
    assert resolve_threads(7) == 7


def test_a_wrong_word_about_graphs_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVONAS_CUDA_GRAPHS", "of")
    with pytest.raises(UnknownNameError, match="unknown EVONAS_CUDA_GRAPHS 'of'; did you mean off"):
        resolve_hardware(ExecutionOptions(device="cpu"), {})


def test_without_a_number_processes_fill_the_machine() -> None:
    hardware = resolve_hardware(ExecutionOptions(device="cpu", executor="process"), {})
    assert (hardware.workers, hardware.threads) == (CPUS, 1)
    hardware = resolve_hardware(ExecutionOptions(device="cpu", executor="process", threads=CPUS), {})
    assert (hardware.workers, hardware.threads) == (1, CPUS)


@pytest.mark.parametrize(("threads", "executor", "workers"), [(4, "local", 1), (2, "process", 2)])
def test_a_run_that_was_begun_with_other_threads_goes_on_with_them(
    threads: int, executor: str, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "resolve_threads", lambda given: given or 4)
    hardware = resolve_hardware(ExecutionOptions(), {"device": "cpu", "threads": threads})
    assert (hardware.executor, hardware.workers, hardware.threads) == (executor, workers, threads)


def test_a_continued_run_keeps_device_and_threads() -> None:
    begun = {"device": "cpu", "threads": 7}
    for options in (ExecutionOptions(), ExecutionOptions(workers=2), ExecutionOptions(executor="ray")):
        hardware = resolve_hardware(options, begun)
        assert (hardware.device, hardware.threads) == ("cpu", 7)
    assert resolve_hardware(ExecutionOptions(threads=1), begun).threads == 1


def test_ray_takes_what_its_nodes_have(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [Node("head", 4, 0), Node("a", 16, 4), Node("b", 8, 1)]
    monkeypatch.setattr(RayConnection, "nodes", lambda self: nodes)
    assert resolve_hardware(ExecutionOptions(executor="ray"), {}).device == "cuda"
    assert resolve_hardware(ExecutionOptions(executor="ray"), {}).threads == 4  # 16 CPUs for 4 GPUs, 8 for one
    quarter = ExecutionOptions(executor="ray", gpus_per_task=0.25)
    assert resolve_hardware(quarter, {}).threads == 1
    nodes[1:] = []
    hardware = resolve_hardware(ExecutionOptions(executor="ray"), {})
    assert (hardware.device, hardware.threads) == ("cpu", 1)
    assert "no node of the cluster has a GPU now" in hardware.note


@pytest.mark.parametrize(
    ("node", "cpus", "gpus", "slots"),
    [
        (Node("n", 8, 0), 1, 0.0, 8),
        (Node("n", 8, 0), 3, 0.0, 2),
        (Node("n", 8, 2), 2, 1.0, 2),
        (Node("n", 8, 2), 2, 0.25, 4),
        (Node("n", 64, 1), 1, 1 / 3, 3),
        (Node("n", 16, 2), 1, 0.4, 4),
        (Node("n", 16, 2), 1, 0.6, 2),
        (Node("n", 8, 0), 1, 1.0, 0),
        (Node("n", 0, 0), 1, 0.0, 0),
    ],
)
def test_slots_of_a_node(node: Node, cpus: int, gpus: float, slots: int) -> None:
    assert node.slots(cpus, gpus) == slots


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"workers": 0}, "expected workers >= 1, got 0"),
        ({"threads": 0}, "expected threads >= 1, got 0"),
        ({"gpus_per_task": 0.0}, r"expected gpus_per_task in \(0, 1\], got 0"),
        ({"gpus_per_task": 2.0}, r"expected gpus_per_task in \(0, 1\], got 2"),
        ({"timeout": 0.0}, "expected timeout > 0, got 0"),
        ({"timeout": float("nan")}, "expected timeout > 0, got nan"),
        ({"executor": "local", "workers": 2}, "--workers changes nothing without --executor process"),
        ({"executor": "local", "timeout": 3.0}, "--timeout changes nothing without --executor process or ray"),
        ({"executor": "process", "ray_address": "auto"}, "--ray-address changes nothing without --executor ray"),
        ({"executor": "ray", "workers": 2}, "--workers changes nothing without --executor process"),
        ({"executor": "local", "gpus_per_task": 0.5}, "--gpus-per-task changes nothing without --executor process or"),
        ({"workers": 2, "gpus_per_task": 0.5}, "expected --workers or --gpus-per-task, got both"),
        ({"workers": 2, "ray_address": "auto"}, "expected --workers or --ray-address, got both"),
    ],
)
def test_options_that_make_no_sense_together_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        ExecutionOptions(**given)


def test_ray_chooses_the_gpu_itself() -> None:
    with pytest.raises(ConfigurationError, match="expected --device auto, cpu or cuda with Ray"):
        resolve_hardware(ExecutionOptions(executor="ray", device="cuda:1", threads=1), {})


@pytest.mark.lengthy
def test_nothing_listens_at_that_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # other tests may have connected this process
    with pytest.raises(ExecutionError, match=r"expected a Ray cluster at 127\.0\.0\.1:9, nothing answers there"):
        RayConnection("127.0.0.1:9").open()


def test_a_driver_without_a_gpu_computes_on_its_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    remote = Hardware("ray", "cuda", 1, 1, "", RayConnection())
    assert (remote.here, Hardware("local", "cpu", 1, 1, "").here) == ("cpu", "cpu")
    asked: list[Any] = []

    def ask(self: RayConnection, function: Any, cpus: int, gpus: float) -> Any:
        asked.append((function.args, cpus, gpus))
        return "bf16", "precision: bf16, says the worker"

    monkeypatch.setattr(RayConnection, "ask", ask)
    assert remote.precision("auto", 0.5) == ("bf16", "precision: bf16, says the worker")
    assert [(args[0], str(args[1]), cpus, gpus) for args, cpus, gpus in asked] == [("auto", "cuda", 1, 0.5)]
    assert remote.precision("fp32", 0.5)[0] == "fp32"
    assert len(asked) == 1


def test_workers_of_a_cluster_need_the_drivers_versions() -> None:
    options = ExecutionOptions(executor="ray", device="cpu", threads=1)
    executor = make_executor(options, resolve_hardware(options, {}))
    assert isinstance(executor, RayExecutor)
    host = executor._tasks._host
    assert [name for name, _ in host.versions] == list(SAME_VERSIONS)  # type: ignore[attr-defined]
    host.prepare(0, 1.0)


@pytest.mark.parametrize("workers", [1, 3])
def test_images_of_a_pass_do_not_depend_on_the_slots(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SimpleNamespace(total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: memory)
    assert Hardware("process", "cuda:0", 1, workers, "").images_at_once(1 / workers, 32) == 512


def test_a_worker_of_a_cluster_says_what_its_gpu_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def ask(self: RayConnection, work: Callable[[], Any], *cpus_and_gpus: Any) -> Any:
        asked.append(cpus_and_gpus)
        return work()

    monkeypatch.setattr(devices, "images_at_once", lambda device, size: 8 * size if device == "cuda" else None)
    monkeypatch.setattr(RayConnection, "ask", ask)
    assert Hardware("ray", "cuda", 2, 1, "", RayConnection("auto")).images_at_once(0.25, 32) == 256
    assert asked == [(2, 0.25)]
    assert Hardware("ray", "cpu", 2, 1, "", RayConnection("auto")).images_at_once(1.0, 32) is None
    assert len(asked) == 1


@pytest.mark.parametrize(("options", "early"), [(RocoOptions(), 1), (BuildOptions(), 0)])
def test_only_a_new_run_starts_the_server_of_workers_early(
    options: Any, early: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set may be there already, which takes the data to know."""
    started: list[Any] = []
    monkeypatch.setattr(forks, "warm_up", started.append)
    monkeypatch.setattr(execution, "resolve_threads", lambda given: 2)
    monkeypatch.setattr(execution, "GPU", tmp_path / "none")
    monkeypatch.chdir(tmp_path)
    warm_up_early(options)
    assert len(started) == early
