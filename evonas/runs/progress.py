"""What a run shows: a live view in a terminal, plain lines anywhere else."""

import time
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from evonas.report import duration, shown
from evonas.search import Event, Finished
from evonas.types import Activity, Note, Progress

__all__ = ["Status", "View", "make_view"]

PLAIN_PROGRESS_SECONDS = 20.0
"""How often plain lines tell the progress inside an evaluation."""


class Status:
    """Counts of a run, for the screen."""

    def __init__(self, total: int, objective: str, maximize: bool) -> None:
        self.total = total
        self.objective = objective
        self.maximize = maximize
        self.done = self.cached = self.failed = self.generation = 0
        self.best: float | None = None
        self.hypervolume: float | None = None
        self.activity: Activity | None = None
        """What the executor does; None where it has one slot in this process."""
        self.started = time.monotonic()
        self._fresh: list[float] = []
        self._informed = False
        self._last = self.started

    def work(self, activity: Activity) -> None:
        """What the executor does now."""
        if not self._fresh and not (self.activity and self.activity.running):
            self._last = time.monotonic()  # workers were starting: that happens once, and says nothing of the rest
        self.activity = activity

    def informs(self) -> bool:
        """True once: when so much has finished that the time left can be told, twice what runs at once, at least 3."""
        enough = self.fresh >= max(3, 2 * (self.activity.slots if self.activity else 1))
        said, self._informed = self._informed, self._informed or enough
        return enough and not said

    @property
    def fresh(self) -> int:
        """Evaluations that this process ran."""
        return len(self._fresh)

    def count(self, event: Finished) -> None:
        result = event.entry.result
        self.done += 1
        self.generation = event.entry.generation
        if not event.cached:
            now = time.monotonic()
            self._fresh.append(now - self._last)
        self._last = time.monotonic()
        self.cached += event.cached
        self.failed += not result.ok
        if result.ok:
            value = result.objectives[self.objective]
            better = self.best is None or (value > self.best if self.maximize else value < self.best)
            self.best = value if better else self.best

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the mean of this process's evaluations; None before the first."""
        return sum(self._fresh) / len(self._fresh) * (self.total - self.done) if self._fresh else None

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def line(self, generations: int) -> str:
        parts = [
            f"generation {self.generation}/{generations}",
            f"{self.done}/{self.total} done",
            f"{self.cached} cached",
            f"{self.failed} failed",
        ]
        if self.activity is not None and (self.activity.running or self.activity.waiting):
            parts.append(working(self.activity))
        if self.best is not None:
            parts.append(f"best {self.objective} {shown(self.objective, self.best)}")
        if self.hypervolume is not None:
            parts.append(f"hypervolume {self.hypervolume:.4g}")
        parts.append(f"{duration(self.elapsed)} elapsed")
        if self.seconds_left is not None:
            parts.append(f"about {duration(self.seconds_left)} left")
        return ", ".join(parts)


class View(Protocol):
    """Shows events; entered around a run."""

    def __enter__(self) -> "View": ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def say(self, text: str) -> None:
        """A line that stays."""
        ...

    def show(self, event: Event) -> None: ...
    def generation(self) -> None:
        """The survivors of a generation are known."""
        ...


def make_view(status: Status, generations: int, console: Console) -> View:
    """A live view where `console` is a terminal, else plain lines."""
    return LiveView(status, generations, console) if console.is_terminal else PlainView(status, generations, console)


class PlainView:
    """One line an evaluation and a generation, and now and then one inside a long evaluation."""

    def __init__(self, status: Status, generations: int, console: Console) -> None:
        self.status = status
        self.generations = generations
        self.console = console
        self._told = time.monotonic()

    def __enter__(self) -> "PlainView":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def say(self, text: str) -> None:
        self.console.out(text, highlight=False)

    def show(self, event: Event) -> None:
        if isinstance(event, Progress):
            if time.monotonic() - self._told > PLAIN_PROGRESS_SECONDS:
                self._told = time.monotonic()
                self.say(f"  {_inside(event)}")
        elif isinstance(event, Note):
            self.say(event.text)
        elif isinstance(event, Activity):
            self.status.work(event)
            if time.monotonic() - self._told > PLAIN_PROGRESS_SECONDS:
                self._told = time.monotonic()
                self.say(f"  {self.status.line(self.generations)}")
        elif not event.cached:
            self._told = time.monotonic()
            self.say(f"  {describe(event)}")

    def generation(self) -> None:
        self.say(self.status.line(self.generations))


class LiveView:
    """Two bars that stay in place: the search, and the evaluation that runs."""

    def __init__(self, status: Status, generations: int, console: Console) -> None:
        self.status = status
        self.generations = generations
        self.console = console
        self._note = ""
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn())
        self._bars = Bars(*columns, console=console, auto_refresh=False)
        self._search = self._bars.add_task("search", total=status.total)
        self._inside = self._bars.add_task("evaluation", total=1, visible=False)
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=False)

    def __enter__(self) -> "LiveView":
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.update(self._inside, visible=False)
        self._note = ""
        self._live.__exit__(kind, error, trace)

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def show(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._bars.update(self._inside, completed=event.done, total=event.total, visible=True)
            self._note = _inside(event)
        elif isinstance(event, Note):
            self.say(event.text)
        elif isinstance(event, Activity):
            self.status.work(event)
        else:
            self._bars.update(self._search, completed=self.status.done)
            self._bars.update(self._inside, visible=False)
            self._note = ""
            if not event.cached and not event.entry.result.ok:
                self.say(describe(event))

    def generation(self) -> None:
        self._live.refresh()

    def _render(self) -> Group:
        lines: list[Text | Bars] = [self._bars, Text(self.status.line(self.generations))]
        return Group(*lines, *([Text(self._note, style="dim")] if self._note else []))


def describe(event: Finished) -> str:
    """One line for a finished evaluation."""
    result = event.entry.result
    if not result.ok:
        return f"{event.entry.key} failed: {result.reason}"
    values = ", ".join(f"{name} {shown(name, value)}" for name, value in result.objectives.items())
    return f"{event.entry.key} {values} ({duration(result.seconds)})"


def working(activity: Activity) -> str:
    """What an executor does, in a few words."""
    parts = [f"{activity.running} of {activity.slots} slots busy"]
    if activity.waiting:
        parts.append(f"{activity.waiting} waiting")
    if activity.nodes > 1:
        parts.append(f"{activity.nodes} nodes")
    if activity.gpus_total:
        parts.append(f"{activity.gpus:g} of {activity.gpus_total:g} GPUs in use")
    if activity.retries:
        parts.append(f"{activity.retries} retried")
    return ", ".join(parts)


def _inside(event: Progress) -> str:
    return f"{event.key} {event.note or f'{event.unit} {event.done}/{event.total}'}"
