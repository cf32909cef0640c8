"""Scores looked up in a table: no network is built, none is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from evonas.data import Dataset, DeviceData
from evonas.errors import ConfigurationError, DataError, nearest
from evonas.evaluation.prepare import PrepareCandidate
from evonas.evaluation.table import ScoreTable
from evonas.objectives import Candidate, Column, CostedSpace, Macs, Objective, Params
from evonas.types import Genome, Report

__all__ = ["LookUp", "TableError", "table_objectives"]


@dataclass(frozen=True, eq=False)
class LookUp:
    """Candidates of a table: they have costs, and no weights.

    A genome that the table lacks is a failed evaluation.
    """

    table: ScoreTable

    @property
    def data(self) -> Dataset:
        return self.table.data

    @property
    def space(self) -> Any:
        return self.table.space

    @property
    def normalization(self) -> None:
        return None

    @property
    def epochs(self) -> None:
        return None

    def identity(self) -> dict[str, Any]:
        return {"table": {"fingerprint": self.table.fingerprint}}

    def start(self) -> PrepareCandidate:
        data = DeviceData(self.data, torch.device("cpu"))

        def prepare(genome: Genome, seed: int, report: Report) -> tuple[Candidate, float]:
            self.table.errors(genome)  # raises for one that is missing
            cost = self.space.cost(genome, data.n_classes)
            return Candidate(_Untrained(), genome, self.space, data, cost, torch.Generator()), 0.0

        return prepare


@dataclass(frozen=True, eq=False)
class TableError:
    """An error of the table, a fraction in [0, 1] to be minimised: one minus the accuracy that it has."""

    name: str
    table: ScoreTable
    stage: ClassVar[str] = "before"

    def identity(self) -> dict[str, Any]:
        return {"column": self.name, "table": self.table.fingerprint}

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        return (Column(self.name, reference=1.0, metadata=self.identity()),)

    def __call__(self, candidate: Candidate) -> Mapping[str, float]:
        errors = self.table.errors(candidate.genome)
        if self.name not in errors:
            raise DataError(f"the table has no {self.name} of {self.table.space.describe(candidate.genome)}")
        return {self.name: errors[self.name]}


def table_objectives(table: ScoreTable, names: Sequence[str]) -> tuple[Objective, ...]:
    """The objectives called so, then the other errors that the table has of every network, to be recorded beside.

    Raises:
        ConfigurationError: the table has no such column.
    """
    costs: dict[str, Objective] = {Params.name: Params(), Macs.name: Macs()}
    known = (*table.columns, *costs)
    for name in names:
        if name not in known:
            raise ConfigurationError(
                f"expected --objectives among {','.join(known)} of the table, got {name}; "
                f"{nearest(name, known)}give --objectives {table.columns[-1]},params"
            )
    errors: dict[str, Any] = {name: TableError(name, table) for name in table.columns}
    beside = [name for name in table.columns if all(name in scores for scores in table.scores.values())]
    return tuple((costs | errors)[name] for name in dict.fromkeys((*names, *beside)))


class _Untrained(nn.Module):
    """No network: whatever needs one is told so."""

    def forward(self, images: Tensor) -> Tensor:
        raise ConfigurationError("expected a network with weights; of this one only a table's numbers are known")
