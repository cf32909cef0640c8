"""Tables of a study: what was measured, as means over seeds, above what the paper reports, and paired differences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from evonas.files import exists, read_json
from evonas.report import Chance, TextTable
from evonas.report.chance import chance_notes
from evonas.studies.grid import paper_data
from evonas.studies.intervals import Difference, Spread, paired_difference, spread
from evonas.studies.study import Row, Studied

__all__ = ["DASH", "MEASURED", "Measure", "PaperTable", "difference_cell", "spread_cell"]

DASH = "-"
MEASURED = ("measured", "as reported", "difference", "change in %")
"""Sources of a line."""

OOD = "out-of-distribution images: "
"""Beginning of a run's note on which it took, where it had the choice."""

NOISE = 1e-12
"""Size that rounding can give to a difference of equal numbers."""

NOTE = (
    "measured: mean +- standard deviation of the sample over seeds (their number). as reported: the paper's own, "
    f"with its data and training; not measured here. {DASH}: no run is finished, not reported, or there is none (equal "
    "errors have no order, published cells no search here)."
)
PAIRED = (
    "difference: mean of the paired differences over seeds and its 95% bootstrap interval (BCa, 9,999 resamples of the "
    "seeds); none of one seed, and far too narrow of two or three."
)


class Measure(NamedTuple):
    """A column of a table."""

    heading: str
    column: str
    """Of the rows."""
    scale: float = 1.0
    """Factor from natural values; a negative one turns an error into an accuracy: 100 * (1 - error)."""
    digits: int = 2

    def of(self, row: Mapping[str, Any]) -> float:
        """The value in the table's unit; NaN where it was not measured."""
        value = row.get(self.column)
        if not isinstance(value, float | int):
            return math.nan
        return -self.scale * (1 - value) if self.scale < 0 else self.scale * value

    def mark(self, found: Spread | None, chance: Chance | None) -> str:
        """Mark of a mean in the table's unit that is no better than guessing."""
        if found is None or chance is None:
            return ""
        return chance.mark(self.column, 1 + found.mean / self.scale if self.scale < 0 else found.mean / self.scale)


