"""Standard output and standard error that may fail: a closed terminal, a full disk, a reader that has gone."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import IO, TextIO, cast

__all__ = ["LOST", "LastingOutput", "drop", "tell"]

LOST = {errno.EIO, errno.ENOSPC, errno.EDQUOT}
"""Errors of a closed terminal and of a full disk."""


class LastingOutput:
    """Standard output for a console: once it cannot be written, what is written is dropped, and a line says so."""

    def write(self, text: str) -> int:
        with _lasting():
            _output().write(text)
        return len(text)

    def flush(self) -> None:
        with _lasting():
            _output().flush()

    def isatty(self) -> bool:
        return _output().isatty()

    def fileno(self) -> int:
        return _output().fileno()

    @property
    def encoding(self) -> str:
        return _output().encoding


def tell(text: str) -> None:
    """Write a line on standard error, or nothing where that cannot be written."""
    if sys.stderr is None:  # it was closed before Python began
        return
    try:
        print(text, file=_itself(sys.stderr), flush=True)
    except OSError:
        drop(_itself(sys.stderr))


def drop(stream: IO[str]) -> None:
    """Send what a stream holds and will get to nowhere: Python flushes it once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextlib.contextmanager
def _lasting() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        drop(_output())
        tell(f"standard output cannot be written any more ({error.strerror}); the run goes on without a screen")


def _output() -> TextIO:
    return _itself(sys.stdout)


def _itself(stream: TextIO) -> TextIO:
    """The stream that rich stands in for while something stays in place."""
    return cast(TextIO, getattr(stream, "rich_proxied_file", stream))
