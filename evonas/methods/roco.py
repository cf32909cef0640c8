"""RoCo-NAS: NSGA-II over phase bitstrings (Geraeinejad et al., 2021), and what follows the search."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from evonas.errors import ConfigurationError, check_name, choose
from evonas.files import expanded
from evonas.methods.recipes import ROBUST, check_recipe, has_radius
from evonas.methods.roco_retraining import RetrainOptions, prepare_retraining, retrain_front, retraining
from evonas.objectives import OBJECTIVES
from evonas.ranges import CHANNELS, MILLIONS, Range, check_ranges
from evonas.runs.execution import ExecutionOptions
from evonas.runs.needs import Needs, Option, options_of
from evonas.runs.objectives import AttackOptions, CertifyOptions
from evonas.runs.options import DataOptions, RunOptions, flat
from evonas.search.settings import EvolutionConfig
from evonas.spaces import SPACES, PhaseSpace
from evonas.training import recipe_within
from evonas.training.settings import TrainingConfig
from evonas.types import Genome

if TYPE_CHECKING:
    from rich.console import Console

    from evonas.audit import FinalTraining
    from evonas.evaluation import LookUp, TrainFromScratch
    from evonas.objectives import Objective
    from evonas.runs.result import Result
    from evonas.runs.run import Run
    from evonas.training import Recipe

__all__ = [
    "OBJECTIVES_OF_ROCO",
    "OPTIONS",
    "PRESETS",
    "TRAINED",
    "RocoOptions",
    "compose",
    "first_population",
    "run",
    "to_the_end",
    "white_box",
]

METHOD = "roco-nas"
TRAINED = "retrained"
"""Folder of networks that were trained to the end."""
OF_PHASES = Needs("space", (PhaseSpace.name,))
OF_CELLS = Needs("space", ("nasbench201", "darts"))
WITH_WIDTH = Needs("space", (PhaseSpace.name, *OF_CELLS.values))
OBJECTIVES_OF_ROCO = ("clean_error", "macs", "adversarial_set_error")
"""RoCo-NAS, III-D. Without the third it is the paper's Baseline-NAS."""


