"""TAM-NAS's study: supernets of several attacks, their best networks, Lego-Net; Tables II to X, Figures 5 to 9."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evonas.methods.tam import PRESETS, TamOptions
from evonas.report import TextTable
from evonas.report.papers.tam import Count, block_table, layer_table, plot_layers
from evonas.report.papers.tam_fronts import draw_bubbles, draw_ways
from evonas.runs.options import changed
from evonas.studies.grid import Cell
from evonas.studies.intervals import spread
from evonas.studies.study import Item, Row, Studied, Study, drawing, failed, read_rows
from evonas.studies.tables import NOTE, Measure, PaperTable, spread_cell
from evonas.studies.tam_layers import layers_table
from evonas.studies.tam_reported import EIGHT, FIVE, FOUR, NINE, SIX, TEN, THREE, TWO

__all__ = ["STUDY"]

BASE = "S 8/255, 10 steps"
WIDE, WIDE_SVHN = "2S 8/255, 1 step", "2S 8/255, 5 steps"
SUPERNETS = {
    "cifar10": ((8, 10), (8, 1), (8, 2), (6, 10), (4, 10), (2, 10)),
    "svhn": ((8, 10), (8, 1), (8, 5), (6, 10), (4, 10), (2, 10)),
}
"""Data set -> (epsilon in 255ths, steps) of the supernets S of Tables II to VI."""
TWICE = {"cifar10": (1,), "svhn": (5, 1)}
"""Data set -> steps of the supernets 2S of Tables VIII to X, within 8/255."""
BOTH_WAYS = (BASE, "S 8/255, 2 steps")
"""Supernets whose front is also fine-tuned, for Figure 5; the paper does not name its own."""
FIGURES_6_AND_7 = (WIDE, "S 6/255, 10 steps", "S 8/255, 2 steps")
IN_TABLE_X = ("S 6/255, 10 steps", "S 8/255, 2 steps")
"""Supernets S whose best network stands in Table X, too."""
SIZES: dict[str, dict[str, Any]] = {
    "quick": {
        "data": "digits",
        "train_limit": 300,
        "val_limit": 100,
        "block_epochs": 2,
        "joint_epochs": 4,
        "joint_milestones": (3,),
        "population": 6,
        "generations": 2,
        "attack_images": 100,
        "recalibration_batches": 4,
        "finalise_top": 3,
        "finalise_epochs": 2,
        "finalise_milestones": (1,),
        "test_limit": 60,
        "test_epsilons": (2, 4, 6, 8),
        "test_steps": (10, 30, 50),
        "handmade_width": 0.125,
    },
    "small": {
        "train_limit": 8000,
        "val_limit": 1000,
        "block_epochs": 8,
        "joint_epochs": 16,
        "joint_milestones": (10, 14),
        "population": 20,
        "generations": 8,
        "finalise_top": 5,
        "finalise_epochs": 10,
        "finalise_milestones": (8,),
        "test_limit": 1000,
        "test_epsilons": (2, 4, 6, 8),
        "test_steps": (10, 30, 50),
        "handmade_width": 0.25,
    },
    "paper": {"train_on": "all"},
}
HANDMADE = ("ResNet-18", "ShuffleNetV2", "MobileNetV3")

CLEAN, PARAMS = Measure("Clean %", "clean_error", -100), Measure("Params M", "params", 1e-6, 4)
GRID = tuple(
    Measure(f"P{steps} {epsilon}/255 %", f"pgd{steps}_{epsilon}_error", -100)
    for steps in (10, 30, 50)
    for epsilon in (2, 4, 6, 8)
)
TABLE_X = tuple(Measure(f"P{n} {e}/255 %", f"pgd{n}_{e}_error", -100) for n, e in ((20, 8), (100, 8), (100, 2)))


def supernet(epsilon: int, steps: int, wide: bool = False) -> str:
    return f"{'2S' if wide else 'S'} {epsilon}/255, {steps} step{'s' if steps > 1 else ''}"


def cells(preset: str, seeds: int) -> Iterator[Cell]:
    """A supernet a run; SVHN in `paper` alone."""
    roles = ("cifar10", "svhn") if preset == "paper" else ("cifar10",)
    for seed in range(seeds):
        for role in roles:
            for epsilon, steps in SUPERNETS[role]:
                yield _cell(preset, seed, role, supernet(epsilon, steps), epsilon, steps)
            for steps in TWICE[role]:
                yield _cell(preset, seed, role, supernet(8, steps, wide=True), 8, steps, intermediate=2)


def _cell(preset: str, seed: int, role: str, name: str, epsilon: int, steps: int, intermediate: int = 1) -> Cell:
    usual = PRESETS["paper" if preset == "paper" else "quick"]
    values: dict[str, Any] = {"data": role, **SIZES[preset], "seed": seed}
    values |= {"supernet_epsilon": epsilon / 255, "intermediate": intermediate}
    values["supernet_steps"] = None if steps == TamOptions().yopo_steps else steps  # so finished cells stay found
    values["finalise"] = "both" if name in BOTH_WAYS else "scratch"
    if intermediate == 2:
        values["lego"] = True
        if preset != "paper":
            values["window"] = None
    values["handmade"] = HANDMADE if name == WIDE and role == "cifar10" else ()
    if not values["handmade"]:
        values.pop("handmade_width", None)
    values["handmade_steps"] = (20, 100)
    if name in IN_TABLE_X:
        values["test_steps"] = (10, 20, 30, 50, 100)
    options: TamOptions = changed(usual, values)
    return Cell(group=name, method="tam", options=options, role=role)


def read(folder: Path, cell: Cell) -> list[Row]:
    """The subnet of best adversarial accuracy after training from scratch, Lego-Net and hand-made networks, labelled.

    All of the front besides, as `NAME front`, and as it was searched, as `NAME searched`.
    """
    rows = [{**row, "label": _label(row, cell)} for row in read_rows(folder / "finalised" / "finalised.csv")]
    ok = [row for row in rows if not failed(row)]
    scratch = [row for row in ok if row["label"] == f"{cell.group} front" and row["mode"] == "scratch"]
    best = min(scratch, key=lambda row: (_adversarial(row), row["arch_id"]), default=None)
    searched = [
        {**row, "label": f"{cell.group} searched", "adversarial_error": row["pgd_error"]}
        for row in read_rows(folder / "front.csv")
    ]
    own = [] if best is None else [{**best, "label": cell.group}]
    return [
        *own,
        *({**row, "adversarial_error": _adversarial(row)} for row in ok),
        *filter(failed, rows),
        *searched,
    ]


def _label(row: Row, cell: Cell) -> str:
    name = str(row["name"])
    if name.startswith("Lego-Net"):
        return f"LEGO {cell.group}{name.removeprefix('Lego-Net')}"
    return next((known for known in HANDMADE if name.startswith(known)), f"{cell.group} front")


def _adversarial(row: Row) -> float:
    """Error under the PGD of the largest epsilon and the fewest steps that was measured: P10 8/255 in the paper."""
    found = [(re.fullmatch(r"pgd(\d+)_(\d+)_error", column), value) for column, value in row.items()]
    measured = [(int(match[2]), -int(match[1]), value) for match, value in found if match]
    return float(max(measured)[2])


def _fronts(studied: Studied, names: Sequence[str], kind: str) -> dict[str, list[Row]]:
    """Supernet -> rows of its `searched` or trained `front`, of the first seed with trained ones, if any."""
    found = {}
    for name in names:
        of = studied.labelled(f"{name} front") or studied.labelled(f"{name} searched")
        found[name] = [row for row in studied.labelled(f"{name} {kind}") if row["seed"] == of[0]["seed"]]
    return found


def figure_five(studied: Studied, path: Path) -> bool:
    return draw_ways(path, _fronts(studied, BOTH_WAYS, "front"), studied.data("cifar10"))


def _bubbles(kind: str, title: str) -> Callable[[Studied, Path], bool]:
    def draw(studied: Studied, path: Path) -> bool:
        fronts = _fronts(studied, FIGURES_6_AND_7, kind)
        of_one = {name: [row for row in rows if row.get("mode") != "finetune"] for name, rows in fronts.items()}
        searched = _fronts(studied, FIGURES_6_AND_7, "searched")
        return draw_bubbles(path, of_one, searched, f"{title}, {studied.data('cifar10')}")

    return draw


def settled(studied: Studied) -> list[TextTable]:
    """First generation whose hypervolume is 99% of the last one's, supernet by supernet."""
    found: dict[str, list[float]] = {cell.group: [] for cell in studied.cells if cell.role == "cifar10"}
    for cell in studied.finished:
        volumes = [float(row["hypervolume"]) for row in read_rows(studied.root / cell.folder / "history.csv")]
        if cell.role == "cifar10" and volumes and volumes[-1] > 0:
            found[cell.group].append(next(i for i, each in enumerate(volumes) if each >= 0.99 * volumes[-1]))
    lines = [(name, "measured", spread_cell(spread(values), 1)) for name, values in found.items()]
    lines.append(("most runs of the paper", "as reported", "18"))
    header = ("Supernet", "Source", "Generation of 99% of the last hypervolume")
    generations = studied.cells[0].options.search.generations
    title = f"When hypervolume settles, of {generations} generations; {studied.data('cifar10')}"
    none = "A run whose last hypervolume is 0 settles nowhere, and is left out."
    return [TextTable(title, header, tuple(lines), (NOTE, none))]


