"""Searches by gradient: cells found by descent, then scored and written down as every other search's."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console

from evonas.data import Dataset, load_data
from evonas.errors import ConfigurationError
from evonas.evaluation import Evaluator, TrainFromScratch
from evonas.networks.darts import Genotype
from evonas.objectives import OodAupr
from evonas.runs.beginning import (
    data_identity,
    data_name,
    refuse_another_method,
    run_folder,
    settings_as_json,
    settings_from_json,
)
from evonas.runs.checkpoint import write_rows
from evonas.runs.execution import ExecutionSettings, Hardware, make_executor, resolve_hardware
from evonas.runs.folder import RunFolder
from evonas.runs.gradient_cells import CellSearch, compact, find_cells, group_of, name_of, search_path
from evonas.runs.gradient_dsrna import DsrnaSettings
from evonas.runs.gradient_resolved import begun, others_for_search, search_precision, training_of
from evonas.runs.gradient_seconds import metric_seconds
from evonas.runs.gradient_settings import DartsSettings, E2rnasSettings, GradientSettings
from evonas.runs.objectives import identity_of, make_objectives
from evonas.runs.repeats import means_of_repeats, means_text, write_means
from evonas.runs.retrain_cells import FoundCells, check_retraining_cells, others_for_retraining, retrain_cells
from evonas.runs.robust_cells import measure_cells
from evonas.runs.search import Plan, columns_of, run_search
from evonas.search import EvolutionConfig, refuse_another_run
from evonas.seeding import derive_seed
from evonas.spaces import DartsSpace
from evonas.training import TrainingConfig
from evonas.types import Genome, arch_id

__all__ = ["Prepared", "plan_gradient", "prepare_gradient", "run_gradient", "stored_gradient"]

SETTINGS: dict[str, type[GradientSettings]] = {"dsrna": DsrnaSettings, "e2rnas": E2rnasSettings}
"""What a method's name begins with -> its settings; of all others `DartsSettings`."""


class Prepared(NamedTuple):
    """A run, ready to search its cells."""

    settings: GradientSettings
    folder: RunFolder
    hardware: Hardware
    searches: tuple[CellSearch, ...]
    space: DartsSpace
    data: Dataset
    others: Dataset | None
    training: TrainingConfig
    """Of the networks that are scored, with a resolved precision."""
    known: dict[str, Any]
    """The run's identity, but for the cells and what is measured."""
    notes: tuple[str, ...]


def run_gradient(settings: GradientSettings, console: Console | None = None) -> None:
    """Search cells, score them, and train them again where that is asked for; each goes on where it was stopped.

    Raises:
        EvonasError: see `find_cells`, `run_search` and `retrain_cells`.
        Interrupted: a signal came; the same command continues.
    """
    console = console or Console()
    prepared = prepare_gradient(settings)
    for note in prepared.notes:
        console.out(note, highlight=False)
    if prepared.hardware.here != prepared.hardware.device:
        raise ConfigurationError(
            "expected a GPU where cells are searched, this process has none; start it on a machine with one, "
            "such as with `ray job submit --entrypoint-num-gpus 1`"
        )
    others = _before_retraining(prepared, console) if prepared.settings.after.retrain else None
    robustness = prepared.settings.measured()
    _tell_seconds(prepared, console)
    found = [find_cells(prepared.folder.path, search, console) for search in prepared.searches]
    plan = plan_gradient(prepared, [_genome(prepared.space, genotype) for genotype, _ in found])
    run_search(plan, prepared.folder, make_executor(prepared.settings.execution, prepared.hardware), console)
    if len(found) > 1:
        _write_sweep(prepared, plan, [genotype for genotype, _ in found], console)
    if prepared.settings.after.retrain:
        cells = [FoundCells(name_of(search), *each) for search, each in zip(prepared.searches, found, strict=True)]
        retrain_cells(prepared.folder, plan, prepared.settings.after, cells, others, console)
        if robustness is not None:
            groups = [group_of(search) for search in prepared.searches]
            measure_cells(prepared.folder, plan, prepared.settings.after, robustness, cells, groups, console)


def prepare_gradient(settings: GradientSettings) -> Prepared:
    """What settings describe, every `auto` resolved: as the folder's run was created, where there is one."""
    name, because = data_name(settings.data, settings.data_root, settings.out)
    label = method_name(settings)
    folder = run_folder(settings.out, label, name, settings.preset, settings.seed)
    identity = folder.stored().get("identity", {})
    refuse_another_method(folder, identity, label)
    known_before = identity or begun(folder.path)
    hardware = resolve_hardware(settings.execution, known_before)
    split_seed = settings.seed if settings.split_seed is None else settings.split_seed
    data = load_data(name, settings.data_root, split_seed, settings.train_limit, settings.val_limit)
    methods = settings.methods(data.image_size)
    others, others_note = others_for_search(settings, data, identity, methods)
    precision, precision_note = search_precision(settings, hardware, known_before, methods)
    training, training_note = training_of(settings, hardware, identity)
    searches = tuple(
        CellSearch(
            label=each,
            repeat=number if settings.repeats > 1 else None,
            method=method,
            data=data,
            others=others if method.needs_ood else None,
            seed=_seed(settings.seed, number),
            device=hardware.here,
            threads=hardware.threads,
            precision=precision,
        )
        for each, method in methods.items()
        for number in range(1, settings.repeats + 1)
    )
    space = settings.space(next(iter(methods.values())).nodes, data.image_size)
    known = {
        "method": label,
        "space": {"name": space.name, **asdict(space)},
        "data": data_identity(data),
        "others": None if others is None else {"name": others.name, "fingerprint": others.fingerprint},
        "cells": {search.full_label: search.identity() for search in searches},
        "training": {"recipe": "standard", **training.identity()},
        "seed": settings.seed,
        "device": torch.device(hardware.device).type,
        "threads": hardware.threads,
    }
    if identity:  # before cells are searched for a run that is then refused
        refuse_another_run(folder.journal, {name: identity.get(name, "nothing") for name in known}, known)
    notes = tuple(filter(None, (because, others_note, precision_note, training_note, hardware.note)))
    return Prepared(settings, folder, hardware, searches, space, data, others, training, known, notes)


