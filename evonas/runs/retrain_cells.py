"""After a search by gradient: its cells trained again, scored, and set beside published ones (DARTS; E2RNAS, 4.1)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console

from evonas.audit import CellRetraining, CellScoring, FrontNetwork, RetrainedRecords, RetrainingWork, width_for
from evonas.data import Dataset
from evonas.data.out_of_distribution import load_ood_data, resolve_ood_data
from evonas.errors import ConfigurationError
from evonas.evaluation import TrainFromScratch
from evonas.networks.darts import GENOTYPES, Genotype
from evonas.objectives.attack_error import described
from evonas.report import cell_table, folded, write_retrained
from evonas.runs.cell_settings import CellRetrainSettings
from evonas.runs.folder import RunFolder
from evonas.runs.interrupt import interruptible
from evonas.runs.retrain_checkpoint import KeptTraining
from evonas.runs.retrain_screen import RetrainScreen, print_tables
from evonas.runs.search import Plan
from evonas.spaces import DartsSpace
from evonas.training import resolve_precision

__all__ = [
    "FoundCells",
    "check_retraining_cells",
    "network_of",
    "others_for_retraining",
    "retrain_cells",
    "still_to_train",
    "training_and_space",
]

AUXILIARY_SIZE = {"cifar": 32, "imagenet": 224}
"""Stem -> the one size of images that the auxiliary head is made for."""


class FoundCells(NamedTuple):
    """Cells, and where they come from."""

    name: str
    """What tables call them, such as `e2rnas-v1 L0.5`."""
    genotype: Genotype
    seconds: float | None = None
    """Of their search; None: not known."""


def others_for_retraining(
    asked: str, data: Dataset, root: Path | None, seed: int, known: Dataset | None = None
) -> tuple[Dataset, str]:
    """Images of none of the classes for the tables' AUPR, and a line where they were chosen for the user.

    Args:
        asked: as `resolve_ood_data` takes it.
        known: what the search has loaded already.
    """
    if known is not None:
        return known, ""
    name, note = resolve_ood_data(asked, data.name, root)
    return load_ood_data(name, data, root, seed), note


def check_retraining_cells(
    settings: CellRetrainSettings, space: DartsSpace, data: Dataset, others: Dataset | None, seed: int
) -> None:
    """Raise, before anything is searched, what would stop `retrain_cells`.

    Args:
        space: of the networks that the search's cells are scored in.
        seed: the run's.
    Raises:
        ConfigurationError: a network that cannot be built, or not trained on images of this size.
        DataError: too few test images of one of the data sets, or images of different size.
    """
    scoring = _scoring(settings, others)
    scoring.test_part(data, seed)
    scoring.ood_aupr(data, seed)
    if settings.cutout >= data.image_size:
        raise ConfigurationError(f"expected cutout < {data.image_size}, the images' size, got {settings.cutout}")
    wanted = AUXILIARY_SIZE[space.stem]
    if settings.auxiliary and data.image_size != wanted:
        raise ConfigurationError(
            f"expected images of {wanted} pixels for an auxiliary head, got {data.image_size}; give --auxiliary 0"
        )
    _space(settings, space, None, data.n_classes)
    for name in settings.against:
        _space(settings, space, GENOTYPES[name], data.n_classes)


def retrain_cells(
    folder: RunFolder,
    plan: Plan,
    settings: CellRetrainSettings,
    found: Sequence[FoundCells],
    others: Dataset | None,
    console: Console,
) -> None:
    """Train and score the cells, and the published ones that were asked for, or continue with that; print the table.

    In the run's folder `retrained/`: weights, rows.jsonl (what is finished), retrained.csv, tables.md; while a network
    is trained, a checkpoint of it, replaced after every epoch.

    Args:
        plan: of the search that scored them.
        others: whose test images are out of distribution; None: no AUPR.
    Raises:
        EvonasError: see `check_retraining_cells`; or the folder cannot be written, or another process writes it.
        Interrupted: a signal came; the same command continues with the epoch that was begun.
    """
    base, space = training_and_space(plan, settings)
    check_retraining_cells(settings, space, base.data, others, base.seed)
    scoring = _scoring(settings, others)
    cells = [*found, *(FoundCells(name, GENOTYPES[name]) for name in settings.against)]
    networks = [network_of(each, settings, space, base, folder.path / "retrained") for each in cells]
    with interruptible() as interruption, RetrainedRecords.opened(folder.path / "retrained") as records:
        records.sweep()
        KeptTraining.sweep(records.folder)
        work = RetrainingWork(records, scoring, plan.retry_failed)
        left = still_to_train(work, networks)
        screen = RetrainScreen(console, interruption, left)
        for line in _opening(networks, len(left), base, records):
            screen.say(line)
        for network in left:
            with screen.showing(network, _kept(network).share(network.genome)):
                record = work.finish(network, screen.report, screen.say)
            screen.tell(record)
        for network in networks:
            _kept(network).forget(network.genome)
        rows = [
            {**work.row(network), "search_seconds": each.seconds} for each, network in zip(cells, networks, strict=True)
        ]
        table = cell_table(rows, list(_notes(scoring, base)), plan.data_name, base.device)
        write_retrained(records.folder, rows, [table])
    print_tables(console, folded(table, console.width, 1))
    screen.say(f"written to {records.folder}: retrained.csv, tables.md, and the weights")


def _scoring(settings: CellRetrainSettings, others: Dataset | None) -> CellScoring:
    return CellScoring(attack=settings.attack, others=others, test_limit=settings.test_limit)


def training_and_space(plan: Plan, settings: CellRetrainSettings) -> tuple[CellRetraining, DartsSpace]:
    """How networks of the searched width would be trained, and the searched space."""
    prepare, space = plan.evaluator.prepare, plan.space
    if not isinstance(prepare, TrainFromScratch) or not isinstance(space, DartsSpace):
        raise ConfigurationError(
            f"expected a search of cells that trains its networks, got {type(prepare).__name__} over {space.name}"
        )
    precision, _ = resolve_precision(settings.retrain_precision, torch.device(prepare.device), depthwise=True)
    base = CellRetraining(
        space=space,
        data=prepare.data,
        training=settings.training(precision),
        recipe=settings.recipe,
        cutout=settings.cutout,
        seed=plan.search.seed,
        device=prepare.device,
        threads=plan.evaluator.threads,
    )
    return base, space


def network_of(
    cells: FoundCells, settings: CellRetrainSettings, space: DartsSpace, base: CellRetraining, folder: Path
) -> FrontNetwork:
    own = _space(settings, space, cells.genotype, base.data.n_classes)
    genome = own.canonical(own.from_genotype(cells.genotype))
    return FrontNetwork(cells.name, genome, KeptTraining(replace(base, space=own), folder))


def _kept(network: FrontNetwork) -> KeptTraining:
    assert isinstance(network.retraining, KeptTraining)
    return network.retraining


def _space(settings: CellRetrainSettings, searched: DartsSpace, cells: Genotype | None, n_classes: int) -> DartsSpace:
    """The space that builds cells at the width and depth that they are trained at; None: any of the search's."""
    deep = replace(
        searched,
        channels=settings.retrain_channels or searched.channels,
        layers=settings.retrain_layers or searched.layers,
        nodes=searched.nodes if cells is None else len(cells.normal) // 2,
    )
    if settings.retrain_params is None:
        return deep
    genome = np.zeros(deep.n_genes, dtype=np.int64) if cells is None else deep.from_genotype(cells)
    return replace(deep, channels=width_for(deep, genome, n_classes, 1e6 * settings.retrain_params))