def layers(studied: Studied) -> list[TextTable]:
    """Table I."""
    cell = next(cell for cell in studied.cells if cell.group == BASE)
    return [layers_table(cell.options.space(32).plan)]


def statistics(studied: Studied) -> list[TextTable]:
    """The counts behind Figures 8 and 9, those of all seeds added up, and the codes of the blocks."""
    counts, seeds = Counter[tuple[int, str, float]](), _counted(studied)
    for layer, kind, choice, count in (each for own in seeds for each in own):
        counts[layer, kind, choice] += count
    cell = next(cell for cell in studied.cells if cell.group == BASE)
    found = [(*key, count) for key, count in counts.items()]
    return [layer_table(found, _networks(found), max(len(seeds), 1)), block_table(cell.options.space(32))]


def _counted(studied: Studied) -> list[list[Count]]:
    """Counts of the layers of the best networks, seed by seed."""
    of = [cell for cell in studied.finished if (cell.group, cell.role) == (WIDE, "cifar10")]
    every = [read_rows(studied.root / cell.folder / "finalised" / "layer_statistics.csv") for cell in of]
    return [[(int(row["layer"]), str(row["kind"]), row["choice"], int(row["count"])) for row in rows] for rows in every]


def _networks(counts: Sequence[Count]) -> int:
    """Number of networks that were counted."""
    return sum(count for layer, kind, _, count in counts if (layer, kind) == (0, "block"))


