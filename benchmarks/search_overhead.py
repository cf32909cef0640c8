"""The search costs under a millisecond an evaluation, journal included, and spends its evaluations well.

    python benchmarks/search_overhead.py nas-bench-macro-cifar10.json

TABLE.json holds trained networks of 8 choices out of 3, all 6,561 of them: {"02012100": {"mean_acc": percent,
"flops": ...}, ...}. Looking a result up takes no time, so what is measured is the search alone; error and FLOPs are
minimised.

First table: wall time of the same number of evaluations, run alternately in one process, median over rounds. Time
inside the file system's flush (os.fsync) depends on the disk, so it is shown apart; `search` is what remains of the
wall time without it, and the ratio compares that with pymoo's own `minimize` on a plain vectorised problem.

Second table: hypervolume, relative to that of the exact front of all networks, of everything found after so many
distinct evaluations: looking at a network again costs nothing, whichever method does it. All methods have the same
population. The exit code is 1 where a claim of the verdict does not hold.
"""

import itertools
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import optuna
import tyro
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.optimize import minimize
from rich.console import Console
from rich.table import Table

from evonas.errors import ConfigurationError
from evonas.evaluation import read_table
from evonas.runs import guarded
from evonas.search import EvolutionConfig, Journal, NASProblem, evolve, hypervolume, non_dominated
from evonas.types import EvaluationResult, Genome

GENES, CHOICES = 8, 3
OBJECTIVES = ("error", "flops")
PLACES = CHOICES ** np.arange(GENES)[::-1]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Args:
    """Cost and quality of the search beside other searches, over a table of trained networks."""

    table: Annotated[Path, tyro.conf.Positional]
    """JSON of all 6,561 networks."""
    population: int = 40
    evaluations: int = 800
    """Of one timed run, and the last column of the second table; a multiple of the population."""
    rounds: int = 5
    """Timed runs of each method."""
    seeds: int = 20
    """Runs of each method in the second table."""
    folder: Path | None = None
    """Where journals are written while timing, so that a certain disk is measured; else a temporary folder."""

    def __post_init__(self) -> None:
        if self.population < 2 or self.evaluations < self.population or self.evaluations % self.population:
            raise ConfigurationError(
                f"expected evaluations to be a multiple of a population >= 2, "
                f"got {self.evaluations} and {self.population}"
            )
        if self.evaluations > CHOICES**GENES // 2:
            raise ConfigurationError(f"expected at most half of the table's networks, got {self.evaluations}")
        if self.rounds < 1 or self.seeds < 1:
            raise ConfigurationError(f"expected rounds and seeds >= 1, got {self.rounds} and {self.seeds}")


class TableSpace:
    """Genomes of 8 genes in 0..2, every one a network of its own."""

    name = "table"
    n_genes = GENES
    upper = np.full(GENES, CHOICES - 1, dtype=np.int64)

    def sample(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        return rng.integers(CHOICES, size=(n, GENES), dtype=np.int64)

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        """Each gene from either parent with equal chance; the second child gets the other one."""
        mask = rng.random(GENES) < 0.5
        return np.where(mask, b, a), np.where(mask, a, b)

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """Each gene takes another value with chance 0.157 / 8, the effective rate of NSGA-Net's reference.

        A child need not change: the search lets no network be born twice, so a copy is mated again.
        """
        changes = rng.random(GENES) < 0.157 / GENES
        return (genome + changes * rng.integers(1, CHOICES, size=GENES)) % CHOICES

    def canonical(self, genome: Genome) -> Genome:
        return genome

    def violation(self, genome: Genome) -> float:
        return 0.0


def values_of(path: Path) -> Floats:
    """(6561, 2) error and FLOPs; a network's row is its genome read as a number of base 3."""
    table = read_table(path)
    genomes = list(itertools.product(range(CHOICES), repeat=GENES))
    if {*genomes} != {*table.scores}:
        raise ConfigurationError(
            f"expected all {len(genomes)} networks of {GENES} choices in {path}; name another table"
        )
    return np.array([(table.errors(genes)["clean_error"], table.space.cost(genes).macs) for genes in genomes])


@dataclass
class Archive:
    """Answers from the table, and what was asked: rows of distinct genomes, in the order of their first look-up."""

    table: Floats
    found: dict[int, None] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.found)

    def rows(self, genomes: npt.ArrayLike) -> Floats:
        """(n, 2) objectives of (n, 8) genomes."""
        indices = np.asarray(genomes, dtype=np.int64) @ PLACES
        self.found.update(dict.fromkeys(indices.tolist()))
        rows: Floats = self.table[indices]
        return rows

    def evaluate(self, genome: Genome, seed: int) -> EvaluationResult:
        """One look-up, as `evolve` and `NASProblem` want it."""
        error, flops = self.rows(genome[None])[0]
        return EvaluationResult(tuple(genome), {"error": error, "flops": flops}, seed=seed)

    def volume(self, count: int, reference: Floats) -> float:
        """Hypervolume of the first `count` distinct networks."""
        objectives = self.table[list(self.found)[:count]]
        return hypervolume(objectives[non_dominated(objectives)], reference)


