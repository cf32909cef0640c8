"""Ctrl-C and SIGTERM: the first ends the run after the line being written, the second ends it at once."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Interrupted", "Interruption", "interruptible"]


class Interrupted(KeyboardInterrupt):
    """The user, or the system, asked the run to end."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.exit_code = 128 + signal_number


class Interruption:
    """Remembers a signal, because an exception that is raised inside a callback of C code gets lost."""

    def __init__(self) -> None:
        self.signal_number: int | None = None

    def check(self) -> None:
        """Raise Interrupted where a signal has come."""
        if self.signal_number is not None:
            raise Interrupted(self.signal_number)


@contextlib.contextmanager
def interruptible() -> Iterator[Interruption]:
    """Within, SIGINT and SIGTERM raise Interrupted once; a second one kills the process as the system does.

    Outside the main thread signals are left to whoever handles them there.
    """
    interruption = Interruption()

    def handle(number: int, frame: FrameType | None) -> None:
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_DFL)
        interruption.signal_number = number
        interruption.check()

    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield interruption
        return
    before = {name: signal.signal(name, handle) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    except KeyboardInterrupt:
        interruption.check()  # a library may raise a plain one for the signal that came
        raise
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