def still_to_train(work: RetrainingWork, networks: Sequence[FrontNetwork]) -> list[FrontNetwork]:
    """Networks that there is something to do for, each once: two searches may find the same cells."""
    left: dict[tuple[str, str], FrontNetwork] = {}
    for network in networks:
        if work.left(network):
            left.setdefault((network.arch_id, network.training), network)
    return list(left.values())


def _opening(
    networks: Sequence[FrontNetwork], left: int, base: CellRetraining, records: RetrainedRecords
) -> Iterator[str]:
    named = ", ".join(network.configuration for network in networks)
    yield (
        f"training cells again ({named}): {base.training.epochs} epochs, batches of {base.training.batch_size}, "
        f"cutout {base.cutout}, {base.training.precision}; {left} left to do"
    )
    if records.damaged:
        yield f"{records.path} has {records.damaged} line(s) that are not whole; what they recorded is done again"


def _notes(scoring: CellScoring, base: CellRetraining) -> Iterator[str]:
    """What the numbers of the table were measured with."""
    training, recipe, attack = base.training, base.recipe, scoring.attack
    images = len(scoring.test_part(base.data, base.seed))
    yield (
        f"Trained for {training.epochs} epochs in batches of {training.batch_size} on the train part's "
        f"{len(base.data.train)} images: cutout {base.cutout}, drop-path to {recipe.drop_path:g}, auxiliary head of "
        f"weight {recipe.auxiliary_weight:g}."
    )
    yield (
        f"PGD acc.: on {images} test images under PGD made against the very network (white-box; "
        f"{described(attack)} of {255 * attack.step_size:g}/255); it begins at the clean image, and the last iterate "
        "counts."
    )
    aupr = scoring.ood_aupr(base.data, base.seed)
    if aupr is not None:
        ood, own = aupr.counts(images)
        yield (
            f"AUPR: {ood} test images of {aupr.ood.name}, the positive ones, among {own} of {base.data.name}, by the "
            f"largest softmax probability; guessing gives {100 * ood / (ood + own):.1f}%."
        )
    yield (
        f"Search: the time that the search itself took ({torch.device(base.device).type}, threads: {base.threads}); "
        "-: published cells."
    )
