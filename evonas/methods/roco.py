"""RoCo-NAS: NSGA-II over phase bitstrings (Geraeinejad et al., 2021), and what follows the search."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from rich.console import Console

from evonas.adversarial_sets import AdversarialSet
from evonas.audit import (
    CLEAN,
    AdversarialSetShare,
    AuditNetwork,
    FinalTraining,
    Measured,
    Measurement,
    lightest,
    measurements,
    require_libraries,
)
from evonas.data import Dataset
from evonas.errors import ConfigurationError, choose
from evonas.evaluation import TrainFromScratch
from evonas.objectives import OBJECTIVES, AdversarialSetError, Objective
from evonas.parts import part_identity
from evonas.report import Searched, front, population_table, roco_tables, write_figures, write_retrained
from evonas.runs import (
    AttackOptions,
    CertifyOptions,
    Needs,
    Result,
    Run,
    RunFolder,
    RunOptions,
    make_objectives,
)
from evonas.runs.execution import resolve_device
from evonas.runs.folder import first_genomes, stored_searched
from evonas.search import EvolutionConfig
from evonas.spaces import SPACES, PhaseSpace
from evonas.training import RECIPES, TrainingConfig
from evonas.types import Genome

__all__ = ["OBJECTIVES_OF_ROCO", "OPTIONS", "PRESETS", "RetrainOptions", "RocoOptions", "compose", "run"]

METHOD = "roco-nas"
OBJECTIVES_OF_ROCO = ("clean_error", "macs", AdversarialSetError.name)
"""RoCo-NAS, III-D. Without the third it is the paper's Baseline-NAS."""


@dataclass(frozen=True, kw_only=True)
class RetrainOptions:
    """Training the front again after the search (RoCo-NAS, IV-A: post-search optimization), and scoring it."""

    retrain: bool = False
    """After the search, train the lightest networks of the front again and print the paper's tables for them."""
    top: int = 5
    """Networks of the front to train: the lightest, by MACs at the width that they are trained again with (IV-C)."""
    retrain_channels: int = 32
    """Their width of the first block (IV-A)."""
    retrain_epochs: int = 120
    """Passes over the train part (IV-A)."""
    retrain_batch_size: int = 128
    """Images of a step (IV-A)."""
    test_limit: int | None = None
    """Size of a class-balanced subset of the test images to score on."""
    suite: tuple[str, ...] = ("pgd", "fgsm", "bim", "cw", "deepfool")
    """Measurements of these networks; cw and deepfool need pip install 'evonas[audit]'."""
    against: str | None = None
    """Folder of another run, such as a Baseline-NAS one: its front is trained, scored and shown beside."""

    def __post_init__(self) -> None:
        for name in ("top", "retrain_channels", "retrain_epochs", "retrain_batch_size"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"expected {name} >= 1, got {getattr(self, name)}")
        if self.test_limit is not None and self.test_limit < 1:
            raise ConfigurationError(f"expected test_limit >= 1, got {self.test_limit}")
        if len(set(self.suite)) < len(self.suite):
            raise ConfigurationError(f"expected every part of the suite once, got {','.join(self.suite)}")
        measurements(self.suite)

    def measured(self, adversarial_set: AdversarialSet | None = None) -> Measured:
        """The clean error, the error on the set where there is one, the suite's errors."""
        on_the_set = []
        if adversarial_set is not None:
            share = AdversarialSetShare(adversarial_set)
            on_the_set = [Measurement(AdversarialSetError.name, "Adversarial set", share)]
        parts = (CLEAN, *on_the_set, *measurements(self.suite))
        return Measured(measurements=parts, test_limit=self.test_limit, batch_size=200)


