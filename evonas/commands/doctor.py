"""Look at this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from evonas.doctor import Examination, run_doctor

__all__ = ["Doctor"]


@dataclass(frozen=True, kw_only=True)
class Doctor(Examination):
    """Look at this machine, or at a Ray cluster, and run one tiny evaluation on every executor."""

    example: ClassVar[str] = "evonas doctor"

    def __call__(self) -> None:
        run_doctor(self)
