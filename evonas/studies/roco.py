"""RoCo-NAS's study: Baseline-NAS and RoCo-NAS, whole fronts trained again, and a set that no search saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from evonas.files import exists, read_json
from evonas.methods.adversarial_set import PRESETS as SETS
from evonas.methods.adversarial_set import BuildOptions
from evonas.methods.roco import PRESETS, RetrainOptions, RocoOptions
from evonas.report import Chance, TextTable
from evonas.report.chance import chance_notes
from evonas.report.papers.roco import TOPS, closest_pair, draw_figure, top_mean
from evonas.report.retrained import TableRow
from evonas.runs.options import DataOptions
from evonas.studies.grid import Cell
from evonas.studies.intervals import paired_difference, spread
from evonas.studies.study import Item, Row, Studied, Study, drawing, read_rows
from evonas.studies.tables import DASH, NOTE, PAIRED, Measure, difference_cell, spread_cell

__all__ = ["STUDY"]

BASELINE, ROCO = "Baseline-NAS", "RoCo-NAS"
FIRST, SECOND = "Adversarial set", "Second adversarial set"
OBJECTIVES = {BASELINE: ("clean_error", "macs"), ROCO: ("clean_error", "macs", "adversarial_set_error")}
SHARED_SPLIT = 0
"""Split seed of all runs, so that one set serves them all."""

REPORTED_TOPS = {
    "III": {BASELINE: ("75.77", "78.65", "79.55"), ROCO: ("82.15", "81.89", "81.91")},
    "IV": {BASELINE: ("92.80", "94.50", "94.97"), ROCO: ("95.80", "95.90", "95.78")},
}
REPORTED_PAIR = {BASELINE: ("3.27", "34.22", "50.96", "26.55"), ROCO: ("3.13", "32.22", "56.56", "33.78")}
REPORTED_SET = {
    "DenseNet": (133, 178, 201, 285, 76, 85, 93, 143, 1194),
    "LeNet": (444, 529, 571, 651, 274, 279, 289, 329, 3366),
    "ResNet": (220, 304, 367, 478, 91, 102, 129, 190, 1881),
    "VGG-16": (440, 506, 541, 627, 289, 296, 307, 344, 3350),
}
"""Table I: target -> successful samples of L0 at 1, 3, 5, 10, of L-inf at these, and in all."""
PAIR_MEASURES = (
    Measure("Params M", "params", 1e-6, 4),
    Measure("MACs M", "macs", 1e-6, 3),
    Measure("PGD %", "pgd_error", -100),
    Measure("C&W %", "cw_error", -100),
)
THRESHOLDS = (1, 3, 5, 10)
SETS_OF_III = {
    "adversarial_set_error": "searched set",
    "adversarial_set_error_L0": "searched set, L0",
    "adversarial_set_error_Linf": "searched set, L-inf",
    "second_set_error": "set that no search saw",
    "second_set_error_L0": "set that no search saw, L0",
    "second_set_error_Linf": "set that no search saw, L-inf",
}


def cells(preset: str, seeds: int) -> Iterator[Cell]:
    """Two sets of disjoint clean images and different targets; a Baseline-NAS and a RoCo-NAS a seed."""
    made = _sets(preset)
    yield Cell(group=FIRST, method="build-set", options=made)
    skipped = made.settings.attacked_images or 0
    settings = replace(made.settings, skip_images=skipped)
    yield Cell(group=SECOND, method="build-set", options=replace(made, set_seed=1, settings=settings))
    first, second = (f"{_slug(name)}/set.safetensors" for name in (FIRST, SECOND))
    for seed in range(seeds):
        options = replace(_searched(preset), seed=seed)
        baseline = replace(options, search=replace(options.search, objectives=OBJECTIVES[BASELINE]))
        plain = replace(baseline, after=RetrainOptions())
        yield Cell(group=BASELINE, method="roco", options=plain)
        links = (("adversarial_set", first), ("second_set", second), ("against", f"baseline-nas-cifar10-seed{seed}"))
        yield Cell(group=ROCO, method="roco", options=options, links=links)


def _slug(group: str) -> str:
    return f"{group.lower().replace(' ', '-')}-cifar10-seed{SHARED_SPLIT}"


def _sets(preset: str) -> BuildOptions:
    if preset == "paper":
        return SETS["paper"]
    if preset == "small":
        settings = replace(SETS["quick"].settings, attacked_images=400, thresholds=THRESHOLDS)
        return BuildOptions(data="cifar10", train_limit=10_000, settings=settings)
    return BuildOptions(data="digits", settings=replace(SETS["quick"].settings, attacked_images=70))


def _searched(preset: str) -> RocoOptions:
    """RoCo-NAS's run of a preset, with its front trained again."""
    paper, quick = PRESETS["paper"], PRESETS["quick"]
    if preset == "paper":
        data = replace(paper.data, split_seed=SHARED_SPLIT)
        return replace(paper, data=data, after=RetrainOptions(retrain=True))
    if preset == "small":
        return replace(
            quick,
            data=DataOptions(data="cifar10", train_limit=5000, val_limit=1000, split_seed=SHARED_SPLIT),
            channels=8,
            training=replace(quick.training, epochs=3, batch_size=64),
            search=replace(quick.search, population=14, generations=5),
            after=RetrainOptions(
                retrain=True, retrain_channels=12, retrain_epochs=6, retrain_batch_size=64, test_limit=400
            ),
        )
    return replace(
        quick,
        data=DataOptions(data="digits", split_seed=SHARED_SPLIT),
        channels=4,
        search=replace(quick.search, generations=2),
        white_box_images=0,
        after=RetrainOptions(retrain=True, retrain_channels=8, retrain_epochs=4, retrain_batch_size=32, test_limit=100),
    )


