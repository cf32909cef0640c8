"""With a surrogate a search needs half the evaluations, and costs under 0.3 s an evaluation.

    python benchmarks/sample_efficiency.py nas-robbench-201-cifar10.json --objectives autoattack_8_error,params

The table holds trained networks, in a format that `evonas.evaluation.read_table` knows; looking one up takes no time,
so the processor time is that of the search alone. The hypervolume of what is found is relative to that of the exact
front of the table, with every objective scaled to the range of the exact front and the reference point at 1.1. Looking
at a network again is no evaluation, whichever method does it. All methods but Optuna's default have the same
population. The exit code is 1 where a claim of the verdict does not hold.
"""

import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import optuna
import tyro
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from rich.console import Console
from rich.table import Table

from evonas.errors import ConfigurationError
from evonas.evaluation import ScoreTable, read_table
from evonas.runs import guarded
from evonas.search import EvolutionConfig, evolve, hypervolume, non_dominated
from evonas.types import Cost, EvaluationResult, Genome

Floats = npt.NDArray[np.float64]

MISSING = 1e9
"""Objectives of a genome that is not in the table, for searches that know no failures."""


@dataclass(frozen=True, kw_only=True)
class Args:
    """Evaluations that searches need, over a table of trained networks."""

    table: Annotated[Path, tyro.conf.Positional]
    """File of trained networks."""
    objectives: str = "clean_error,params"
    """Columns, minimised, with commas."""
    counts: tuple[int, ...] = (50, 100, 200, 400, 800)
    """Distinct evaluations after which the hypervolume is taken."""
    seeds: int = 20
    population: int = 20

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.population < 2 or not self.counts or min(self.counts) < 1:
            raise ConfigurationError("expected seeds >= 1, a population >= 2 and counts >= 1")


@dataclass(frozen=True)
class Task:
    """The objectives of a table, and its exact front."""

    table: ScoreTable
    objectives: tuple[str, ...]

    @cached_property
    def values(self) -> dict[tuple[int, ...], Floats]:
        """Canonical genome -> (m,) objectives."""
        known = (*self.table.columns, *Cost._fields)
        wrong = [name for name in self.objectives if name not in known]
        if wrong:
            raise ConfigurationError(f"expected objectives among {', '.join(known)}, got {', '.join(wrong)}")
        results = {genome: self.table.evaluate(np.array(genome), 0).objectives for genome in self.table.scores}
        return {
            genome: np.array([found[name] for name in self.objectives])
            for genome, found in results.items()
            if all(name in found for name in self.objectives)
        }

    @cached_property
    def exact(self) -> Floats:
        """(k, m) the front of all networks."""
        every = np.array([*self.values.values()])
        return every[non_dominated(every)]

    def volume(self, rows: Floats) -> float:
        low, high = self.exact.min(axis=0), self.exact.max(axis=0)
        return hypervolume((rows - low) / np.where(high > low, high - low, 1.0), np.full(len(low), 1.1))


class Asked:
    """Answers from the table, and the canonical genomes that were asked for, in the order of their first look-up."""

    def __init__(self, task: Task) -> None:
        self.task, self.space = task, task.table.space
        self.found: dict[tuple[int, ...], None] = {}

    def row(self, genome: Genome) -> Floats:
        """(m,) objectives."""
        canonical = tuple(self.space.canonical(np.asarray(genome, dtype=np.int64)).tolist())
        self.found.setdefault(canonical)
        return self.task.values.get(canonical, np.full(len(self.task.objectives), MISSING))

    def evaluate(self, genome: Genome, seed: int) -> EvaluationResult:
        self.found.setdefault(tuple(genome.tolist()))
        result: EvaluationResult = self.task.table.evaluate(genome, seed)
        return result

    def share(self, count: int) -> float:
        """Hypervolume of the first so many distinct networks, relative to that of the exact front."""
        rows = [self.task.values[genome] for genome in [*self.found][:count] if genome in self.task.values]
        return self.task.volume(np.array(rows)) / self.task.volume(self.task.exact) if rows else 0.0


Method = Callable[[Asked, Args, int], None]


def run_random(asked: Asked, args: Args, seed: int) -> None:
    rng = np.random.default_rng(seed)
    while len(asked.found) < max(args.counts):
        asked.row(asked.space.sample(1, rng)[0])


def run_optuna(asked: Asked, args: Args, seed: int) -> None:
    sampler = optuna.samplers.NSGAIISampler(seed=seed)  # the default for several objectives
    study = optuna.create_study(directions=["minimize"] * len(asked.task.objectives), sampler=sampler)

    def objective(trial: optuna.Trial) -> list[float]:
        genes = [trial.suggest_int(f"gene{i}", 0, int(top)) for i, top in enumerate(asked.space.upper)]
        row: list[float] = asked.row(np.array(genes)).tolist()
        return row

    while len(asked.found) < max(args.counts):
        study.optimize(objective, n_trials=args.population)