class StockProblem(Problem):  # type: ignore[misc]
    """The table as a pymoo user would write it."""

    def __init__(self, archive: Archive) -> None:
        super().__init__(n_var=GENES, n_obj=2, xl=0, xu=CHOICES - 1, vtype=int)
        self.archive = archive

    def _evaluate(self, X: npt.NDArray[np.int64], out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        out["F"] = self.archive.rows(X)


def stock_nsga2(population: int) -> NSGA2:
    """pymoo's NSGA-II with the operators that its documentation names for integers."""
    return NSGA2(
        pop_size=population,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )


def optuna_study(archive: Archive, population: int, seed: int, storage: BaseStorage) -> tuple[optuna.Study, Any]:
    """A study, and the function that one of its trials runs."""
    sampler = optuna.samplers.NSGAIISampler(population_size=population, seed=seed)
    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler, storage=storage)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        error, flops = archive.rows([[trial.suggest_int(f"gene{i}", 0, CHOICES - 1) for i in range(GENES)]])[0]
        return float(error), float(flops)

    return study, objective


# Methods: each evaluates the archive's table; timed ones by number of evaluations, compared ones by distinct networks.

Timed = Callable[[Archive, Args, int, Path], None]
Compared = Callable[[Archive, Args, int], None]


def run_ours(archive: Archive, args: Args, seed: int, journal: Journal) -> None:
    config = EvolutionConfig(
        population=args.population,
        generations=args.evaluations // args.population - 1,
        objectives=OBJECTIVES,
        seed=seed,
    )
    with journal:
        for _ in evolve(TableSpace(), archive.evaluate, config, journal=journal):
            pass


def time_ours(archive: Archive, args: Args, seed: int, folder: Path) -> None:
    run_ours(archive, args, seed, Journal(folder / "journal.jsonl", {"seed": seed}))


def time_ours_unflushed(archive: Archive, args: Args, seed: int, folder: Path) -> None:
    run_ours(archive, args, seed, Journal(folder / "journal.jsonl", {"seed": seed}, sync=False))


def time_pymoo(archive: Archive, args: Args, seed: int, folder: Path) -> None:
    minimize(StockProblem(archive), stock_nsga2(args.population), ("n_eval", args.evaluations), seed=seed)


def time_pymoo_on_ours(archive: Archive, args: Args, seed: int, folder: Path) -> None:
    problem = NASProblem(TableSpace(), archive.evaluate, OBJECTIVES, seed)
    minimize(problem, stock_nsga2(args.population), ("n_eval", args.evaluations), seed=seed)


def time_optuna(archive: Archive, args: Args, seed: int, folder: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.log")))
    study, objective = optuna_study(archive, args.population, seed, storage)
    study.optimize(objective, n_trials=args.evaluations)


def time_optuna_in_memory(archive: Archive, args: Args, seed: int, folder: Path) -> None:
    study, objective = optuna_study(archive, args.population, seed, InMemoryStorage())
    study.optimize(objective, n_trials=args.evaluations)


def compare_random(archive: Archive, args: Args, seed: int) -> None:
    rng = np.random.default_rng(seed)
    while len(archive) < args.evaluations:
        archive.rows(TableSpace().sample(1, rng))


def compare_optuna(archive: Archive, args: Args, seed: int) -> None:
    study, objective = optuna_study(archive, args.population, seed, InMemoryStorage())
    while len(archive) < args.evaluations:
        study.optimize(objective, n_trials=args.population)


def compare_pymoo(archive: Archive, args: Args, seed: int) -> None:
    algorithm = stock_nsga2(args.population).setup(
        StockProblem(archive), seed=seed, termination=("n_eval", 100 * args.evaluations)
    )
    while len(archive) < args.evaluations and algorithm.has_next():
        algorithm.next()


def compare_ours(archive: Archive, args: Args, seed: int) -> None:
    run_ours(archive, args, seed, Journal())


PYMOO, OURS, OPTUNA = "pymoo NSGA-II, stock operators", "evonas NSGA-II", "Optuna NSGA-II"
TIMED: dict[str, Timed] = {
    "evonas, journal": time_ours,
    "evonas, journal not flushed": time_ours_unflushed,
    "pymoo minimize, nothing kept": time_pymoo,
    "pymoo minimize on NASProblem": time_pymoo_on_ours,
    "Optuna, journal storage": time_optuna,
    "Optuna, memory": time_optuna_in_memory,
}
COMPARED: dict[str, Compared] = {
    "random search": compare_random,
    OPTUNA: compare_optuna,
    PYMOO: compare_pymoo,
    OURS: compare_ours,
}


@contextmanager
def flushes() -> Iterator[list[float]]:
    """Within, the seconds of every os.fsync are noted."""
    seconds: list[float] = []
    plain = os.fsync

    def timed(descriptor: int) -> None:
        started = time.perf_counter()
        plain(descriptor)
        seconds.append(time.perf_counter() - started)

    os.fsync = timed  # type: ignore[assignment]
    try:
        yield seconds
    finally:
        os.fsync = plain


def time_once(method: Timed, table: Floats, args: Args, seed: int) -> tuple[float, float]:
    """Milliseconds an evaluation: in all, and in flushes."""
    with tempfile.TemporaryDirectory(dir=args.folder) as folder, flushes() as flushed:
        started = time.perf_counter()
        method(Archive(table), args, seed, Path(folder))
        total = time.perf_counter() - started
    return 1000 * total / args.evaluations, 1000 * sum(flushed) / args.evaluations


def measure_cost(table: Floats, args: Args, console: Console) -> bool:
    """Print the first table; whether ours costs under a millisecond."""
    for method in TIMED.values():  # imports and caches
        time_once(method, table, args, seed=0)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in TIMED}
    for round_ in range(args.rounds):
        for name, method in TIMED.items():
            times[name].append(time_once(method, table, args, seed=round_))
    total = {name: float(np.median([t for t, _ in rows])) for name, rows in times.items()}
    flush = {name: float(np.median([f for _, f in rows])) for name, rows in times.items()}
    search = {name: float(np.median([t - f for t, f in rows])) for name, rows in times.items()}
    shown = Table(title=f"milliseconds an evaluation, {args.evaluations} evaluations, median of {args.rounds} rounds")
    for heading in ("", "in all", "flush", "search", "search / pymoo"):
        shown.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for name in TIMED:
        ratio = search[name] / search["pymoo minimize, nothing kept"]
        shown.add_row(name, f"{total[name]:.3f}", f"{flush[name]:.3f}", f"{search[name]:.3f}", f"{ratio:.2f}")
    console.print(shown)
    ours = search["evonas, journal"]
    return verdict(console, ours < 1, f"ours costs {ours:.3f} ms an evaluation, journal included, flush apart (< 1)")


