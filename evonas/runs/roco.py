"""RoCo-NAS: NSGA-II over phase bitstrings (Geraeinejad et al., 2021)."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from rich.console import Console

from evonas.adversarial_sets import SET_PRESETS, AdversarialSet, BuildPlan, load_adversarial_set
from evonas.attacks.inference import Precision
from evonas.audit import require_libraries
from evonas.data import Dataset, load_data, resolve_data
from evonas.errors import ConfigurationError, choose
from evonas.evaluation import Evaluator, TrainFromScratch
from evonas.objectives import OBJECTIVES, AdversarialSetError
from evonas.runs.adversarial_sets import check_set, find_or_build, set_path
from evonas.runs.execution import ExecutionSettings, make_executor, resolve_device, resolve_threads
from evonas.runs.folder import RunFolder, first_genomes
from evonas.runs.objectives import AttackSettings, identity_of, make_objectives
from evonas.runs.retrain import RetrainSettings, check_retraining, retrain_front
from evonas.runs.search import Plan, columns_of, run_search
from evonas.search import EvolutionConfig
from evonas.spaces import PhaseSpace
from evonas.training import TrainingConfig, resolve_precision

__all__ = [
    "ROCO_PRESETS",
    "Prepared",
    "RocoSettings",
    "plan_roco",
    "prepare_roco",
    "roco_from_config",
    "run_roco",
    "stored_roco",
]


OBJECTIVES_OF_ROCO = ("clean_error", "macs", AdversarialSetError.name)
"""RoCo-NAS, III-D. Without the third it is the paper's Baseline-NAS."""


@dataclass(frozen=True, kw_only=True)
class RocoSettings:
    """RoCo-NAS searches networks of phases that are accurate, small and hard to fool; a run keeps its own folder."""

    preset: Literal["quick", "paper"] = "quick"
    """quick: minutes on two cores. paper: RoCo-NAS's Tables and Section IV-A."""
    data: str = "auto"
    """auto (CIFAR-10 where it is, else digits), digits, cifar10, cifar100, svhn, mnist, fashion_mnist or npz:PATH."""
    data_root: Path | None = None
    """Where data sets lie or are downloaded to; else the variable EVONAS_DATA, else ./data."""
    train_limit: int | None = None
    """Train on a class-balanced subset of so many images."""
    val_limit: int | None = None
    """Rank on a class-balanced subset of so many images."""
    split_seed: int | None = None
    """Seed of the data's parts; the run's own, unless given. One for all runs lets them share an adversarial set."""
    adversarial_set: str = "auto"
    """The file of a set, or auto: the preset's set of these images, built where it is not there yet."""
    phases: int = 3
    """Computational blocks of a network (Table II)."""
    nodes: int = 6
    """Maximum computational units of a block (Table II)."""
    channels: int = 16
    """Width of the first block; doubles from block to block."""
    operators: str = "roco"
    """roco (whole blocks, the paper's text) or nsganet (bits, NSGA-Net's reference)."""
    mutation_rate: float | None = None
    """With nsganet: expected bit flips of a child, 0.157 unless given."""
    designs: tuple[str, ...] = ()
    """Hand-crafted genomes for the first population: chain, residual, dense, pair (the smallest network there is)."""
    init_from: str | None = None
    """Take the first population from an earlier run's folder or from a table of its genomes."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    search: EvolutionConfig = field(default_factory=lambda: EvolutionConfig(objectives=OBJECTIVES_OF_ROCO))
    attacks: AttackSettings = field(default_factory=AttackSettings)
    after: RetrainSettings = field(default_factory=RetrainSettings)
    execution: ExecutionSettings = field(default_factory=ExecutionSettings)
    out: Path | None = None
    """The run's folder; runs/roco-DATA-PRESET-seedN unless given."""
    retry_failed: bool = False
    """Evaluate again what the journal has as failed."""

    def __post_init__(self) -> None:
        PhaseSpace(self.phases, self.nodes, self.channels, 32, self.operators, self.mutation_rate)  # checks them
        for name in self.search.objectives:
            choose(OBJECTIVES, name, "objective")

    @property
    def needs_set(self) -> bool:
        """Whether anything is measured on an adversarial set."""
        return AdversarialSetError.name in self.search.objectives or self.after.retrain


