"""Real trainings with early stopping, with a surrogate, and with both: hypervolume against training time.

    python benchmarks/early_stop.py --data digits
    EVONAS_DATA=data python benchmarks/early_stop.py --data cifar10

Every search has the same space, training, seed and number of evaluations; one after another, in one thread. What a
search has found by a time is what its evaluations had found whose training times add up to that. The times are shares
of what the plain search of the same seed needs. The hypervolume is a share of its box. About 20 minutes of one core for
each data set, with the usual sizes; leave the machine alone.

Claim: with early stopping a search trains for less time and ends no lower than the plain one by more than the spread of
the seeds, and few stops are wrong. The exit code is 1 where it takes longer, or ends lower than that.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from evonas.data import Dataset, load_data
from evonas.report import Searched, objective_values
from evonas.runs import ExecutionOptions, guarded
from evonas.runs.script import run_search
from evonas.search import Entry, EvolutionConfig, Stops, hypervolume, stops_of
from evonas.spaces import PhaseSpace
from evonas.training import TrainingConfig

VARIANTS: dict[str, dict[str, object]] = {
    "plain": {},
    "early stop": {"early_stop": True},
    "surrogate": {"surrogate": "gp"},
    "both": {"early_stop": True, "surrogate": "gp"},
}
SHARES = (0.25, 0.5, 0.75, 1.0)
"""Times at which a search is looked at, as shares of the plain one's."""
SPACE = PhaseSpace(phases=2, nodes=4, channels=4)


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
    """In the order of the journal."""
    searched: Searched

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
        return hypervolume(objective_values(done, self.searched), self.searched.reference) / self.searched.box


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
    time = sum(run.seconds for run in early) / sum(run.seconds for run in plain)
    differences = [e.by(np.inf) - p.by(np.inf) for e, p in zip(early, plain, strict=True)]
    spread = np.std([run.by(np.inf) for run in plain])
    holds = bool(time < 1 and np.mean(differences) >= -spread)
    print(
        f"{'holds' if holds else 'FAILS'}: with early stopping {time:.0%} of the plain search's training time, and "
        f"{np.mean(differences):+.4f} hypervolume at the end, where its seeds spread by {spread:.4f}"
    )
    return holds


def searched(args: Args, data: Dataset, name: str, seed: int) -> Search:
    """One search in a folder of its own, which is forgotten."""
    generations = -(-args.evaluations // args.population) - 1
    config = EvolutionConfig(
        population=args.population,
        generations=generations,
        max_evaluations=args.evaluations,
        **VARIANTS[name],  # type: ignore[arg-type]
    )
    with tempfile.TemporaryDirectory() as folder:
        result = run_search(
            SPACE,
            data,
            ("clean_error", "macs"),
            out=Path(folder) / "run",
            training=TrainingConfig(epochs=args.epochs, batch_size=32, lr=0.05, precision="fp32"),
            search=config,
            seed=seed,
            execution=ExecutionOptions(device="cpu", threads=1, executor="local"),
            keep_weights="none",
            console=Console(quiet=True),
        )
        print(f"{args.data}, {name}, seed {seed}: done", file=sys.stderr, flush=True)
        return Search(result.entries, result.searched)


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
