"""Epochs of something that trains in a run: lines on the screen, a table that is kept up, and warnings."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from evonas.errors import ConfigurationError
from evonas.runs.begun import BegunRun
from evonas.training.checkpoints import Row

__all__ = ["EpochLog"]


@dataclass
class EpochLog:
    """Tells every epoch once, and writes all of them whenever there is a new one."""

    run: BegunRun
    path: Path
    """The checkpoint."""
    epochs: int
    what: str
    """It is, for messages: `a supernet`."""
    opening: str
    """Line before the first epoch."""
    describe: Callable[[Row], str]
    """An epoch in a line."""
    write: Callable[[list[Row]], None]
    """Called with all rows, those of earlier processes too."""
    warn: Callable[[Row], str] = lambda row: ""
    """A line that is said once and kept in config.json; empty: nothing to warn of."""
    name: str = ""
    """Before the number of an epoch, where several train at once."""
    _told: int = field(default=0, init=False)
    """Rows that were told."""
    _ahead: int = field(default=0, init=False)
    """Epochs without a row of their own."""

    def begin(self, done: int, rows: list[Row]) -> None:
        """Say what is there already.

        Args:
            done: epochs in the checkpoint, and their rows; version 0.1.0 had one row for all.
        Raises:
            ConfigurationError: the run is only looked at, and the training is not finished.
        """
        self._told, self._ahead = len(rows), done - len(rows)
        if self.run.reading and done < self.epochs:
            raise ConfigurationError(f"expected {self.what} that is trained to the end in {self.path}")
        if done == self.epochs:
            self.run.note(f"{self.opening.split(':')[0]}: found at {self.path}")
        else:
            self.run.screen.say(f"{self.opening}{f', continued after epoch {done}' if done else ''}")
        if rows and not self.run.reading:
            self.write(rows)  # a kill may have come between the two files
        for row in rows:
            self.run.note(self.warn(row))

    def add(self, rows: list[Row], estimate: str) -> None:
        """Tell the epochs that were not told before.

        Args:
            rows: of all epochs so far.
            estimate: words on the time that is left.
        """
        new = rows[self._told :]
        if not new:
            return
        self.write(rows)
        for number, row in enumerate(new, start=self._told + self._ahead + 1):
            self.run.screen.say(f"  {self.name}epoch {number}/{self.epochs}: {self.describe(row)}, {estimate}")
            self.run.note(self.warn(row))
        self._told = len(rows)
