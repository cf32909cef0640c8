"""RoCo-NAS's tables: means of the lightest networks of both fronts over seeds, and their closest pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from evonas.files import exists, read_json
from evonas.report import Chance, TextTable
from evonas.report.chance import chance_notes
from evonas.report.papers.roco import TOPS, closest_pair, lightest, top_mean
from evonas.report.retrained import TableRow
from evonas.studies.intervals import paired_difference, spread
from evonas.studies.study import Row, Studied
from evonas.studies.tables import DASH, NOTE, PAIRED, Measure, difference_cell, spread_cell

__all__ = ["BASELINE", "ROCO", "THRESHOLDS", "table_five", "table_four", "table_one", "table_three", "table_two"]

BASELINE, ROCO = "Baseline-NAS", "RoCo-NAS"

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
TOTAL = "Total"
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


def _chance(studied: Studied, columns: Collection[str]) -> Chance | None:
    """Level of guessing on test images and on those of the sets that these columns are of."""
    found = studied.chance()
    if found is None:
        return None
    second = [cell for cell in studied.cells if cell.method == "build-set"][1]
    card = studied.root / second.folder / "set.json"
    images: Counter[str] = Counter()
    for each in read_json(card)["cells"] if exists(card) else ():
        images.update({"": each["successful"], f"_{each['attack']}": each["successful"]})
    others = {**found.others, **{f"second_set_error{kind}": count for kind, count in images.items() if count}}
    return replace(found, others={name: count for name, count in others.items() if name in columns})


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
    lines, chance = [], _chance(studied, columns)
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
    notes = (NOTE, PAIRED, *chance_notes(lines, chance), *_short_fronts(studied.rows), *_shared(studied.rows))
    return TextTable(f"{title}; {studied.data('cifar10')}", header, tuple(lines), notes)


def _short_fronts(rows: Sequence[Row]) -> Iterator[str]:
    """A line for every front that is averaged as a whole, because it has fewer networks than the largest top."""
    for seed, own in _by_seed(rows).items():
        for name in (BASELINE, ROCO):
            if 0 < (networks := len(lightest(own, name))) < TOPS[-1]:
                yield f"Seed {seed}: {name} has only {networks} network(s), over which larger tops are averaged."


def _shared(rows: Sequence[Row]) -> Iterator[str]:
    """A line for every seed some of whose lightest networks both searches have found."""
    for seed, own in _by_seed(rows).items():
        tops = [{str(row["arch_id"]) for row in lightest(own, name)[: TOPS[-1]]} for name in (BASELINE, ROCO)]
        if both := len(tops[0] & tops[1]):
            yield (
                f"Seed {seed}: {both} of the {TOPS[-1]} lightest are on both fronts and trained once, so that they "
                "count for either: a difference of 0 over them alone compares nothing."
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
        counts = {
            target: [found.get((target, attack, each)) for attack in ("L0", "Linf") for each in THRESHOLDS]
            for target in REPORTED_SET
        }
        counts[TOTAL] = [_sum(column) for column in zip(*counts.values(), strict=True)]
        for target, own in counts.items():
            shown = (DASH if count is None else str(count) for count in (*own, _sum(own)))
            lines.append((target, cell.group.lower(), *shown))
    reported = {**REPORTED_SET, TOTAL: map(sum, zip(*REPORTED_SET.values(), strict=True))}
    lines += [(target, "as reported", *map(str, own)) for target, own in reported.items()]
    header = ("Target", "Set", *(f"{attack} {each}" for attack in ("L0", "L-inf") for each in THRESHOLDS), "Total")
    note = "Successful samples by target, attack and threshold; -: the preset does not attack with it, or no set yet."
    return [TextTable(f"Table I: the adversarial sets; {studied.data('cifar10')}", header, tuple(lines), (note,))]


def _sum(counts: Iterable[int | None]) -> int | None:
    """Sum of what was counted; None where nothing was."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def table_three(studied: Studied) -> list[TextTable]:
    title = "Table III: accuracy on the adversarial sets (transferred, not white-box) of the lightest networks by MACs"
    return [_accuracies(studied, title, SETS_OF_III, REPORTED_TOPS["III"])]


def table_four(studied: Studied) -> list[TextTable]:
    title = "Table IV: accuracy on clean test images of the lightest networks by MACs"
    return [_accuracies(studied, title, {"clean_error": "clean"}, REPORTED_TOPS["IV"])]


def table_five(studied: Studied) -> list[TextTable]:
    """The closest pair over whole fronts, seed by seed."""
    pairs = {seed: closest_pair(rows, BASELINE, ROCO) for seed, rows in _by_seed(studied.rows).items()}
    chance, lines = _chance(studied, ()), []
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


def table_two(studied: Studied) -> list[TextTable]:
    """Settings of the search, and of what its networks are trained and scored on afterwards."""
    options = next(cell.options for cell in studied.cells if cell.group == ROCO)
    after, sets = options.after, next(cell.options for cell in studied.cells if cell.method == "build-set")
    ours = {
        "Computational blocks": (options.phases, "3"),
        "Maximum computational units": (options.nodes, "6"),
        "Genetic algorithm generations": (options.search.generations, "20"),
        "Genetic algorithm population": (options.search.population, "40"),
        "Training epochs": (options.training.epochs, "25"),
        "Training images, of searches and afterwards": (options.data.train_limit or "the whole train part", DASH),
        "Clean images of each adversarial set": (sets.settings.attacked_images or "all", DASH),
        "Width of the first block afterwards": (after.retrain_channels, "32"),
        "Training epochs afterwards": (after.retrain_epochs, "120"),
        "Test images": (after.test_limit or "all", DASH),
    }
    lines = tuple((name, str(value), paper) for name, (value, paper) in ours.items())
    return [
        TextTable(
            "Table II: settings of the search and of the trainings after it",
            ("Parameter", "Here", "As reported"),
            lines,
        )
    ]
