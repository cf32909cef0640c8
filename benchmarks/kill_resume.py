"""A run that is killed at any moment and continued by the same command ends as if nothing had happened.

    python benchmarks/kill_resume.py                        # 10 kills of real trainings, 100 of an instant evaluator
    python benchmarks/kill_resume.py --real 0 --instant 20

A run is killed (SIGKILL) at a random moment between the opening of its journal and its usual end, started again by the
same command, killed again, and so on until it ends by itself; then the next run begins, until so many kills have hit.
Each run is compared with an undisturbed one: its journal line by line but for `seconds` and `checksum`, which is over
them, and its front.csv but for `train_seconds`. A second undisturbed run is compared, too (run `again`). The exit
code is 1 where anything differs.

Real trainings are `experiments/roco_cifar10.py` on digits, a few tiny networks. The instant evaluator is a search of
the same space with a journal on disk and a function in the place of training, which sleeps for a few milliseconds so
that kills hit every part of it.
"""

import csv
import hashlib
import json
import multiprocessing
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import IO, Any, Protocol

import tyro
from rich.console import Console
from rich.table import Table

from evonas.errors import ConfigurationError, EvonasError
from evonas.files import replace_file
from evonas.report import Searched, front, population_table
from evonas.runs import guarded
from evonas.search import EvolutionConfig, Journal, evolve
from evonas.spaces import PhaseSpace
from evonas.types import EvaluationResult, Genome

EXPERIMENT = Path(__file__).resolve().parents[1] / "experiments" / "roco_cifar10.py"
TINY_TRAINING = {
    "data": "digits",
    "population": 4,
    "generations": 2,
    "epochs": 2,
    "train-limit": 300,
    "val-limit": 100,
    "channels": 4,
    "device": "cpu",
    "threads": 1,
}
OBJECTIVES = ("clean_error", "macs")


@dataclass(frozen=True, kw_only=True)
class Args:
    """Kill runs at random moments, continue them, compare them with an undisturbed one."""

    real: int = 10
    """Kills of real trainings."""
    instant: int = 100
    """Kills of searches with an instant evaluator."""
    population: int = 10
    """Of a search with an instant evaluator."""
    generations: int = 5
    """Of a search with an instant evaluator."""
    sleep: float = 0.005
    """Seconds that an instant evaluation takes."""
    seed: int = 0
    """Of the moments."""

    def __post_init__(self) -> None:
        if self.real < 0 or self.instant < 0 or self.sleep < 0:
            raise ConfigurationError(
                f"expected real, instant and sleep >= 0, got {self.real}, {self.instant} and {self.sleep}"
            )


class Running(Protocol):
    """A process that runs a search."""

    def alive(self) -> bool: ...
    def kill(self) -> bool:
        """SIGKILL, and wait until it is gone; whether that is what ended it."""
        ...

    def wait(self) -> int:
        """Its exit code."""
        ...


Start = Callable[[Path], Running]
"""Starts the run in a folder, or continues it: the same command."""


class Training:
    """The experiment in a process of its own."""

    def __init__(self, folder: Path) -> None:
        flags = [f"--{name}={value}" for name, value in {**TINY_TRAINING, "out": folder}.items()]
        self.process = subprocess.Popen([sys.executable, str(EXPERIMENT), *flags], stdout=subprocess.DEVNULL)

    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> bool:
        self.process.kill()
        return self.process.wait() == -signal.SIGKILL

    def wait(self) -> int:
        return self.process.wait()


class InstantSearch:
    """A search with the instant evaluator in a process of its own."""

    def __init__(self, context: ForkServerContext, args: Args, folder: Path) -> None:
        self.process = context.Process(target=search_instantly, args=(args, folder))
        self.process.start()

    def alive(self) -> bool:
        return self.process.is_alive()

    def kill(self) -> bool:
        self.process.kill()
        return self.wait() == -signal.SIGKILL

    def wait(self) -> int:
        self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode


def search_instantly(args: Args, folder: Path) -> None:
    """Run or continue a search of phase networks in `folder`, and export its front after every generation."""
    space = PhaseSpace()

    def evaluate(genome: Genome, seed: int) -> EvaluationResult:
        """An error drawn from genome and seed, and one network in eight fails."""
        time.sleep(args.sleep)
        digest = hashlib.sha256(f"{genome.tolist()} {seed}".encode()).digest()
        if digest[8] < 32:
            raise ArithmeticError(f"one of those that fail, seed {seed}")
        error = int.from_bytes(digest[:8], "big") / 2**64
        return EvaluationResult(tuple(genome), {"clean_error": error, "macs": space.cost(genome).macs}, seed=seed)

    config = EvolutionConfig(population=args.population, generations=args.generations, objectives=OBJECTIVES)
    searched = Searched("instant", "none", OBJECTIVES, cost=space.cost)
    with Journal(folder / "journal.jsonl", {"population": args.population}) as journal:
        for _ in evolve(space, evaluate, config, journal=journal):
            table = front(population_table(journal, searched)).to_csv(index=False)
            replace_file(folder / "front.csv", partial(_write, table))


def _write(text: str, file: IO[bytes]) -> None:
    file.write(text.encode())


@dataclass(frozen=True)
class Outcome:
    """What a run leaves, timings aside."""

    journal: list[dict[str, Any]]
    front: list[dict[str, str]]

    @classmethod
    def of(cls, folder: Path) -> "Outcome":
        lines = (folder / "journal.jsonl").read_text().splitlines()
        with open(folder / "front.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        return cls(
            [_without(json.loads(line), "seconds", "checksum") for line in lines],
            [_without(row, "train_seconds") for row in rows],
        )


