"""The study `guidelines`: is it the order of Lego-Net's layers that makes it good?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from evonas.audit.orders import TOLERANCE
from evonas.report import TextTable
from evonas.report.chance import chance_notes
from evonas.report.papers.beyond import draw_effects
from evonas.studies import tam
from evonas.studies.association import FEWEST
from evonas.studies.grid import Cell
from evonas.studies.intervals import Difference, paired_difference, spread
from evonas.studies.study import Item, Row, Studied, Study, read_rows
from evonas.studies.tables import DASH, MEASURED, NOTE, PAIRED, Measure, difference_cell, spread_cell
from evonas.studies.tam import WIDE

__all__ = ["STUDY"]

RECORD = "guidelines.json"
ORDERS = ("reversed", "middle", "random")
LEGO = "Lego-Net"
LABELS = {
    LEGO: "every layer's most frequent block and ratio on the front",
    "reversed": "its layers from the last to the first",
    "middle": "every layer's block and ratio of middle frequency",
    "random": "its layers in random orders, the mean over them",
}
PARAMS = Measure("Params M", "params", 1e-6, 4)
CLEAN = Measure("Clean error %", "clean_error", 100)


def cells(preset: str, seeds: int) -> Iterator[Cell]:
    """The runs of the study tam with Lego-Net, and other orders of its layers trained beside it."""
    for cell in tam.STUDY.cells(preset, seeds):
        if cell.group == WIDE and cell.role == "cifar10":
            after = replace(cell.options.after, lego=True, lego_orders=ORDERS)
            yield replace(cell, options=replace(cell.options, after=after), record=RECORD)


def read(folder: Path, cell: Cell) -> list[Row]:
    """Lego-Net and the orders of its layers."""
    rows = []
    for row in read_rows(folder / "finalised" / "finalised.csv"):
        found = re.fullmatch(rf"{LEGO}(?:, (\w+)(?: \d+)?)?", str(row["name"]))
        if found and row["mode"] == "scratch":
            rows.append({**row, "label": found[1] or LEGO})
    return rows


def measures(studied: Studied) -> tuple[Measure, ...]:
    """Parameters, clean error, and the errors under every PGD that was measured."""
    columns = {name for row in studied.rows for name in row if re.fullmatch(r"pgd\d+_\d+_error", name)}
    ordered = sorted(columns, key=lambda name: tuple(map(int, re.findall(r"\d+", name))))
    attacks = (Measure("P{} {}/255 error %".format(*re.findall(r"\d+", name)), name, 100) for name in ordered)
    return PARAMS, CLEAN, *attacks


def _by_seed(studied: Studied, label: str, measure: Measure) -> dict[int, float]:
    """Seed -> mean over its networks with that label."""
    found: dict[int, list[float]] = {}
    for row in studied.labelled(label):
        found.setdefault(row["seed"], []).append(measure.of(row))
    means = {seed: spread(values) for seed, values in found.items()}
    return {seed: each.mean for seed, each in means.items() if each is not None}


def _difference(studied: Studied, label: str, measure: Measure) -> Difference | None:
    """Error of Lego-Net minus that of another order, over seeds."""
    return paired_difference(_by_seed(studied, LEGO, measure), _by_seed(studied, label, measure))


def errors(studied: Studied) -> list[TextTable]:
    columns, chance = measures(studied), studied.chance()
    lines = []
    for label in LABELS:
        found = [(spread(_by_seed(studied, label, each).values()), each) for each in columns]
        cells = (spread_cell(own, each.digits, each.mark(own, chance)) for own, each in found)
        lines.append((label, MEASURED[0], *cells))
    for label in list(LABELS)[1:]:
        cells = (difference_cell(_difference(studied, label, each), each.digits) for each in columns)
        lines.append((f"{LEGO} - {label}", MEASURED[2], *cells))
    notes = (
        NOTE,
        PAIRED,
        f"All of them have Lego-Net's number of parameters within {100 * TOLERANCE:.0f}%, by the fewest changes of "
        "ratios, and are trained and attacked alike. Layers of stride 2 are ordered among themselves.",
        *chance_notes(lines, chance),
    )
    title = f"Orders of Lego-Net's layers, trained from scratch; {studied.data('cifar10')}"
    return [TextTable(title, ("Order", "Source", *(each.heading for each in columns)), tuple(lines), notes)]


def orders(studied: Studied) -> list[TextTable]:
    """The layers of the first seed's networks."""
    seeds = [row["seed"] for row in studied.rows]
    rows = [row for row in studied.rows if row["seed"] == min(seeds)]
    header = ("Network", "Params", "Blocks", "Ratios")
    if not rows:
        return [TextTable("Layers", header, ((DASH,) * len(header),))]
    lines = []
    for row in rows:
        genes = row["genome"].split()
        blocks, ratios = genes[: len(genes) // 2], [f"{(int(gene) + 1) / 5:g}" for gene in genes[len(genes) // 2 :]]
        lines.append((str(row["name"]), f"{row['params']:,.0f}", " ".join(blocks), " ".join(ratios)))
    return [TextTable(f"Layers, from the first to the last, of seed {min(seeds)}", header, tuple(lines))]


def findings(studied: Studied) -> Iterator[str]:
    """Lego-Net against every order, clean and under the strongest PGD."""
    if not studied.rows:
        yield "Nothing yet: no network is trained."
        return
    columns = measures(studied)
    for measure in (CLEAN, *columns[-1:]) if len(columns) > 2 else (CLEAN,):
        for label in list(LABELS)[1:]:
            found = _difference(studied, label, measure)
            both = [spread(_by_seed(studied, each, measure).values()) for each in (LEGO, label)]
            guessed = found is not None and all(measure.mark(each, studied.chance()) for each in both)
            verdict = "both are at chance level: says nothing" if guessed else _verdict(found)
            yield f"{measure.heading}, {LEGO} minus {label}: {difference_cell(found)}; {verdict}."


def _verdict(found: Difference | None) -> str:
    if found is None:
        return "it was not trained"
    if found.n == 1:
        return "one seed shows nothing"
    few = "" if found.n >= FEWEST else f" in these {found.n} seeds, which are too few for a sound interval"
    if found.high < 0:
        return f"Lego-Net is better{few}"
    if found.low > 0:
        return f"Lego-Net is worse{few}"
    return "the interval holds 0: no difference is shown"


class _Drawn(Difference):
    """A difference as the picture takes it."""

    @property
    def value(self) -> float:
        return self.mean


def draw(studied: Studied, path: Path) -> bool:
    columns = [each for each in measures(studied) if each is not PARAMS]
    chosen: Mapping[str, Measure] = {each.heading: each for each in (CLEAN, columns[-1])}
    effects = {}
    for label in list(LABELS)[1:]:
        found = {name: _difference(studied, label, each) for name, each in chosen.items()}
        effects[f"{LEGO} - {label}"] = {name: _Drawn(*each) for name, each in found.items() if each is not None}
    title = f"{LEGO} minus other orders of its layers, {studied.data('cifar10')}"
    return draw_effects(path, effects, title, "points of error (below 0: Lego-Net is better)")


STUDY = Study(
    name="guidelines",
    paper="TAM-NAS (Xie et al., 2021), beyond the paper: whether Lego-Net's order of layers matters.",
    cells=cells,
    read=read,
    shares="tam",
    findings=findings,
    notes=(
        "TAM-NAS's guidelines say which blocks stand in which layers of good networks, and Lego-Net follows them. Here "
        "it stands beside networks of as many parameters with other orders of its layers.",
        *(f"{label}: {words}." for label, words in LABELS.items()),
    ),
    items=(
        Item("Table orders", "clean and PGD errors of every order", "no paper has it", errors),
        Item("Table layers", "blocks and ratios of these networks", "no paper has it", orders),
        Item("Fig. orders", "paired differences with their intervals", "no paper has it", draw=draw),
    ),
)