def plan_gradient(prepared: Prepared, genomes: list[Genome]) -> Plan:
    """The scoring of cells that were found."""
    settings, hardware, data, space = prepared.settings, prepared.hardware, prepared.data, prepared.space
    ood = None
    if prepared.others is not None and OodAupr.name in settings.objectives:
        ood = OodAupr.of(prepared.others, data, seed=settings.seed)
    objectives = make_objectives(settings.objectives, settings.attacks, "fp32", None, ood, settings.certify)
    columns = columns_of(objectives, space, data.n_classes)
    maximize = [name for name in settings.objectives if columns[name].maximize]
    first = tuple(dict.fromkeys(tuple(genome.tolist()) for genome in genomes))
    search = EvolutionConfig(population=len(first), generations=0, objectives=settings.objectives, seed=settings.seed)
    return Plan(
        method=method_name(settings),
        space=space,
        evaluator=Evaluator(
            TrainFromScratch(space, data, prepared.training, hardware.device), objectives, hardware.threads
        ),
        search=search,
        data_name=data.name,
        n_classes=data.n_classes,
        settings=settings_as_json(settings),
        notes=prepared.notes,
        first=first,
        retry_failed=settings.retry_failed,
        identity={
            **prepared.known,
            "objectives": {part.name: identity_of(part) for part in objectives},
            "search": {
                **search.identity(),
                "maximize": maximize,
                "first": [" ".join(map(str, genome)) for genome in first],
            },
        },
    )


def stored_gradient(path: Path, config: Mapping[str, Any]) -> Plan:
    """The plan of the run in folder `path`, from its config.json; its cells are those of its journal."""
    method = str(config["identity"]["method"])
    kind = next((kind for start, kind in SETTINGS.items() if method.startswith(start)), DartsSettings)
    settings = settings_from_json(kind, config["settings"])
    here = ExecutionSettings(device=settings.execution.device, threads=settings.execution.threads, executor="local")
    prepared = prepare_gradient(replace(settings, out=path, execution=here))
    first = config["identity"]["search"]["first"]
    return plan_gradient(prepared, [np.array(text.split(), dtype=np.int64) for text in first])


def _before_retraining(prepared: Prepared, console: Console) -> Dataset:
    """The images of none of the classes that AUPR is measured with; what would stop `retrain_cells` is raised now."""
    settings, data = prepared.settings, prepared.data
    others, note = others_for_retraining(settings.ood_data, data, settings.data_root, settings.seed, prepared.others)
    if note:
        console.out(note, highlight=False)
    check_retraining_cells(settings.after, prepared.space, data, others, settings.seed)
    robustness = settings.measured()
    if robustness is not None:
        robustness.check()
    return others


def method_name(settings: GradientSettings) -> str:
    """Of the run's rows: `darts`, `e2rnas-v2`, `e2rnas-v2-pdarts`."""
    return next(iter(settings.methods(32).values())).name


def _seed(seed: int, repeat: int) -> int:
    """Of a search; the first repeat is the search that there is without repeats."""
    return seed if repeat == 1 else derive_seed(seed, "repeat", repeat)


def _tell_seconds(prepared: Prepared, console: Console) -> None:
    """What the metrics of robustness cost, before the first search that has one."""
    waiting = (search for search in prepared.searches if not search_path(prepared.folder.path, search).exists())
    line = next(filter(None, map(metric_seconds, waiting)), "")
    if line:
        console.out(line, highlight=False)


def _write_sweep(prepared: Prepared, plan: Plan, found: list[Genotype], console: Console) -> None:
    """sweep.csv: which search found which row of the table; several may have found the same cells. repeats.csv."""
    scored = {entry.key: entry.result.objectives for entry in prepared.folder.entries()}
    rows, named = [], []
    for search, genotype in zip(prepared.searches, found, strict=True):
        key = arch_id(_genome(prepared.space, genotype))
        values = scored.get(key, {})
        rows.append([search.full_label, key, *(values.get(name, "") for name in plan.columns), compact(genotype)])
        named.append((group_of(search), values))
    write_rows(prepared.folder.path / "sweep.csv", ["search", "arch_id", *plan.columns, "genotype"], rows)
    if prepared.settings.repeats > 1:
        means = means_of_repeats(named, list(plan.columns))
        write_means(prepared.folder.path / "repeats.csv", means)
        for line in means_text(means):
            console.out(line, highlight=False)


def _genome(space: DartsSpace, genotype: Genotype) -> Genome:
    return space.canonical(space.from_genotype(genotype))