def layers_figure(kind: str) -> Callable[[Studied, Path], bool]:
    """Figure 8 (block) or 9 (ratio), of the first seed with counts."""

    def draw(studied: Studied, path: Path) -> bool:
        counts = next(filter(None, _counted(studied)), None)
        if counts is not None:
            plot_layers(path, counts, _networks(counts), studied.data("cifar10"), kind)
        return counts is not None

    return draw


def _table(name: str, title: str, text: str, role: str = "cifar10", base: str = BASE) -> PaperTable:
    """One of Tables II to VI and VIII, each line against the first one's supernet."""
    made = PaperTable(name, title, (PARAMS, CLEAN, *GRID), text, role, "Supernet")
    return replace(made, pairs=tuple((label, base) for label in made.labels if label != base), relative=True)


TABLE_EIGHT = _table("Table VIII", "Lego-Net", EIGHT, base=WIDE)
LEGO, LEGO_SVHN = f"LEGO {WIDE}", f"LEGO {WIDE_SVHN}"
TABLE_NINE = replace(
    _table("Table IX", "Lego-Net", NINE, "svhn", base=WIDE), pairs=((LEGO_SVHN, WIDE), (LEGO_SVHN, WIDE_SVHN))
)
TABLE_TEN = PaperTable(
    "Table X",
    "hand-made networks",
    (PARAMS, CLEAN, *TABLE_X),
    TEN,
    heading="Network",
    pairs=tuple((LEGO, other) for other in (*HANDMADE, WIDE)),
    relative=True,
)


def with_lego(table: PaperTable, name: str) -> Callable[[Studied], list[TextTable]]:
    """The table, and a note on the seeds in which Lego-Net is a network of the front of its supernet `name`."""

    def make(studied: Studied) -> list[TextTable]:
        notes = tuple(_lego_notes(studied, name, table.role))
        return [replace(each, notes=(*each.notes, *notes)) for each in table(studied)]

    return make


def _lego_notes(studied: Studied, name: str, role: str) -> Iterator[str]:
    def of(label: str) -> set[tuple[int, str]]:
        return {(row["seed"], row["arch_id"]) for row in studied.labelled(label, role)}

    lego = of(f"LEGO {name}")
    for label, words in ((f"{name} searched", f"a network of the front of {name} itself"), (name, "its best one, too")):
        if seeds := sorted(seed for seed, _ in lego & of(label)):
            yield f"Lego-Net is {words}: seed {', '.join(map(str, seeds))}."


