"""The screen of a list of jobs: how many are finished, which ones run and how far they are, and an estimate."""

from collections.abc import Callable, Iterable, Mapping

from evonas.runs.screen import Pace, Screen, working
from evonas.types import Activity, Note, Progress

__all__ = ["JobsScreen"]


class JobsScreen:
    """Counts and shows jobs of any kind: searches of cells, trainings, measurements, attacks.

    The first sign of a job with the unit `epoch` tells how far an earlier process got, which the estimate leaves out.

    Args:
        work: key of every job -> its predicted work, in any unit that they share.
        on_epoch: gets the key of a job whose epoch may have ended, before a signal may end the run.
    """

    def __init__(
        self, screen: Screen, work: Mapping[str, float], on_epoch: Callable[[str], None] = lambda key: None
    ) -> None:
        self.screen, self._on_epoch = screen, on_epoch
        self._work = dict(work)
        self._pace = Pace(sum(self._work.values()))
        self._shares: dict[str, float] = {}
        """Key of a job that has begun -> part of it that is done, in [0, 1]."""
        self._running: dict[str, str] = {}
        """Key of a job that runs -> its place, in words."""
        self._activity: Activity | None = None
        self._finished: set[str] = set()

    def add(self, key: str, work: float) -> None:
        """Count one more job."""
        self._work[key] = work
        self._pace.total = sum(self._work.values())

    def leave_out(self, keys: Iterable[str]) -> None:
        """Count jobs no longer, which will never begin."""
        for key in keys:
            self._work.pop(key, None)
        self._pace.total = sum(self._work.values())

    @property
    def estimate(self) -> str:
        """Time that has passed, and what is left."""
        done = sum(work * self._shares.get(key, 0.0) for key, work in self._work.items())
        return self._pace.words(done)

    def see(self, event: Progress | Activity | Note) -> None:
        """Show what workers report. Raises Interrupted where a signal has come."""
        if isinstance(event, Note):
            self.screen.say(event.text)
        elif isinstance(event, Activity):
            self._activity = event
        else:
            self._progress(event)
        self._show()

    def finish(self, key: str, text: str = "") -> None:
        """Count a job as finished, with a line that stays."""
        self._finished.add(key)
        self._shares[key] = 1.0
        self._running.pop(key, None)
        self.screen.say(text)
        self._show()

    def _progress(self, event: Progress) -> None:
        if event.key in self._finished:  # a message that came late
            return
        share = event.done / event.total
        if event.unit == "epoch" and event.key not in self._shares:
            self._pace.before += share * self._work.get(event.key, 0.0)
        self._shares[event.key] = share
        self._running[event.key] = f"{event.key} {event.note or f'{event.unit} {event.done}/{event.total}'}"
        if event.unit == "epoch":
            self._on_epoch(event.key)

    def _show(self) -> None:
        parts = [f"{len(self._finished)}/{len(self._work)} done", working(self._activity) if self._activity else ""]
        line = ", ".join([*filter(None, parts), self.estimate])
        if self.screen.console.is_terminal:
            self.screen.show(line, *self._running.values(), done=len(self._finished), total=len(self._work))
        else:
            self.screen.show("; ".join([*self._running.values(), line]))
