"""Searches of cells by gradient: shared options, and the steps of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from evonas.errors import ConfigurationError, check_name
from evonas.methods.cell_retraining import (
    CellRetrainOptions,
    RobustnessOptions,
    cell_training,
    check_networks,
    measure_cells,
    retrain_cells,
)
from evonas.methods.recipes import ROBUST, check_recipe, has_radius
from evonas.objectives import OBJECTIVES
from evonas.ranges import BATCH, CHANNELS, COUNT, LAYERS, RATE, Range, check_ranges
from evonas.runs.needs import Needs
from evonas.runs.objectives import AttackOptions, CertifyOptions
from evonas.runs.options import DataOptions, RunOptions
from evonas.seeding import derive_seed
from evonas.training import RECIPES, recipe_within
from evonas.training.settings import TrainingConfig, check_precision
from evonas.types import Genome, arch_id

if TYPE_CHECKING:
    from rich.console import Console

    from evonas.audit import FinalTraining, OodPrecision
    from evonas.data import Dataset
    from evonas.evaluation import TrainFromScratch
    from evonas.gradient import Method
    from evonas.methods.cell_search import CellSearch, FoundCells
    from evonas.objectives import Objective
    from evonas.runs.result import Result
    from evonas.runs.run import Run
    from evonas.spaces import DartsSpace

__all__ = [
    "PAPER",
    "QUICK",
    "TRAINED",
    "CellOptions",
    "LevelOptions",
    "NetworkOptions",
    "after_search",
    "check_retraining",
    "compose",
    "perturbed",
    "plan_searches",
    "run",
    "to_the_end",
]

TRAINED = "retrained"
"""Folder of networks that were trained to the end."""

SEARCH_PRECISIONS = ("auto", "bf16", "fp32")
"""tf32 is none: a search differences, certifies and compares gradients."""


@dataclass(frozen=True, kw_only=True)
class LevelOptions:
    """Schedule of the search; what is not given is the method's own."""

    search_epochs: Annotated[int | None, COUNT] = None
    """Epochs of every stage of the supernet."""
    weights_only: Annotated[int | None, Range(least=0, most=10**6)] = None
    """First epochs of every stage, which leave the architecture alone."""
    search_channels: Annotated[int | None, CHANNELS] = None
    """Channels of the supernet's first cell."""
    search_layers: Annotated[int | None, LAYERS] = None
    """Cells of the first stage's supernet; further stages are deeper in proportion."""
    search_batch_size: Annotated[int | None, BATCH] = None
    """Images of a step, at each level."""
    search_lr: Annotated[float | None, RATE] = None
    """Initial learning rate of the supernet's weights in a stage; cosine decay."""
    alpha_lr: Annotated[float | None, RATE] = None
    """Learning rate of the architecture, by Adam."""
    order: Literal[1, 2] | None = None
    """2: the architecture's gradient goes through one step of the weights."""
    hessian: Literal["finite", "exact"] | None = None
    """Second order by a central difference, or by differentiating twice."""
    begin_with: Literal["alpha", "weights"] | None = None
    """First level that an iteration descends."""
    portion: Annotated[float | None, Range(above=0, below=1)] = None
    """Share of the train part that weights are trained on; the architecture is trained on the rest."""
    nodes: Annotated[int | None, Range(least=1, most=6)] = None
    """Intermediate nodes of a cell."""
    perturb_alpha: Annotated[float | None, Range(above=0, most=1)] = None
    """L-inf radius around softmaxed alpha within which weights are trained at the worst one (SDARTS-ADV: 0.3)."""
    search_recipe: str = "standard"
    """Recipe that trains the supernet's weights in place of the cross-entropy of the method's own loss: pgd_at,
    fast_adversarial, trades, trades_awp (order 1 alone), gaussian or a plugin's; standard: that loss."""
    search_recipe_epsilon: Annotated[float | None, Range(above=0, most=1, pixels=True)] = None
    """Radius of its attack, in [0, 1], its steps in proportion; the recipe's own by default."""
    search_precision: str = "auto"
    """auto, fp32 or bf16; auto takes bf16 where the hardware gains by it, and never with order 2."""

    def __post_init__(self) -> None:
        check_precision(self.search_precision, SEARCH_PRECISIONS)

    def applied(self, method: Method) -> Method:
        """The method with what was given."""
        first = method.stages[0].layers
        of_stage = {"epochs": self.search_epochs, "channels": self.search_channels, "weights_only": self.weights_only}
        stages = []
        for stage in method.stages:
            given = _given(of_stage)
            if self.search_layers is not None:
                given["layers"] = round(stage.layers * self.search_layers / first)
            if self.search_epochs is not None and self.weights_only is None:  # in proportion
                given["weights_only"] = stage.weights_only * self.search_epochs // stage.epochs
            stages.append(replace(stage, **given))
        names = ("search_batch_size", "search_lr", "alpha_lr", "order", "hessian", "begin_with", "portion")
        given = _given({name: getattr(self, name) for name in names})
        if self.search_lr is not None:
            given["search_lr_min"] = min(method.config.search_lr_min, self.search_lr)
        config = replace(method.config, **given)
        if self.hessian is not None and config.order == 1:
            raise ConfigurationError(f"expected --order 2 with --hessian {self.hessian}, {method.name} has 1 here")
        nodes = method.nodes if self.nodes is None else self.nodes
        changed = self._under_recipe(replace(method, stages=tuple(stages), config=config, nodes=nodes))
        return changed if self.perturb_alpha is None else perturbed(changed, self.perturb_alpha)

    def _under_recipe(self, method: Method) -> Method:
        if self.search_recipe == "standard":
            return method
        from evonas.gradient import with_recipe

        check_name(RECIPES, self.search_recipe, "recipe")
        return with_recipe(method, recipe_within(self.search_recipe, self.search_recipe_epsilon))


