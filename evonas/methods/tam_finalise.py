"""TAM-NAS's front trained to the end and scored (III-F, IV-A3), and the layers that good networks have."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from evonas.errors import ConfigurationError, check_name
from evonas.methods.recipes import check_recipe, recipe_words
from evonas.ranges import BATCH, COUNT, IMAGES, PENALTY, RADIUS, RATE, STEP, Range, check_ranges
from evonas.runs.needs import Needs
from evonas.training.settings import TrainingConfig
from evonas.types import Genome, TrainOn

if TYPE_CHECKING:
    from evonas.attacks import PGD
    from evonas.audit import AuditNetwork, FinalTraining, Measured, Measurement
    from evonas.data import Dataset
    from evonas.evaluation import SliceSupernet
    from evonas.report import TextTable
    from evonas.runs.result import Result
    from evonas.runs.run import Run
    from evonas.spaces import ShuffleSpace
    from evonas.training import Recipe

__all__ = ["FinaliseOptions", "OfSupernet", "check_scores", "count_layers", "finalise_front", "ranked"]

ERRORS = ("clean_error", "pgd_error")
"""Columns that the best networks of a front are chosen by."""

HANDMADE_ONLY = Needs("handmade")
OF_YOPO = Needs("finalise_recipe", ("trades_yopo",))

ORDERS = ("reversed", "middle", "random")
"""Other orders of Lego-Net's layers."""