ROCO_PRESETS = {
    "quick": RocoSettings(
        train_limit=4000,
        val_limit=1000,
        channels=8,
        designs=("pair",),
        training=TrainingConfig(epochs=2, batch_size=32, lr=0.05),
        search=EvolutionConfig(population=8, generations=3, objectives=OBJECTIVES_OF_ROCO),
    ),
    "paper": RocoSettings(preset="paper"),
}
"""`paper` is every default: Table II, and Section IV-A with NSGA-Net's training."""


FindSet = Callable[[BuildPlan], tuple[AdversarialSet, str]]
"""The set of a plan, and a few words on where it comes from."""


def run_roco(settings: RocoSettings, console: Console | None = None) -> None:
    """Run or continue the search that `settings` describe, and what comes after it. See `run_search`, `retrain_front`.

    An adversarial set that is needed and not there is built first.
    """
    console = console or Console()
    if settings.after.retrain:
        require_libraries(settings.after.suite)

    def find(build: BuildPlan) -> tuple[AdversarialSet, str]:
        return find_or_build(build, set_path(build), console)

    prepared = prepare_roco(settings, find)
    if settings.after.retrain:
        check_retraining(prepared.folder, prepared.plan, settings.after)
    run_search(prepared.plan, prepared.folder, make_executor(settings.execution), console)
    if settings.after.retrain:
        retrain_front(prepared.folder, prepared.plan, settings.after, prepared.adversarial_set, console)


def plan_roco(settings: RocoSettings) -> tuple[Plan, RunFolder]:
    """The run that settings describe; a set that it needs must be there. See `prepare_roco`."""
    prepared = prepare_roco(settings, found_set)
    return prepared.plan, prepared.folder


def found_set(build: BuildPlan) -> tuple[AdversarialSet, str]:
    """The set of a plan where it was kept. DataError where it is not there."""
    path = set_path(build)
    return load_adversarial_set(path), f"found at {path}"


class Prepared(NamedTuple):
    """A run, ready to begin."""

    plan: Plan
    folder: RunFolder
    adversarial_set: AdversarialSet | None


def prepare_roco(settings: RocoSettings, find_set: FindSet) -> Prepared:
    """The run that settings describe, every `auto` resolved: as the folder's run was created, where there is one."""
    name, because = _data_name(settings)
    own = name.startswith("npz:") or name.endswith(".npz")
    label = f"npz-{Path(name.removeprefix('npz:')).stem}" if own else name
    folder = RunFolder(settings.out or Path("runs") / f"roco-{label}-{settings.preset}-seed{settings.search.seed}")
    stored = folder.stored()
    identity = stored.get("identity", {})
    device, threads, training, precision_note = _hardware(settings, identity)
    split_seed = settings.search.seed if settings.split_seed is None else settings.split_seed
    data = load_data(name, settings.data_root, split_seed, settings.train_limit, settings.val_limit)
    precision: Precision = "bf16" if training.precision == "bf16" else "fp32"
    space = PhaseSpace(
        settings.phases, settings.nodes, settings.channels, data.image_size, settings.operators, settings.mutation_rate
    )
    first = _first(settings, space, stored)
    adversarial_set, set_note = None, ""
    if settings.needs_set:
        build = BuildPlan(
            data=data, split_seed=split_seed, settings=SET_PRESETS[settings.preset], preset=settings.preset,
            seed=split_seed, device=device, precision=precision, threads=threads,
        )  # fmt: skip
        adversarial_set, set_note = _set(settings.adversarial_set, build, find_set)
    objectives = make_objectives(settings.search.objectives, settings.attacks, precision, adversarial_set)
    columns = columns_of(objectives, space, data.n_classes)
    plan = Plan(
        method="roco-nas",
        space=space,
        evaluator=Evaluator(TrainFromScratch(space, data, training, device), objectives, threads),
        search=settings.search,
        data_name=data.name,
        n_classes=data.n_classes,
        settings=_as_json(settings),
        notes=tuple(filter(None, (because, precision_note, f"device: {device}, threads: {threads}", set_note))),
        first=first,
        retry_failed=settings.retry_failed,
        identity={
            "method": "roco-nas",
            "space": {"name": space.name, **asdict(space)},
            "data": _data_identity(data),
            "training": {"recipe": "standard", **asdict(training)},
            "objectives": {part.name: identity_of(part) for part in objectives},
            "search": {
                "objectives": list(settings.search.objectives),
                "maximize": [name for name in settings.search.objectives if columns[name].maximize],
                "population": settings.search.population,
                "algorithm": settings.search.algorithm,
                "first": [" ".join(map(str, genome)) for genome in first],
            },
            "seed": settings.search.seed,
            "device": torch.device(device).type,
            "threads": threads,
        },
    )
    return Prepared(plan, folder, adversarial_set)


