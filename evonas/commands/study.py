"""Make a paper's tables and figures: all of their runs, and what is made of those that are finished."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import tyro

from evonas.commands.opened import print_table
from evonas.errors import choose
from evonas.studies.options import StudyOptions

__all__ = ["StudyCommand"]


@dataclass(frozen=True)
class StudyCommand(StudyOptions):
    """Run a paper's whole grid of searches, with seeds, and write its tables and figures; the same command continues.

    Meanwhile, --status says how far it is.
    """

    example: ClassVar[str] = "evonas study roco --preset quick --seeds 3"

    name: Annotated[str, tyro.conf.Positional]
    """Name of the study: roco, darts, e2rnas-v1, e2rnas-v2, dsrna, tam, joint, capacity, supernet, guidelines,
    proxies."""
    status: bool = False
    """Say what is finished, begun, failed and waiting; nothing is run or written."""
    tables: bool = False
    """Write tables and figures from what is finished; nothing is run."""

    def __call__(self) -> None:
        from evonas.studies import STUDIES
        from evonas.studies.options import make_study, write_tables
        from evonas.studies.page import status_table

        study = choose(STUDIES, self.name, "study")
        if self.status:
            print_table(status_table(self.studied(study)), kept=2)
        elif self.tables:
            write_tables(study, self)
        else:
            make_study(study, self)
