"""What the driver's memory holds of a long journal; see executors.py.

A process of its own opens the journal; its resident memory is read before and after. Genomes have 48 genes, as three
phases of six nodes do, and objectives are three columns. Written without waiting for the disk, so that it takes
seconds. A journal of an asynchronous search says two numbers more on every line.
"""

import gc
import multiprocessing
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from evonas.errors import ConfigurationError
from evonas.search import Entry, Journal
from evonas.seeding import generator
from evonas.types import EvaluationResult

GENES = 48
BYTES_AT_MOST = 4096
"""Of a line in memory: 100,000 lines in 400 MB."""


@dataclass(frozen=True, kw_only=True)
class MemoryArgs:
    """Memory of the driver, and time until a run goes on."""

    lines: int = 100_000
    """Evaluations in the journal."""
    population: int = 40

    def __post_init__(self) -> None:
        if self.lines < 1 or self.population < 1:
            raise ConfigurationError(f"expected lines and population >= 1, got {self.lines} and {self.population}")


@dataclass(frozen=True)
class Opened:
    """What opening a journal took."""

    on_disk: int
    before: int
    """Bytes of resident memory."""
    after: int
    peak: int
    seconds: float


def write_journal(path: Path, args: MemoryArgs, asynchronous: bool) -> None:
    rng = generator("journal", args.lines)
    genomes = rng.integers(2, size=(args.lines, GENES))
    errors = rng.random(args.lines)
    with Journal(path, sync=False) as journal:
        for number, (genome, error) in enumerate(zip(genomes, errors, strict=True)):
            values = {"clean_error": float(error), "adversarial_set_error": float(1 - error), "macs": 10**8 + number}
            result = EvaluationResult(tuple(genome), values, seed=int(rng.integers(2**62)), seconds=round(error, 3))
            moment = (max(0, number - 4), number + 4) if asynchronous else ()
            journal.append(Entry(result, number // args.population, number, *moment))


def open_journal(path: Path) -> Opened:
    """Open it in this process, which has not opened one before."""
    gc.collect()
    before = _status("VmRSS")
    started = time.perf_counter()
    with Journal(path) as journal:
        seconds = time.perf_counter() - started
        gc.collect()
        after = _status("VmRSS")
        if not len(journal):
            raise ConfigurationError("expected a journal with lines, got an empty one")
    return Opened(os.path.getsize(path), before, after, _status("VmHWM"), seconds)


def _status(field: str) -> int:
    """Bytes that Linux tells of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def measure(args: MemoryArgs, asynchronous: bool) -> Opened:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        for function, given in ((write_journal, (path, args, asynchronous)), (open_journal, (path,))):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                result = pool.apply(function, given)
    assert isinstance(result, Opened)
    return result


def run_memory(args: MemoryArgs) -> int:
    from evonas.runs import guarded  # here: it imports torch, of which the process that is measured holds nothing

    held: list[bool] = []

    def run() -> None:
        found = {name: measure(args, name == "asynchronous") for name in ("by generations", "asynchronous")}
        held.append(report(found, args, Console(width=120)))

    return guarded(run) or int(not all(held))


def report(found: dict[str, Opened], args: MemoryArgs, console: Console) -> bool:
    table = Table(title=f"a driver that opens a journal of {args.lines} lines, genomes of {GENES} genes")
    table.add_column("search", no_wrap=True)
    for heading in ("before, MB", "after, MB", "peak, MB", "bytes a line", "on disk", "ratio", "seconds", "us a line"):
        table.add_column(heading, justify="right", no_wrap=True)
    line: dict[str, float] = {}
    for name, opened in found.items():
        line[name] = (opened.after - opened.before) / args.lines
        megabytes = (f"{value / 1e6:.0f}" for value in (opened.before, opened.after, opened.peak))
        disk = opened.on_disk / args.lines
        table.add_row(
            name,
            *megabytes,
            f"{line[name]:.0f}",
            f"{disk:.0f}",
            f"{line[name] / disk:.2f}",
            f"{opened.seconds:.2f}",
            f"{1e6 * opened.seconds / args.lines:.0f}",
        )
    console.print(table)
    worst = max(line.values())
    holds = worst <= BYTES_AT_MOST
    text = f"a line takes {worst:.0f} bytes of the driver's memory at most (at most {BYTES_AT_MOST})"
    console.print(f"{'holds' if holds else 'FAILS'}: {text}", highlight=False)
    return holds
