"""Results of a run for notebooks and scripts: tables, pictures, networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evonas.errors import ConfigurationError, UnknownNameError, nearest
from evonas.executors import ignore
from evonas.runs.folder import RunFolder

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from evonas.evaluation import Evaluator
    from evonas.report import Searched
    from evonas.search import Entry

__all__ = ["Result"]


@dataclass(frozen=True, eq=False)
class Result:
    """Finished evaluations of a run, read from its folder when they are first asked for.

    Args:
        make_evaluator: called when a network is asked for first.
    """

    folder: RunFolder
    searched: Searched
    make_evaluator: Callable[[], Evaluator]

    @cached_property
    def evaluator(self) -> Evaluator:
        """Gives the run's networks their weights and scores."""
        return self.make_evaluator()

    @property
    def space(self) -> Any:
        """The search space."""
        return self.evaluator.prepare.space

    @property
    def path(self) -> Path:
        return self.folder.path

    @cached_property
    def entries(self) -> list[Entry]:
        return self.folder.entries()

    @cached_property
    def population(self) -> pd.DataFrame:
        """Every evaluated network; the columns of population.csv."""
        from evonas.report import population_table

        return population_table(self.entries, self.searched)

    @property
    def front(self) -> pd.DataFrame:
        """The networks that no other one dominates; the columns of front.csv."""
        from evonas.report import front

        return front(self.population)

    def plot(self, path: Path | str | None = None) -> Path:
        """Draw the front, one panel for every pair of objectives; a notebook shows the file with `Image(path)`.

        Args:
            path: of the PNG; None: front.png in the run's folder.
        """
        from evonas.report import plot_front

        target = self.path / "front.png" if path is None else Path(path)
        plot_front(target, self.population, self.searched)
        return target

    def load(self, arch_id: str = "best") -> nn.Module:
        """The network of a row, in eval mode, from images in [0, 1] to logits.

        It gets its weights as the search gave them, from the row's seed: for a method that trains each candidate this
        trains it again; on a CPU of the same kind the weights are the same bit for bit.

        Args:
            arch_id: of a row with status ok; `best`: the first row of the front.
        Raises:
            UnknownNameError: there is no such row.
        """
        entry = self.entry(arch_id)
        prepare = self.evaluator.prepare.start()
        genome = np.array(entry.result.genome, dtype=np.int64)
        return prepare(genome, entry.result.seed, ignore)[0].network.eval()

    def entry(self, arch_id: str) -> Entry:
        """The evaluation of a row with status ok, by whatever a user may call it.

        Args:
            arch_id: of a row, or the first digits of it where no other begins so; `best`: the first row of the front;
                `knee`: that of the front in the searched objectives, see `evonas.search.knee`.
        Raises:
            UnknownNameError: there is no such row with status ok, or several begin so.
        """
        called = self._called(arch_id)
        found = [entry for entry in self.entries if called and entry.key.startswith(called)]
        if len(found) > 1:
            named = ", ".join(entry.key for entry in found[:5])
            more = f" and {len(found) - 5} more" if len(found) > 5 else ""
            raise UnknownNameError(f"expected one network, {arch_id!r} begins {named}{more}; give more digits")
        if found and not found[0].result.ok:
            raise UnknownNameError(
                f"expected the arch_id of a row with status ok, {found[0].key} failed: {found[0].result.reason}"
            )
        if not found:
            raise UnknownNameError(
                f"expected the arch_id of a row with status ok, its first digits, best or knee, got {arch_id!r}; "
                f"{nearest(arch_id, [entry.key for entry in self.entries])}see population.csv"
            )
        return found[0]

    def _called(self, name: str) -> str:
        """The arch_id that `best` or `knee` stands for; any other name as it is."""
        from evonas.report import knee_row

        if name not in ("best", "knee") or not len(self.front):
            return name
        searched = self.searched
        row = 0 if name == "best" else knee_row(self.front, searched.objectives, searched.maximize)
        return str(self.front["arch_id"].iloc[row])

    def verify(self, *arch_ids: str) -> None:
        """Count every network anew, and evaluate the named rows again from their seeds.

        Args:
            arch_ids: of rows with status ok, or `best`.
        Raises:
            ConfigurationError: something recorded was not found again.
        """
        recorded = {entry.key: entry.result.objectives for entry in self.entries}
        wrong = [
            f"{key}: {recorded[key]['params']} params, {recorded[key]['macs']} macs recorded, {params}, {macs} now"
            for key, (params, macs) in self.recount().items()
            if (params, macs) != (recorded[key]["params"], recorded[key]["macs"])
        ]
        for key in arch_ids:
            for column, (before, now) in self.evaluate_again(key).items():
                wrong += [] if before == now else [f"{key}: {column} {before!r} recorded, {now!r} now"]
        if wrong:
            raise ConfigurationError(f"{len(wrong)} recorded values were not found again: {'; '.join(wrong[:5])}")

    def recount(self) -> Mapping[str, tuple[int, int]]:
        """arch_id -> (params, macs) of every row that is ok, counted on the network built anew."""
        from evonas.costs import count_macs, count_params

        data, counted = self.evaluator.prepare.data, {}
        for entry in self.entries:
            if entry.result.ok:
                network = self.space.build(np.array(entry.result.genome), data.n_classes)
                counted[entry.key] = count_params(network), count_macs(network, (3, data.image_size, data.image_size))
        return counted

    def evaluate_again(self, arch_id: str) -> dict[str, tuple[float, float]]:
        """Column -> (recorded, found now) of a row, evaluated from its seed; on the CPU they are equal.

        Raises:
            ConfigurationError: it fails now.
        """
        entry = self.entry(arch_id)
        evaluate = self.evaluator.make_evaluate(ignore)
        result = evaluate(np.array(entry.result.genome, dtype=np.int64), entry.result.seed)
        if not result.ok:
            raise ConfigurationError(f"evaluating {entry.key} again failed: {result.reason}")
        return {name: (value, result.objectives[name]) for name, value in entry.result.objectives.items()}
