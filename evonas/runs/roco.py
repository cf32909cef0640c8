"""RoCo-NAS: NSGA-II over phase bitstrings (Geraeinejad et al., 2021)."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console

from evonas.adversarial_sets import SET_PRESETS, AdversarialSet, BuildPlan, load_adversarial_set
from evonas.attacks.inference import Precision
from evonas.audit import require_libraries
from evonas.data import load_data
from evonas.errors import ConfigurationError, choose
from evonas.evaluation import Evaluator, TrainFromScratch
from evonas.runs.adversarial_sets import check_set, find_or_build, set_path
from evonas.runs.beginning import data_identity, data_name, refuse_another_method, run_folder
from evonas.runs.execution import ExecutionSettings, Hardware, make_executor, resolve_device, resolve_hardware
from evonas.runs.folder import RunFolder, first_genomes
from evonas.runs.objectives import identity_of, make_objectives, ood_objective
from evonas.runs.retrain import RetrainSettings, check_retraining, retrain_front
from evonas.runs.roco_settings import RocoSettings, roco_as_json, roco_from_config
from evonas.runs.search import Plan, columns_of, run_search
from evonas.search import refuse_another_run
from evonas.spaces import PhaseSpace
from evonas.training import TrainingConfig

__all__ = ["Prepared", "plan_roco", "prepare_roco", "run_roco", "stored_roco"]

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
        resolve_device(prepared.hardware.device)  # a Ray driver may have none, and retrains itself
        check_retraining(prepared.folder, prepared.plan, settings.after)
    run_search(prepared.plan, prepared.folder, make_executor(settings.execution, prepared.hardware), console)
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
    hardware: Hardware
    adversarial_set: AdversarialSet | None


def prepare_roco(settings: RocoSettings, find_set: FindSet) -> Prepared:
    """The run that settings describe, every `auto` resolved: as the folder's run was created, where there is one."""
    name, because = data_name(settings.data, settings.data_root, settings.out)
    folder = run_folder(settings.out, "roco", name, settings.preset, settings.search.seed)
    stored = folder.stored()
    identity = stored.get("identity", {})
    refuse_another_method(folder, identity, "roco-nas")
    if settings.adversarial_set == "auto":  # a run goes on with the set it began with
        settings = replace(settings, adversarial_set=stored.get("settings", {}).get("adversarial_set", "auto"))
    hardware = resolve_hardware(settings.execution, identity)
    device, threads = hardware.device, hardware.threads
    training, precision_note = _training(settings, hardware, identity)
    split_seed = settings.search.seed if settings.split_seed is None else settings.split_seed
    data = load_data(name, settings.data_root, split_seed, settings.train_limit, settings.val_limit)
    precision: Precision = "bf16" if training.precision == "bf16" else "fp32"
    space = PhaseSpace(
        settings.phases, settings.nodes, settings.channels, data.image_size, settings.operators, settings.mutation_rate
    )
    first = _first(settings, space, stored)
    known: dict[str, Any] = {
        "method": "roco-nas",
        "space": {"name": space.name, **asdict(space)},
        "data": data_identity(data),
        "training": {"recipe": "standard", **training.identity()},
        "search": {**settings.search.identity(), "first": [" ".join(map(str, genome)) for genome in first]},
        "seed": settings.search.seed,
        "device": torch.device(device).type,
        "threads": threads,
    }
    if identity:  # before a set is built for a run that is then refused
        begun = {name: identity[name] for name in known} | {"search": {**identity["search"]}}
        begun["search"].pop("maximize")
        refuse_another_run(folder.journal, begun, known)
    names, seed = settings.search.objectives, settings.search.seed
    ood, ood_note = ood_objective(names, settings.ood_data, data, settings.data_root, seed)
    adversarial_set: AdversarialSet | None = None
    set_notes: tuple[str, ...] = ()
    if settings.needs_set:
        build = BuildPlan(
            data=data,
            split_seed=split_seed,
            settings=SET_PRESETS[settings.preset],
            preset=settings.preset,
            seed=split_seed,
            device=hardware.here,
            precision=precision,
            threads=threads,
        )
        adversarial_set, set_notes = _set(settings.adversarial_set, build, find_set)
    objectives = make_objectives(names, settings.attacks, precision, adversarial_set, ood, settings.certify)
    columns = columns_of(objectives, space, data.n_classes)
    maximize = [name for name in settings.search.objectives if columns[name].maximize]
    plan = Plan(
        method="roco-nas",
        space=space,
        evaluator=Evaluator(TrainFromScratch(space, data, training, device), objectives, threads),
        search=settings.search,
        data_name=data.name,
        n_classes=data.n_classes,
        settings=roco_as_json(settings),
        notes=tuple(filter(None, (because, ood_note, precision_note, hardware.note, *set_notes))),
        first=first,
        retry_failed=settings.retry_failed,
        identity={
            **known,
            "objectives": {part.name: identity_of(part) for part in objectives},
            "search": {**known["search"], "maximize": maximize},
        },
    )
    return Prepared(plan, folder, hardware, adversarial_set)


def stored_roco(path: Path, config: Mapping[str, Any]) -> Plan:
    """The plan of the run in folder `path`, from its config.json."""
    settings = roco_from_config(config)
    here = ExecutionSettings(device=settings.execution.device, threads=settings.execution.threads, executor="local")
    return plan_roco(replace(settings, out=path, after=RetrainSettings(), execution=here))[0]


def _training(settings: RocoSettings, hardware: Hardware, identity: Mapping[str, Any]) -> tuple[TrainingConfig, str]:
    """Training with a resolved precision, and a line about it."""
    training = settings.training
    if training.precision == "auto" and identity:
        precision = identity["training"]["precision"]
        return replace(training, precision=precision), f"precision: {precision}, as this run was started with"
    precision, note = hardware.precision(training.precision, settings.execution.gpus_per_task)
    return replace(training, precision=precision), note


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


def _set(asked: str, build: BuildPlan, find_set: FindSet) -> tuple[AdversarialSet, tuple[str, ...]]:
    """The set that a run measures on, checked against its data, and lines about it."""
    if asked == "auto":
        found, where = find_set(build)
    else:
        found, where = load_adversarial_set(asked), f"found at {asked}"
    check_set(found, build.data)
    return found, (f"adversarial set: {found.card.name}, {len(found)} images, {where}", *found.card.warnings)