@dataclass(frozen=True, kw_only=True)
class RocoOptions(RunOptions):
    """RoCo-NAS searches networks of phases that are accurate, small and hard to fool."""

    adversarial_set: Annotated[str, Needs("objectives", ("adversarial_set_error",), instead=Needs("retrain"))] = "auto"
    """File of a set, or auto: the preset's set of these images, built where it is not there yet."""
    space: str = PhaseSpace.name
    """Search space: phase, nasbench201, darts, shuffle, or a plugin's."""
    table: str = ""
    """JSON file of a table to look networks up in, instead of training them; it brings its space, and its errors are
    the objectives: --table nas-robbench-201-cifar10.json --objectives autoattack_8_error,params (docs/tables.md)."""
    phases: Annotated[int, Range(least=1, most=16), OF_PHASES] = 3
    """Computational blocks of a network (Table II)."""
    nodes: Annotated[int, Range(least=2, most=8), OF_PHASES] = 6
    """Maximum computational units of a block (Table II)."""
    channels: Annotated[int, CHANNELS, WITH_WIDTH] = 16
    """Width of the first block, or of a node of the first cell; doubles with every halving of the maps."""
    cells: Annotated[int | None, Range(least=1, most=1000), OF_CELLS] = None
    """Cells of a stage of nasbench201, or of a network of darts; 3 in the quick preset, else the papers' 5 and 20."""
    operators: Annotated[str, OF_PHASES] = "roco"
    """roco (whole blocks, the paper's text) or nsganet (bits, NSGA-Net's reference)."""
    mutation_rate: Annotated[float | None, MILLIONS, Needs("operators", ("nsganet",))] = None
    """Expected bit flips of a child; 0.157 by default."""
    designs: Annotated[tuple[str, ...], OF_PHASES] = ()
    """Hand-crafted genomes for the first population: chain, residual, dense, pair (the smallest network there is)."""
    init_from: str | None = None
    """An earlier run's folder, or a table of its genomes, to take the first population from."""
    recipe: str = "standard"
    """Training recipe: standard; pgd_at, trades, trades_awp, trades_yopo, fast_adversarial (robust); ibp, crown_ibp
    (certified), gaussian (for smoothing); or a plugin's."""
    recipe_epsilon: Annotated[float | None, Range(above=0, most=1, pixels=True)] = None
    """Radius of the attack of a robust recipe, in [0, 1], its steps in proportion; the recipe's own by default."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    search: EvolutionConfig = field(default_factory=lambda: EvolutionConfig(objectives=OBJECTIVES_OF_ROCO))
    attacks: AttackOptions = field(default_factory=AttackOptions)
    white_box_images: Annotated[int, Range(least=0, most=10**9)] = 0
    """Validation images on which PGD attacks each network, as the column pgd_error beside what is searched; 0: none."""
    certify: CertifyOptions = field(default_factory=CertifyOptions)
    objective_seconds: bool = False
    """Record the seconds of each objective, too, as columns such as pgd_error_seconds; they differ from run to run."""
    after: Annotated[RetrainOptions, Needs("retrain", but=("retrain",))] = field(default_factory=RetrainOptions)

    example: ClassVar[str] = "evonas roco --objectives clean_error,macs,pgd_error --out runs/mine"
    short: ClassVar[tuple[str, ...]] = (
        *("preset", "data", "data_root", "train_limit", "val_limit", "seed", "out", "plugin"),
        *("adversarial_set", "space", "table", "phases", "nodes", "channels", "recipe"),
        *("epochs", "batch_size", "lr"),
        *("precision", "population", "generations", "objectives", "algorithm", "asynchronous"),
        *("surrogate", "early_stop", "attack_epsilon", "attack_steps", "attack_images", "white_box_images"),
        *("retrain", "retrain_networks", "suite", "against", "device", "threads", "executor", "workers"),
        *("gpus_per_task", "ray_address", "timeout"),
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.space == "darts" and self.cells in (1, 2):
            raise ConfigurationError(
                f"expected --cells of at least 3 for darts, so that both kinds occur, got {self.cells}"
            )
        if not self.table:
            self.make_space(32)
        for name in () if self.table else self.search.objectives:
            check_name(OBJECTIVES, name, "objective")
        check_recipe(self.recipe, self.recipe_epsilon)
        if self.after.retrain:
            self.after.training(self.training)  # it checks them

    def make_space(self, image_size: int) -> Any:
        """The space, for square images of this size."""
        if self.space == PhaseSpace.name:
            return PhaseSpace(self.phases, self.nodes, self.channels, image_size, self.operators, self.mutation_rate)
        kind = choose(SPACES, self.space, "search space")
        given: dict[str, Any] = {"image_size": image_size}
        if self.space in OF_CELLS.values:
            number = self.cells or (3 if self.preset == "quick" else None)
            given["channels"] = self.channels
            given |= {} if number is None else {"layers" if self.space == "darts" else "cells": number}
        return kind(**{each.name: given[each.name] for each in fields(kind) if each.name in given})

    def make_recipe(self) -> Recipe:
        """Loss that candidates are trained with."""
        return recipe_within(self.recipe, self.recipe_epsilon)

    @property
    def looked_up(self) -> RocoOptions:
        """Options of a run that looks scores up in a table: one after another, here, and without weights."""
        execution = self.execution
        execution = execution if execution.executor != "auto" else replace(execution, executor="local")
        execution = execution if execution.device != "auto" else replace(execution, device="cpu")
        return replace(self, execution=execution, keep_weights="none")

    def unused(self) -> dict[str, str]:
        if self.table:
            needs = "training, which --table replaces"
            return {each.name: needs for each in options_of(self) if not _used_with_table(each)}
        needs = "--objectives ood_aupr"
        found = {} if "ood_aupr" in self.search.objectives else {"ood_data": needs, "ood_ratio": needs}
        if self.search.surrogate is None:
            found["surrogate_batch"] = "--surrogate gp"
        elif self.search.asynchronous and not self.search.min_gain:
            found["surrogate_batch"] = "a search without --async, or --min-gain"
        if not hasattr(SPACES[self.space], "channels"):
            found["retrain_channels"] = "a space whose networks have a width, such as --space phase"
        if not has_radius(self.recipe):
            found["recipe_epsilon"] = f"{ROBUST} --recipe trades"
        if not has_radius(self.after.retrain_recipe):
            found["retrain_recipe_epsilon"] = f"{ROBUST} --retrain-recipe trades"
        if "pgd_error" in self.search.objectives:
            found["white_box_images"] = "--objectives without pgd_error; --attack-images is its number"
        return found | self.training.unused(*([self.after.retrain_average] if self.after.retrain else []))


def _used_with_table(option: Option) -> bool:
    names = ("preset", "seed", "out", "retry_failed", "track", "plugin", "space", "table", "init_from")
    searches = option.owner in (EvolutionConfig, ExecutionOptions) and option.name not in ("early_stop", "replicates")
    return searches or option.name in names


OPTIONS = RocoOptions
PRESETS = {
    "quick": RocoOptions(
        data=replace(RocoOptions().data, train_limit=4000, val_limit=1000),
        channels=8,
        designs=("pair",),
        training=TrainingConfig(epochs=2, batch_size=32, lr=0.05),
        search=EvolutionConfig(population=8, generations=3, objectives=OBJECTIVES_OF_ROCO),
        attacks=AttackOptions(quick_lr=0.1, quick_batch_size=32),
        white_box_images=100,
    ),
    "paper": RocoOptions(preset="paper", data=DataOptions(data="cifar10")),
}
"""`paper` is every default, on CIFAR-10: Table II, and Section IV-A with NSGA-Net's training."""