def perturbed(method: Method, epsilon: float) -> Method:
    """The method whose weights are trained at the worst architecture nearby, called `NAME-adv`."""
    from evonas.gradient import AlphaPerturbation

    return replace(method, name=f"{method.name}-adv", perturbation=AlphaPerturbation(epsilon=epsilon))


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The network that found cells are scored in, on the validation part; every method's rows compare by it."""

    eval_channels: Annotated[int, CHANNELS] = 36
    """Channels of a node of its first cell."""
    eval_layers: Annotated[int, LAYERS] = 20
    """Its cells."""


@dataclass(frozen=True, kw_only=True)
class CellOptions(RunOptions):
    """Options of every search of cells by gradient."""

    repeats: Annotated[int, COUNT] = 1
    """Searches, each with a seed of its own that follows from `seed`; means and deviations are written."""
    preferences: Annotated[int, Range(least=1, most=100)] = 1
    """Cells that one search delivers, from small networks to large ones, such as 7: as many architectures on one
    supernet, each with its own trade-off of size (at --eval-channels, --eval-layers) and the other objectives."""
    levels: LevelOptions = field(default_factory=LevelOptions)
    objectives: tuple[str, ...] = ("clean_error", "pgd_error", "params")
    """Columns that found cells are scored on, as those of every other search."""
    cells: NetworkOptions = field(default_factory=NetworkOptions)
    recipe: str = "standard"
    """Recipe of the networks that cells are scored in: standard; pgd_at, trades, trades_awp, trades_yopo or
    fast_adversarial (robust); ibp or crown_ibp (certified); gaussian; or a plugin's."""
    recipe_epsilon: Annotated[float | None, Range(above=0, most=1, pixels=True)] = None
    """Radius of the attack of a robust recipe, in [0, 1], its steps in proportion; the recipe's own by default."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    attacks: AttackOptions = field(default_factory=AttackOptions)
    certify: CertifyOptions = field(default_factory=CertifyOptions)
    after: Annotated[CellRetrainOptions, Needs("retrain", but=("retrain",))] = field(default_factory=CellRetrainOptions)

    common: ClassVar[tuple[str, ...]] = (
        *("preset", "data", "data_root", "train_limit", "val_limit", "seed", "repeats", "preferences", "out", "plugin"),
        *("search_epochs", "search_channels", "search_layers", "search_batch_size", "order", "search_precision"),
        *("objectives", "eval_channels", "eval_layers", "epochs", "batch_size", "lr", "precision"),
        *(
            "retrain",
            "retrain_channels",
            "retrain_layers",
            "retrain_epochs",
            "retrain_recipe",
            "test_limit",
            "device",
            "threads",
        ),
    )

    renamed: ClassVar[Mapping[str, str]] = {"against": "published"}

    def __post_init__(self) -> None:
        for part in (self, self.levels, self.cells):
            check_ranges(part)
        check_recipe(self.recipe, self.recipe_epsilon)
        for name in self.objectives:
            check_name(OBJECTIVES, name, "objective")
        if "adversarial_set_error" in self.objectives:
            raise ConfigurationError(
                "expected objectives without a set for gradient methods, got adversarial_set_error; see roco_cifar10.py"
            )
        _ = self.drafts  # refuses what does not go together
        if self.after.retrain:
            self.after.training(self.after.retrain_precision, self.training)  # it checks them

    def unused(self) -> dict[str, str]:
        """Options that nothing reads as the others are -> what would bring them into use."""
        measured = self.after.retrain or "ood_aupr" in self.objectives
        trained = any(method.needs_ood for method in self.drafts.values())
        found = {} if measured else {"ood_ratio": "--objectives ood_aupr or --retrain"}
        if not (measured or trained):
            found["ood_data"] = "--objectives ood_aupr, --retrain or a method that trains on it"
        recipes = {
            "recipe": self.recipe,
            "retrain_recipe": self.after.retrain_recipe,
            "search_recipe": self.levels.search_recipe,
        }
        for name, recipe in recipes.items():
            if not has_radius(recipe):
                found[f"{name}_epsilon"] = f"{ROBUST} --{name.replace('_', '-')} trades"
        return found | self.training.unused(*([self.after.retrain_average] if self.after.retrain else []))

    def space(self, nodes: int, image_size: int) -> DartsSpace:
        """Space of the networks that are scored."""
        from evonas.spaces import DartsSpace

        return DartsSpace(self.cells.eval_channels, self.cells.eval_layers, nodes, image_size=image_size)

    def methods(self, image_size: int, n_classes: int = 10) -> dict[str, Method]:
        """Label -> a search of its own; the label is empty where there is one.

        Args:
            image_size, n_classes: of the data, whose networks are counted.
        """
        raise NotImplementedError

    @property
    def drafts(self) -> dict[str, Method]:
        """The searches as far as they do not depend on the data, whose images and classes a size can count."""
        return self.methods(32)

    def several(self, method: Method, image_size: int, n_classes: int) -> Method:
        """The method with as many preferences as asked for; itself with one."""
        if self.preferences == 1:
            return method
        from evonas.gradient import DeliveredShare, with_preferences

        size = DeliveredShare(
            channels=self.cells.eval_channels,
            layers=self.cells.eval_layers,
            nodes=method.nodes,
            image_size=image_size,
            n_classes=n_classes,
        )
        return with_preferences(method, size, self.preferences)

    @property
    def robust(self) -> RobustnessOptions | None:
        """Further measurements of the networks that are trained again."""
        return None

    @property
    def method_name(self) -> str:
        """Method in the run's rows: `darts`, `e2rnas-v2`, `e2rnas-v2-pdarts`."""
        return next(iter(self.drafts.values())).name


