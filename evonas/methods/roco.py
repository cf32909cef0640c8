"""RoCo-NAS: NSGA-II over phase bitstrings (Geraeinejad et al., 2021), and what follows the search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from evonas.errors import ConfigurationError, UnknownNameError, check_name, choose
from evonas.files import expanded
from evonas.methods.recipes import ROBUST, check_recipe, has_radius, recipe_words, under_recipe
from evonas.objectives import OBJECTIVES
from evonas.ranges import BATCH, CHANNELS, COUNT, IMAGES, MILLIONS, Range, check_ranges
from evonas.runs.execution import ExecutionOptions, resolve_device
from evonas.runs.needs import Needs, Option, options_of
from evonas.runs.objectives import AttackOptions, CertifyOptions
from evonas.runs.options import DataOptions, RunOptions, flat
from evonas.search.settings import EvolutionConfig
from evonas.spaces import SPACES, PhaseSpace
from evonas.training import recipe_within
from evonas.training.settings import TrainingConfig
from evonas.types import Genome, TrainOn, arch_id

if TYPE_CHECKING:
    from rich.console import Console

    from evonas.adversarial_sets import AdversarialSet
    from evonas.audit import AuditNetwork, FinalTraining, Measured
    from evonas.evaluation import LookUp, TrainFromScratch
    from evonas.objectives import Objective
    from evonas.report import Chance, Searched
    from evonas.runs.folder import RunFolder
    from evonas.runs.result import Result
    from evonas.runs.run import Run
    from evonas.training import Recipe

__all__ = [
    "OBJECTIVES_OF_ROCO",
    "OPTIONS",
    "PRESETS",
    "TRAINED",
    "RetrainOptions",
    "RocoOptions",
    "compose",
    "first_population",
    "prepare_retraining",
    "retrain_front",
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
class RetrainOptions:
    """Training the front again after the search (RoCo-NAS, IV-A: post-search optimization), and scoring it."""

    retrain: bool = False
    """After the search, train the front again and print the paper's tables for it."""
    retrain_networks: tuple[str, ...] = ()
    """arch_ids of networks of the front to train again; all by default."""
    top: Annotated[int, COUNT] = 5
    """Networks of each front in the tables: the lightest, by MACs at the width that they are trained with (IV-C)."""
    retrain_channels: Annotated[int, CHANNELS] = 32
    """Their width of the first block (IV-A)."""
    retrain_epochs: Annotated[int, COUNT] = 120
    """Passes over the images (IV-A)."""
    train_on: TrainOn = "train"
    """Their images: the train part, or all but the test images, those that the search held out, too. Then an
    adversarial set is not scored whose clean images are among them."""
    retrain_batch_size: Annotated[int, BATCH] = 128
    """Images of a step (IV-A)."""
    retrain_recipe: str = ""
    """Recipe of this training: standard, pgd_at, trades, trades_awp, fast_adversarial, ...; by default --recipe."""
    retrain_recipe_epsilon: Annotated[float | None, Range(above=0, most=1, pixels=True)] = None
    """Radius of that recipe's attack, in [0, 1]; its own by default."""
    retrain_average: Literal["", "none", "ema", "swa"] = ""
    """Weights that this training delivers, as --average has them, which is the default."""
    test_limit: Annotated[int | None, IMAGES] = None
    """Size of a class-balanced subset of the test images to score on."""
    suite: tuple[str, ...] = ("pgd", "fgsm", "bim", "cw", "deepfool")
    """Measurements of these networks; cw and deepfool need pip install 'evonas[audit]'."""
    second_set: str = ""
    """File of another adversarial set to score on, too: one that no search saw, of other images and targets."""
    against: str | None = None
    """Folder of another run, such as a Baseline-NAS one: its front is trained, scored and shown beside."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.retrain_recipe:
            check_recipe(self.retrain_recipe, self.retrain_recipe_epsilon)
        if len(set(self.suite)) < len(self.suite):
            raise ConfigurationError(f"expected every part of the suite once, got {','.join(self.suite)}")
        if self.suite != RetrainOptions.suite:  # that one is right, and checking it loads every attack
            from evonas.audit import errors_under

            errors_under(self.suite, "suite")

    def measured(self, adversarial_set: AdversarialSet | None = None, second: AdversarialSet | None = None) -> Measured:
        """The clean error, the errors on the sets that there are, the suite's errors."""
        from evonas.audit import CLEAN, AdversarialSetShare, Measured, Measurement, SecondSetShare, measurements

        sets = []
        if adversarial_set is not None:
            share = AdversarialSetShare(adversarial_set)
            sets.append(Measurement("adversarial_set_error", "Adversarial set", share))
        if second is not None:
            sets.append(Measurement(SecondSetShare.name, "Second adversarial set", SecondSetShare(second)))
        parts = (CLEAN, *sets, *measurements(self.suite))
        return Measured(measurements=parts, test_limit=self.test_limit, batch_size=200)


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
    """Training recipe: standard; pgd_at, trades, trades_awp, trades_yopo, fast_adversarial (robust); or a plugin's."""
    recipe_epsilon: Annotated[float | None, Range(above=0, most=1, pixels=True)] = None
    """Radius of the attack of a robust recipe, in [0, 1], its steps in proportion; the recipe's own by default."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    search: EvolutionConfig = field(default_factory=lambda: EvolutionConfig(objectives=OBJECTIVES_OF_ROCO))
    attacks: AttackOptions = field(default_factory=AttackOptions)
    white_box_images: Annotated[int, Range(least=0, most=10**9)] = 0
    """Validation images on which PGD attacks each network, as the column pgd_error beside what is searched; 0: none."""
    certify: CertifyOptions = field(default_factory=CertifyOptions)
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
        return found | self.training.unused()


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
    searched = run.make_objectives(
        options.search.objectives,
        candidates.data,
        options.attacks,
        options.certify,
        candidates.precision,
        options.adversarial_set,
        space=candidates.space,
    )
    return (*searched, *white_box(run, options, candidates))


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


def prepare_retraining(run: Run, options: RocoOptions, candidates: TrainFromScratch) -> AdversarialSet | None:
    """The set that `retrain_front` measures on, where one was searched on or is given; raises what would stop it later.

    A set whose clean images the networks are trained on is none to measure on: a line says so.

    Raises:
        ConfigurationError: a library or a device is missing; `against` is no run, or one of other data or space.
        DataError: fewer test images asked for than there are classes.
        EvonasError: see `Run.adversarial_set`.
    """
    from evonas.audit import require_libraries

    after = options.after
    if not after.retrain:
        return None
    require_libraries(after.measured().measurements, "--suite")
    resolve_device(run.device)
    after.measured().test_part(candidates.data, run.seed)
    if after.against is not None:
        _front(*_against(run, after.against, candidates))
    _second_set(run, options, candidates)
    if "adversarial_set_error" not in options.search.objectives and options.adversarial_set == "auto":
        return None
    found = run.adversarial_set(candidates.data, options.adversarial_set, precision=candidates.precision)
    return _unseen(run, options, candidates, found, "adversarial_set_error")


def _unseen(
    run: Run, options: RocoOptions, candidates: TrainFromScratch, found: AdversarialSet, column: str
) -> AdversarialSet | None:
    """The set, unless its clean images are trained on."""
    from evonas.runs.sets import trained_twins

    twins = trained_twins(found, candidates.data, options.after.train_on)
    if not twins:
        return found
    run.note(f"{column} is left out: with --train-on all, networks are trained on {twins} clean images behind its set")
    return None


def _second_set(run: Run, options: RocoOptions, candidates: TrainFromScratch) -> AdversarialSet | None:
    """The set besides the searched one, read once; None where none is asked for."""
    asked = options.after.second_set
    if not asked:
        return None
    found = run.adversarial_set(candidates.data, asked, precision=candidates.precision)
    return _unseen(run, options, candidates, found, "second_set_error")


def retrain_front(
    run: Run, options: RocoOptions, candidates: TrainFromScratch, found: Result, the_set: AdversarialSet | None
) -> None:
    """Train and score the front, or the networks named, and those of another run, or continue with that.

    In the run's folder `retrained/`: weights, rows.jsonl (what is finished), retrained.csv, tables.md, figure2.png to
    figure6.png.
    """
    from evonas.audit import measurements
    from evonas.report import roco_tables, write_figures, write_retrained
    from evonas.report.retrained import configurations

    after = options.after
    networks = list(_networks(run, after, candidates, found))
    measured = after.measured(the_set, _second_set(run, options, candidates))
    folder, rows = run.audit(networks, measured, _opening(networks, after), "retrained")
    attacks = measurements(after.suite)
    labels = {each.column: each.label for each in attacks}
    fronts = [[row for row in rows if row["configuration"] == name] for name in configurations(rows)]
    chance = _chance(run, options, candidates, the_set)
    tables = roco_tables([row for lightest_first in fronts for row in lightest_first[: after.top]], labels, chance)
    write_retrained(folder, rows, tables, [f"{each.label}: {each.note}." for each in attacks])
    pictures = write_figures(folder, rows, labels, found.searched.data)
    run.screen.tables(tables)
    names = ", ".join(["retrained.csv", "tables.md", *(path.name for path in pictures)])
    run.screen.say(f"written to {folder}: {names}, and the weights")


def _chance(
    run: Run, options: RocoOptions, candidates: TrainFromScratch, the_set: AdversarialSet | None
) -> Chance | None:
    """Level of guessing on the test images, and on those of the set."""
    from evonas.objectives import AdversarialSetError
    from evonas.report import Chance

    n_classes, tested = candidates.data.n_classes, options.after.measured().test_part(candidates.data, run.seed)
    columns = () if the_set is None else AdversarialSetError(the_set).columns(candidates.space, n_classes)
    return Chance.of(n_classes, len(tested), {column.name: column.metadata for column in columns})


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


def _networks(run: Run, options: RetrainOptions, candidates: TrainFromScratch, found: Result) -> Iterator[AuditNetwork]:
    """The networks of this run, then those of the other one, each the lightest first.

    Raises:
        UnknownNameError: a named network is on neither front.
    """
    from evonas.audit import AuditNetwork, lightest
    from evonas.runs.folder import stored_space

    base = _retraining(run, options, candidates)
    sources = [(run.folder, found.searched, base)]
    if options.against is not None:
        other, searched = _against(run, options.against, candidates)
        space = stored_space(other.stored()["identity"]["space"])
        assert space is not None  # of the name of this run's
        space = _at_width(space, options.retrain_channels)
        sources.append((other, searched, replace(base, space=space)))
    names = _names([(source.path, searched) for source, searched, _ in sources])
    unknown = {*options.retrain_networks}
    for name, (source, searched, way) in zip(names, sources, strict=True):
        networks = {arch_id(genome): AuditNetwork(name, genome, way) for genome in _front(source, searched)}
        unknown -= networks.keys()
        chosen = networks.keys() & {*options.retrain_networks} if options.retrain_networks else networks.keys()
        yield from lightest([networks[key] for key in networks if key in chosen])
    if unknown:
        raise UnknownNameError(
            f"expected --retrain-networks with arch_ids of the front, got {', '.join(sorted(unknown))}; "
            f"see {run.path / 'front.csv'}"
        )


def to_the_end(run: Run, options: RocoOptions, candidates: TrainFromScratch, genome: Genome) -> FinalTraining:
    """Training of a network of the run after the search, as `retrain_front` has it."""
    return _retraining(run, options.after, candidates)


def _retraining(run: Run, options: RetrainOptions, candidates: TrainFromScratch) -> FinalTraining:
    from evonas.runs.auditing import training_to_the_end

    longer = replace(training_to_the_end(run, candidates, options.retrain_epochs), train_on=options.train_on)
    average = options.retrain_average or longer.training.average
    training = replace(longer.training, batch_size=options.retrain_batch_size, average=average)
    longer = replace(longer, space=_at_width(candidates.space, options.retrain_channels), training=training)
    if not options.retrain_recipe:
        return longer
    return under_recipe(longer, recipe_within(options.retrain_recipe, options.retrain_recipe_epsilon))


def _at_width(space: Any, channels: int) -> Any:
    """The space at another width of its first block, where it has one."""
    return replace(space, channels=channels) if hasattr(space, "channels") else space


def _against(run: Run, against: str, candidates: TrainFromScratch) -> tuple[RunFolder, Searched]:
    """The other run, and what its tables need. ConfigurationError where the two cannot be compared."""
    from evonas.runs.folder import RunFolder, stored_searched

    other = RunFolder(expanded(against))
    config = other.open_stored()
    if other.path.resolve() == run.path.resolve():
        raise ConfigurationError(f"expected another run with --against, got this one, {against}")
    space, data = config["identity"]["space"], config["identity"]["data"]
    if space["name"] != candidates.space.name:
        raise ConfigurationError(
            f"expected a run over the space {candidates.space.name} with --against, {against} is over {space['name']}"
        )
    if data["fingerprint"] != candidates.data.fingerprint:
        raise ConfigurationError(
            f"expected a run on the same images with --against, {against} has {data['name']} of another fingerprint; "
            "search both with the same data, seed, train_limit and val_limit"
        )
    return other, stored_searched(config)


def _front(source: RunFolder, searched: Searched) -> list[Genome]:
    """The canonical genomes on a run's front. ConfigurationError where there are none."""
    import numpy as np

    from evonas.report import front, population_table

    table = front(population_table(source.entries(), searched))
    if table.empty:
        raise ConfigurationError(f"expected networks on the front of {source.path}, got none; see population.csv")
    return [np.array(genes.split(), dtype=np.int64) for genes in table["genome"]]


