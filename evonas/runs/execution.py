"""Where a run computes: device, threads, executor."""

import os
from dataclasses import dataclass
from typing import Literal

import torch

from evonas.errors import ConfigurationError, choose
from evonas.search import EXECUTORS, Executor

__all__ = ["ExecutionSettings", "make_executor", "resolve_device", "resolve_threads"]


@dataclass(frozen=True, kw_only=True)
class ExecutionSettings:
    """Where evaluations run. Device type and threads are part of a run's identity: others round differently."""

    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda or cuda:N."""
    threads: int | None = None
    """CPU threads of one evaluation; as many as this process may use, unless given."""
    executor: Literal["local"] = "local"
    """local: one evaluation after another in this process."""

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ConfigurationError(f"expected threads >= 1, got {self.threads}")


def resolve_device(name: str) -> str:
    """A device that is there. ConfigurationError where it is not."""
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
    """The given number, or as many processors as this process may use."""
    if threads is not None:
        return threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_executor(settings: ExecutionSettings) -> Executor:
    return choose(EXECUTORS, settings.executor, "executor")()