def run(options: CellOptions, console: Console | None = None) -> Result:
    """Search cells, score them, and train them again where that is asked for; each goes on where it was stopped.

    Raises:
        EvonasError: see `Run`.
        Interrupted: a signal came; the same command continues.
    """
    from evonas.methods.cell_search import find_cells
    from evonas.runs.run import Run

    with Run.open(options.method_name, options, console=console) as run:
        space, candidates, objectives = compose(run, options)
        searches = plan_searches(run, options, candidates.data)
        check_retraining(run, options, space, candidates.data)
        cells = find_cells(run, searches)
        genomes = [space.canonical(space.from_genotype(each.genotype)) for each in cells]
        found = run.score(space, candidates, objectives, genomes, options.objectives)
        after_search(run, options, candidates, found, cells)
    return found


def check_retraining(run: Run, options: CellOptions, space: DartsSpace, data: Dataset) -> None:
    """Raise, before anything is searched, what would stop the search or the retraining that is asked for."""
    if options.after.retrain:
        check_networks(options.after, space, data, _precision(run, options, data))
        if options.robust is not None:
            options.robust.check()


def after_search(
    run: Run,
    options: CellOptions,
    candidates: TrainFromScratch,
    found: Result,
    cells: Sequence[FoundCells],
) -> None:
    """Write which search found which row, and train and measure the cells again where that is asked for."""
    if len(cells) > 1 or options.preferences > 1:
        _write_sweep(run, options, found, cells)
    if options.after.retrain:
        retrain_cells(run, options.after, candidates, cells, _precision(run, options, candidates.data))
        if options.robust is not None:
            measure_cells(run, options.after, options.robust, candidates, cells)


