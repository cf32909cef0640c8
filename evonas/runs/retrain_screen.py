"""What a retraining shows: a line for every network, and now and then one inside, with an estimate."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from evonas.audit import FrontNetwork
from evonas.report import TextTable, duration, shown
from evonas.runs.interrupt import Interruption
from evonas.runs.progress import PLAIN_PROGRESS_SECONDS
from evonas.types import Progress

__all__ = ["RetrainScreen", "print_tables"]


class RetrainScreen:
    """Lines on a console; inside a network a line that stays in place in a terminal, else one now and then.

    The estimate takes time in proportion to a network's MACs.

    Args:
        interruption: checked with every report.
        left: networks that are still to be trained or scored, in order.
    """

    def __init__(self, console: Console, interruption: Interruption, left: Sequence[FrontNetwork]) -> None:
        self.console = console
        self.interruption = interruption
        self.macs = [network.macs for network in left]
        self.begun = 0
        """Networks that were begun."""
        self._before = 0.0
        """What of all MACs was done before, of networks whose training is continued."""
        self.started = self._told = time.monotonic()
        self._live: Status | None = None

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def showing(self, network: FrontNetwork, before: float = 0.0) -> Iterator[None]:
        """Within, `report` shows what happens to a network, of whose training this share was done before."""
        self.begun += 1
        self._before += before * network.macs
        size = f"{shown('params', network.retraining.cost(network.genome).params)} parameters"
        macs = f"{shown('macs', network.macs)} MACs"
        continued = f", continued after {100 * before:.3g}% of its training" if before else ""
        self.say(
            f"{self.begun}/{len(self.macs)}: {network.arch_id} of {network.configuration}, {size}, {macs}{continued}"
        )
        self._told = time.monotonic()
        if not self.console.is_terminal:
            yield
            return
        with self.console.status("beginning") as self._live:
            yield

    def report(self, progress: Progress) -> None:
        """How far training or scoring is. Interrupted where a signal has come."""
        self.interruption.check()
        scoring = progress.unit == "image"
        left = self.seconds_left(1.0 if scoring else progress.done / progress.total)
        text = f"  {progress.note}, {duration(self.elapsed)} elapsed, about {duration(left)} left"
        if self._live is not None and self.console.is_terminal:
            self._live.update(escape(text))
        elif time.monotonic() - self._told > PLAIN_PROGRESS_SECONDS:
            self._told = time.monotonic()
            self.say(text)

    def tell(self, record: Mapping[str, Any]) -> None:
        """What was found for the network that was shown last."""
        if record["status"] == "failed":
            self.say(f"  failed: {record['reason']}")
        else:
            self.say("  " + ", ".join(f"{name} {shown(name, value)}" for name, value in record["values"].items()))
        if self.begun < len(self.macs):
            self.say(f"  {duration(self.elapsed)} elapsed, about {duration(self.seconds_left(1.0))} left")

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def seconds_left(self, share: float) -> float:
        """Estimate, with this share of the network that was begun last done."""
        done = sum(self.macs[: self.begun - 1]) + share * self.macs[self.begun - 1]
        here = done - self._before
        return self.elapsed * (sum(self.macs) - done) / here if here > 0 else 0.0


def print_tables(console: Console, tables: Sequence[TextTable]) -> None:
    """Tables for a terminal, their notes below."""
    for table in tables:
        printed = Table(*map(escape, table.header), title=escape(table.title), title_justify="left")
        for line in table.lines:
            printed.add_row(*map(escape, line))
        console.print(printed)
        for note in table.notes:
            console.print(note, highlight=False, markup=False, soft_wrap=True)
