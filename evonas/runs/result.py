"""Results of a run for notebooks and scripts: tables, pictures, networks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evonas.errors import ConfigurationError, DataError, UnknownNameError, check_name, nearest
from evonas.executors import ignore
from evonas.files import decoding, exists, storage_errors
from evonas.parts import digest
from evonas.runs.folder import RunFolder, stored_space
from evonas.search import read_journal
from evonas.spaces.table import TableSpace

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
        begun_here: whether this process composed the run, so that the evaluator is at hand.
    """

    folder: RunFolder
    searched: Searched
    make_evaluator: Callable[[], Evaluator]
    begun_here: bool = False

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

    def draw(self, arch_id: str = "best", path: Path | str | None = None) -> Path:
        """Draw a network: phases with their nodes, blocks with their widths, cells with their operations.

        Args:
            arch_id: of a row, see `entry`.
            path: of an SVG or PNG file; None: ARCH.svg in the run's folder.
        Raises:
            ConfigurationError: networks of this space have no drawing, or the file is of another kind.
        """
        from evonas.report import depiction_of, write_drawing

        entry, space = self.entry(arch_id), stored_space(self.folder.open_stored()["identity"]["space"])
        depiction = depiction_of(space)
        if depiction is None:
            raise ConfigurationError(f"expected a space whose networks are drawn, got that of {self.path}")
        target = self.path / f"{entry.key}.svg" if path is None else Path(path)
        write_drawing(target, depiction.scene(space, np.array(entry.result.genome, dtype=np.int64)))
        return target

    def load(self, arch_id: str = "best", weights: str = "search", train_again: bool = False) -> nn.Module:
        """The network of a row, in eval mode, from images in [0, 1] to logits; its weights are read from the folder.

        Args:
            arch_id: of a row with status ok; `best`: the first row of the front.
            weights: `search`: as they were scored. `audit`: of the longest training to the end. A name of
                `trainings(arch_id)`: of that training.
            train_again: where the weights of the search were not kept, give them to the network as the search did,
                from the row's seed: for a method that trains each candidate this trains it again; on a CPU of the same
                kind the weights are the same bit for bit.
        Raises:
            UnknownNameError: there is no such row, or no such training.
            ConfigurationError: the weights were not kept.
            DataError: their file is damaged, or another run's.
        """
        entry = self.entry(arch_id)
        self.refuse_without_weights()
        if weights != "search":
            return self._read(self._trained(entry.key, weights), entry)
        path = self.folder.weights(entry.key)
        with storage_errors(f"read {path}"):
            kept = exists(path)
        if kept:
            return self._read(path, entry, digest(read_journal(self.folder.journal)[0]))
        if not train_again:
            raise ConfigurationError(
                f"expected weights in {path}, none were kept (see --keep-weights); with train_again=True, or "
                "--train-again, the network gets them again from its seed, which took "
                f"{entry.result.seconds:.3g} s then"
            )
        prepare = self.evaluator.prepare.start()
        genome = np.array(entry.result.genome, dtype=np.int64)
        return prepare(genome, entry.result.seed, ignore)[0].network.eval()

    def refuse_without_weights(self) -> None:
        """ConfigurationError where scores were looked up in a table: its networks have no weights."""
        if "table" in read_journal(self.folder.journal)[0]:
            raise ConfigurationError(
                f"expected a run that trained its networks, the scores of {self.path} were looked up in a table; "
                f"evonas roco --space nasbench201 --init-from {self.path} trains such cells"
            )

    def trainings(self, arch_id: str = "best") -> list[str]:
        """Names of a row's trainings to the end, such as `retrained/1a2b3c4d`, the longest first."""
        from evonas.ship import read_weights

        found = []
        key = self.entry(arch_id).key
        for path in sorted(self.path.glob(f"*/{key}-*.safetensors")):
            epochs = read_weights(path).card.provenance.epochs or 0
            found.append((-epochs, f"{path.parent.name}/{path.stem.removeprefix(f'{key}-')}"))
        return [name for _, name in sorted(found)]

    def _trained(self, key: str, weights: str) -> Path:
        """File of the weights of a training to the end."""
        found = self.trainings(key)
        if not found:
            raise ConfigurationError(
                f"expected {key} trained to the end in {self.path}, it is not yet: "
                f"evonas audit {self.path} {key} --train does that"
            )
        name = found[0] if weights == "audit" else weights
        check_name(("search", "audit", *found), name, "weights")
        if weights == "audit" and len(found) > 1:
            print(f"{key}: weights {name}, the longest of its trainings {', '.join(found)}", file=sys.stderr)
        folder, training = name.split("/")
        return self.path / folder / f"{key}-{training}.safetensors"

    def _read(self, path: Path, entry: Entry, identity: str = "") -> nn.Module:
        """The network in a file of weights, which must be that of this row.

        Args:
            identity: digest of the run that wrote it; empty: any.
        """
        from evonas.ship import read_weights

        found = read_weights(path)
        space = None if found.card.known_space else self.space
        with decoding(f"expected weights of {entry.key} in {path}", "remove it, and load again"):
            if found.card.genome != entry.result.genome or identity not in ("", found.card.provenance.identity):
                raise DataError("they are of another network or run")
            return found.network(space)

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
                f"expected the arch_id of a row with status ok, {found[0].key} "
                f"{'' if found[0].result.status == 'stopped' else 'failed: '}{found[0].result.reason}"
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

        data, counted = self.evaluator.prepare.data, dict[str, tuple[int, int]]()
        for entry in self.entries:
            if entry.result.ok:
                genome = np.array(entry.result.genome)
                if isinstance(self.space, TableSpace):  # there is nothing to build
                    params, macs = self.space.cost(genome)
                    counted[entry.key] = params, macs
                else:
                    network = self.space.build(genome, data.n_classes)
                    shape = (3, data.image_size, data.image_size)
                    counted[entry.key] = count_params(network), count_macs(network, shape)
        return counted

    def evaluate_again(self, arch_id: str) -> dict[str, tuple[float, float]]:
        """Column -> (recorded, found now) of a row, evaluated from its seed; on the CPU they are equal. No times.

        Raises:
            ConfigurationError: it fails now.
        """
        from evonas.objectives.timed import SECONDS, Timed

        entry = self.entry(arch_id)
        evaluate = self.evaluator.make_evaluate(ignore)
        result = evaluate(np.array(entry.result.genome, dtype=np.int64), entry.result.seed)
        if not result.ok:
            raise ConfigurationError(f"evaluating {entry.key} again failed: {result.reason}")
        lost = [name for name in entry.result.objectives if name not in result.objectives]
        if lost:  # of a script, which alone has its own objectives
            raise ConfigurationError(
                f"expected the objectives of {self.path}, got none for {', '.join(lost)}; the result that its script "
                f"gets has them: result.verify({entry.key!r})"
            )
        timed = {f"{each.name}{SECONDS}" for each in self.evaluator.objectives if isinstance(each, Timed)}
        return {
            name: (value, result.objectives[name])
            for name, value in entry.result.objectives.items()
            if name not in timed
        }