def compose(run: Run, options: CellOptions) -> tuple[DartsSpace, TrainFromScratch, tuple[Objective, ...]]:
    """The space of the networks that cells are scored in, their training, and what they are scored on."""
    data = run.load_data()
    methods = options.methods(data.image_size, data.n_classes)
    space = options.space(next(iter(methods.values())).nodes, data.image_size)
    ood_data = _ood_data(run, options, data)
    run.use(others=None if ood_data is None else {"name": ood_data.name, "fingerprint": ood_data.fingerprint})
    cells = {search.full_label: search.identity() for search in plan_searches(run, options, data)}
    run.use(cells=cells)
    recipe = recipe_within(options.recipe, options.recipe_epsilon)
    prepare = run.train_from_scratch(space, data, options.training, recipe)
    objectives = run.make_objectives(
        options.objectives, data, options.attacks, options.certify, ood_data=ood_data, space=space
    )
    return space, prepare, objectives


def to_the_end(run: Run, options: CellOptions, candidates: TrainFromScratch, genome: Genome) -> FinalTraining:
    """Training of cells of the run in a large network, as `retrain_cells` has it; of several sizes the first."""
    space: Any = candidates.space
    first = next(iter(options.after.retrain_params or (None,)))
    return cell_training(run, options.after, candidates, space.genotype(genome), first)


def plan_searches(run: Run, options: CellOptions, data: Dataset) -> list[CellSearch]:
    """The searches of the run, in order."""
    from evonas.methods.cell_search import CellSearch

    methods = _timed(run, options.methods(data.image_size, data.n_classes), data)
    ood_data, precision = _ood_data(run, options, data), _search_precision(run, options, methods)
    return [
        CellSearch(
            label=label,
            repeat=number if options.repeats > 1 else None,
            method=method,
            data=data,
            ood_data=ood_data if method.needs_ood else None,
            seed=run.seed if number == 1 else derive_seed(run.seed, "repeat", number),
            device=run.device,
            threads=run.threads,
            precision=precision,
        )
        for label, method in methods.items()
        for number in range(1, options.repeats + 1)
    ]


def _timed(run: Run, methods: Mapping[str, Method], data: Dataset) -> Mapping[str, Method]:
    """Methods of which those that limit a latency have its times, by the run's table."""
    from evonas.ship import operation_times

    latency = next((method.latency for method in methods.values() if method.latency is not None), None)
    if latency is None:
        return methods
    run.checkpoint_path("search")  # refuses another method's folder
    begun = _begun_search(run, "method", "upper", latency.name, "times", "table")
    table = run.latency_table(latency.space, data, begun)
    times = operation_times(table, latency.space, data.n_classes)
    return {label: method if method.latency is None else method.timed(times) for label, method in methods.items()}