@dataclass(frozen=True, kw_only=True)
class FinaliseOptions:
    """Training the front to the end after the search (TAM-NAS, III-F and IV-A3), and scoring it."""

    finalise: Literal["", "scratch", "finetune", "both"] = ""
    """After the search, train the front's networks from scratch, with the supernet's weights, or both ways."""
    finalise_top: Annotated[int | None, COUNT] = None
    """Networks of the front to train: the best by the sum of their ranks by clean and by PGD error; all by default."""
    finalise_all: bool = False
    """Train every network that the search has scored, instead of the front's best."""
    finalise_epochs: Annotated[int, COUNT] = 100
    """Passes over the images."""
    train_on: TrainOn = "train"
    """Their images: the train part, or all but the test images, those that the search held out, too."""
    finalise_batch_size: Annotated[int, BATCH] = 512
    """Images of a step."""
    finalise_lr: Annotated[float, RATE] = 0.1
    """Initial learning rate."""
    finalise_milestones: Annotated[tuple[int, ...], COUNT] = (20, 40, 80)
    """Epochs after which the learning rate falls to a tenth."""
    finalise_weight_decay: Annotated[float, PENALTY] = 5e-3
    """L2 penalty of the weights."""
    finalise_precision: str = "auto"
    """auto, fp32, bf16 or tf32 (CUDA); auto never takes bf16 on a CPU, where depthwise convolutions lose by it."""
    finalise_recipe: str = "trades_yopo"
    """Loss: trades_yopo; pgd_at, trades, trades_awp or fast_adversarial (robust); ibp, crown_ibp (certified); gaussian;
    standard; or a plugin's."""
    finalise_average: Literal["none", "ema", "swa"] = "none"
    """Weights that the training delivers: its last ones, their exponential moving average (ema), or the mean of its
    last epochs' (swa)."""
    finalise_m: Annotated[int, COUNT, OF_YOPO] = 5
    """TRADES-YOPO: passes through the whole network."""
    finalise_n: Annotated[int, COUNT, OF_YOPO] = 3
    """TRADES-YOPO: steps in the first layer after each of them."""
    finalise_supernet_loops: Annotated[bool, OF_YOPO] = False
    """TRADES-YOPO: the supernet's passes and steps, instead of those two."""
    finalise_epsilon: Annotated[float | None, RADIUS] = None
    """Radius of the recipe's L-inf ball, pixels in [0, 1]; by default that of the supernet's attack."""
    finalise_step: Annotated[float | None, STEP, OF_YOPO] = None
    """TRADES-YOPO: length of a step; by default 0.007 for a radius of 0.031, and in proportion."""
    test_epsilons: Annotated[tuple[int, ...], Range(least=1, most=255)] = (2, 4, 6, 8)
    """Radii of the PGD that networks are scored under, in 255ths of the pixel range (Tables II to V)."""
    test_steps: Annotated[tuple[int, ...], COUNT] = (10, 30, 50)
    """Steps of that PGD; every radius is tried with each."""
    test_step_size: Annotated[float, STEP] = 2 / 255
    """Length of its steps."""
    test_limit: Annotated[int | None, IMAGES] = None
    """Size of a class-balanced subset of the test images to score on."""
    handmade: tuple[str, ...] = ()
    """Hand-made networks under the same recipe, with Table X's columns: ResNet-18, ShuffleNetV2, MobileNetV3."""
    handmade_width: Annotated[float, Range(above=0, most=64), HANDMADE_ONLY] = 1.0
    """Factor on their channels, for quick runs."""
    handmade_steps: Annotated[tuple[int, ...], COUNT, HANDMADE_ONLY] = (20, 100)
    """Steps of Table X's PGD with a radius of 8/255; with the last, 2/255 is tried, too."""
    lego: bool = False
    """Train the network of the layers' most frequent blocks and ratios, too (IV-E3: Lego-Net)."""
    lego_orders: Annotated[tuple[str, ...], Needs("lego")] = ()
    """Lego-Nets of as many parameters with other orders of layers, trained alike: reversed, middle (of every layer the
    choice of middle frequency), random."""
    random_orders: Annotated[int, COUNT, Needs("lego_orders", ("random",))] = 3
    """Random orders."""
    layers_top: Annotated[int, COUNT] = 10
    """Networks that the statistics of layers are over: the best of the front (Figures 8 and 9)."""

    def __post_init__(self) -> None:
        check_ranges(self)
        for name in ("test_epsilons", "test_steps", "handmade", "handmade_steps", "lego_orders"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ConfigurationError(f"expected every one of {name} once, got {getattr(self, name)}")
            if name not in ("handmade", "lego_orders") and not getattr(self, name):
                raise ConfigurationError(f"expected at least one of {name}, got none")
        self.training(self.finalise_precision)  # it checks them
        if self.finalise_recipe != "trades_yopo":
            check_recipe(self.finalise_recipe)
        for name in self.lego_orders:
            check_name(ORDERS, name, "order of layers")
        for name in self.handmade:
            from evonas.spaces import HandmadeSpace

            HandmadeSpace(name, self.handmade_width)

    @property
    def grid(self) -> tuple[Measurement, ...]:
        """The attacks of Tables II to V."""
        from evonas.audit import pgd_grid

        attacks = [(steps, epsilon) for steps in self.test_steps for epsilon in self.test_epsilons]
        return pgd_grid(attacks, self.test_step_size)

    @property
    def handmade_grid(self) -> tuple[Measurement, ...]:
        """The attacks of Table X, where there are hand-made networks."""
        from evonas.audit import pgd_grid

        if not self.handmade:
            return ()
        attacks = [*((steps, 8) for steps in self.handmade_steps), (self.handmade_steps[-1], 2)]
        return pgd_grid(attacks, self.test_step_size)

    @property
    def measured(self) -> Measured:
        from evonas.audit import CLEAN, Measured

        parts = {each.column: each for each in (CLEAN, *self.grid, *self.handmade_grid)}
        return Measured(measurements=tuple(parts.values()), test_limit=self.test_limit)

    def recipe(self, supernet: float) -> Recipe:
        """Loss of the training.

        Args:
            supernet: radius of the supernet's attack.
        """
        from evonas.training import TradesYopo, recipe_within

        epsilon = supernet if self.finalise_epsilon is None else self.finalise_epsilon
        if self.finalise_recipe != "trades_yopo":
            return recipe_within(self.finalise_recipe, epsilon)
        return TradesYopo(epsilon=epsilon, step=self.step(epsilon), m=self.finalise_m, n=self.finalise_n)

    def step(self, epsilon: float) -> float:
        """Length of a step of TRADES-YOPO within a radius."""
        from evonas.training.yopo import yopo_step

        return yopo_step(epsilon) if self.finalise_step is None else self.finalise_step

    def training(self, precision: str) -> TrainingConfig:
        return TrainingConfig(
            epochs=self.finalise_epochs,
            batch_size=self.finalise_batch_size,
            lr=self.finalise_lr,
            weight_decay=self.finalise_weight_decay,
            milestones=self.finalise_milestones,
            average=self.finalise_average,
            grad_clip=math.inf,
            precision=precision,
        )


def ranked(columns: Sequence[str]) -> bool:
    """Whether a search measures what the best networks are chosen by."""
    return set(ERRORS) <= set(columns)


def check_scores(objectives: Sequence[str], options: FinaliseOptions, data: Dataset, seed: int) -> None:
    """Raise, before anything is trained or searched, what would stop `finalise_front`.

    Raises:
        ConfigurationError: the search does not score clean and PGD error.
        DataError: fewer test images asked for than there are classes.
    """
    missing = [name for name in ERRORS if name not in objectives]
    if missing:
        raise ConfigurationError(
            f"expected a search with {' and '.join(ERRORS)} to choose networks of its front by, {missing[0]} is missing"
        )
    options.measured.test_part(data, seed)


class OfSupernet(NamedTuple):
    """A supernet, as what follows it needs to know it."""

    note: str
    """A line about it, for the tables."""
    epsilon: float = 8 / 255
    """Radius of its attack."""


class OnFront(NamedTuple):
    """A network of the front, as the search found it."""

    genome: Genome
    """Canonical."""
    values: Mapping[str, Any]
    """Its row of the front."""


def count_layers(run: Run, options: FinaliseOptions, found: Result) -> None:
    """Count the layers of the front's best networks: finalised/layer_statistics.csv and .png."""
    best = [each.genome for each in _best(found)][: options.layers_top]
    folder = run.path / "finalised"
    folder.mkdir(exist_ok=True)
    run.screen.tables([_write_layers(folder, found, best)])
    run.screen.say(f"written to {folder}: layer_statistics.csv, layer_statistics.png")


def finalise_front(
    run: Run, options: FinaliseOptions, candidates: SliceSupernet, found: Result, supernet: OfSupernet
) -> None:
    """Train and score the front, or continue with that; write and print the paper's tables.

    In the run's folder `finalised/`: the weights, rows.jsonl (what is finished), finalised.csv, tables.md,
    layer_statistics.csv and .png.
    """
    from evonas.networks.handmade import HANDMADE
    from evonas.report import folded, write_finalised
    from evonas.spaces import HandmadeSpace
    from evonas.training import TradesYopo

    front = _best(found)
    top = [each.genome for each in front[: options.layers_top]]
    best = _scored(found) if options.finalise_all else front
    recipe = run.recipe_as_begun(options.recipe(supernet.epsilon), run.begun("supernet", "recipe"))
    lego = dict(_legos(run, options, found.space, top)) if options.lego else {}
    networks = list(_networks(run, options, recipe, candidates, best, lego))
    before = []
    if isinstance(recipe, TradesYopo):
        former = replace(recipe, epsilon=8 / 255, step=options.step(8 / 255))
        before = list(_networks(run, options, former, candidates, best, lego))
    if options.finalise_epsilon is None and _trained(run, before) and not _trained(run, networks):
        run.note(
            "the networks in finalised/ were trained within 8/255, as by version 0.1.0; they are trained again within "
            f"the supernet's {255 * supernet.epsilon:g}/255, and --finalise-epsilon 8/255 keeps them"
        )
    folder, rows = run.audit(networks, options.measured, _opening(networks, options, recipe), "finalised")
    for row, network in zip(rows, networks, strict=True):
        handmade = HANDMADE[network.training.space.name] if isinstance(network.training.space, HandmadeSpace) else None
        row |= {
            "name": network.name or network.arch_id,
            "paper_params": handmade.paper_params if handmade else None,
        }
    tables = [*_tables(options, found, best, rows, supernet, recipe, run.seed), _write_layers(folder, found, top)]
    write_finalised(folder, rows, tables)
    for table in tables:
        run.screen.tables(folded(table, run.screen.console.width, 3) if table.header[0] == "Network" else [table])
    run.screen.say(
        f"written to {folder}: finalised.csv, tables.md, the weights, layer_statistics.csv, layer_statistics.png"
    )


def _best(found: Result) -> list[OnFront]:
    """The front, the smallest sum of ranks by clean and by PGD error first, of equal ones by arch_id.

    A rank is the number of the front's networks that are better. ConfigurationError where the front is empty.
    """
    import numpy as np

    table = found.front
    rows = [dict(zip(table.columns, values, strict=True)) for values in table.to_numpy().tolist()]
    if not rows:
        raise ConfigurationError(f"expected networks on the front of {found.path}, got none; see population.csv")

    def ranks(row: Mapping[str, Any]) -> int:
        return sum(other[name] < row[name] for name in ERRORS for other in rows)

    ordered = sorted(rows, key=lambda row: (ranks(row), row["arch_id"]))
    return [OnFront(np.array(row["genome"].split(), dtype=np.int64), row) for row in ordered]


def _scored(found: Result) -> list[OnFront]:
    """Every network that the search has scored, in the order of population.csv, each once."""
    import numpy as np

    table = found.population
    rows = [dict(zip(table.columns, values, strict=True)) for values in table.to_numpy().tolist()]
    return [
        OnFront(np.array(row["genome"].split(), dtype=np.int64), row)
        for row in {row["arch_id"]: row for row in rows if row["status"] == "ok"}.values()
    ]


def _legos(
    run: Run, options: FinaliseOptions, space: ShuffleSpace, top: Sequence[Genome]
) -> Iterator[tuple[str, Genome]]:
    """Lego-Net and the other orders of its layers that are asked for, by their names in the tables.

    One of another number of parameters than can be mended, or that is Lego-Net itself, is said and left out.
    """
    from evonas.audit import lego_genome, other_orders

    lego = lego_genome(space, top)
    yield "Lego-Net", lego
    orders = other_orders(space, top, options.lego_orders, options.random_orders, run.seed)
    for name, genome in orders.items():
        if genome is None:
            run.note(f"Lego-Net, {name}: no such network has as many parameters, and another order; it is left out")
        else:
            yield f"Lego-Net, {name}", genome


def _networks(
    run: Run,
    options: FinaliseOptions,
    recipe: Recipe,
    candidates: SliceSupernet,
    best: Sequence[OnFront],
    lego: Mapping[str, Genome],
) -> Iterator[AuditNetwork]:
    """Everything that is to be trained, in the order of the tables."""
    import numpy as np

    from evonas.audit import AuditNetwork
    from evonas.spaces import HandmadeSpace

    scratch = scratch_training(run, options, recipe, candidates)
    ways = {"scratch": scratch, "finetune": replace(scratch, mode="finetune", inherited=candidates.weights)}
    chosen = {mode: way for mode, way in ways.items() if options.finalise in (mode, "both")}
    genomes = [(each.genome, "") for each in (best if options.finalise_all else best[: options.finalise_top])]
    genomes += [(genome, name) for name, genome in lego.items()]
    for genome, name in genomes:
        for mode, way in chosen.items():
            yield AuditNetwork(f"{name or 'the front'} ({mode})", genome, way, name)
    for name in options.handmade:
        own = HandmadeSpace(name, options.handmade_width, candidates.data.image_size)
        called = name if own.width == 1 else f"{name}-x{own.width:g}"
        yield AuditNetwork("Table X (scratch)", np.empty(0, dtype=np.int64), replace(scratch, space=own), called)


def scratch_training(run: Run, options: FinaliseOptions, recipe: Recipe, candidates: SliceSupernet) -> FinalTraining:
    """Training of a network of the supernet from new weights."""
    import torch

    from evonas.audit import FinalTraining
    from evonas.training import resolve_precision

    precision, _ = resolve_precision(options.finalise_precision, torch.device(run.device), depthwise=True)
    return FinalTraining(
        space=candidates.space,
        data=candidates.data,
        training=options.training(precision),
        recipe=recipe,
        train_on=options.train_on,
        mode="scratch",
        seed=run.seed,
        device=run.device,
        threads=run.threads,
    )


def _trained(run: Run, networks: Sequence[AuditNetwork]) -> bool:
    """Whether one of them is trained already."""
    from evonas.audit import AuditRecords

    folder = run.path / "finalised"
    if not folder.exists():
        return False
    with AuditRecords.opened(folder) as records:
        return any(records.find("trained", each.arch_id, each.training.digest) for each in networks)


def _write_layers(folder: Path, found: Result, genomes: Sequence[Genome]) -> TextTable:
    from evonas.audit import layer_counts
    from evonas.report import layer_table, plot_layers, write_layers

    counts = layer_counts(found.space, genomes)
    write_layers(folder, counts)
    plot_layers(folder / "layer_statistics.png", counts, len(genomes), found.searched.data)
    return layer_table(counts, len(genomes))


def _tables(
    options: FinaliseOptions,
    found: Result,
    best: Sequence[OnFront],
    rows: Sequence[Mapping[str, Any]],
    supernet: OfSupernet,
    recipe: Recipe,
    seed: int,
) -> Iterator[TextTable]:
    """Tables II to V, Table X where there are hand-made networks, and the rank agreement."""
    from evonas.objectives import PGDError
    from evonas.objectives.attack_error import described
    from evonas.report import Chance, agreement_table, handmade_table, rank_agreement, transfer_table

    images, data = len(options.measured.test_part(found.evaluator.prepare.data, seed)), found.searched.data
    whole = " on all images but the test part" if options.train_on == "all" else ""
    trained = f"Networks: trained by {_words(recipe)}{whole}."
    labels = {each.column: each.label for each in options.grid}
    notes = [_attack_note(options.grid[0], images), supernet.note, trained]
    chance = Chance(found.evaluator.prepare.data.n_classes, images)
    yield transfer_table(rows, labels, notes, data, supernet.epsilon, chance)
    if options.handmade:
        grid = options.handmade_grid
        notes = [_attack_note(grid[0], images), trained]
        yield handmade_table(rows, {each.column: each.label for each in grid}, notes, data, chance)
    pgd = next(part.attack for part in found.evaluator.objectives if isinstance(part, PGDError))
    counted = "any iterate" if pgd.stop_when_fooled else "last iterate"
    names = {"clean_error": "clean", "pgd_error": f"{described(pgd)}, {counted}", **labels}
    inherited = {each.values["arch_id"]: each.values for each in best}
    pairs = {"clean_error": "clean_error", "pgd_error": _closest(options.grid, pgd)}
    yield agreement_table(rank_agreement(rows, inherited, pairs), names)


def _attack_note(measurement: Measurement, images: int) -> str:
    """Conditions of a grid of attacks, by the example of its first column."""
    attack = _pgd(measurement)
    return (
        f"{measurement.label}: accuracy on {images} test images under PGD made against the very network (white-box, "
        f"L-inf) with {attack.steps} steps and epsilon {255 * attack.epsilon:g}/255; it begins at the clean image, its "
        f"steps are {255 * attack.step_size:g}/255, and the last iterate counts. The other columns alike."
    )


def _words(recipe: Recipe) -> str:
    from evonas.training import TradesYopo

    if not isinstance(recipe, TradesYopo):
        return recipe_words(recipe)
    return f"TRADES-YOPO-{recipe.m}-{recipe.n} within {255 * recipe.epsilon:g}/255"


def _pgd(measurement: Measurement) -> PGD:
    from evonas.attacks import PGD
    from evonas.audit import ErrorUnder

    assert isinstance(measurement.measure, ErrorUnder)
    attack = measurement.measure.attack
    assert isinstance(attack, PGD)
    return attack


def _closest(grid: Sequence[Measurement], pgd: PGD) -> str:
    """The column whose attack is nearest to the search's."""

    def distance(measurement: Measurement) -> tuple[float, int]:
        attack = _pgd(measurement)
        return abs(attack.epsilon - pgd.epsilon), abs(attack.steps - pgd.steps)

    return min(grid, key=distance).column


def _opening(networks: Sequence[AuditNetwork], options: FinaliseOptions, recipe: Recipe) -> str:
    found = dict.fromkeys(network.configuration for network in networks)
    numbers = ", ".join(f"{sum(each.configuration == name for each in networks)} of {name}" for name in found)
    return (
        f"training to the end ({numbers}): {_words(recipe)}, "
        f"{options.finalise_epochs} epochs, batches of {options.finalise_batch_size}, on {_on_images(networks)}"
    )


def _on_images(networks: Sequence[AuditNetwork]) -> str:
    from evonas.audit import FinalTraining

    training = networks[0].training
    assert isinstance(training, FinalTraining)
    return training.images_in_words
