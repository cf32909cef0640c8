"""A busy machine slows a search in proportion, and no more.

Claim: beside one and two processes that each keep a core busy, a quick RoCo-NAS search takes at most 1.2 times its fair
share's time: its time alone x (its own processes + the busy ones) / processors, where that is more than its time alone.

    python benchmarks/busy.py                            # about ten minutes on two cores; leave the machine alone
    python benchmarks/busy.py --threads 2 --workers 1    # one evaluation of two threads, for comparison

Each search is a new process, from its start to its tables, on digits, without a set. Busy processes count, in one
thread. Rounds alternate between the loads; shown are medians. The exit code is 1 where the claim does not hold.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from evonas.errors import ConfigurationError, ExecutionError
from evonas.runs import guarded
from evonas.runs.execution import resolve_threads

BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"
"""Ends with this process, however that ends."""

MOST = 1.2
"""Largest ratio to the fair share's time."""


@dataclass(frozen=True, kw_only=True)
class Args:
    """A quick search alone, and beside busy processes."""

    busy: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N ...")] = (1, 2)
    """Busy processes beside it."""
    rounds: int = 3
    """Searches at each load."""
    population: int = 8
    generations: int = 1
    workers: int = 0
    """Evaluations at once; 0: as many as there are processors."""
    threads: int = 1
    """Threads of an evaluation."""

    def __post_init__(self) -> None:
        if min(self.rounds, self.threads, *self.busy) < 1 or self.workers < 0:
            raise ConfigurationError("expected rounds, threads and busy processes >= 1, workers >= 0")

    @property
    def at_once(self) -> int:
        return self.workers or resolve_threads(None)

    def fair(self, busy: int) -> float:
        """The fair share's time, relative to the time alone."""
        wanted = self.at_once * self.threads
        return max(1.0, (wanted + busy) / max(wanted, resolve_threads(None)))


@contextlib.contextmanager
def beside(processes: int) -> Iterator[None]:
    """Busy processes, meanwhile."""
    started = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def seconds(args: Args) -> float:
    """Wall time of a search."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "evonas.cli", "roco", "--data", "digits", "--device", "cpu", "--out", folder),
            *("--objectives", "clean_error,macs", "--workers", str(args.at_once), "--threads", str(args.threads)),
            *("--population", str(args.population), "--generations", str(args.generations)),
        ]
        started = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ExecutionError(f"expected a search that ends well, got: {done.stderr.strip()}")
        return time.monotonic() - started


def run(args: Args, console: Console) -> bool:
    loads = (0, *args.busy)
    taken: dict[int, list[float]] = {load: [] for load in loads}
    for number in range(args.rounds):
        for load in loads if number % 2 == 0 else reversed(loads):
            with beside(load):
                taken[load].append(seconds(args))
    evaluations = args.population * (args.generations + 1)
    table = Table(
        title=f"{evaluations} evaluations, {args.at_once} at once, of {args.threads} threads, "
        f"on {resolve_threads(None)} processors; {os.getloadavg()[2]:.1f} processes ran in the last 15 minutes"
    )
    for heading in ("busy processes", "seconds", "median", "fair share's", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    alone, worst = statistics.median(taken[0]), 0.0
    for load in loads:
        median, fair = statistics.median(taken[load]), alone * args.fair(load)
        worst = max(worst, median / fair)
        each = " ".join(f"{value:.1f}" for value in taken[load])
        table.add_row(str(load), each, f"{median:.1f}", f"{fair:.1f}", f"{median / fair:.2f}")
    console.print(table)
    held = worst <= MOST
    console.print(
        f"{'holds' if held else 'FAILS'}: {worst:.2f} of the fair share's time (at most {MOST})", highlight=False
    )
    return held


if __name__ == "__main__":
    held: list[bool] = []
    given = tyro.cli(Args, description=__doc__)
    sys.exit(guarded(lambda: held.append(run(given, Console(width=120)))) or int(not all(held)))