def read(folder: Path, cell: Cell) -> list[Row]:
    """Both fronts, trained again in RoCo-NAS's run: rows of Baseline-NAS stand there, too."""
    if cell.group != ROCO:
        return []
    return [{**row, "label": row["configuration"]} for row in read_rows(folder / "retrained" / "retrained.csv")]


def _chance(studied: Studied) -> Chance | None:
    """Level of guessing on test images and on those of both sets."""
    found = studied.chance()
    card = studied.root / _slug(SECOND) / "set.json"
    if found is None or not exists(card):
        return found
    images: Counter[str] = Counter()
    for each in read_json(card)["cells"]:
        images.update({"": each["successful"], f"_{each['attack']}": each["successful"]})
    return replace(found, others={**found.others, **{f"second_set_error{kind}": n for kind, n in images.items() if n}})


def _by_seed(rows: Sequence[Row]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row["seed"], []).append(row)
    return found


def _tops(rows: Sequence[Row], configuration: str, column: str, top: int) -> dict[int, float]:
    """Seed -> accuracy in percent of the `top` lightest networks of its front; seeds without that column left out."""
    found = {}
    for seed, own in _by_seed([row for row in rows if column in row]).items():
        mean = top_mean(own, configuration, column, top)
        if mean is not None:
            found[seed] = 100 * (1 - mean.value)
    return found


def _accuracies(
    studied: Studied, title: str, columns: Mapping[str, str], reported: Mapping[str, Sequence[str]]
) -> TextTable:
    """Means over the top 1, 3 and 5 of both configurations, and their paired differences."""
    lines, chance = [], _chance(studied)
    for column, words in columns.items():
        for name in (BASELINE, ROCO):
            found = [spread(_tops(studied.rows, name, column, top).values()) for top in TOPS]
            accuracy = Measure(words, column, -100)
            lines.append(
                (words, name, "measured", *(spread_cell(each, 2, accuracy.mark(each, chance)) for each in found))
            )
        pairs = [[_tops(studied.rows, name, column, top) for name in (ROCO, BASELINE)] for top in TOPS]
        differences = [difference_cell(paired_difference(*pair)) for pair in pairs]
        lines.append((words, f"{ROCO} - {BASELINE}", "difference", *differences))
    first = next(iter(columns.values()))
    lines += [(first, name, "as reported", *cells) for name, cells in reported.items()]
    header = ("Images", "Configuration", "Source", *(f"Top-{top} %" for top in TOPS))
    return TextTable(
        f"{title}; {studied.data('cifar10')}", header, tuple(lines), (NOTE, PAIRED, *chance_notes(lines, chance))
    )


