"""What a user reads while something trains epoch by epoch: a line an epoch, and now and then one inside of it."""

import time

from rich.console import Console

from evonas.report import duration
from evonas.runs.interrupt import Interruption
from evonas.runs.progress import PLAIN_PROGRESS_SECONDS

__all__ = ["EpochScreen"]


class EpochScreen:
    """Lines with the time that is left.

    Args:
        epochs: in all.
        begun: of these were done before.
    """

    def __init__(self, console: Console, interruption: Interruption, epochs: int, begun: int, opening: str) -> None:
        self.console, self.interruption, self.epochs, self.begun = console, interruption, epochs, begun
        self.started = self._told = time.monotonic()
        where = f", continued after epoch {begun}" if begun else ""
        console.out(f"{opening}{where}", highlight=False)

    def inside(self, epoch: int, share: float, note: str) -> None:
        """So much of an epoch, counted from 0, is done. Raises Interrupted once a signal came."""
        self.interruption.check()
        if time.monotonic() - self._told > PLAIN_PROGRESS_SECONDS:
            self._line(epoch, share, note)

    def told(self, epoch: int, note: str) -> None:
        """An epoch is done."""
        self._line(epoch, 1.0, note)

    def _line(self, epoch: int, share: float, note: str) -> None:
        self._told = time.monotonic()
        elapsed = self._told - self.started
        left = elapsed * (self.epochs - epoch - share) / max(epoch + share - self.begun, 1e-6)
        self.console.out(
            f"  epoch {epoch + 1}/{self.epochs}: {note}, {duration(elapsed)} elapsed, about {duration(left)} left",
            highlight=False,
        )
