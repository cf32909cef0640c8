"""Real trainings with early stopping, with a surrogate, and with both: hypervolume against training time.

    python benchmarks/early_stop.py --data digits
    EVONAS_DATA=data python benchmarks/early_stop.py --data cifar10

Every search has the same space, training, seed and number of evaluations; one after another, in one thread. What a
search has found by a time is what its evaluations had found whose processor times (training, rungs, scores) add up to
that; a busy machine stretches any other time. The times are shares of what the plain search of the same seed needs. The
hypervolume is a share of its box. About 20 minutes of one core for each data set, with the usual sizes.

Claim: with early stopping a search trains for fewer epochs, and ends no lower than the plain one by more than the
spread of the seeds. The exit code is 1 where that does not hold. Its share of the training time, which may be noise
where few epochs are saved, is told, and how many stops are wrong, with its interval.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from evonas.data import Dataset, load_data
from evonas.evaluation import Evaluator, TrainFromScratch
from evonas.objectives import CleanError, Macs
from evonas.report import Searched, objective_values
from evonas.runs import guarded
from evonas.search import Entry, EvolutionConfig, Journal, Stops, evolve, hypervolume, stops_of
from evonas.search.evaluations import Evaluate
from evonas.spaces import PhaseSpace
from evonas.training import TrainingConfig
from evonas.types import EvaluationResult, Report

VARIANTS: dict[str, dict[str, object]] = {
    "plain": {},
    "early stop": {"early_stop": True},
    "surrogate": {"surrogate": "gp"},
    "both": {"early_stop": True, "surrogate": "gp"},
}
SHARES = (0.25, 0.5, 0.75, 1.0)
"""Times at which a search is looked at, as shares of the plain one's."""
SPACE = PhaseSpace(phases=2, nodes=4, channels=4)
OBJECTIVES = ("clean_error", "macs")
SEARCHED = Searched("early stop", "", OBJECTIVES, reference=(1.0, float(SPACE.max_cost().macs)))


@dataclass(frozen=True, kw_only=True)
class Args:
    """Searches by real trainings."""

    data: Literal["digits", "cifar10"] = "digits"
    seeds: int = 3
    evaluations: int = 40
    population: int = 8
    train_limit: int = 400
    val_limit: int = 300
    epochs: int = 6


@dataclass(frozen=True)
class Search:
    """A finished search."""

    entries: Sequence[Entry]
    """In the order in which they ended."""

    @property
    def seconds(self) -> float:
        return sum(entry.result.seconds for entry in self.entries)

    @property
    def stops(self) -> Stops:
        return stops_of(entry.result for entry in self.entries) or Stops(0, 0, 0, 0)

    def by(self, seconds: float) -> float:
        """Hypervolume after so much training, as a share of its box."""
        spent = np.cumsum([entry.result.seconds for entry in self.entries])
        done = [entry for entry, until in zip(self.entries, spent, strict=True) if until <= seconds * (1 + 1e-9)]
        return hypervolume(objective_values(done, SEARCHED), SEARCHED.reference) / SEARCHED.box


def measure(args: Args) -> bool:
    """Search, and print; whether the claim holds."""
    data = load_data(args.data, train_limit=args.train_limit, val_limit=args.val_limit)
    found = {name: [searched(args, data, name, seed) for seed in range(args.seeds)] for name in VARIANTS}
    Console(width=120).print(table(args, found))
    plain, early = found["plain"], found["early stop"]
    for name, runs in found.items():
        stops = Stops(*(sum(counts) for counts in zip(*(run.stops for run in runs), strict=True)))
        if stops.stopped:
            print(f"{name}: {stops}")
    share = sum(run.seconds for run in early) / sum(run.seconds for run in plain)
    differences = [e.by(np.inf) - p.by(np.inf) for e, p in zip(early, plain, strict=True)]
    spread = np.std([run.by(np.inf) for run in plain])
    saved = sum(run.stops.epochs_saved for run in early)
    holds = bool(saved > 0 and np.mean(differences) >= -spread)
    print(
        f"{'holds' if holds else 'FAILS'}: with early stopping {saved} epochs saved ({share:.0%} of the plain search's "
        f"training time), and {np.mean(differences):+.4f} hypervolume at the end, the seeds spread by {spread:.4f}"
    )
    return holds


@dataclass(frozen=True)
class Timed:
    """An evaluator whose results have the processor time of everything that it did: training, rungs, scores."""

    evaluator: Evaluator

    def make_evaluate(self, report: Report) -> Evaluate:
        evaluate = self.evaluator.make_evaluate(report)

        def timed(*given: Any) -> EvaluationResult:
            began = time.process_time()
            result = evaluate(*given)
            return result.changed(seconds=time.process_time() - began)

        return timed


def searched(args: Args, data: Dataset, name: str, seed: int) -> Search:
    """One search, in memory."""
    config = EvolutionConfig(
        population=args.population,
        generations=-(-args.evaluations // args.population) - 1,
        max_evaluations=args.evaluations,
        objectives=OBJECTIVES,
        seed=seed,
        **VARIANTS[name],  # type: ignore[arg-type]
    )
    training = TrainingConfig(epochs=args.epochs, batch_size=32, lr=0.05, precision="fp32")
    evaluator = Evaluator(TrainFromScratch(SPACE, data, training), (CleanError(), Macs()), threads=1)
    journal = Journal()
    for _ in evolve(SPACE, Timed(evaluator), config, journal=journal):
        pass
    print(f"{args.data}, {name}, seed {seed}: done", file=sys.stderr, flush=True)
    return Search(journal.lines)


def table(args: Args, found: dict[str, list[Search]]) -> Table:
    """Medians over the seeds, and the least and the largest of the last column."""
    of = f"{args.data}, {args.evaluations} evaluations, {args.seeds} seeds"
    title = f"{of}: medians; hypervolume after shares of the plain search's time"
    made = Table("search", "training time", "epochs saved", "stopped", title=title)
    for share in SHARES:
        made.add_column(f"at {share:.0%}", no_wrap=True)
    made.add_column("at its end (least to most)", no_wrap=True)
    for name, runs in found.items():
        pairs = [*zip(runs, found["plain"], strict=True)]
        ends = [run.by(np.inf) for run in runs]
        made.add_row(
            name,
            f"{np.median([run.seconds / plain.seconds for run, plain in pairs]):.0%}",
            f"{np.median([run.stops.epochs_saved for run in runs]) / (args.evaluations * args.epochs):.0%}",
            f"{np.median([run.stops.stopped for run in runs]):.0f}",
            *(f"{np.median([run.by(share * plain.seconds) for run, plain in pairs]):.4f}" for share in SHARES),
            f"{np.median(ends):.4f} ({min(ends):.4f} to {max(ends):.4f})",
        )
    return made


def main() -> int:
    held: list[bool] = []
    return guarded(lambda: held.append(measure(tyro.cli(Args, description=__doc__)))) or int(not all(held))


if __name__ == "__main__":
    sys.exit(main())
