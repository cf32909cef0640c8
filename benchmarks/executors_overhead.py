"""What executors cost a task that does nothing, beside bare Ray; see executors.py.

Everything runs alternately in one process, on one Ray, each after a few tasks that start its processes. Bare Ray
has as many tasks in flight as RayExecutor, and takes each result with `ray.get` when `ray.wait` names it. The
executor adds what makes it survive: two signals of a worker for every task, deadlines, reasons, a look at the nodes.
"""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from executors_tasks import GENES, instant, ray_here
from rich.console import Console
from rich.table import Table

from evonas.errors import ConfigurationError
from evonas.executors import Executor, Job, LocalExecutor, ProcessExecutor, RayExecutor, ignore
from evonas.runs import guarded
from evonas.search import EvaluationWork

BARE, RAY = "bare Ray: ray.wait, ray.get", "RayExecutor"
WARM = 20
AT_MOST_MS = 10.0
"""A hundredth of an evaluation of one second, shorter than any training."""


@dataclass(frozen=True, kw_only=True)
class OverheadArgs:
    """Milliseconds of a task that does nothing."""

    tasks: int = 300
    """In each timing."""
    rounds: int = 5
    """Timings of each."""
    workers: int = 2
    """At once."""

    def __post_init__(self) -> None:
        if min(self.tasks, self.rounds, self.workers) < 1:
            raise ConfigurationError(
                f"expected tasks, rounds and workers >= 1, got {self.tasks}, {self.rounds} and {self.workers}"
            )


def run_bare(tasks: int, in_flight: int) -> None:
    """Plain remote functions, so many at once."""
    import ray

    function: Any = ray.remote(num_cpus=1, max_retries=0)(instant)
    genome = np.zeros(GENES, dtype=np.int64)
    flying: list[Any] = []
    for number in range(tasks):
        if len(flying) == in_flight:
            done, flying = ray.wait(flying)
            ray.get(done[0])
        flying.append(function.remote(genome, number))
    ray.get(flying)


def run_executor(executor: Executor, tasks: int) -> None:
    """A generation of so many tasks on an executor that was started."""
    for number in range(tasks):
        executor.submit(Job(str(number), ((0,) * GENES, number)))
    for _ in range(tasks):
        _, outcome = executor.next_finished()
        if not outcome.ok:
            raise ConfigurationError(f"expected tasks to end well, got {outcome.failure}")


def measure(args: OverheadArgs) -> dict[str, list[float]]:
    """Milliseconds a task, of every round."""
    executors: dict[str, Callable[[], Executor]] = {
        RAY: RayExecutor,
        "RayExecutor, resident": lambda: RayExecutor(resident=True),
        "ProcessExecutor": lambda: ProcessExecutor(args.workers),
        "LocalExecutor": LocalExecutor,
    }
    times: dict[str, list[float]] = {}
    with ray_here(args.workers):
        for _ in range(args.rounds):
            run_bare(WARM, args.workers + 1)
            times.setdefault(BARE, []).append(_timed(lambda: run_bare(args.tasks, args.workers + 1), args.tasks))
            for name, make in executors.items():
                with closing(make()) as executor:
                    executor.start(EvaluationWork(instant), ignore)
                    run_executor(executor, WARM)
                    run = partial(run_executor, executor, args.tasks)
                    times.setdefault(name, []).append(_timed(run, args.tasks))
    return times


def _timed(run: Callable[[], None], tasks: int) -> float:
    started = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - started) / tasks


def run_overhead(args: OverheadArgs) -> int:
    held: list[bool] = []
    return guarded(lambda: held.append(report(measure(args), args, Console(width=120)))) or int(not all(held))


def report(times: dict[str, list[float]], args: OverheadArgs, console: Console) -> bool:
    table = Table(title=f"milliseconds of a task that does nothing, {args.tasks} tasks, {args.workers} workers")
    for heading in ("", "median", "beside bare Ray", "ratio", "every round"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    middle = {name: median(values) for name, values in times.items()}
    for name, values in times.items():
        table.add_row(
            name,
            f"{middle[name]:.2f}",
            f"{middle[name] - middle[BARE]:+.2f}",
            f"{middle[name] / middle[BARE]:.2f}",
            "  ".join(f"{value:.2f}" for value in values),
        )
    console.print(table)
    more = middle[RAY] - middle[BARE]
    holds = more <= AT_MOST_MS
    text = f"RayExecutor costs {more:.2f} ms a task more than bare Ray (at most {AT_MOST_MS:g})"
    console.print(f"{'holds' if holds else 'FAILS'}: {text}", highlight=False)
    return holds