def table_one(studied: Studied) -> list[TextTable]:
    """Successful samples of both sets, read from their cards."""
    lines: list[tuple[str, ...]] = []
    for cell in studied.cells:
        if cell.method != "build-set":
            continue
        done = studied.states[cell.folder].status == "finished"
        card = read_json(studied.root / cell.folder / "set.json") if done else {}
        found = {
            (each["target"], each["attack"], each["threshold"]): each["successful"] for each in card.get("cells", ())
        }
        for target in REPORTED_SET:
            counts = [found.get((target, attack, each)) for attack in ("L0", "Linf") for each in THRESHOLDS]
            known = [count for count in counts if count is not None]
            shown = (DASH if count is None else str(count) for count in (*counts, sum(known) if known else None))
            lines.append((target, cell.group.lower(), *shown))
    lines += [(target, "as reported", *map(str, counts)) for target, counts in REPORTED_SET.items()]
    header = ("Target", "Set", *(f"{attack} {each}" for attack in ("L0", "L-inf") for each in THRESHOLDS), "Total")
    note = "Successful samples by target, attack and threshold; -: the preset does not attack with it, or no set yet."
    return [TextTable(f"Table I: the adversarial sets; {studied.data('cifar10')}", header, tuple(lines), (note,))]


def table_three(studied: Studied) -> list[TextTable]:
    title = "Table III: accuracy on the adversarial sets (transferred, not white-box) of the lightest networks by MACs"
    return [_accuracies(studied, title, SETS_OF_III, REPORTED_TOPS["III"])]


def table_four(studied: Studied) -> list[TextTable]:
    title = "Table IV: accuracy on clean test images of the lightest networks by MACs"
    return [_accuracies(studied, title, {"clean_error": "clean"}, REPORTED_TOPS["IV"])]


def table_five(studied: Studied) -> list[TextTable]:
    """The closest pair over whole fronts, seed by seed."""
    pairs = {seed: closest_pair(rows, BASELINE, ROCO) for seed, rows in _by_seed(studied.rows).items()}
    chance, lines = studied.chance(), []
    values = {
        name: [{seed: each.of(pair[:2][place]) for seed, pair in pairs.items() if pair} for each in PAIR_MEASURES]
        for place, name in enumerate((BASELINE, ROCO))
    }
    for name, columns in values.items():
        means = [(spread(own.values()), each) for own, each in zip(columns, PAIR_MEASURES, strict=True)]
        lines.append(
            (name, "measured", *(spread_cell(own, each.digits, each.mark(own, chance)) for own, each in means))
        )
        lines.append((name, "as reported", *REPORTED_PAIR[name]))
    both = zip(values[ROCO], values[BASELINE], PAIR_MEASURES, strict=True)
    differences = (difference_cell(paired_difference(roco, base), each.digits) for roco, base, each in both)
    lines.append((f"{ROCO} - {BASELINE}", "difference", *differences))
    header = ("Configuration", "Source", *(each.heading for each in PAIR_MEASURES))
    title = f"Table V: the networks of both fronts that are closest in MACs, a pair a seed; {studied.data('cifar10')}"
    notes = (NOTE, PAIRED, *chance_notes(lines, chance), *_pair_notes(pairs))
    return [TextTable(title, header, tuple(lines), notes)]


