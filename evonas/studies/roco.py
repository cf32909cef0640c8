"""RoCo-NAS's study: Baseline-NAS and RoCo-NAS, whole fronts trained again, and a set that no search saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from evonas.methods.adversarial_set import PRESETS as SETS
from evonas.methods.adversarial_set import BuildOptions
from evonas.methods.roco import PRESETS, RocoOptions
from evonas.methods.roco_retraining import RetrainOptions
from evonas.report.papers.roco import draw_figure
from evonas.runs.options import DataOptions
from evonas.studies.grid import Cell
from evonas.studies.roco_tables import (
    BASELINE,
    ROCO,
    THRESHOLDS,
    table_five,
    table_four,
    table_one,
    table_three,
    table_two,
)
from evonas.studies.study import Item, Row, Studied, Study, drawing, read_rows

__all__ = ["STUDY"]

FIRST, SECOND = "Adversarial set", "Second adversarial set"
OBJECTIVES = {BASELINE: ("clean_error", "macs"), ROCO: ("clean_error", "macs", "adversarial_set_error")}
TRAINED = (
    "trained afterwards on the search's training images, in the preset paper 42,500: networks are validated and "
    "adversarial sets made on the rest"
)
SHARED_SPLIT = 0
"""Split seed of all runs, so that one set serves them all."""


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
        settings = replace(SETS["quick"].settings, attacked_images=200, thresholds=THRESHOLDS)
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
            data=DataOptions(data="cifar10", train_limit=4000, val_limit=1000, split_seed=SHARED_SPLIT),
            channels=8,
            training=replace(quick.training, epochs=3, batch_size=64),
            search=replace(quick.search, population=10, generations=4),
            after=RetrainOptions(
                retrain=True, retrain_channels=10, retrain_epochs=6, retrain_batch_size=64, test_limit=400
            ),
        )
    return replace(
        quick,
        data=DataOptions(data="digits", split_seed=SHARED_SPLIT),
        channels=4,
        search=replace(quick.search, generations=2),
        white_box_images=0,
        after=RetrainOptions(retrain=True, retrain_channels=8, retrain_epochs=4, retrain_batch_size=32, test_limit=40),
    )


def read(folder: Path, cell: Cell) -> list[Row]:
    """Both fronts, trained again in RoCo-NAS's run: rows of Baseline-NAS stand there, too."""
    if cell.group != ROCO:
        return []
    return [{**row, "label": row["configuration"]} for row in read_rows(folder / "retrained" / "retrained.csv")]


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
        "All seeds share the parts of the data and both adversarial sets: deviations and intervals are those of "
        "searches and trainings alone.",
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
            "none in the preset paper; quick and small are smaller in everything, also in what follows the search, "
            "which stands below the paper's own lines",
            tables=table_two,
        ),
        Item(
            "Table III",
            "accuracy on the adversarial set, top 1, 3 and 5",
            f"also on a set that no search saw, because the searched one is optimised against; {TRAINED}",
            tables=table_three,
        ),
        Item(
            "Table IV",
            "clean accuracy, top 1, 3 and 5",
            f"on test images that no search has seen; the paper says validation images; {TRAINED}",
            tables=table_four,
        ),
        Item(
            "Table V",
            "the closest pair of both fronts",
            "parameters and MACs of the networks that were scored: no network of the space has the paper's two numbers "
            f"at once; PGD is read as 1/255; {TRAINED}",
            tables=table_five,
        ),
        Item(
            "Fig. 2",
            "clean accuracy over parameters",
            "both whole fronts of all seeds, where the paper has one chosen network of Baseline-NAS; published points "
            "are marked as such, and drawn on CIFAR-10 alone",
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