@dataclass(frozen=True, kw_only=True)
class RocoOptions(RunOptions):
    """RoCo-NAS searches networks of phases that are accurate, small and hard to fool."""

    adversarial_set: Annotated[str, Needs("objectives", (AdversarialSetError.name,), instead=Needs("retrain"))] = "auto"
    """File of a set, or auto: the preset's set of these images, built where it is not there yet."""
    phases: int = 3
    """Computational blocks of a network (Table II)."""
    nodes: int = 6
    """Maximum computational units of a block (Table II)."""
    channels: int = 16
    """Width of the first block; doubles from block to block."""
    operators: str = "roco"
    """roco (whole blocks, the paper's text) or nsganet (bits, NSGA-Net's reference)."""
    mutation_rate: Annotated[float | None, Needs("operators", ("nsganet",))] = None
    """Expected bit flips of a child; 0.157 by default."""
    designs: tuple[str, ...] = ()
    """Hand-crafted genomes for the first population: chain, residual, dense, pair (the smallest network there is)."""
    init_from: str | None = None
    """An earlier run's folder, or a table of its genomes, to take the first population from."""
    recipe: str = "standard"
    """Training recipe: standard, trades, trades_yopo, fast_adversarial, or a plugin's."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    search: EvolutionConfig = field(default_factory=lambda: EvolutionConfig(objectives=OBJECTIVES_OF_ROCO))
    attacks: AttackOptions = field(default_factory=AttackOptions)
    certify: CertifyOptions = field(default_factory=CertifyOptions)
    after: Annotated[RetrainOptions, Needs("retrain", but=("retrain",))] = field(default_factory=RetrainOptions)

    short: ClassVar[tuple[str, ...]] = (
        *("preset", "data", "data_root", "train_limit", "val_limit", "seed", "out", "plugin"),
        *("adversarial_set", "phases", "nodes", "channels", "recipe", "epochs", "batch_size", "lr"),
        *("precision", "population", "generations", "objectives", "algorithm", "asynchronous"),
        *("attack_epsilon", "attack_steps", "attack_images", "retrain", "top", "retrain_channels"),
        *("retrain_epochs", "suite", "against", "device", "threads", "executor", "workers"),
        *("gpus_per_task", "ray_address", "timeout"),
    )

    def __post_init__(self) -> None:
        PhaseSpace(self.phases, self.nodes, self.channels, 32, self.operators, self.mutation_rate)  # checks them
        for name in self.search.objectives:
            choose(OBJECTIVES, name, "objective")
        choose(RECIPES, self.recipe, "recipe")

    def unused(self) -> dict[str, str]:
        return {} if "ood_aupr" in self.search.objectives else {"ood_data": "--objectives ood_aupr"}


OPTIONS = RocoOptions
PRESETS = {
    "quick": RocoOptions(
        data=replace(RocoOptions().data, train_limit=4000, val_limit=1000),
        channels=8,
        designs=("pair",),
        training=TrainingConfig(epochs=2, batch_size=32, lr=0.05),
        search=EvolutionConfig(population=8, generations=3, objectives=OBJECTIVES_OF_ROCO),
    ),
    "paper": RocoOptions(preset="paper"),
}
"""`paper` is every default: Table II, and Section IV-A with NSGA-Net's training."""


def run(options: RocoOptions, console: Console | None = None) -> Result:
    """Search, or continue with that, and train the front again where that is asked for.

    Raises:
        EvonasError: see `Run`; or a library that scoring needs is missing.
        Interrupted: a signal came; the same command continues.
    """
    if options.after.retrain:
        require_libraries(options.after.measured().measurements, "--suite")
    with Run.open(METHOD, options, "roco", console=console) as run:
        space, prepare, objectives = compose(run, options)
        if options.after.retrain:
            check_retraining(run, options.after, prepare)
        config = replace(options.search, seed=options.seed)
        found = run.search(space, prepare, objectives, config, _first(run, options, space))
        if options.after.retrain:
            retrain_front(run, options.after, found, _set_of(run, options, prepare.data, objectives))
    return found


def compose(run: Run, options: RocoOptions) -> tuple[PhaseSpace, TrainFromScratch, tuple[Objective, ...]]:
    """What is searched, how candidates get their weights, and what they are scored on."""
    precision = run.precision(options.training.precision, run.begun("training", "precision"))
    data = run.load_data()
    space = PhaseSpace(
        options.phases, options.nodes, options.channels, data.image_size, options.operators, options.mutation_rate
    )
    training = replace(options.training, precision=precision)
    prepare = TrainFromScratch(space, data, training, run.device, RECIPES[options.recipe])
    run.use(space={"name": space.name, **part_identity(space)}, **prepare.identity())  # before a set is built
    names = options.search.objectives
    the_set = None
    if AdversarialSetError.name in names:
        the_set = run.adversarial_set(data, options.adversarial_set, precision=precision)
    ood = run.ood_objective(names, data)
    objectives = make_objectives(names, options.attacks, options.certify, precision, the_set, ood)
    return space, prepare, objectives


def check_retraining(run: Run, options: RetrainOptions, prepare: TrainFromScratch) -> None:
    """Raise, before anything is searched or trained, what would stop `retrain_front`.

    Raises:
        ConfigurationError: no device here; the run of `against` is none, or of other data or another space.
        DataError: fewer test images asked for than there are classes.
    """
    resolve_device(run.device)
    options.measured().test_part(prepare.data, run.seed)
    if options.against is not None:
        _front(*_against(run, options.against, prepare))


def retrain_front(run: Run, options: RetrainOptions, found: Result, adversarial_set: AdversarialSet | None) -> None:
    """Train and score the lightest networks of the front, and of another run's, or continue with that.

    In the run's folder `retrained/`: weights, rows.jsonl (what is finished), retrained.csv, tables.md, figure2.png to
    figure6.png.
    """
    networks = list(_networks(run, options, found))
    measured = options.measured(adversarial_set)
    folder, rows = run.audit(networks, measured, _opening(networks, options), "retrained")
    attacks = measurements(options.suite)
    labels = {each.column: each.label for each in attacks}
    tables = roco_tables(rows, labels)
    write_retrained(folder, rows, tables, [f"{each.label}: {each.note}." for each in attacks])
    pictures = write_figures(folder, rows, labels, found.searched.data)
    run.screen.tables(tables)
    names = ", ".join(["retrained.csv", "tables.md", *(path.name for path in pictures)])
    run.screen.say(f"written to {folder}: {names}, and the weights")


