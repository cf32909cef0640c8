"""How busy executors keep their workers; see executors.py.

Efficiency is the time in which workers evaluate, measured in the workers, over workers x time from the beginning of
the first evaluation to the end of the last. What comes before is the start-up, shown apart: processes start and are
set up, and wait for one another. `ideal` is what the same evaluations, begun in the same order by the same rule,
would reach if workers, driver and journal took no time: what it lacks is idle at the end of generations, or of the
search. `ms a task` is what one took beside its sleep, (idle time - idle time without overhead) / tasks.
"""

import heapq
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
import numpy.typing as npt
from executors_tasks import OBJECTIVES, Letters, Sleeping, ray_here
from rich.console import Console
from rich.table import Table

from evonas.errors import ConfigurationError
from evonas.executors import Executor, ProcessExecutor, RayExecutor
from evonas.runs import guarded
from evonas.search import EvolutionConfig, Journal, evolve


@dataclass(frozen=True, kw_only=True)
class EfficiencyArgs:
    """Busy time of the workers over workers x wall time."""

    workers: int = 4
    population: int = 20
    generations: int = 9
    """After the first: population x (generations + 1) tasks."""
    shortest: float = 0.1
    """Seconds of the shortest task."""
    longest: float = 1.0
    """Seconds of the longest task."""
    rounds: int = 2
    """Searches of each mode on each executor, alternately; each round has a seed of its own."""

    def __post_init__(self) -> None:
        if self.workers < 1 or self.rounds < 1:
            raise ConfigurationError(f"expected workers and rounds >= 1, got {self.workers} and {self.rounds}")
        if not 0 <= self.shortest <= self.longest:
            raise ConfigurationError(
                f"expected 0 <= shortest <= longest seconds, got {self.shortest:g} and {self.longest:g}"
            )

    def executors(self) -> dict[str, Callable[[], Executor]]:
        return {"process": lambda: ProcessExecutor(self.workers), "ray": RayExecutor}


@dataclass(frozen=True)
class Mode:
    """A way of searching."""

    name: str
    asynchronous: bool = False
    longest_first: bool = False


GIVEN = Mode("generations, given order")
LONGEST_FIRST = Mode("generations, longest first", longest_first=True)
ASYNCHRONOUS = Mode("asynchronous", asynchronous=True)
MODES = (GIVEN, LONGEST_FIRST, ASYNCHRONOUS)


@dataclass(frozen=True)
class Measured:
    """One search."""

    tasks: int
    startup: float
    """Seconds before the first evaluation began."""
    wall: float
    """Seconds from there to the end of the last one."""
    efficiency: float
    ideal: float
    """Efficiency without any overhead."""
    at_once: int
    """Most evaluations that ran at the same moment."""

    def overhead(self, workers: int) -> float:
        """Seconds of a worker for each task, beside evaluating it and having none to evaluate."""
        busy = self.efficiency * self.wall * workers
        return (self.wall * workers - busy / self.ideal) / self.tasks


def measure(mode: Mode, executor: Executor, args: EfficiencyArgs, seed: int) -> Measured:
    config = EvolutionConfig(
        population=args.population,
        generations=args.generations,
        objectives=OBJECTIVES,
        seed=seed,
        asynchronous=mode.asynchronous,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "workers"
        folder.mkdir()
        sleeping = Sleeping(folder, args.workers, args.shortest, args.longest)
        predict = sleeping.seconds if mode.longest_first else None
        started = time.monotonic()
        with Journal(Path(name) / "journal.jsonl") as journal:
            for _ in evolve(Letters(), sleeping, config, executor, journal, predict=predict):
                pass
    entries = sorted(journal, key=lambda entry: entry.proposal)
    begun, ended = (np.array([entry.result.objectives[at] for entry in entries]) for at in ("begun", "ended"))
    seconds = ended - begun
    generation = [0 if mode.asynchronous else entry.generation for entry in entries]
    groups = [
        sorted(seconds[np.equal(generation, each)], reverse=mode.longest_first)
        if mode.longest_first
        else seconds[np.equal(generation, each)].tolist()
        for each in sorted(set(generation))
    ]
    wall = float(ended.max() - begun.min())
    return Measured(
        len(entries),
        float(begun.min()) - started,
        wall,
        float(seconds.sum()) / (args.workers * wall),
        packed(groups, args.workers),
        most_at_once(begun, ended),
    )


def packed(groups: Sequence[Sequence[float]], workers: int) -> float:
    """Efficiency of workers that take the next task of a group at once, and wait for one another between groups."""
    clock = 0.0
    for group in groups:
        free = [clock] * workers
        for seconds in group:
            heapq.heapreplace(free, free[0] + seconds)
        clock = max(free)
    return sum(map(sum, groups)) / (workers * clock)


def most_at_once(begun: npt.NDArray[np.float64], ended: npt.NDArray[np.float64]) -> int:
    """The largest number of intervals that hold one moment; (n,) each."""
    changes = sorted([(moment, 1) for moment in begun] + [(moment, -1) for moment in ended])
    return max(itertools.accumulate(change for _, change in changes))


def run_efficiency(args: EfficiencyArgs) -> int:
    held: list[bool] = []

    def run() -> None:
        found: dict[tuple[str, Mode], list[Measured]] = {}
        with ray_here(args.workers):
            for seed in range(args.rounds):
                for mode in MODES:
                    for executor, make in args.executors().items():
                        found.setdefault((executor, mode), []).append(measure(mode, make(), args, seed))
        held.append(report(found, args, Console(width=120)))

    return guarded(run) or int(not all(held))


def report(found: dict[tuple[str, Mode], list[Measured]], args: EfficiencyArgs, console: Console) -> bool:
    tasks = max(each.tasks for searches in found.values() for each in searches)
    table = Table(
        title=f"busy time of {args.workers} workers over workers x wall time, {tasks} tasks that sleep "
        f"{args.shortest:g} to {args.longest:g} s, every round"
    )
    for heading in ("executor", "search"):
        table.add_column(heading, no_wrap=True)
    for heading in ("round", "efficiency", "ideal", "ms a task", "wall, s", "start-up, s", "at once"):
        table.add_column(heading, justify="right", no_wrap=True)
    for (executor, mode), searches in sorted(found.items(), key=lambda item: item[0][0]):
        for number, each in enumerate(searches):
            table.add_row(
                executor,
                mode.name,
                str(number),
                f"{each.efficiency:.3f}",
                f"{each.ideal:.3f}",
                f"{1000 * each.overhead(args.workers):.1f}",
                f"{each.wall:.2f}",
                f"{each.startup:.2f}",
                str(each.at_once),
            )
    console.print(table)
    held = True
    for executor in args.executors():
        of = {mode: [each.efficiency for each in found[executor, mode]] for mode in MODES}
        worst = min(of[ASYNCHRONOUS])
        held &= _verdict(console, worst >= 0.95, f"{executor}: asynchronous, {worst:.3f} at worst (at least 0.95)")
        first, given = mean(of[LONGEST_FIRST]), mean(of[GIVEN])
        text = f"{executor}: longest first {first:.3f}, in given order {given:.3f}, ratio {first / given:.3f} (> 1)"
        held &= _verdict(console, first > given, text)
        most = max(each.at_once for mode in MODES for each in found[executor, mode])
        text = f"{executor}: {most} evaluations at once (at most {args.workers})"
        held &= _verdict(console, most <= args.workers, text)
    return held


def _verdict(console: Console, holds: bool, text: str) -> bool:
    console.print(f"{'holds' if holds else 'FAILS'}: {text}", highlight=False)
    return holds