def _without(record: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in names}


@dataclass
class Kills:
    """What happened to the runs of one kind."""

    kind: str
    wanted: int
    """Kills that are to hit."""
    evaluations: int = 0
    """Of the undisturbed run."""
    lengths: list[int] = field(default_factory=list)
    """Whole lines of the journal, its header included, at each kill."""
    torn: int = 0
    """Kills that left half a line."""
    runs: int = 0
    equal: int = 0
    differences: list[str] = field(default_factory=list)

    def note(self, journal: Path) -> None:
        """A kill has hit."""
        content = journal.read_bytes() if journal.exists() else b""
        self.lengths.append(content.count(b"\n"))
        self.torn += bool(content) and not content.endswith(b"\n")

    def compare(self, exit_code: int, run: Path, expected: Outcome) -> None:
        """A run has ended by itself."""
        differences = [f"exit code {exit_code}"] if exit_code else _differences(Outcome.of(run), expected)
        self.runs += 1
        self.equal += not differences
        self.differences += [f"run {run.name}: {difference}" for difference in differences]


def _differences(got: Outcome, expected: Outcome) -> list[str]:
    pairs = {"journal.jsonl": (got.journal, expected.journal), "front.csv": (got.front, expected.front)}
    return [
        f"{name} differs from record {next(i for i, (x, y) in enumerate(zip_longest(a, b)) if x != y)} on"
        for name, (a, b) in pairs.items()
        if a != b
    ]


def kill_and_compare(kind: str, start: Start, kills: int, folder: Path, rng: random.Random, console: Console) -> Kills:
    """Kill and continue runs until `kills` have hit; compare each with an undisturbed one."""
    found = Kills(kind, kills)
    _undisturbed(start, folder / "undisturbed")
    opened, ended = _undisturbed(start, folder / "again")  # the first start of a kind takes longer
    expected = Outcome.of(folder / "undisturbed")
    found.compare(0, folder / "again", expected)
    found.evaluations = len(expected.journal) - 1
    console.print(
        f"{kind}: {found.evaluations} evaluations, a front of {len(expected.front)}; undisturbed, "
        f"the journal opens after {opened:.2f} s and the run ends after {ended:.2f} s",
        highlight=False,
    )
    for number in range(10 * kills):
        if len(found.lengths) == kills:
            break
        run = folder / str(number)
        process = start(run)
        while len(found.lengths) < kills:
            time.sleep(rng.uniform(0.9 * opened, ended))
            if not process.alive() or not process.kill():
                break
            found.note(run / "journal.jsonl")
            process = start(run)
        found.compare(process.wait(), run, expected)
    return found


def _undisturbed(start: Start, folder: Path) -> tuple[float, float]:
    """Run to the end; seconds until the journal was there, and until the end."""
    started = time.monotonic()
    process = start(folder)
    while process.alive() and not (folder / "journal.jsonl").exists():
        time.sleep(0.001)
    opened = time.monotonic() - started
    code = process.wait()
    if code != 0:
        raise EvonasError(f"expected the undisturbed run to end with 0, got {code}; see its message above")
    return opened, time.monotonic() - started


def report(kinds: list[Kills], console: Console) -> bool:
    """Print what was hit, and whether all was equal."""
    table = Table(title="runs that were killed and continued, beside an undisturbed one")
    for heading in ("evaluator", "kills that hit", "half lines", "runs", "equal"):
        table.add_column(heading, justify="left" if heading == "evaluator" else "right", no_wrap=True)
    for found in kinds:
        table.add_row(
            found.kind, str(len(found.lengths)), str(found.torn), str(found.runs), f"{found.equal}/{found.runs}"
        )
    console.print(table)
    for found in kinds:
        at = ", ".join(f"{length} (x{n})" for length, n in sorted(Counter(found.lengths).items()))
        console.print(
            f"{found.kind}: lines in the journal, of {found.evaluations + 1}, at the kills: {at}", highlight=False
        )
        for difference in found.differences:
            console.print(f"DIFFERENT: {found.kind}, {difference}", highlight=False)
    holds = all(found.equal == found.runs and len(found.lengths) == found.wanted for found in kinds)
    console.print("holds: all kills hit, all runs are equal" if holds else "FAILS: a run differs, or too few kills hit")
    return holds


def main() -> int:
    held = []

    def run() -> None:
        args = tyro.cli(Args, description=__doc__)
        console, rng = Console(width=120), random.Random(args.seed)
        context = multiprocessing.get_context("forkserver")  # imports once: a search starts within milliseconds
        context.set_forkserver_preload(["evonas.report", "evonas.runs", "evonas.search", "evonas.spaces"])
        kinds: dict[str, tuple[Start, int]] = {
            "instant evaluator": (partial(InstantSearch, context, args), args.instant),
            "real trainings": (Training, args.real),
        }
        with tempfile.TemporaryDirectory() as folder:
            found = [
                kill_and_compare(kind, start, kills, Path(folder) / kind.replace(" ", "-"), rng, console)
                for kind, (start, kills) in kinds.items()
                if kills
            ]
        held.append(report(found, console))

    return guarded(run) or int(not all(held))


if __name__ == "__main__":
    sys.exit(main())