def _first(run: Run, options: RocoOptions, space: PhaseSpace) -> tuple[tuple[int, ...], ...]:
    """Canonical genomes that the first population is to hold. A run keeps those it was created with."""
    begun = run.stored.get("settings", {})
    if options.init_from and begun.get("init_from") == options.init_from and begun["designs"] == [*options.designs]:
        return tuple(tuple(map(int, genome.split())) for genome in run.begun("search", "first"))
    designs = space.designs()
    given = [choose(designs, name, "design").tolist() for name in options.designs]
    if options.init_from is not None:
        given += first_genomes(options.init_from)
    try:
        canonical = [tuple(space.canonical(genome).tolist()) for genome in given]
    except (ValueError, OverflowError) as error:
        raise ConfigurationError(f"{options.init_from}: {error}") from error
    return tuple(dict.fromkeys(canonical))[: options.search.population]


def _set_of(run: Run, options: RocoOptions, data: Dataset, objectives: tuple[Objective, ...]) -> AdversarialSet:
    """The set that was searched on; without one, the run's."""
    for objective in objectives:
        if isinstance(objective, AdversarialSetError):
            return objective.adversarial_set
    return run.adversarial_set(data, options.adversarial_set)


def _networks(run: Run, options: RetrainOptions, found: Result) -> Iterator[AuditNetwork]:
    """The lightest networks of this run's front, then of the other's."""
    prepare = found.evaluator.prepare
    assert isinstance(prepare, TrainFromScratch)
    training = replace(prepare.training, epochs=options.retrain_epochs, batch_size=options.retrain_batch_size)
    base = FinalTraining(
        space=replace(found.space, channels=options.retrain_channels),
        data=prepare.data,
        training=training,
        recipe=prepare.recipe,
        seed=run.seed,
        device=run.device,
        threads=run.threads,
    )
    sources = [(run.folder, found.searched, base)]
    if options.against is not None:
        other, searched = _against(run, options.against, prepare)
        fields = {name: value for name, value in other.stored()["identity"]["space"].items() if name != "name"}
        space = replace(SPACES[found.space.name](**fields), channels=options.retrain_channels)
        sources.append((other, searched, replace(base, space=space)))
    names = _names([(source.path, searched) for source, searched, _ in sources])
    for name, (source, searched, way) in zip(names, sources, strict=True):
        networks = [AuditNetwork(name, genome, way) for genome in _front(source, searched)]
        yield from list(lightest(networks))[: options.top]


def _against(run: Run, against: str, prepare: TrainFromScratch) -> tuple[RunFolder, Searched]:
    """The other run, and what its tables need. ConfigurationError where the two cannot be compared."""
    other = RunFolder(Path(against).expanduser())
    config = other.open_stored()
    if other.path.resolve() == run.path.resolve():
        raise ConfigurationError(f"expected another run with --against, got this one, {against}")
    space, data = config["identity"]["space"], config["identity"]["data"]
    if space["name"] != prepare.space.name:
        raise ConfigurationError(
            f"expected a run over the space {prepare.space.name} with --against, {against} is over {space['name']}"
        )
    if data["fingerprint"] != prepare.data.fingerprint:
        raise ConfigurationError(
            f"expected a run on the same images with --against, {against} has {data['name']} of another fingerprint; "
            "search both with the same data, seed, train_limit and val_limit"
        )
    return other, stored_searched(config)


def _front(source: RunFolder, searched: Searched) -> list[Genome]:
    """The canonical genomes on a run's front. ConfigurationError where there are none."""
    table = front(population_table(source.entries(), searched))
    if table.empty:
        raise ConfigurationError(f"expected networks on the front of {source.path}, got none; see population.csv")
    return [np.array(genes.split(), dtype=np.int64) for genes in table["genome"]]


def _names(sources: list[tuple[Path, Searched]]) -> list[str]:
    """What tables call the runs: after what was searched, and after their folders where that is the same."""
    costs = {"clean_error", "params", "macs", "flops"}
    names = ["Baseline-NAS" if costs.issuperset(searched.objectives) else "RoCo-NAS" for _, searched in sources]
    if len(set(names)) < len(names):
        names = [f"{name} ({path.resolve().name})" for name, (path, _) in zip(names, sources, strict=True)]
    return names if len(set(names)) == len(names) else [f"{name} {i}" for i, name in enumerate(names, start=1)]


def _opening(networks: list[AuditNetwork], options: RetrainOptions) -> str:
    fronts = dict.fromkeys(network.configuration for network in networks)
    found = ", ".join(f"{sum(each.configuration == name for each in networks)} of {name}" for name in fronts)
    return (
        f"training the lightest networks of the front again ({found}): {options.retrain_channels} channels, "
        f"{options.retrain_epochs} epochs, batches of {options.retrain_batch_size}"
    )
