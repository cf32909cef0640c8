"""RoCo-NAS: NSGA-II over phase bitstrings (Geraeinejad et al., 2021)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from evonas.data import Dataset, load_data, resolve_data
from evonas.errors import ConfigurationError, choose
from evonas.evaluation import Evaluator, TrainFromScratch
from evonas.objectives import OBJECTIVES
from evonas.runs.execution import ExecutionSettings, make_executor, resolve_device, resolve_threads
from evonas.runs.folder import RunFolder, first_genomes
from evonas.runs.search import Plan, columns_of, run_search
from evonas.search import EvolutionConfig
from evonas.spaces import PhaseSpace
from evonas.training import TrainingConfig, resolve_precision

__all__ = ["ROCO_PRESETS", "RocoSettings", "plan_roco", "roco_from_config", "run_roco", "stored_roco"]


@dataclass(frozen=True, kw_only=True)
class RocoSettings:
    """RoCo-NAS searches networks of phases that are accurate and small; every run keeps its own folder."""

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
    search: EvolutionConfig = field(default_factory=EvolutionConfig)
    execution: ExecutionSettings = field(default_factory=ExecutionSettings)
    out: Path | None = None
    """The run's folder; runs/roco-DATA-PRESET-seedN unless given."""
    retry_failed: bool = False
    """Evaluate again what the journal has as failed."""

    def __post_init__(self) -> None:
        PhaseSpace(self.phases, self.nodes, self.channels, 32, self.operators, self.mutation_rate)  # checks them
        for name in self.search.objectives:
            choose(OBJECTIVES, name, "objective")


ROCO_PRESETS = {
    "quick": RocoSettings(
        train_limit=4000,
        val_limit=1000,
        channels=8,
        designs=("pair",),
        training=TrainingConfig(epochs=2, batch_size=32, lr=0.05),
        search=EvolutionConfig(population=8, generations=3),
    ),
    "paper": RocoSettings(preset="paper"),
}
"""`paper` is every default: Table II, and Section IV-A with NSGA-Net's training."""


def run_roco(settings: RocoSettings, console: Console | None = None) -> None:
    """Run or continue the search that `settings` describe. See `run_search` for what is raised."""
    plan, folder = plan_roco(settings)
    run_search(plan, folder, make_executor(settings.execution), console or Console())


def plan_roco(settings: RocoSettings) -> tuple[Plan, RunFolder]:
    """The run that settings describe, every `auto` resolved: as the folder's run was created, where there is one."""
    name, because = _data_name(settings)
    own = name.startswith("npz:") or name.endswith(".npz")
    label = f"npz-{Path(name.removeprefix('npz:')).stem}" if own else name
    folder = RunFolder(settings.out or Path("runs") / f"roco-{label}-{settings.preset}-seed{settings.search.seed}")
    stored = folder.stored()
    identity = stored.get("identity", {})
    device, threads, training, precision_note = _hardware(settings, identity)
    data = load_data(name, settings.data_root, settings.search.seed, settings.train_limit, settings.val_limit)
    space = PhaseSpace(
        settings.phases, settings.nodes, settings.channels, data.image_size, settings.operators, settings.mutation_rate
    )
    objectives = tuple(choose(OBJECTIVES, objective, "objective")() for objective in settings.search.objectives)
    first = _first(settings, space, stored)
    columns = columns_of(objectives, space, data.n_classes)
    plan = Plan(
        method="roco-nas",
        space=space,
        evaluator=Evaluator(TrainFromScratch(space, data, training, device), objectives, threads),
        search=settings.search,
        data_name=data.name,
        n_classes=data.n_classes,
        settings=_as_json(settings),
        notes=tuple(note for note in (because, precision_note, f"device: {device}, threads: {threads}") if note),
        first=first,
        retry_failed=settings.retry_failed,
        identity={
            "method": "roco-nas",
            "space": {"name": space.name, **asdict(space)},
            "data": _data_identity(data),
            "training": {"recipe": "standard", **asdict(training)},
            "objectives": {part.name: asdict(part) for part in objectives},  # type: ignore[call-overload]
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
    return plan, folder


def roco_from_config(config: Mapping[str, Any]) -> RocoSettings:
    """The settings that a run's config.json holds."""
    given = dict(config["settings"])
    parts = {"training": TrainingConfig, "search": EvolutionConfig, "execution": ExecutionSettings}
    for name, part in parts.items():
        values = {key: tuple(v) if isinstance(v, list) else v for key, v in given[name].items()}
        given[name] = part(**values)
    paths = {name: None if given[name] is None else Path(given[name]) for name in ("out", "data_root")}
    return RocoSettings(**{**given, **paths, "designs": tuple(given["designs"])})


def stored_roco(path: Path, config: Mapping[str, Any]) -> Plan:
    """The plan of the run in folder `path`, from its config.json."""
    return plan_roco(replace(roco_from_config(config), out=path))[0]


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
