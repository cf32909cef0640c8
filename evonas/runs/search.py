"""One evolutionary run: journal, search, screen and exports put together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from rich.console import Console

from evonas.errors import ConfigurationError
from evonas.evaluation import BuildingSpace, Evaluator
from evonas.objectives import Column, Objective
from evonas.report import Searched, duration, history, objective_values, shown
from evonas.runs.folder import RunFolder
from evonas.runs.interrupt import interruptible
from evonas.runs.progress import Status, make_view
from evonas.search import (
    Entry,
    Event,
    EvolutionConfig,
    Executor,
    Finished,
    Journal,
    RayExecutor,
    SearchState,
    evolve,
    non_dominated,
)
from evonas.types import Note, Space

__all__ = ["Plan", "SearchSpace", "columns_of", "run_search"]


class SearchSpace(Space, BuildingSpace, Protocol):
    """A space that can be searched and built."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that one run needs, resolved."""

    method: str
    space: SearchSpace
    evaluator: Evaluator
    search: EvolutionConfig
    data_name: str
    n_classes: int
    identity: dict[str, Any]
    settings: dict[str, Any]
    """As the user gave them; kept in config.json."""
    notes: tuple[str, ...]
    """Choices made for the user, one line each."""
    first: tuple[tuple[int, ...], ...] = ()
    retry_failed: bool = False

    @property
    def columns(self) -> dict[str, Column]:
        return columns_of(self.evaluator.objectives, self.space, self.n_classes)

    @property
    def maximize(self) -> tuple[str, ...]:
        return tuple(name for name in self.search.objectives if self.columns[name].maximize)

    @property
    def reference_point(self) -> dict[str, float]:
        """Of the hypervolume, in natural values."""
        return {name: self.columns[name].reference for name in self.search.objectives}

    @property
    def searched(self) -> Searched:
        return Searched(
            self.method,
            self.data_name,
            self.search.objectives,
            self.maximize,
            tuple(self.columns),
            tuple(self.reference_point.values()),
            {name: column.about for name, column in self.columns.items()},
            lambda genome: self.space.cost(genome, self.n_classes),
        )


def columns_of(objectives: Sequence[Objective], space: SearchSpace, n_classes: int) -> dict[str, Column]:
    """Column name -> column, for everything that the objectives measure."""
    return {column.name: column for part in objectives for column in part.columns(space, n_classes)}


def run_search(plan: Plan, folder: RunFolder, executor: Executor, console: Console) -> None:
    """Run or continue a search in its folder until it is finished or interrupted.

    Raises:
        EvonasError: the folder belongs to another run or process, or cannot be written.
        Interrupted: a signal came; everything finished is in the journal.
    """
    with interruptible() as interruption, Journal(folder.journal, plan.identity) as journal:
        folder.sweep()
        reached = max((entry.generation for entry in journal), default=0)
        if reached > plan.search.generations:
            raise ConfigurationError(
                f"expected at least the {reached} generations that {folder.path} has begun, "
                f"got {plan.search.generations}; a run may grow, not shrink"
            )
        changed = folder.write_config(
            {
                "settings": plan.settings,
                "identity": plan.identity,
                "notes": list(plan.notes),
                "columns": list(plan.columns),
                "reference_point": plan.reference_point,
                "measured": {name: {"about": column.about, **column.metadata} for name, column in plan.columns.items()},
                "evaluations": plan.search.evaluations,
            }
        )
        errors = [name for name in plan.search.objectives if name.endswith("error")]
        watched = (errors or plan.search.objectives)[0]
        status = Status(plan.search.evaluations, watched, watched in plan.maximize)
        recorder = _Recorder(plan, folder, status)
        with make_view(status, plan.search.generations, console) as view:
            for line in (*plan.notes, *_size(plan, folder, journal), changed):
                if line:
                    view.say(line)

            def report(event: Event) -> None:
                interruption.check()
                if isinstance(event, Finished):
                    recorder.count(event)
                    if isinstance(executor, RayExecutor):
                        executor.count(event.cached, event.entry.result.ok)
                view.show(event)
                if isinstance(event, Finished) and status.informs() and not event.cached:
                    left = status.seconds_left or 0
                    total, known = duration(status.elapsed + left), f"the first {status.fresh} evaluations"
                    view.show(Note(f"about {total} in all, {duration(left)} of it left, by {known}"))

            states = evolve(
                plan.space,
                plan.evaluator,
                plan.search,
                executor,
                journal,
                [np.array(genome, dtype=np.int64) for genome in plan.first],
                maximize=plan.maximize,
                retry_failed=plan.retry_failed,
                report=report,
                predict=lambda genome: plan.space.cost(genome, plan.n_classes).macs,
            )
            for state in states:
                recorder.generation(state, journal)
                view.generation()
            recorder.export(journal)
        _conclude(recorder, folder, journal, console)


class _Recorder:
    """Counts what the search reached, and exports it."""

    def __init__(self, plan: Plan, folder: RunFolder, status: Status) -> None:
        self.plan = plan
        self.folder = folder
        self.status = status
        self.reached: list[Entry] = []
        self._stale = True

    def count(self, event: Finished) -> None:
        self.status.count(event)
        self.reached.append(event.entry)
        self._stale |= not event.cached

    def generation(self, state: SearchState, journal: Journal) -> None:
        """The survivors of a generation are known."""
        self.status.generation = state.generation
        rows = history(self.reached, self.plan.searched)
        self.status.hypervolume = rows[-1].hypervolume if rows else None
        if self.status.fresh:  # a replay writes nothing before it has caught up
            self.export(journal)

    def export(self, journal: Journal) -> None:
        """Write every table and picture of the journal, unless they are up to date."""
        if self._stale:
            self.folder.export(list(journal), self.plan.searched)
            self._stale = False


def _size(plan: Plan, folder: RunFolder, journal: Journal) -> list[str]:
    """What the run is about to do."""
    search, most = plan.search, plan.space.max_cost(plan.n_classes)
    kind = "asynchronous evaluations" if search.asynchronous else "evaluations"
    largest = f"up to {shown('params', most.params)} parameters and {shown('macs', most.macs)} MACs"
    asked = f"{search.population} x ({search.generations} + 1) = {search.evaluations} {kind} of networks {largest}"
    doing = f"{asked}, searching {', '.join(search.objectives)} with {search.algorithm}"
    if search.generations == 0 and len(plan.first) == search.population:  # all of them are given
        doing = f"scoring {len(plan.first)} found, networks {largest}, on {', '.join(search.objectives)}"
    lines = [f"{plan.method} on {plan.data_name}: {doing}", f"run folder: {folder.path}"]
    if len(journal):
        lines.append(f"continuing: {len(journal)} evaluations are in the journal already")
    return [*lines, journal.damage]


def _conclude(recorder: _Recorder, folder: RunFolder, journal: Journal, console: Console) -> None:
    status = recorder.status
    front = len(non_dominated(objective_values(journal, recorder.plan.searched)))
    lines = [
        f"finished: {status.done} evaluations ({status.cached} from the journal, {status.failed} failed), "
        f"{front} networks on the front",
        f"front: {folder.path / 'front.csv'}, picture: {folder.path / 'front.png'}",
    ]
    if status.done and status.failed == status.done:
        last = recorder.reached[-1].result.reason
        lines.insert(1, f"every evaluation failed, so the front is empty; the last one: {last}")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