@dataclass(frozen=True)
class PaperTable:
    """A table that has one line for every architecture, called as an item's `tables`."""

    name: str
    title: str
    measures: tuple[Measure, ...]
    text: str
    """A line an architecture: its label among the rows, then what is reported; `*` before what only papers measured."""
    role: str = "cifar10"
    heading: str = "Architecture"
    pairs: tuple[tuple[str, str], ...] = ()
    """Labels whose differences are given, first minus second."""
    relative: bool = False
    """Give relative changes of these pairs, too: in percent of the second."""

    def __call__(self, studied: Studied) -> tuple[TextTable, ...]:
        data, meant, chance = studied.data(self.role), paper_data(self.role), studied.chance(self.role)
        on = meant if data == self.role else f"{data}, which stands for {meant} here"
        lines = [
            cells
            for label, reported, only in self._reported()
            for cells in self._lines(studied, label, reported, only, chance)
        ]
        lines += [self._difference(studied, *pair) for pair in self.pairs]
        lines += [self._change(studied, *pair) for pair in self.pairs if self.relative]
        header = (self.heading, "Source", *(each.heading for each in self.measures))
        aupr = any(each.column == "ood_aupr" for each in self.measures)
        ood = _ood_notes(studied, self.role) if aupr else ()
        notes = (NOTE, *((PAIRED,) if self.pairs else ()), *ood, *chance_notes(lines, chance))
        return (TextTable(f"{self.name}: {self.title}; {on}", header, tuple(lines), notes),)

    @property
    def labels(self) -> list[str]:
        """Labels of the lines that runs of the study are to fill."""
        return [label for label, _, only in self._reported() if not only]

    def _reported(self) -> Iterator[tuple[str, list[str], bool]]:
        """(label, cells, whether only the paper has it) of every line."""
        for line in self.text.strip().splitlines():
            label, *cells = (cell.strip() for cell in line.split("|"))
            yield label.removeprefix("*").strip(), cells, label.startswith("*")

    def _lines(
        self, studied: Studied, label: str, reported: list[str], only: bool, chance: Chance | None
    ) -> Iterator[tuple[str, ...]]:
        if not only:
            found = [(spread(self._by_seed(studied, label, each).values()), each) for each in self.measures]
            yield (label, MEASURED[0], *(spread_cell(own, each.digits, each.mark(own, chance)) for own, each in found))
        if any(cell not in ("", DASH) for cell in reported):
            full = [*reported, *[DASH] * (len(self.measures) - len(reported))]
            yield (label, MEASURED[1], *(cell or DASH for cell in full))

    def _by_seed(self, studied: Studied, label: str, measure: Measure) -> dict[int, float]:
        """Seed -> mean over the rows that count."""
        found: dict[int, list[Row]] = {}
        for row in studied.labelled(label, self.role):
            found.setdefault(row["seed"], []).append(row)
        means = {seed: spread(map(measure.of, rows)) for seed, rows in found.items()}
        return {seed: each.mean for seed, each in means.items() if each is not None}

    def _difference(self, studied: Studied, first: str, second: str) -> tuple[str, ...]:
        cells = (
            difference_cell(
                paired_difference(self._by_seed(studied, first, each), self._by_seed(studied, second, each)),
                each.digits,
            )
            for each in self.measures
        )
        return (f"{first} - {second}", MEASURED[2], *cells)

    def _change(self, studied: Studied, first: str, second: str) -> tuple[str, ...]:
        cells = []
        for measure in self.measures:
            own, other = (self._by_seed(studied, label, measure) for label in (first, second))
            changes = [100 * (own[seed] / other[seed] - 1) for seed in own if other.get(seed)]
            cells.append(spread_cell(spread(changes)))
        return (f"{first} against {second}", MEASURED[3], *cells)


def _ood_notes(studied: Studied, role: str) -> tuple[str, ...]:
    """Out-of-distribution images of the finished runs on a data set; nothing where there is none."""
    found = {_ood(studied.runs / cell.folder) for cell in studied.finished if cell.role == role}
    names = ", ".join(sorted(map(paper_data, found - {""})))
    return (f"Out-of-distribution images of the AUPR: {names}.",) if names else ()


def _ood(folder: Path) -> str:
    """Name of the out-of-distribution images that a run was given, or chose; nothing where it has none."""
    path = folder / "config.json"
    config = read_json(path) if exists(path) else {}
    asked = str(config.get("settings", {}).get("ood_data", ""))
    if asked != "auto":
        return asked
    chosen = (note.removeprefix(OOD) for note in config.get("notes", ()) if note.startswith(OOD))
    return next(chosen, "").partition(",")[0]


def spread_cell(found: Spread | None, digits: int = 2, mark: str = "") -> str:
    """`12.34 +- 0.56 (3)`, `12.34 (1)` with a mark behind it, or a dash."""
    if found is None:
        return DASH
    deviation = "" if math.isnan(found.deviation) else f" +- {_number(found.deviation, digits)}"
    return f"{_number(found.mean, digits)}{deviation} ({found.n}){mark}"


def difference_cell(found: Difference | None, digits: int = 2) -> str:
    """`+1.20 [-0.30, +2.70] (3)`, `+1.20 (1)`, or a dash."""
    if found is None:
        return DASH
    low, mean, high = (_number(each, digits, "+") for each in (found.low, found.mean, found.high))
    interval = "" if math.isnan(found.low) else f" [{low}, {high}]"
    return f"{mean}{interval} ({found.n})"


def _number(value: float, digits: int, sign: str = "") -> str:
    """With as many digits behind the point; `1.3e-07` where these would hide that it is not 0."""
    text = f"{value:{sign}z.{digits}f}"
    hidden = abs(value) > NOISE and float(text) == 0
    return f"{value:{sign}.1e}" if hidden else text
