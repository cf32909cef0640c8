"""Tables of DSRNA's evaluation: rows that were measured, and the paper's own, marked as reported and kept apart."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evonas.audit.robust_cells import RADII, RobustnessScoring
from evonas.report import TextTable
from evonas.runs.repeats import Means

__all__ = ["measured_table", "reported_tables"]

LABELS = {"certified_radius_linf": "Radius L-inf", "certified_radius_l2": "Radius L2"}
TARGETS = {"random": "one other, drawn for each image", "all": "any other"}
WITHIN = {"interval": "intervals within the network", "linear": "linear bounds within the network"}


def measured_table(means: Means, rows: Sequence[Mapping[str, Any]], scoring: RobustnessScoring, data: str) -> TextTable:
    """One line a search with all its repeats: accuracy without and under attacks in percent, and mean certified radii.

    Args:
        rows: of all networks, `configuration`, `status` and `reason`.
    """
    radii = list(RADII) if scoring.certified_images else []
    header = (
        "Architecture",
        "Searches",
        "No attack %",
        *(f"{column.label} %" for column in scoring.columns),
        *(LABELS[name] for name in radii),
    )
    errors = ["clean_error", *(column.name for column in scoring.columns)]
    lines = []
    for name, found in means.items():
        accuracies = [(100 * (1 - found[error][1]), 100 * found[error][2]) for error in errors]
        lines.append(
            (
                name,
                str(found["clean_error"][0]),
                *(_value(*each, ".2f") for each in accuracies),
                *(_value(*found[radius][1:], ".3g") for radius in radii),
            )
        )
    notes = [
        "Measured: mean +- sample standard deviation over searches whose cells were trained again; pixels in [0, 1].",
        *_sources(scoring),
    ]
    if radii:
        notes.append(
            f"Radii: mean over the first {scoring.certified_images} test images of the largest radius at which the "
            f"class is certain not to be taken for {TARGETS[scoring.targets]}, 0 where it is wrong or nothing could be "
            f"proven; linear bounds, over {WITHIN[scoring.intermediate]}."
        )
    failed = [f"{row['configuration']} ({row['reason']})" for row in rows if row["status"] != "ok"]
    if failed:
        notes.append(f"Left out, because training or scoring diverged: {', '.join(failed)}.")
    return TextTable(f"Robustness of cells trained again, on {data}", header, tuple(lines), tuple(notes))


def reported_tables(data: str) -> list[TextTable]:
    """What the paper reports for a data set; none for others than CIFAR-10 and MNIST."""
    if data not in REPORTED:
        return []
    title, header, lines = REPORTED[data]
    note = (
        "As reported by Hosseini et al. (2021), none of it measured here: other training, other images, and -: not "
        f"reported. {NOTES[data]}"
    )
    return [TextTable(title, header, lines, (note,))]


def _sources(scoring: RobustnessScoring) -> Iterator[str]:
    """A line for all attacks whose settings come from one place."""
    for note in dict.fromkeys(column.note for column in scoring.columns):
        yield f"{', '.join(column.label for column in scoring.columns if column.note == note)}: {note}."


def _value(mean: float, spread: float, form: str) -> str:
    return f"{mean:{form}}" if math.isnan(spread) else f"{mean:{form}} +- {spread:{form}}"


NOTES = {
    "cifar10": "No attack: Table 2; attacks: Table 1; certified lower bounds: Tables 5 and 6.",
    "mnist": "Attacks: Table 4; certified lower bounds: Tables 5 and 6.",
}

REPORTED: dict[str, tuple[str, tuple[str, ...], tuple[tuple[str, ...], ...]]] = {
    "cifar10": (
        "As reported: Tables 1, 2, 5 and 6, CIFAR-10",
        ("Method", "No attack %", "FGSM %", "PGD (10) %", "PGD (20) %", "PGD (100) %", "C&W %", "Bound L-inf",
         "Bound L2", "Params M"),
        (
            ("RobNet-large", "78.57", "54.98", "49.49", "49.44", "49.24", "47.19", "0.0024", "0.0167", "6.9"),
            ("RobNet-free", "82.79", "58.38", "52.80", "52.74", "52.57", "46.95", "-", "-", "5.5"),
            ("SDARTS-ADV", "97.39 +- 0.02", "63.84 +- 0.02", "56.94 +- 0.02", "56.90 +- 0.04", "56.77 +- 0.17",
             "42.67 +- 0.09", "0.0039", "0.0337", "3.3"),
            ("PC-DARTS-ADV", "97.51 +- 0.04", "65.29 +- 0.03", "57.15 +- 0.02", "57.11 +- 0.05", "56.83 +- 0.21",
             "42.58 +- 0.04", "0.0040", "0.0336", "3.5"),
            ("DSRNA-CB", "97.42 +- 0.07", "69.88 +- 0.09", "60.31 +- 0.07", "60.22 +- 0.11", "59.93 +- 0.24",
             "63.01 +- 0.07", "0.0049", "0.0412", "3.5"),
            ("DSRNA-Jacobian", "97.50 +- 0.03", "68.92 +- 0.02", "59.81 +- 0.02", "59.77 +- 0.04", "59.47 +- 0.14",
             "62.87 +- 0.04", "0.0048", "0.0409", "3.5"),
        ),
    ),
    "mnist": (
        "As reported: Tables 4, 5 and 6, MNIST",
        ("Method", "No attack %", "FGSM %", "PGD (100) %", "C&W %", "Bound L-inf", "Bound L2"),
        (
            ("RobNet-large", "90.73", "89.43", "87.28", "69.38", "0.0325", "0.1340"),
            ("SDARTS-ADV", "99.19 +- 0.01", "98.67 +- 0.02", "97.31 +- 0.02", "78.94 +- 0.05", "0.0471", "0.1767"),
            ("PC-DARTS-ADV", "99.21 +- 0.01", "98.75 +- 0.01", "97.33 +- 0.04", "78.93 +- 0.03", "0.0474", "0.1765"),
            ("DSRNA-CB", "99.21 +- 0.03", "98.85 +- 0.03", "97.34 +- 0.06", "94.02 +- 0.08", "0.0526", "0.4288"),
            ("DSRNA-Jacobian", "99.36 +- 0.01", "98.79 +- 0.01", "96.82 +- 0.02", "95.37 +- 0.02", "0.0514", "0.4285"),
        ),
    ),
}  # fmt: skip
"""Data set -> title, header, lines, of the published paper's tables."""