def run(options: RocoOptions, console: Console | None = None) -> Result:
    """Search, or continue with that, and train the front again where that is asked for.

    Raises:
        EvonasError: see `Run`; or a library that scoring needs is missing.
        Interrupted: a signal came; the same command continues.
    """
    from evonas.runs.run import Run

    if options.table:
        return _look_up(options.looked_up, console)
    with Run.open(METHOD, options, "roco", console=console) as run:
        space, candidates = _candidates(run, options)
        the_set = prepare_retraining(run, options, candidates)
        first = first_population(run, options, space)
        objectives = _objectives(run, options, candidates)
        found = run.search(space, candidates, objectives, replace(options.search, seed=run.seed), first)
        if options.after.retrain:
            retrain_front(run, options, candidates, found, the_set)
    return found


def _look_up(options: RocoOptions, console: Console | None) -> Result:
    """Search a table of trained networks, or continue with that."""
    from evonas.runs.run import Run

    label = f"table-{expanded(options.table).stem}"
    with Run.open(METHOD, options, "roco", label, console=console) as run:
        space, look_up, objectives = _of_table(run, options)
        first = first_population(run, options, space)
        return run.search(space, look_up, objectives, replace(options.search, seed=run.seed), first)


def _of_table(run: Run, options: RocoOptions) -> tuple[Any, LookUp, tuple[Objective, ...]]:
    from evonas.evaluation import LookUp, read_table, table_objectives

    table = read_table(options.table)
    if options.space not in (RocoOptions.space, table.space.name):
        raise ConfigurationError(
            f"expected the space of {options.table}, {table.space.name}, got --space {options.space}; leave it out"
        )
    look_up, objectives = LookUp(table), table_objectives(table, options.search.objectives)
    run.use(data=table.data.identity(), **look_up.identity())
    run.note(table.note)
    return table.space, look_up, objectives


def compose(run: Run, options: RocoOptions) -> tuple[Any, Any, tuple[Objective, ...]]:
    """The space, what gives candidates their weights, and what they are scored on."""
    if options.table:
        return _of_table(run, options)
    space, candidates = _candidates(run, options)
    return space, candidates, _objectives(run, options, candidates)


def _candidates(run: Run, options: RocoOptions) -> tuple[Any, TrainFromScratch]:
    data = run.load_data()
    space = options.make_space(data.image_size)
    return space, run.train_from_scratch(space, data, options.training, options.make_recipe())


def _objectives(run: Run, options: RocoOptions, candidates: TrainFromScratch) -> tuple[Objective, ...]:
    from evonas.objectives import Timed

    every = run.make_objectives(
        options.search.objectives,
        candidates.data,
        options.attacks,
        options.certify,
        candidates.precision,
        options.adversarial_set,
        space=candidates.space,
        beside=white_box(run, options, candidates),
    )
    timed: tuple[Any, ...] = tuple(Timed(each) for each in every)
    return timed if options.objective_seconds else every


def white_box(run: Run, options: RocoOptions, candidates: TrainFromScratch) -> tuple[Objective, ...]:
    """PGD on a few images, measured and not searched; nothing where it is searched or not asked for.

    A run that was begun by a version without it goes on without it.
    """
    from evonas.objectives import PGDError

    wanted, begun = options.white_box_images, run.begun("objectives")
    if not wanted or PGDError.name in options.search.objectives:
        return ()
    without = begun is not None and PGDError.name not in begun
    if without and flat(run.stored["settings"]).get("white_box_images", wanted) == wanted:
        run.note(f"{PGDError.name} is not measured beside the objectives: this run was begun without it")
        return ()
    attacks = replace(options.attacks, attack_images=wanted)
    return (attacks.objectives(candidates.precision)[PGDError.name],)


def first_population(run: Run, options: RocoOptions, space: Any) -> tuple[tuple[int, ...], ...]:
    """Canonical genomes that the first population is to hold. A run keeps those it was created with."""
    from evonas.runs.folder import first_genomes

    begun, first = run.stored.get("settings", {}), run.begun("search", "first")
    alike = begun.get("init_from") == options.init_from and begun.get("designs") == [*options.designs]
    if options.init_from and alike and first is not None:
        return tuple(tuple(map(int, genome.split())) for genome in first)
    designs = space.designs() if hasattr(space, "designs") else {}
    given = [choose(designs, name, "design").tolist() for name in options.designs if designs]
    if options.init_from is not None:
        given += first_genomes(options.init_from)
    try:
        canonical = [tuple(space.canonical(genome).tolist()) for genome in given]
    except (ValueError, OverflowError) as error:
        raise ConfigurationError(f"{options.init_from}: {error}") from error
    return tuple(dict.fromkeys(canonical))[: options.search.population]


def to_the_end(run: Run, options: RocoOptions, candidates: TrainFromScratch, genome: Genome) -> FinalTraining:
    """Training of a network of the run after the search, as `retrain_front` has it."""
    return retraining(run, options.after, candidates)