ON_SVHN = "only in the preset paper"
BEST = (
    "the front's network of least error under P10 8/255 after training from scratch, chosen on the test images that it "
    "is reported on, which favours it over Lego-Net and hand-made networks; within its supernet's epsilon; "
    "supernets are trained on the train part (42,500 images of CIFAR-10, 65,757 of SVHN), networks of the front in the "
    "preset paper on all; their PGD begins at the clean image"
)

STUDY = Study(
    name="tam",
    paper="TAM-NAS: Tiny Adversarial Multi-Objective One-Shot Neural Architecture Search (Xie et al., 2021).",
    cells=cells,
    read=read,
    notes=("S and 2S are supernets; epsilon and steps are those of the attack that they are trained against.",),
    items=(
        drawing("Fig. 1"),
        drawing("Fig. 2"),
        drawing("Fig. 3"),
        drawing("Fig. 4"),
        Item(
            "Table I",
            "the supernet's layers",
            "the head has 920 channels where the table says 176, and pooling reads maps of 4x4; narrower and shallower "
            "in the presets quick and small",
            tables=layers,
        ),
        Item(
            "Table II", "attack steps of the supernet, CIFAR-10", BEST, tables=_table("Table II", "attack steps", TWO)
        ),
        Item(
            "Table III",
            "attack steps of the supernet, SVHN",
            f"{ON_SVHN}; {BEST}",
            tables=_table("Table III", "attack steps", THREE, "svhn"),
        ),
        Item("Table IV", "epsilon of the supernet, CIFAR-10", BEST, tables=_table("Table IV", "epsilon", FOUR)),
        Item(
            "Table V",
            "epsilon of the supernet, SVHN",
            f"{ON_SVHN}; {BEST}",
            tables=_table("Table V", "epsilon", FIVE, "svhn"),
        ),
        Item("Table VI", "model size", BEST, tables=_table("Table VI", "model size", SIX)),
        Item(
            "Table VII",
            "layer statistics of the best networks; codes of the blocks",
            "of the supernet of Figs. 8 and 9, all seeds; blocks 6 to 17 are tiny and robust, the text says 9 to 17",
            tables=statistics,
        ),
        Item(
            "Table VIII",
            "Lego-Net, CIFAR-10",
            f"paired with the network of the same supernet; {BEST}",
            tables=with_lego(TABLE_EIGHT, WIDE),
        ),
        Item(
            "Table IX",
            "Lego-Net, SVHN",
            f"{ON_SVHN}; Lego-Net of 2S with 5 steps beside 2S with 1 step, as the paper has it, and beside 2S with 5 "
            f"steps, which it lacks; {BEST}",
            tables=with_lego(TABLE_NINE, WIDE_SVHN),
        ),
        Item(
            "Table X",
            "hand-made networks",
            "RobNet's rows are as reported; hand-made networks have TAM-NAS's recipe, and are narrower in quick and "
            f"small; differences are ours; of supernets {BEST}",
            tables=with_lego(TABLE_TEN, WIDE),
        ),
        Item(
            "Fig. 5",
            "from scratch and fine-tuned",
            "of supernets that the paper does not name; two panels a supernet, where the paper has three axes in one; "
            "of the first seed",
            draw=figure_five,
        ),
        Item(
            "Fig. 6",
            "fronts before training",
            "validation images, PGD of the search; of the first seed; circles grow from the fewest to the most "
            "parameters of a front",
            draw=_bubbles("searched", "Figure 6: before training from scratch"),
        ),
        Item(
            "Fig. 7",
            "the same networks after training",
            "test images, P10 8/255; of the first seed; circles and letters as in Fig. 6; those of the front that were "
            "trained, as the titles count",
            draw=_bubbles("front", "Figure 7: after training from scratch"),
        ),
        Item(
            "Fig. 8",
            "blocks of the best networks",
            "of the supernet 2S whose Lego-Net stands in Table VIII, of the first seed; a larger mark is more networks",
            draw=layers_figure("block"),
        ),
        Item(
            "Fig. 9",
            "ratios of the best networks",
            "of the networks of Fig. 8; a larger mark is more networks",
            draw=layers_figure("ratio"),
        ),
        Item(
            "Text IV",
            "generation at which hypervolume settles",
            "the text says 18 of most of its runs, by no rule",
            tables=settled,
        ),
    ),
)