def _names(sources: list[tuple[Path, Searched]]) -> list[str]:
    """Names of the runs in tables: after what was searched, and after their folders where that is the same."""
    costs = {"clean_error", "params", "macs", "flops", "latency_ms"}
    names = ["Baseline-NAS" if costs.issuperset(searched.objectives) else "RoCo-NAS" for _, searched in sources]
    if len(set(names)) < len(names):
        names = [f"{name} ({path.resolve().name})" for name, (path, _) in zip(names, sources, strict=True)]
    return names if len(set(names)) == len(names) else [f"{name} {i}" for i, name in enumerate(names, start=1)]


def _opening(networks: list[AuditNetwork], options: RetrainOptions) -> str:
    from evonas.audit import FinalTraining

    fronts = dict.fromkeys(network.configuration for network in networks)
    found = ", ".join(f"{sum(each.configuration == name for each in networks)} of {name}" for name in fronts)
    training = networks[0].training
    assert isinstance(training, FinalTraining)
    width = f"{options.retrain_channels} channels, " if hasattr(training.space, "channels") else ""
    return (
        f"training networks again ({found}): {width}{options.retrain_epochs} epochs, "
        f"batches of {options.retrain_batch_size}, {recipe_words(training.recipe)}, on {training.images_in_words}"
    )