def _pair_notes(pairs: Mapping[int, tuple[TableRow, TableRow, int] | None]) -> Iterator[str]:
    """The pair of every seed, by name."""
    for seed, pair in pairs.items():
        if pair is None:
            yield f"Seed {seed}: there is no pair of different networks."
        else:
            first, second, _ = pair
            apart = 100 * abs(first["macs"] - second["macs"]) / max(first["macs"], second["macs"])
            yield f"Seed {seed}: {first['arch_id']} and {second['arch_id']}, whose MACs differ by {apart:.2f}%."


def _figure(place: int) -> Callable[[Studied, Path], bool]:
    def draw(studied: Studied, path: Path) -> bool:
        from evonas.audit import measurements

        labels = {each.column: each.label for each in measurements(RetrainOptions().suite)}
        measured = {column: label for column, label in labels.items() if any(column in row for row in studied.rows)}
        return draw_figure(path, place, studied.rows, measured, studied.data("cifar10"))

    return draw


def check() -> None:
    """ConfigurationError where a library of the attacks is missing."""
    from evonas.audit import require_libraries

    require_libraries(RetrainOptions().measured().measurements, "the study roco")


STUDY = Study(
    name="roco",
    paper="RoCo-NAS: Robust and Compact Neural Architecture Search (Geraeinejad et al., 2021).",
    cells=cells,
    read=read,
    check=check,
    notes=(
        "Baseline-NAS is searched for clean error and MACs, RoCo-NAS for these and the error on the first adversarial "
        "set. Both fronts are trained again as wholes; tables III and IV average the lightest of them by MACs.",
    ),
    items=(
        drawing("Fig. 1"),
        Item(
            "Table I",
            "successful samples of the adversarial sets",
            "the paper does not say how many images, which targets' sizes and which budgets; a second set of other "
            "clean images and targets is made besides",
            tables=table_one,
        ),
        Item(
            "Table II",
            "settings of the search",
            "none in the preset paper; quick and small are smaller in everything. The table is each run's config.json",
            tables=lambda studied: [_settings(studied)],
        ),
        Item(
            "Table III",
            "accuracy on the adversarial set, top 1, 3 and 5",
            "also on a set that no search saw, because the searched one is optimised against",
            tables=table_three,
        ),
        Item(
            "Table IV",
            "clean accuracy, top 1, 3 and 5",
            "on test images that no search has seen; the paper says validation images",
            tables=table_four,
        ),
        Item(
            "Table V",
            "the closest pair of both fronts",
            "parameters and MACs of the networks that were scored: no network of the space has the paper's two numbers "
            "at once; PGD is read as 1/255",
            tables=table_five,
        ),
        Item(
            "Fig. 2",
            "clean accuracy over parameters",
            "all seeds; published points are marked as such, and drawn on CIFAR-10 alone",
            draw=_figure(0),
        ),
        Item("Fig. 3", "MACs of the top 1, 3 and 5", "means over seeds with their deviation", draw=_figure(1)),
        Item("Fig. 4", "parameters of the top 1, 3 and 5", "means over seeds with their deviation", draw=_figure(2)),
        Item(
            "Fig. 5",
            "accuracy under PGD over MACs, with RoCo-NAS's curve",
            "epsilon 1 is read as 1/255; the curve is a parabola in the logarithm of MACs, the paper's is not said",
            draw=_figure(3),
        ),
        Item(
            "Fig. 6",
            "accuracy under FGSM, BIM, C&W and DeepFool over MACs",
            "bounds and steps of BIM, C&W and DeepFool are ours, the paper gives none",
            draw=_figure(4),
        ),
    ),
)


def _settings(studied: Studied) -> TextTable:
    """Table II."""
    options = next(cell.options for cell in studied.cells if cell.group == ROCO)
    ours = {
        "Computational blocks": (options.phases, "3"),
        "Maximum computational units": (options.nodes, "6"),
        "Genetic algorithm generations": (options.search.generations, "20"),
        "Genetic algorithm population": (options.search.population, "40"),
        "Training epochs": (options.training.epochs, "25"),
    }
    lines = tuple((name, str(value), paper) for name, (value, paper) in ours.items())
    return TextTable("Table II: settings of the search", ("Parameter", "Here", "As reported"), lines)
