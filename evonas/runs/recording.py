"""Company of a search: results counted, shown, exported and put into words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from evonas.errors import SearchFailedError
from evonas.evaluation import Evaluator, LookUp
from evonas.executors import Executor
from evonas.objectives import AdversarialSetError, Column
from evonas.plugins import plugin_flag
from evonas.report import (
    Chance,
    Searched,
    folded,
    front,
    front_text,
    history,
    knee_row,
    population_table,
    rank_correlations,
    shown,
    write_tensorboard,
)
from evonas.runs.folder import RunFolder
from evonas.runs.screen import Screen
from evonas.runs.search_screen import SearchScreen, ranked
from evonas.search import Entry, Event, Finished, Journal, stops_of
from evonas.spaces.table import TableSpace
from evonas.types import Activity, Cost, Genome, arch_id

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Recorder", "Searching", "next_commands"]

ALIKE = 0.9
"""Rank correlation from which on two errors are said to rank networks alike."""


@dataclass(frozen=True)
class Searching:
    """A search as tables, pictures and config.json describe it."""

    method: str
    space: Any
    evaluator: Evaluator
    objectives: tuple[str, ...]
    """Searched columns, in order."""

    @property
    def n_classes(self) -> int:
        return self.evaluator.prepare.data.n_classes

    @cached_property
    def columns(self) -> dict[str, Column]:
        """Column name -> column, for everything that is measured."""
        parts = self.evaluator.objectives
        return {column.name: column for part in parts for column in part.columns(self.space, self.n_classes)}

    @property
    def maximize(self) -> tuple[str, ...]:
        return tuple(name for name in self.objectives if self.columns[name].maximize)

    @property
    def reference_point(self) -> dict[str, float]:
        """Reference point of the hypervolume, in natural values."""
        return {name: self.columns[name].reference for name in self.objectives}

    @property
    def searched(self) -> Searched:
        return Searched(
            self.method,
            self.evaluator.prepare.data.name,
            self.objectives,
            self.maximize,
            tuple(self.columns),
            tuple(self.reference_point.values()),
            {name: column.about for name, column in self.columns.items()},
            None if isinstance(self.space, TableSpace) else self._cost,
            Chance.of(
                self.n_classes,
                len(self.evaluator.prepare.data.validation),
                {name: column.metadata for name, column in self.columns.items()},
            ),
        )

    @property
    def config(self) -> dict[str, Any]:
        """Entries of config.json."""
        return {
            "columns": list(self.columns),
            "reference_point": self.reference_point,
            "measured": {name: {"about": column.about, **column.metadata} for name, column in self.columns.items()},
        }

    def _cost(self, genome: Genome) -> Cost:
        cost: Cost = self.space.cost(genome, self.n_classes)
        return cost

    def predict(self, genome: Genome) -> float:
        """Predicted cost of an evaluation: the MACs of its network; 0 where it is only looked up."""
        return 0.0 if isinstance(self.space, TableSpace) else float(self._cost(genome).macs)

    def opening(self, evaluations: int, generations: int, search: Mapping[str, Any]) -> Iterator[str]:
        """Size and aim of the run, in a line."""
        costs = self.space.max_cost(self.n_classes)
        largest = f"up to {shown('params', costs.params)} parameters and {shown('macs', costs.macs)} MACs"
        names, where = ", ".join(self.objectives), f"{self.method} on {self.evaluator.prepare.data.name}"
        if len(search.get("first", ())) == evaluations:  # all of them are given
            yield f"{where}: scoring {evaluations} found, networks {largest}, on {names}"
            return
        kind = "asynchronous evaluations" if search.get("asynchronous") else "evaluations"
        population, most = search["population"], search["population"] * (generations + 1)
        sizes = f"{population} x ({generations} + 1) = {most}"
        asked = sizes if evaluations == most else f"{evaluations} of {sizes}"
        by = " and surrogate ".join((search["algorithm"], *filter(None, [search.get("surrogate")])))
        yield f"{where}: {asked} {kind} of networks {largest}, searching {names} with {by}"


def next_commands(
    folder: Path, found: pd.DataFrame, searched: Searched, plugin: str = "", weights: bool = True
) -> Iterator[str]:
    """Commands on a finished search, ready to paste, with the knee of its front.

    Args:
        plugin: flag that names its plugins, see `plugin_flag`.
        weights: whether its networks have weights that can be audited.
    """
    run, knee = quote(str(folder)), str(found["arch_id"].iloc[knee_row(found, searched.objectives, searched.maximize)])
    words = {
        f"evonas show {run} {knee}{plugin}": "the knee of the front: layers, costs, parents",
        f"evonas report {run}{plugin}": "one page with everything",
    }
    if weights:
        words[f"evonas audit {run}{plugin}"] = "does the front survive stronger attacks?"
    wide = max(map(len, words))
    yield "next:"
    yield from (f"  {command:<{wide}}  # {what}" for command, what in words.items())


class Recorder:
    """Sees the events of a search: counts, shows and exports them."""

    def __init__(
        self,
        searching: Searching,
        folder: RunFolder,
        journal: Journal,
        executor: Executor,
        screen: Screen,
        evaluations: int,
        generations: int,
        tracker: str = "",
    ) -> None:
        self.tracker, self.generations, self._ended = tracker, generations, -1
        self.searching, self.folder, self.journal, self.executor = searching, folder, journal, executor
        self.searched = searching.searched
        errors = [name for name in searching.objectives if name.endswith("error")]
        watched = (errors or searching.objectives)[0]
        self.screen = SearchScreen(screen, evaluations, generations, watched, watched in searching.maximize)
        self.reached: list[Entry] = []
        self._stale = True
        self._due = False

    def see(self, event: Event) -> None:
        """Raises Interrupted where a signal has come."""
        if self._due and isinstance(event, Activity) and event.running:
            self._due = False
            self.export()
        self.screen.screen.check()
        if isinstance(event, Finished):
            self.reached.append(event.entry)
            self._stale |= not event.cached
            self.executor.count(event.cached, event.entry.result.status != "failed")
        self.screen.see(event)

    def end_generation(self, generation: int) -> None:
        """The survivors of a generation are known."""
        self._ended = generation
        rows = history(self.reached, self.searched)
        self.screen.end_generation(generation, rows[-1] if rows else None, self.searched.box)
        if self.screen.fresh and self._trained:  # a replay writes nothing before it has caught up
            self._due = self.executor.slots > 1  # drawn while the next generation is evaluated
            if not self._due:
                self.export()
        if generation == 0:
            self._stop_without_success()

    @property
    def _trained(self) -> bool:
        """Whether evaluations take time: what is only looked up is exported at the end."""
        return any(entry.result.seconds for entry in self.reached)

    def export(self) -> None:
        """Write every table and picture of the journal, unless they are up to date."""
        if self._stale:
            self.folder.export(list(self.journal), self.searched)
            self._track(self._ended)
            self._stale = False

    def _track(self, generation: int) -> None:
        """Give the tracker what it lacks of the generations until this one."""
        if self.tracker == "tensorboard":
            write_tensorboard(self.folder.path / "tensorboard", list(self.journal), self.searched, generation)

    def conclude(self) -> None:
        """Say what was reached, and where it is. SearchFailedError where nothing succeeded."""
        self._track(self.generations)
        self._stop_without_success()
        screen, say = self.screen, self.screen.screen.say
        table = population_table(self.journal, self.searched)
        found = front(table)
        if len(found):
            screen.screen.tables(folded(front_text(found, self.searched), screen.screen.console.width, 1))
        for line in self.lessons(table):
            say(line)
        say(
            f"finished: {screen.done} evaluations ({screen.cached} from the journal, {screen.failed} failed"
            f"{screen.stopped_words}), "
            f"{len(found)} networks on the front"
        )
        if stops := stops_of(entry.result for entry in self.journal):
            say(f"early stopping: {stops}")
        for line in self._at_chance():
            say(line)
        say(f"front: {self.folder.path / 'front.csv'}, picture: {self.folder.path / 'front.png'}")
        if self.tracker == "tensorboard":
            say(f"tensorboard --logdir {quote(str(self.folder.path / 'tensorboard'))}", whole=True)
        weights = not isinstance(self.searching.evaluator.prepare, LookUp)
        plugin = plugin_flag(self.folder.open_stored())
        for line in next_commands(self.folder.path, found, self.searched, plugin, weights) if len(found) else ():
            say(line, whole=True)

    def lessons(self, table: pd.DataFrame) -> Iterator[str]:
        """Lines on what its errors say of the networks in a population table, besides the clean error."""
        correlations = rank_correlations(self.journal, self.searched)
        if correlations:
            yield f"rank correlation with clean_error over all networks: {ranked(correlations)}"
        alike = [name for name, found in correlations.items() if found is not None and found >= ALIKE]
        if alike:
            yield f"{' and '.join(alike)}: the networks rank as by clean_error, so this says little of its own"
        attacked, clean = AdversarialSetError.name, AdversarialSetError.clean_name
        if clean in table:
            added = (table[attacked] - table[clean]).dropna().astype(float)
            if len(added):
                low, middle, high = (f"{100 * share:+.1f}%" for share in added.quantile([0, 0.5, 1]))
                yield f"{attacked} less {clean}, which is the attack's share: {low} to {high}, median {middle}"

    def _stop_without_success(self) -> None:
        """SearchFailedError where all evaluations so far have failed; the commonest failure's traceback is kept."""
        results = [entry.result for entry in self.reached]
        if not results or any(entry.result.ok for entry in self.journal):
            return
        self.export()
        reason, times = Counter(result.reason for result in results).most_common(1)[0]
        traced = next((each for each in results if each.traceback and each.reason == reason), None)
        where = "" if traced is None else self.folder.log_failure(arch_id(traced.genome), reason, traced.traceback)
        raise SearchFailedError(
            f"all {len(results)} evaluations failed, so the search ends here; most often ({times} times): "
            f"{reason}{where}; mend that, and run the same command with --retry-failed"
        )

    def _at_chance(self) -> Iterator[str]:
        """A line for every searched error whose best value is at chance level."""
        chance, found = self.searched.chance, [entry.result.objectives for entry in self.journal if entry.result.ok]
        for name in self.searched.objectives if found and chance is not None else ():
            best = min(values[name] for values in found)
            if chance is not None and chance.reached(name, best):
                yield f"chance level: by {name} no network is better than guessing, the best has {shown(name, best)}"
