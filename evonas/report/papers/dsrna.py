"""DSRNA's tables: measured rows, and the paper's own, marked as reported and kept apart (Hosseini et al., 2021)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from evonas.report.chance import Chance, chance_notes
from evonas.report.retrained import TableRow
from evonas.report.text_table import TextTable, diverged_note

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ReportedTable", "measured_table", "reported_tables"]

TARGETS = {"random": "one other, drawn for each image", "all": "any other"}
WITHIN = {
    "interval": "intervals within the network",
    "linear": "linear bounds within the network",
    "signs": "linear bounds within the network, as far as signs need them",
}


def measured_table(
    means: pd.DataFrame,
    rows: Sequence[TableRow],
    attacks: Mapping[str, tuple[str, str]],
    radii: Mapping[str, str],
    data: str,
    *,
    certified_images: int = 100,
    targets: Literal["random", "all"] = "random",
    intermediate: Literal["interval", "signs", "linear"] = "interval",
    chance: Chance | None = None,
) -> TextTable:
    """One line a search with all its repeats: accuracy without and under attacks in percent, and mean certified radii.

    Args:
        means: of clean_error, the attacks' columns and the radii, as `means_of_repeats` gives them.
        rows: one for each network, with configuration, status and reason.
        attacks: column -> label of the attack and source of its settings.
        radii: column -> title of a certified radius; empty where none was measured.
        certified_images: number of test images that radii are means over.
        targets: classes that an image is certain not to be taken for: one drawn at random, or all others.
        intermediate: kind of bounds within the network.
        chance: level of guessing on the test images, whose results have a mark; None: unknown.
    """
    found: dict[str, dict[str, Any]] = {}
    for each in means.itertuples():
        found.setdefault(str(each.search), {})[str(each.column)] = each
    lines = tuple(
        (
            name,
            str(columns["clean_error"].searches),
            *(_accuracy(columns[error], error, chance) for error in ("clean_error", *attacks)),
            *(_value(columns[radius].mean, columns[radius].deviation, ".3g") for radius in radii),
        )
        for name, columns in found.items()
    )
    labels = (f"{label} %" for label, _ in attacks.values())
    notes = (
        "Measured: mean +- sample standard deviation over searches whose cells were trained again; pixels in [0, 1].",
        *_sources(attacks.values()),
        *([_about_radii(certified_images, targets, intermediate)] if radii else []),
        *chance_notes(lines, chance),
        *diverged_note(f"{row['configuration']} ({row['reason']})" for row in rows if row["status"] != "ok"),
    )
    header = ("Architecture", "Searches", "No attack %", *labels, *radii.values())
    return TextTable(f"Robustness of cells trained again, on {data}", header, lines, notes)


def _about_radii(images: int, targets: str, intermediate: str) -> str:
    return (
        f"Radii: mean over the first {images} test images of the largest radius at which the class is certain not to "
        f"be taken for {TARGETS[targets]}, 0 where it is wrong or nothing could be proven; linear bounds, over "
        f"{WITHIN[intermediate]}."
    )


def _sources(attacks: Collection[tuple[str, str]]) -> Iterator[str]:
    """One line for all attacks whose settings have the same source."""
    for note in dict.fromkeys(note for _, note in attacks):
        yield f"{', '.join(label for label, source in attacks if source == note)}: {note}."


def _accuracy(error: Any, column: str, chance: Chance | None) -> str:
    mark = "" if chance is None else chance.mark(column, error.mean)
    return _value(100 * (1 - error.mean), 100 * error.deviation, ".2f") + mark


def _value(mean: float, deviation: float, form: str) -> str:
    return f"{mean:{form}}" if math.isnan(deviation) else f"{mean:{form}} +- {deviation:{form}}"


def reported_tables(data: str) -> list[TextTable]:
    """The paper's own numbers for a data set; none for data sets other than CIFAR-10 and MNIST."""
    if data not in REPORTED:
        return []
    title, sources, text = REPORTED[data]
    header, *lines = (
        tuple(cell.strip().replace("±", " +- ") for cell in line.split("|")) for line in text.strip().splitlines()
    )
    note = (
        "As reported by Hosseini et al. (2021), none of it measured here: other training, other images, and -: not "
        f"reported. {sources}"
    )
    return [TextTable(title, header, tuple(lines), (note,))]


class ReportedTable(NamedTuple):
    """A published table."""

    title: str
    sources: str
    """Tables of the paper that it is put together from."""
    text: str
    """Lines of cells, the header first."""


REPORTED = {
    "cifar10": ReportedTable(
        "As reported: Tables 1, 2, 5 and 6, CIFAR-10",
        "No attack: Table 2; attacks: Table 1; certified lower bounds: Tables 5 and 6.",
        """
Method | No attack % | FGSM % | PGD (10) % | PGD (20) % | PGD (100) % | C&W % | Bound L-inf | Bound L2 | Params M
RobNet-large   | 78.57      | 54.98      | 49.49      | 49.44      | 49.24      | 47.19      | 0.0024 | 0.0167 | 6.9
RobNet-free    | 82.79      | 58.38      | 52.80      | 52.74      | 52.57      | 46.95      | -      | -      | 5.5
SDARTS-ADV     | 97.39±0.02 | 63.84±0.02 | 56.94±0.02 | 56.90±0.04 | 56.77±0.17 | 42.67±0.09 | 0.0039 | 0.0337 | 3.3
PC-DARTS-ADV   | 97.51±0.04 | 65.29±0.03 | 57.15±0.02 | 57.11±0.05 | 56.83±0.21 | 42.58±0.04 | 0.0040 | 0.0336 | 3.5
DSRNA-CB       | 97.42±0.07 | 69.88±0.09 | 60.31±0.07 | 60.22±0.11 | 59.93±0.24 | 63.01±0.07 | 0.0049 | 0.0412 | 3.5
DSRNA-Jacobian | 97.50±0.03 | 68.92±0.02 | 59.81±0.02 | 59.77±0.04 | 59.47±0.14 | 62.87±0.04 | 0.0048 | 0.0409 | 3.5
""",
    ),
    "mnist": ReportedTable(
        "As reported: Tables 4, 5 and 6, MNIST",
        "Attacks: Table 4; certified lower bounds: Tables 5 and 6.",
        """
Method         | No attack % | FGSM %     | PGD (100) % | C&W %      | Bound L-inf | Bound L2
RobNet-large   | 90.73       | 89.43      | 87.28       | 69.38      | 0.0325      | 0.1340
SDARTS-ADV     | 99.19±0.01  | 98.67±0.02 | 97.31±0.02  | 78.94±0.05 | 0.0471      | 0.1767
PC-DARTS-ADV   | 99.21±0.01  | 98.75±0.01 | 97.33±0.04  | 78.93±0.03 | 0.0474      | 0.1765
DSRNA-CB       | 99.21±0.03  | 98.85±0.03 | 97.34±0.06  | 94.02±0.08 | 0.0526      | 0.4288
DSRNA-Jacobian | 99.36±0.01  | 98.79±0.01 | 96.82±0.02  | 95.37±0.02 | 0.0514      | 0.4285
""",
    ),
}
"""Data set -> published table."""