def _begun_search(run: Run, *path: str) -> Any:
    """Value in the identity of the first search that the folder has; None where there is none."""
    value: Any = next(iter((run.begun("cells") or {"": run.checkpoint}).values()))
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _ood_data(run: Run, options: CellOptions, data: Dataset) -> Dataset | None:
    """Images of none of the classes where the search or its objectives need them."""
    from evonas.objectives import OodAupr

    methods = options.methods(data.image_size, data.n_classes).values()
    if not (any(method.needs_ood for method in methods) or OodAupr.name in options.objectives):
        return None
    return run.ood_data(data)


def _search_precision(run: Run, options: CellOptions, methods: Mapping[str, Method]) -> str:
    """Arithmetic of the supernets."""
    asked = options.levels.search_precision
    begun = _begun_search(run, "precision")
    second = any(method.config.order == 2 for method in methods.values())
    if second and asked == "bf16" and any(method.config.hessian == "finite" for method in methods.values()):
        raise ConfigurationError(
            "expected --search-precision fp32 with second order, whose differences bf16 cannot resolve, got bf16"
        )
    if second and asked == "auto" and not begun:
        run.note("precision of the search: fp32, which second order needs")
        return "fp32"
    return run.precision(asked, begun, depthwise=True, what="search")


def _precision(run: Run, options: CellOptions, data: Dataset) -> OodPrecision:
    """AUPR of networks that are trained again, with images of none of the classes."""
    from evonas.audit import OodPrecision

    ood_data = _ood_data(run, options, data) or run.ood_data(data)
    return OodPrecision(ood_data, run.seed, options.data.ood_ratio)


def _write_sweep(run: Run, options: CellOptions, result: Result, found: Sequence[FoundCells]) -> None:
    """Write sweep.csv, which search, and which of its preferences, found which row of the table, and repeats.csv.

    Several may have found the same cells.
    """
    from evonas.methods.cell_search_words import compact
    from evonas.report import means_of_repeats, means_text, write_means, write_rows

    scored = {entry.key: entry.result.objectives for entry in result.entries}
    columns = result.searched.columns
    rows, named = [], []
    for cells in found:
        assert cells.search is not None
        key = arch_id(result.space.canonical(result.space.from_genotype(cells.genotype)))
        values = scored.get(key, {})
        measured = {name: values.get(name) for name in columns}
        for number in cells.preferences or ("",):  # a baseline has none
            which = {"search": cells.search.full_label, **({"preference": number} if options.preferences > 1 else {})}
            rows.append({**which, "arch_id": key, **measured, "genotype": compact(cells.genotype)})
        named += [(group, values) for group in cells.groups]
    write_rows(run.path / "sweep.csv", rows)
    if options.repeats > 1:
        means = means_of_repeats(named, list(columns))
        write_means(run.path / "repeats.csv", means)
        for line in means_text(means):
            run.screen.say(line)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


PAPER: dict[str, Any] = {"preset": "paper", "data": DataOptions(data="cifar10")}
"""The defaults are the papers'; other data sets of theirs are named with --data."""

QUICK: dict[str, Any] = {
    "levels": LevelOptions(
        search_epochs=3, search_channels=8, search_layers=3, search_batch_size=32, portion=0.25, order=1, alpha_lr=0.02
    ),
    "data": replace(RunOptions().data, train_limit=800, val_limit=250),
    "cells": NetworkOptions(eval_channels=8, eval_layers=3),
    "training": TrainingConfig(epochs=5, batch_size=32, lr=0.05),
    "after": CellRetrainOptions(retrain_epochs=6, retrain_batch_size=32, cutout=8, test_limit=200),
}
"""For minutes on two cores: few images and cells, first order, and long steps of the architecture."""
