"""The screen of a search: a line for every finished evaluation and generation, and the running ones."""

import time
from collections.abc import Mapping

from evonas.report import HistoryRow, duration, shown
from evonas.runs.screen import Screen, working
from evonas.search import Event, Finished
from evonas.types import Activity, Note, Progress

__all__ = ["SearchScreen", "describe", "ranked"]


class SearchScreen:
    """Counts events and shows them.

    Args:
        total: evaluations of the whole search.
        generations: of the whole search.
        watched: the objective whose best value is shown.
    """

    def __init__(self, screen: Screen, total: int, generations: int, watched: str, maximize: bool) -> None:
        self.screen, self.total, self.generations = screen, total, generations
        self.watched, self.maximize = watched, maximize
        self.done = self.cached = self.failed = self.stopped = self.saved = self.generation = 0
        self.best: float | None = None
        self.hypervolume: float | None = None
        self.rank_correlation: Mapping[str, float | None] = {}
        """Error column -> rank correlation with clean_error."""
        self.started = self._last = time.monotonic()
        self._seconds: list[float] = []
        """Between results of this process."""
        self._estimated = False
        self._activity: Activity | None = None
        self._inside = ""

    @property
    def fresh(self) -> int:
        """Evaluations of this process."""
        return len(self._seconds)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    @property
    def seconds_left(self) -> float | None:
        """By the mean of this process's evaluations; None before the first."""
        return sum(self._seconds) / self.fresh * (self.total - self.done) if self.fresh else None

    @property
    def stopped_words(self) -> str:
        """Words behind the number of failures; empty where nothing was stopped."""
        return f", {self.stopped} stopped, {self.saved} epochs saved" if self.stopped else ""

    def see(self, event: Event) -> None:
        """Count an event, and show it."""
        if isinstance(event, Note):
            self.screen.say(event.text)
        elif isinstance(event, Finished):
            self._finished(event)
        elif isinstance(event, Activity):
            self._work(event)
        else:
            self._inside = f"{event.key} {event.note or f'{event.unit} {event.done}/{event.total}'}"
        self._show(inside_first=isinstance(event, Progress))

    def end_generation(self, generation: int, reached: HistoryRow | None, box: float) -> None:
        """The survivors of a generation are known, and what was reached by then.

        Args:
            box: hypervolume of the reference box, see `Searched.box`.
        """
        self.generation = generation
        if reached is not None:
            self.hypervolume, self.rank_correlation = reached.hypervolume / box, reached.rank_correlation
        if not self.screen.console.is_terminal:
            self.screen.say(self.line())
        self._show()

    def line(self) -> str:
        parts = [f"generation {self.generation}/{self.generations}"] if self.generations else []
        failed = f"{self.failed} failed{self.stopped_words}"
        parts += [f"{self.done}/{self.total} done", f"{self.cached} cached", failed]
        if self._activity is not None and (self._activity.running or self._activity.waiting):
            parts.append(working(self._activity))
        if self.best is not None:
            parts.append(f"best {self.watched} {shown(self.watched, self.best)}")
        if self.hypervolume is not None:
            parts.append(f"hypervolume {self.hypervolume:.4g} of its box")
        if self.rank_correlation:
            parts.append(f"rank correlation with clean_error: {ranked(self.rank_correlation)}")
        parts.append(f"{duration(self.elapsed)} elapsed")
        if self.seconds_left is not None:
            parts.append(f"about {duration(self.seconds_left)} left")
        return ", ".join(parts)

    def _show(self, inside_first: bool = False) -> None:
        lines = [self.line(), self._inside]
        if inside_first and not self.screen.console.is_terminal:
            lines.reverse()
        self.screen.show(*lines, done=self.done, total=self.total)

    def _work(self, activity: Activity) -> None:
        if not self.fresh and not (self._activity and self._activity.running):
            self._last = time.monotonic()  # workers were starting: that happens once, and says nothing of the rest
        self._activity = activity

    def _finished(self, event: Finished) -> None:
        result = event.entry.result
        self.done += 1
        self.generation = event.entry.generation
        self.cached += event.cached
        self.failed += result.status == "failed"
        self.stopped += result.status == "stopped"
        if result.status == "stopped" and result.curve is not None:
            self.saved += result.curve.epochs - result.curve.rungs[-1][0]
        if not event.cached:
            self._seconds.append(time.monotonic() - self._last)
        self._last = time.monotonic()
        if result.ok:
            value = result.objectives[self.watched]
            better = self.best is None or (value > self.best if self.maximize else value < self.best)
            self.best = value if better else self.best
        self._inside = ""
        if not event.cached and (not self.screen.console.is_terminal or result.status == "failed"):
            self.screen.say(f"  {describe(event)}")
        self._estimate()

    def _estimate(self) -> None:
        """Once, when twice as much has finished as runs at once, at least 3: how long all will take."""
        enough = self.fresh >= max(3, 2 * (self._activity.slots if self._activity else 1))
        if enough and not self._estimated:
            self._estimated, left = True, self.seconds_left or 0
            total = duration(self.elapsed + left)
            self.screen.say(f"about {total} in all, {duration(left)} of it left, by the first {self.fresh} evaluations")


def ranked(correlations: Mapping[str, float | None]) -> str:
    """Rank correlations in a few words: `pgd_error 0.87`."""
    return ", ".join(f"{name} {'unknown' if r is None else f'{r:.2f}'}" for name, r in correlations.items())


def describe(event: Finished) -> str:
    """One line for a finished evaluation."""
    result = event.entry.result
    if result.status == "stopped":
        return f"{event.entry.key} {result.reason} ({duration(result.seconds)})"
    if not result.ok:
        return f"{event.entry.key} failed: {result.reason}"
    values = ", ".join(f"{name} {shown(name, value)}" for name, value in result.objectives.items())
    return f"{event.entry.key} {values} ({duration(result.seconds)})"