def roco_from_config(config: Mapping[str, Any]) -> RocoSettings:
    """The settings that a run's config.json holds."""
    given = dict(config["settings"])
    parts = {
        "training": TrainingConfig, "search": EvolutionConfig, "attacks": AttackSettings, "after": RetrainSettings,
        "execution": ExecutionSettings,
    }  # fmt: skip
    for name, part in parts.items():
        values = {key: tuple(v) if isinstance(v, list) else v for key, v in given.get(name, {}).items()}
        given[name] = part(**values)
    paths = {name: None if given[name] is None else Path(given[name]) for name in ("out", "data_root")}
    return RocoSettings(**{**given, **paths, "designs": tuple(given["designs"])})


def stored_roco(path: Path, config: Mapping[str, Any]) -> Plan:
    """The plan of the run in folder `path`, from its config.json."""
    return plan_roco(replace(roco_from_config(config), out=path, after=RetrainSettings()))[0]


def _data_name(settings: RocoSettings) -> tuple[str, str]:
    """The data set's name, and a line where it was chosen for the user: by the run in --out, or by what is there."""
    if settings.data == "auto" and settings.out is not None:
        stored = RunFolder(settings.out).stored()
        if stored:
            asked, found = stored["settings"]["data"], stored["identity"]["data"]["name"]
            name = found if asked == "auto" else asked  # a file of one's own has its path there
            return name, f"data: {name}, as this run was started with"
    return resolve_data(settings.data, settings.data_root)


def _hardware(settings: RocoSettings, identity: Mapping[str, Any]) -> tuple[str, int, TrainingConfig, str]:
    """Device, threads, training with a resolved precision, and a line about it."""
    execution, training = settings.execution, settings.training
    auto = execution.device == "auto"
    device = resolve_device(identity.get("device", "auto") if auto else execution.device)
    threads = resolve_threads(identity.get("threads") if execution.threads is None else execution.threads)
    if training.precision == "auto" and identity:
        precision = identity["training"]["precision"]
        note = f"precision: {precision}, as this run was started with"
    else:
        precision, note = resolve_precision(training.precision, torch.device(device))
    return device, threads, replace(training, precision=precision), note


def _first(settings: RocoSettings, space: PhaseSpace, stored: Mapping[str, Any]) -> tuple[tuple[int, ...], ...]:
    """Canonical genomes that the first population is to hold. A run keeps those it was created with."""
    begun = stored.get("settings", {})
    if settings.init_from and begun.get("init_from") == settings.init_from and begun["designs"] == [*settings.designs]:
        return tuple(tuple(map(int, genome.split())) for genome in stored["identity"]["search"]["first"])
    designs = space.designs()
    given = [choose(designs, name, "design").tolist() for name in settings.designs]
    if settings.init_from is not None:
        given += first_genomes(settings.init_from)
    try:
        canonical = [tuple(space.canonical(genome).tolist()) for genome in given]
    except (ValueError, OverflowError) as error:
        raise ConfigurationError(f"{settings.init_from}: {error}") from error
    return tuple(dict.fromkeys(canonical))[: settings.search.population]


def _set(asked: str, build: BuildPlan, find_set: FindSet) -> tuple[AdversarialSet, str]:
    """The set that a run measures on, checked against its data, and one line about it."""
    if asked == "auto":
        found, where = find_set(build)
    else:
        found, where = load_adversarial_set(asked), f"found at {asked}"
    check_set(found, build.data)
    lines = (f"adversarial set: {found.card.name}, {len(found)} images, {where}", *found.card.warnings)
    return found, "\n  ".join(lines)


def _data_identity(data: Dataset) -> dict[str, Any]:
    return {
        "name": data.name, "fingerprint": data.fingerprint, "n_classes": data.n_classes, "train": len(data.train),
        "validation": len(data.validation), "mean": list(data.mean), "deviation": list(data.deviation),
    }  # fmt: skip


def _as_json(settings: RocoSettings) -> dict[str, Any]:
    values = asdict(settings)
    if settings.data_root is not None:
        values["data_root"] = settings.data_root.expanduser().absolute()
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