def measure_quality(table: Floats, args: Args, console: Console) -> bool:
    """Print the second table; whether ours holds its own."""
    reference = table.max(axis=0)
    exact = table[non_dominated(table)]
    best = hypervolume(exact, reference)
    counts = sorted({count for count in (100, 400, 800) if count < args.evaluations} | {args.evaluations})
    shares = {name: np.empty((args.seeds, len(counts))) for name in COMPARED}
    for seed in range(args.seeds):
        for name, method in COMPARED.items():
            archive = Archive(table)
            method(archive, args, seed)
            shares[name][seed] = [archive.volume(count, reference) / best for count in counts]
    shown = Table(
        title=f"hypervolume / that of the exact front ({len(exact)} of {len(table)} networks), median and quartiles "
        f"of {args.seeds} seeds; reference point: error {reference[0]:.4f}, "
        f"FLOPs {reference[1]:.0f} (worst of the table)"
    )
    shown.add_column("distinct evaluations", no_wrap=True)
    for count in counts:
        shown.add_column(str(count), justify="right", no_wrap=True)
    quartiles = {name: np.quantile(share, (0.25, 0.5, 0.75), axis=0) for name, share in shares.items()}  # (3, counts)
    for name, (low, middle, high) in quartiles.items():
        cells = zip(middle, low, high, strict=True)
        shown.add_row(name, *(f"{m:.4f} ({a:.4f} to {b:.4f})" for m, a, b in cells))
    console.print(shown)
    return _judge(counts, quartiles, console)


def _judge(counts: list[int], quartiles: dict[str, Floats], console: Console) -> bool:
    """Whether ours is above Optuna's at 400, and nowhere below pymoo's by more than the seeds' spread."""
    held = True
    ours, pymoo, theirs = (quartiles[name] for name in (OURS, PYMOO, OPTUNA))
    for i, count in enumerate(counts):
        spread = max(ours[2, i] - ours[0, i], pymoo[2, i] - pymoo[0, i])
        behind = pymoo[1, i] - ours[1, i]
        text = f"{count}: ours {ours[1, i]:.4f}, pymoo's {pymoo[1, i]:.4f}, quartile distance {spread:.4f}"
        held &= verdict(console, behind <= spread, f"{text} (not below by more)")
        if count == 400:
            text = f"{count}: ours {ours[1, i]:.4f}, Optuna's {theirs[1, i]:.4f} (above)"
            held &= verdict(console, ours[1, i] > theirs[1, i], text)
    return held


def verdict(console: Console, holds: bool, text: str) -> bool:
    console.print(f"{'holds' if holds else 'FAILS'}: {text}", highlight=False)
    return holds


def main() -> int:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    held = []

    def run() -> None:
        args = tyro.cli(Args, description=__doc__)
        table = values_of(args.table)
        console = Console(width=120)
        held.append(measure_cost(table, args, console))
        held.append(measure_quality(table, args, console))

    return guarded(run) or int(not all(held))


if __name__ == "__main__":
    sys.exit(main())
