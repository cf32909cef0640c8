"""After a search by gradient: its cells trained again in a large network, measured, beside published ones.

DARTS's evaluation; E2RNAS, 4.1; DSRNA, Tables 1 to 6.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Annotated, Literal

from evonas.certify.settings import Intermediate
from evonas.errors import ConfigurationError, choose
from evonas.methods.recipes import check_recipe, recipe_words
from evonas.networks.darts_genotypes import GENOTYPES
from evonas.ranges import BATCH, CHANNELS, COUNT, IMAGES, LAYERS, PENALTY, RATE, STEP, Range, check_ranges
from evonas.runs.needs import Needs
from evonas.training import recipe_within
from evonas.training.cells import CellTraining
from evonas.training.settings import TrainingConfig
from evonas.types import TrainOn

if TYPE_CHECKING:
    from evonas.attacks import PGD
    from evonas.audit import AuditNetwork, FinalTraining, Measured, Measurement, OodPrecision
    from evonas.data import Dataset
    from evonas.evaluation import TrainFromScratch
    from evonas.methods.cell_search import FoundCells
    from evonas.networks.darts import Genotype
    from evonas.runs.run import Run
    from evonas.spaces import DartsSpace

__all__ = [
    "CellRetrainOptions",
    "RobustnessOptions",
    "cell_training",
    "check_networks",
    "measure_cells",
    "retrain_cells",
]

AUXILIARY_SIZE = {"cifar": 32, "imagenet": 224}
"""Stem -> the one size of images that the auxiliary head is made for."""


@dataclass(frozen=True, kw_only=True)
class CellRetrainOptions:
    """Training the cells again after the search (DARTS's evaluation), scored on the test part."""

    retrain: bool = False
    """After the search, train the cells in a large network and score it on test images."""
    retrain_channels: Annotated[int | None, CHANNELS] = None
    """Channels of a node of its first cell; by default those of the scored network."""
    retrain_params: Annotated[tuple[float, ...] | None, Range(above=0, most=10**6)] = None
    """Instead: the widths whose networks come nearest to so many million parameters, one network of every cells and
    number, such as 0.42,1.05,2.1,3.35 (E2RNAS's C46 ... C12)."""
    retrain_layers: Annotated[int | None, LAYERS] = None
    """Its cells; by default those of the scored network."""
    retrain_epochs: Annotated[int, COUNT] = 600
    """Passes over the images."""
    train_on: TrainOn = "train"
    """Its images: the train part, or all but the test images, those that the search held out, too."""
    retrain_batch_size: Annotated[int, BATCH] = 96
    """Images of a step."""
    retrain_lr: Annotated[float, RATE] = 0.025
    """Initial learning rate; cosine decay."""
    retrain_weight_decay: Annotated[float, PENALTY] = 3e-4
    """L2 penalty of the weights."""
    retrain_recipe: str = "standard"
    """Loss of both heads: standard (clean images); pgd_at, trades, trades_awp, trades_yopo or fast_adversarial
    (robust); ibp or crown_ibp (certified, of the network's own head); gaussian; or a plugin's."""
    retrain_recipe_epsilon: Annotated[float | None, Range(above=0, most=1, pixels=True)] = None
    """Radius of the attack of a robust recipe, in [0, 1], its steps in proportion; the recipe's own by default."""
    retrain_average: Literal["none", "ema", "swa"] = "none"
    """Weights that the training delivers: its last ones, their exponential moving average (ema), or the mean of its
    last epochs' (swa)."""
    auxiliary: Annotated[float, PENALTY] = 0.4
    """Weight of the auxiliary head's loss; 0: no such head."""
    drop_path: Annotated[float, Range(least=0, below=1)] = 0.2
    """Chance of an edge to be left out; it grows to this over the epochs."""
    cutout: Annotated[int, Range(least=0, most=10**4)] = 16
    """Side of the square that is cut out of training images, in pixels; 0: none."""
    retrain_precision: str = "auto"
    """auto, fp32, bf16 or tf32 (CUDA)."""
    test_epsilon: Annotated[float, STEP] = 2 / 255
    """Radius of the PGD that it is scored under (E2RNAS)."""
    test_steps: Annotated[int, COUNT] = 10
    """Steps of that PGD."""
    test_step_size: Annotated[float, STEP] = 5 / 255
    """Length of its steps: the papers' literal 2.5 epsilon, longer than the radius."""
    test_limit: Annotated[int | None, IMAGES] = None
    """Size of a class-balanced subset of the test images to score on."""
    retrain_latency: bool = False
    """Measure the time of one image, too: on a CPU by one thread (E2RNAS, version 2, IV-C2)."""
    published: tuple[str, ...] = ()
    """Published cells trained and scored beside: DARTS_V1, DARTS_V2, PDARTS, PC_DARTS_cifar, PC_DARTS_image."""

    def __post_init__(self) -> None:
        if self.retrain_channels is not None and self.retrain_params is not None:
            raise ConfigurationError(
                f"expected --retrain-channels or --retrain-params, got both: {self.retrain_channels} and "
                f"{self.retrain_params}"
            )
        if self.retrain_params is not None and len({*self.retrain_params}) < max(1, len(self.retrain_params)):
            raise ConfigurationError(f"expected different numbers of --retrain-params, got {self.retrain_params}")
        check_ranges(self)
        check_recipe(self.retrain_recipe)
        if self.retrain_recipe != "standard":
            _ = self.recipe  # refuses what does not go together
        self.training(self.retrain_precision, TrainingConfig(average_from=0.0))  # it checks the others
        for name in self.published:
            choose(GENOTYPES, name, "published cells")
        if len(set(self.published)) < len(self.published):
            raise ConfigurationError(f"expected every one of --published once, got {','.join(self.published)}")

    def training(self, precision: str, candidates: TrainingConfig | None = None) -> TrainingConfig:
        """Settings of the training.

        Args:
            candidates: training that the cells are scored after, for how averages are taken; None: by default.
        """
        scored = candidates or TrainingConfig()
        return TrainingConfig(
            epochs=self.retrain_epochs,
            batch_size=self.retrain_batch_size,
            lr=self.retrain_lr,
            weight_decay=self.retrain_weight_decay,
            average=self.retrain_average,
            average_decay=scored.average_decay,
            average_from=scored.average_from,
            precision=precision,
        )

    @property
    def recipe(self) -> CellTraining:
        robust = None
        if self.retrain_recipe != "standard":
            robust = recipe_within(self.retrain_recipe, self.retrain_recipe_epsilon)
        return CellTraining(auxiliary_weight=self.auxiliary, drop_path=self.drop_path, robust=robust)

    @property
    def attack(self) -> PGD:
        """From the clean image; the last iterate counts."""
        from evonas.attacks import PGD

        return PGD(epsilon=self.test_epsilon, step_size=self.test_step_size, steps=self.test_steps)

    def measured(self, precision: OodPrecision | None) -> Measured:
        """Clean error, error under PGD, AUPR where there is another data set, the papers' FLOPs, latency if asked."""
        from evonas.audit import CLEAN, MEASUREMENTS, ErrorUnder, ImageLatency, Measured, Measurement
        from evonas.objectives.attack_error import described

        parts = [CLEAN, Measurement("pgd_error", described(self.attack), ErrorUnder("pgd_error", self.attack))]
        if precision is not None:
            parts.append(Measurement("ood_aupr", "AUPR", precision, maximize=True))
        if self.retrain_latency:
            parts.append(Measurement("latency_ms", "Milliseconds of one image", ImageLatency(), unit="count"))
        return Measured(measurements=(*parts, *MEASUREMENTS["paper_flops"]), test_limit=self.test_limit)


@dataclass(frozen=True, kw_only=True)
class RobustnessOptions:
    """Attacks and certificates of the networks that were trained again (DSRNA, 4.3.1)."""

    robust_attacks: tuple[str, ...] = ("fgsm", "pgd10", "pgd20", "pgd100", "cw")
    """DSRNA's fgsm, pgd10, pgd20, pgd100 (epsilon 8/255) and cw (needs foolbox), or any other of --suite in roco."""
    fgsm_epsilon: Annotated[float, STEP, Needs("robust_attacks", ("fgsm",))] = 2 / 255
    """Radius of FGSM; the paper says `0.01 (2/255)`."""
    radius_images: Annotated[int, Range(least=0, most=10**9)] = 100
    """Test images that mean certified radii are over, the first ones; 0: no radii."""
    radius_intermediate: Annotated[Intermediate, Needs("radius_images")] = "interval"
    """Bounds before each ReLU there: interval (fast), linear (tight, far slower the deeper the network) or signs (in
    between)."""
    radius_targets: Annotated[Literal["random", "all"], Needs("radius_images")] = "random"
    """Classes that an image must not be taken for: one drawn for it (Tables 5 and 6, after CNN-Cert), or all."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if len(set(self.robust_attacks)) < len(self.robust_attacks):
            raise ConfigurationError(f"expected every one of --robust-attacks once, got {self.robust_attacks}")
        if self.robust_attacks != RobustnessOptions.robust_attacks:
            _ = self.attacks  # refuses what they cannot be made from

    @property
    def attacks(self) -> tuple[Measurement, ...]:
        from evonas.attacks import FGSM
        from evonas.audit import errors_under, with_attack

        dsrna = {"fgsm": "fgsm2", "cw": "cw60"}
        found = errors_under([dsrna.get(name, name) for name in self.robust_attacks], "robust-attacks")
        fgsm = FGSM(epsilon=self.fgsm_epsilon)
        return tuple(with_attack(each, fgsm) if each.column == "fgsm_error" else each for each in found)

    @property
    def radii(self) -> tuple[Measurement, ...]:
        from evonas.audit import MEASUREMENTS, MeanRadius

        if not self.radius_images:
            return ()
        return tuple(
            replace(
                each,
                measure=replace(
                    each.measure,
                    images=self.radius_images,
                    intermediate=self.radius_intermediate,
                    targets=self.radius_targets,
                ),
            )
            for name in ("radius_linf", "radius_l2")
            for each in MEASUREMENTS[name]
            if isinstance(each.measure, MeanRadius)
        )

    def check(self) -> None:
        """ConfigurationError where an attack needs a library that is not installed."""
        from evonas.audit import require_libraries

        require_libraries(self.attacks, "--robust-attacks")


def check_networks(options: CellRetrainOptions, space: DartsSpace, data: Dataset, precision: OodPrecision) -> None:
    """Raise, before anything is searched, what would stop `retrain_cells`.

    Args:
        space: of the networks that the search's cells are scored in.
    Raises:
        ConfigurationError: a network that cannot be built, or not trained on images of this size.
        DataError: too few test images of one of the data sets, or images of different size.
    """
    from evonas.networks.darts import GENOTYPES

    precision.objective(options.measured(precision).tested(data, precision.seed))
    if options.cutout >= data.image_size:
        raise ConfigurationError(f"expected cutout < {data.image_size}, the images' size, got {options.cutout}")
    wanted = AUXILIARY_SIZE[space.stem]
    if options.auxiliary and data.image_size != wanted:
        raise ConfigurationError(
            f"expected images of {wanted} pixels for an auxiliary head, got {data.image_size}; give --auxiliary 0"
        )
    for cells in (None, *(GENOTYPES[name] for name in options.published)):
        for millions in options.retrain_params or (None,):
            _space(options, space, cells, data.n_classes, millions)


def retrain_cells(
    run: Run,
    options: CellRetrainOptions,
    prepare: TrainFromScratch,
    found: Sequence[FoundCells],
    precision: OodPrecision | None,
) -> None:
    """Train and score the cells, and the published ones that were asked for, or continue with that; print the table.

    In the run's folder `retrained/`: weights, rows.jsonl (what is finished), retrained.csv, tables.md; while a network
    is trained, a checkpoint of it, replaced after every epoch.

    Args:
        prepare: of the search's scores.
        precision: AUPR, with images that are out of distribution; None: none.
    """
    from evonas.methods.cell_search import FoundCells
    from evonas.networks.darts import GENOTYPES
    from evonas.report import Chance, cell_table, folded, write_retrained

    cells = [*found, *(FoundCells(name, GENOTYPES[name]) for name in options.published)]
    networks = _networks(run, options, prepare, cells)
    measured = options.measured(precision)
    folder, rows = run.audit(networks, measured, _opening(networks), "retrained")
    seconds = {each.name: each.seconds for each in cells}
    rows = [{**row, "search_seconds": seconds[row["configuration"]]} for row in rows]
    notes = list(_notes(options, measured, _training(networks)))
    tested = measured.test_part(prepare.data, run.seed)
    chance = Chance(prepare.data.n_classes, len(tested))
    table = cell_table(rows, notes, prepare.data.name, run.device, chance)
    write_retrained(folder, rows, [table])
    run.screen.tables(folded(table, run.screen.console.width, 1))
    run.screen.say(f"written to {folder}: retrained.csv, tables.md, and the weights")


def measure_cells(
    run: Run,
    options: CellRetrainOptions,
    robust: RobustnessOptions,
    prepare: TrainFromScratch,
    found: Sequence[FoundCells],
) -> None:
    """Measure the networks that `retrain_cells` has trained, or continue with that; print DSRNA's tables.

    In the run's folder `robust/`: retrained.csv, repeats.csv (means and deviations), tables.md. What is finished is
    kept beside the weights, in `retrained/rows.jsonl`. Cells of several preferences count for each of these.
    """
    from evonas.audit import CLEAN, Measured
    from evonas.methods.cell_search import FoundCells
    from evonas.networks.darts import GENOTYPES
    from evonas.report import (
        Chance,
        folded,
        means_of_repeats,
        measured_table,
        reported_tables,
        write_means,
        write_retrained,
    )

    cells = [*found, *(FoundCells(name, GENOTYPES[name]) for name in options.published)]
    measured = Measured(measurements=(CLEAN, *robust.attacks, *robust.radii), test_limit=options.test_limit)
    networks, opening = _networks(run, options, prepare, cells), "measuring the robustness of these networks"
    _, rows = run.audit(networks, measured, opening, "retrained")
    groups = {each.name: each.groups for each in cells}
    several = len(options.retrain_params or ()) > 1
    named = [
        (group + (f"-C{row['channels']}" if several else ""), row)
        for row in rows
        for group in groups[row["configuration"]]
    ]
    means = means_of_repeats(
        [(name, row) for name, row in named if row["status"] == "ok"], [each.column for each in measured.measurements]
    )
    data = prepare.data.name
    table = measured_table(
        means,
        rows,
        {each.column: (each.label, each.note) for each in robust.attacks},
        {each.column: each.label for each in robust.radii},
        data,
        certified_images=robust.radius_images,
        targets=robust.radius_targets,
        intermediate=robust.radius_intermediate,
        chance=Chance(prepare.data.n_classes, len(measured.test_part(prepare.data, run.seed))),
    )
    tables = [table, *reported_tables(data)]
    out = run.path / "robust"
    out.mkdir(exist_ok=True)
    write_retrained(out, rows, tables)
    write_means(out / "repeats.csv", means)
    run.screen.tables([part for each in tables for part in folded(each, run.screen.console.width, 1)])
    run.screen.say(f"written to {out}: retrained.csv, repeats.csv, tables.md")


def _networks(
    run: Run, options: CellRetrainOptions, prepare: TrainFromScratch, cells: Sequence[FoundCells]
) -> list[AuditNetwork]:
    from evonas.audit import AuditNetwork

    networks = []
    for each, millions in product(cells, options.retrain_params or (None,)):
        training = cell_training(run, options, prepare, each.genotype, millions)
        genome = training.space.canonical(training.space.from_genotype(each.genotype))
        networks.append(AuditNetwork(each.name, genome, training))
    return networks


def _training(networks: Sequence[AuditNetwork]) -> FinalTraining:
    """The first network's."""
    from evonas.audit import FinalTraining

    training = networks[0].training
    assert isinstance(training, FinalTraining)
    return training


def cell_training(
    run: Run,
    options: CellRetrainOptions,
    prepare: TrainFromScratch,
    genotype: Genotype,
    millions: float | None = None,
) -> FinalTraining:
    """Training of a large network of these cells.

    Args:
        millions: of parameters, which its width follows from; None: the width is given.
    """
    from evonas.audit import FinalTraining
    from evonas.spaces import DartsSpace

    searched = prepare.space
    assert isinstance(searched, DartsSpace)
    gpus = run.options.execution.gpus_per_task
    precision, _ = run.hardware.precision(options.retrain_precision, gpus, depthwise=True)
    return FinalTraining(
        space=_space(options, searched, genotype, prepare.data.n_classes, millions),
        data=prepare.data,
        training=options.training(precision, prepare.training),
        recipe=options.recipe,
        train_on=options.train_on,
        cutout=options.cutout,
        seed=run.seed,
        device=run.device,
        threads=run.threads,
    )


def _space(
    options: CellRetrainOptions, searched: DartsSpace, cells: Genotype | None, n_classes: int, millions: float | None
) -> DartsSpace:
    """The space that builds cells at the width and depth that they are trained at.

    Args:
        cells: None: any of the search's.
        millions: of parameters, which the width follows from; None: it is given.
    """
    import numpy as np

    from evonas.spaces.darts_costs import width_for

    deep = replace(
        searched,
        channels=options.retrain_channels or searched.channels,
        layers=options.retrain_layers or searched.layers,
        nodes=searched.nodes if cells is None else len(cells.normal) // 2,
    )
    if millions is None:
        return deep
    genome = np.zeros(deep.n_genes, dtype=np.int64) if cells is None else deep.from_genotype(cells)
    return replace(deep, channels=width_for(deep, genome, n_classes, 1e6 * millions))


def _opening(networks: Sequence[AuditNetwork]) -> str:
    named, base = ", ".join(network.configuration for network in networks), _training(networks)
    return (
        f"training cells again ({named}): {base.training.epochs} epochs, batches of {base.training.batch_size}, "
        f"cutout {base.cutout}, {recipe_words(base.recipe)}, {base.training.precision}"
    )


def _notes(options: CellRetrainOptions, measured: Measured, base: FinalTraining) -> Iterator[str]:
    """Conditions of the numbers in the table."""
    import torch

    from evonas.audit import OodPrecision
    from evonas.objectives.attack_error import described

    training, recipe, attack = base.training, options.recipe, options.attack
    images = len(measured.test_part(base.data, base.seed))
    yield (
        f"Trained for {training.epochs} epochs in batches of {training.batch_size} on {base.images_in_words}: "
        f"cutout {base.cutout}, drop-path to {recipe.drop_path:g}, auxiliary head of weight "
        f"{recipe.auxiliary_weight:g}, {'clean images' if recipe.robust is None else recipe_words(recipe)}."
    )
    yield (
        f"PGD acc.: on {images} test images under PGD made against the very network (white-box; "
        f"{described(attack)} of {255 * attack.step_size:g}/255); it begins at the clean image, and the last iterate "
        "counts."
    )
    for each in measured.measurements:
        if isinstance(each.measure, OodPrecision):
            aupr = each.measure.objective(measured.tested(base.data, base.seed))
            ood, own = aupr.counts(images)
            yield (
                f"AUPR: {ood} test images of {aupr.ood.name}, the positive ones, among {own} of {base.data.name}, by "
                f"the largest softmax probability; guessing gives {100 * ood / (ood + own):.1f}%."
            )
    yield (
        f"Search: the time that the search itself took ({torch.device(base.device).type}, threads: {base.threads}); "
        "-: published cells."
    )
