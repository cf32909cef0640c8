"""Ctrl-C, SIGTERM, a closed terminal: the first ends the run after the line being written, the second at once."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Interrupted", "Interruption", "interruptible"]

ENDING = (signal.SIGINT, signal.SIGTERM)


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
    """Within, SIGINT, SIGTERM and SIGHUP raise Interrupted once; a second one kills the process as the system does.

    SIGHUP does so unless it is ignored, as below `nohup`, and only once: kernel and shell both send it.
    Outside the main thread signals are left to whoever handles them there.
    """
    interruption = Interruption()

    def handle(number: int, frame: FrameType | None) -> None:
        for name in ENDING:
            signal.signal(name, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        interruption.signal_number = number
        interruption.check()

    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield interruption
        return
    hangs_up = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    before = {name: signal.signal(name, handle) for name in (*ENDING, *([signal.SIGHUP] if hangs_up else []))}
    try:
        yield interruption
    except KeyboardInterrupt:
        interruption.check()  # a library may raise a plain one for the signal that came
        raise
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
