"""The screen of a run: lines that stay, and in a terminal a part that stays in place."""

import sys
import time
from collections.abc import Callable, Sequence
from textwrap import wrap
from types import TracebackType
from typing import IO, Self, cast

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from evonas.report import TextTable, duration
from evonas.runs.streams import LastingOutput
from evonas.types import Activity

__all__ = ["PLAIN_SECONDS", "Pace", "Screen", "screen_width", "working"]

PLAIN_SECONDS = 20.0
"""Interval of lines on progress where nothing can stay in place."""


class Screen:
    """One console for all stages of a run; entered around whatever has a part that stays in place.

    Outside a terminal that part is a line now and then; in a notebook one line that is written over. A run outlives its
    screen: see `LastingOutput`.

    Args:
        check: called whenever something is shown; raises Interrupted where a signal has come.
    """

    def __init__(self, console: Console | None = None, check: Callable[[], None] = lambda: None) -> None:
        lasting = None if sys.stdout is None else cast(IO[str], LastingOutput())  # it was closed before Python began
        self.console = console or Console(file=lasting)
        self.check = check
        self._live: Live | None = None
        self._lines: tuple[str, ...] = ()
        self._share: tuple[int, int] | None = None
        self._told = time.monotonic()

    def __enter__(self) -> Self:
        self._told = time.monotonic()
        self._lines, self._share = (), None
        if self.console.is_terminal and not self.console.is_jupyter:
            self._live = Live(console=self.console, get_renderable=self._render, refresh_per_second=4)
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines, self._share = (), None
        if self._live is not None:
            self._live.__exit__(kind, error, trace)
            self._live = None

    def say(self, text: str, whole: bool = False) -> None:
        """A line that stays; in a terminal that is too narrow it breaks at words, and no path or word is broken.

        Args:
            whole: never break it, since it is to be copied.
        """
        if not text:
            return
        self._told = time.monotonic()
        if self.console.is_jupyter:
            sys.stdout.write(f"\r{text}\n")
        else:
            self._print(text, whole)

    def show(self, *lines: str, done: int = 0, total: int = 0) -> None:
        """Show the present state in place of the one before.

        Args:
            lines: the first alone is written where nothing can stay in place.
            done, total: of a bar; a total of 0: none.
        """
        self.check()
        self._lines = tuple(line for line in lines if line)
        self._share = (done, total) if total else None
        if self._live is not None or not self._lines or time.monotonic() - self._told <= PLAIN_SECONDS:
            return
        if self.console.is_jupyter:
            self._told = time.monotonic()
            sys.stdout.write(f"\r{self._lines[0][:110]:<110}")
            sys.stdout.flush()
        else:
            self.say(f"  {self._lines[0]}")

    def tables(self, tables: Sequence[TextTable]) -> None:
        """Tables for a terminal, their notes below."""
        for table in tables:
            printed = Table(*map(escape, table.header), title=escape(table.title), title_justify="left")
            for line in table.lines:
                printed.add_row(*map(escape, line))
            self.console.print(printed)
            for note in table.notes:
                self._print(note)

    def _print(self, text: str, whole: bool = False) -> None:
        if self.console.is_terminal and not whole:
            wide = self.console.width
            text = "\n".join(
                part
                for line in text.split("\n")
                for part in wrap(line, wide, break_long_words=False, break_on_hyphens=False) or [""]
            )
        line = Text(text, no_wrap=True, overflow="ignore")
        self.console.print(Group(line), crop=False)  # soft_wrap=True would cut what stays in place as well

    def _render(self) -> Group:
        parts: list[Text | Table] = []
        if self._share is not None:
            done, total = self._share
            row = Table.grid(padding=(0, 1))
            row.add_row(ProgressBar(total=total, completed=done, width=30), f"{done}/{total}")
            parts.append(row)
        return Group(
            *parts, *(Text(line, style="" if number == 0 else "dim") for number, line in enumerate(self._lines))
        )


class Pace:
    """Elapsed time, and an estimate of what is left, by work done in any unit.

    Args:
        total: all work.
        before: of it, done by earlier processes.
    """

    def __init__(self, total: float, before: float = 0.0) -> None:
        self.total, self.before = total, before
        self.started = time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def left(self, done: float) -> float | None:
        """Seconds, with this much done in all; None before anything was."""
        here = done - self.before
        return self.elapsed * (self.total - done) / here if here > 0 else None

    def words(self, done: float) -> str:
        """`0:12 elapsed, about 1:00 left`."""
        left = self.left(done)
        return f"{duration(self.elapsed)} elapsed" + ("" if left is None else f", about {duration(left)} left")


def screen_width() -> int:
    """Columns for text on standard output: those of a narrow terminal, else 80."""
    console = Console()
    return min(console.width, 80) if console.is_terminal else 80


def working(activity: Activity) -> str:
    """Activity of an executor, in a few words."""
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