class StockProblem(Problem):  # type: ignore[misc]
    """The table as a pymoo user would write it."""

    def __init__(self, asked: Asked) -> None:
        n, m = asked.space.n_genes, len(asked.task.objectives)
        super().__init__(n_var=n, n_obj=m, xl=0, xu=np.asarray(asked.space.upper), vtype=int)
        self.asked = asked

    def _evaluate(self, X: npt.NDArray[np.int64], out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        out["F"] = np.array([self.asked.row(genome) for genome in X])


def run_pymoo(asked: Asked, args: Args, seed: int) -> None:
    """pymoo's NSGA-II with the operators that its documentation names for integers."""
    algorithm = NSGA2(
        pop_size=args.population,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    ).setup(StockProblem(asked), seed=seed, termination=("n_eval", 200 * max(args.counts)))
    while len(asked.found) < max(args.counts) and algorithm.has_next():
        algorithm.next()


def run_ours(asked: Asked, args: Args, seed: int, surrogate: str | None = None) -> None:
    most = max(args.counts)
    config = EvolutionConfig(
        population=args.population,
        generations=most // args.population,
        objectives=asked.task.objectives,
        seed=seed,
        surrogate=surrogate,
        max_evaluations=most,
    )
    space = asked.space
    for _ in evolve(space, asked.evaluate, config, cost=lambda g: space.cost(g, asked.task.table.data.n_classes)):
        pass


def run_surrogate(asked: Asked, args: Args, seed: int) -> None:
    run_ours(asked, args, seed, "gp")


PYMOO, OURS, SURROGATE = "pymoo NSGA-II", "evonas NSGA-II", "evonas NSGA-II, --surrogate gp"
METHODS: dict[str, Method] = {
    "random": run_random,
    "Optuna, its default": run_optuna,
    PYMOO: run_pymoo,
    OURS: run_ours,
    SURROGATE: run_surrogate,
}


def measure(task: Task, args: Args, console: Console) -> bool:
    """Print the table; whether the claims hold."""
    shares = {name: np.empty((args.seeds, len(args.counts))) for name in METHODS}
    seconds = dict.fromkeys(METHODS, 0.0)
    for name, method in METHODS.items():
        for seed in range(args.seeds):
            asked, started = Asked(task), time.process_time()
            method(asked, args, seed)
            seconds[name] += (time.process_time() - started) / max(args.counts) / args.seeds
            shares[name][seed] = [asked.share(count) for count in args.counts]
    shown = Table(
        title=f"{args.table.name}, {', '.join(task.objectives)}: hypervolume / that of the exact front "
        f"({len(task.exact)} of {len(task.values)} networks), median (quartiles) of {args.seeds} seeds, "
        f"population {args.population}"
    )
    shown.add_column("distinct evaluations", no_wrap=True)
    for count in args.counts:
        shown.add_column(str(count), justify="right", no_wrap=True)
    shown.add_column("ms an evaluation", justify="right")
    quartiles = {name: np.quantile(share, (0.25, 0.5, 0.75), axis=0) for name, share in shares.items()}
    for name, (low, middle, high) in quartiles.items():
        cells = [f"{m:.4f} ({a:.3f}-{b:.3f})" for m, a, b in zip(middle, low, high, strict=True)]
        shown.add_row(name, *cells, f"{1000 * seconds[name]:.1f}")
    console.print(shown)
    return judge(args.counts, quartiles, seconds[SURROGATE], console)


def judge(counts: tuple[int, ...], quartiles: dict[str, Floats], seconds: float, console: Console) -> bool:
    """Whether the surrogate has as much as NSGA-II after twice the evaluations, and nowhere less than ours without."""
    held = True
    ours, plain, pymoo = (quartiles[name] for name in (SURROGATE, OURS, PYMOO))
    for i, count in enumerate(counts):
        if count in (100, 200) and 2 * count in counts:
            twice = pymoo[1, counts.index(2 * count)]
            text = f"{count}: {ours[1, i]:.4f}, pymoo's after {2 * count} {twice:.4f} (at least)"
            held &= verdict(console, ours[1, i] >= twice, text)
        spread = max(ours[2, i] - ours[0, i], plain[2, i] - plain[0, i])
        text = (
            f"{count}: {ours[1, i]:.4f}, without {plain[1, i]:.4f}, quartile distance {spread:.4f} (not below by more)"
        )
        held &= verdict(console, plain[1, i] - ours[1, i] <= spread, text)
    return held & verdict(console, seconds < 0.3, f"{seconds:.3f} s of processor time an evaluation (< 0.3)")


def verdict(console: Console, holds: bool, text: str) -> bool:
    console.print(f"{'holds' if holds else 'FAILS'}: {text}", highlight=False)
    return holds


def main() -> int:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    held = []

    def run() -> None:
        args = tyro.cli(Args, description=__doc__)
        task = Task(read_table(args.table), tuple(args.objectives.split(",")))
        held.append(measure(task, args, Console(width=150)))

    return guarded(run) or int(not all(held))


if __name__ == "__main__":
    sys.exit(main())
