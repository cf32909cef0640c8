"""TAM-NAS: a supernet trained once against an attack, and NSGA-II over its networks (Xie et al., 2021)."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console

from evonas.attacks.inference import Precision
from evonas.data import Dataset, load_data
from evonas.errors import ConfigurationError
from evonas.evaluation import Evaluator, SliceSupernet, SupernetWeights
from evonas.objectives import OodAupr
from evonas.runs.beginning import data_identity, data_name, refuse_another_method, run_folder
from evonas.runs.execution import ExecutionSettings, Hardware, make_executor, resolve_hardware
from evonas.runs.finalise import check_scores, finalise_front, ranked
from evonas.runs.finalise_settings import FinaliseSettings
from evonas.runs.folder import RunFolder
from evonas.runs.objectives import identity_of, make_objectives, ood_objective
from evonas.runs.search import Plan, columns_of, run_search
from evonas.runs.supernet import SupernetPlan, begun_supernet, supernet_path, train_supernet, trained_supernet
from evonas.runs.tam_settings import TamSettings, tam_as_json, tam_from_config
from evonas.search import refuse_another_run
from evonas.training import OneShotConfig, standard
from evonas.training.one_shot import check_windows, draw_architecture

__all__ = ["plan_tam", "prepare_tam", "run_tam", "stored_tam"]


class Prepared(NamedTuple):
    """A run, ready to train its supernet."""

    settings: TamSettings
    folder: RunFolder
    hardware: Hardware
    supernet: SupernetPlan
    precision: Precision
    """Of the objectives' attacks."""
    ood: OodAupr | None
    """Where it is searched for."""
    known: dict[str, Any]
    """The run's identity, but for the supernet's weights and what is measured."""
    notes: tuple[str, ...]


def run_tam(settings: TamSettings, console: Console | None = None) -> None:
    """Train or continue the supernet, then the search, then what comes after it; each goes on where it was stopped.

    Raises:
        EvonasError: see `train_supernet`, `run_search` and `finalise_front`.
        Interrupted: a signal came; the same command continues.
    """
    console = console or Console()
    prepared = prepare_tam(settings)
    for note in prepared.notes:
        console.out(note, highlight=False)
    if prepared.hardware.here != prepared.hardware.device:
        raise ConfigurationError(
            "expected a GPU where the supernet is trained, this process has none; start it on a machine with one, "
            "such as with `ray job submit --entrypoint-num-gpus 1`"
        )
    weights = train_supernet(prepared.folder.path, prepared.supernet, console)
    plan = plan_tam(prepared, weights)
    executor = make_executor(prepared.settings.execution, prepared.hardware, resident=True)
    run_search(plan, prepared.folder, executor, console)
    found = any(entry.result.ok for entry in prepared.folder.entries())
    if settings.after.finalise or (found and ranked(plan.columns)):
        finalise_front(prepared.folder, plan, settings.after, weights, console)
    else:
        needed = "networks that are ok, with clean_error and pgd_error"
        console.out(f"no statistics of layers: they need {needed}", highlight=False)


def prepare_tam(settings: TamSettings) -> Prepared:
    """What settings describe, every `auto` resolved: as the folder's run was created, where there is one."""
    name, because = data_name(settings.data, settings.data_root, settings.out)
    folder = run_folder(settings.out, "tam", name, settings.preset, settings.search.seed)
    stored = folder.stored()
    identity = stored.get("identity", {})
    refuse_another_method(folder, identity, "tam-nas")
    resolved = identity or _begun(folder.path)
    hardware = resolve_hardware(settings.execution, resolved)
    split_seed = settings.search.seed if settings.split_seed is None else settings.split_seed
    data = load_data(name, settings.data_root, split_seed, settings.train_limit, settings.val_limit)
    if settings.after.finalise:  # before a supernet is trained for it
        check_scores(settings.search.objectives, settings.after, data, settings.search.seed)
    names, seed = settings.search.objectives, settings.search.seed
    ood, ood_note = ood_objective(names, settings.ood_data, data, settings.data_root, seed)
    precision, precision_note = _precision(settings, hardware, resolved)
    recipe = settings.recipe()
    supernet = SupernetPlan(
        space=settings.space(data.image_size),
        data=data,
        config=replace(settings.supernet, supernet_precision=precision),
        recipe=recipe,
        recipe_identity={"name": settings.supernet_recipe, **({} if recipe is standard else identity_of(recipe))},
        seed=settings.search.seed,
        device=hardware.here,
        threads=hardware.threads,
    )
    if not (folder.path / "supernet.pt").exists():  # before hours are spent on it
        _check_windows(supernet, settings)
    known = {
        "method": "tam-nas",
        "space": {"name": supernet.space.name, **asdict(supernet.space)},
        "data": data_identity(data),
        "supernet": supernet.identity(),
        "recalibration": [settings.recalibration_batches, settings.recalibration_batch_size],
        "search": settings.search.identity(),
        "seed": settings.search.seed,
        "device": torch.device(hardware.device).type,
        "threads": hardware.threads,
    }
    if identity:  # before a supernet is trained for a run that is then refused
        begun = {name: identity.get(name, "nothing") for name in known}
        begun["search"] = {name: value for name, value in identity["search"].items() if name != "maximize"}
        begun["supernet"] = {name: value for name, value in identity["supernet"].items() if name != "fingerprint"}
        refuse_another_run(folder.journal, begun, _as_json(known))
    notes = tuple(filter(None, (because, ood_note, precision_note, hardware.note)))
    return Prepared(settings, folder, hardware, supernet, precision, ood, known, notes)


def plan_tam(prepared: Prepared, weights: SupernetWeights) -> Plan:
    """The search over a trained supernet."""
    settings, supernet, hardware = prepared.settings, prepared.supernet, prepared.hardware
    data: Dataset = supernet.data
    objectives = make_objectives(
        settings.search.objectives, settings.attacks, prepared.precision, None, prepared.ood, settings.certify
    )
    columns = columns_of(objectives, supernet.space, data.n_classes)
    maximize = [name for name in settings.search.objectives if columns[name].maximize]
    prepare = SliceSupernet(
        space=supernet.space,
        data=data,
        weights=weights,
        device=hardware.device,
        seed=settings.search.seed,
        recalibration_batches=settings.recalibration_batches,
        recalibration_batch_size=settings.recalibration_batch_size,
    )
    return Plan(
        method="tam-nas",
        space=supernet.space,
        evaluator=Evaluator(prepare, objectives, hardware.threads),
        search=settings.search,
        data_name=data.name,
        n_classes=data.n_classes,
        settings=tam_as_json(settings),
        notes=prepared.notes,
        retry_failed=settings.retry_failed,
        identity={
            **_as_json(prepared.known),
            "supernet": {**supernet.identity(), "fingerprint": weights.fingerprint},
            "objectives": {part.name: identity_of(part) for part in objectives},
            "search": {**settings.search.identity(), "maximize": maximize},
        },
    )


def stored_tam(path: Path, config: Mapping[str, Any]) -> Plan:
    """The plan of the run in folder `path`, from its config.json and its supernet."""
    settings = tam_from_config(config)
    here = ExecutionSettings(device=settings.execution.device, threads=settings.execution.threads, executor="local")
    prepared = prepare_tam(replace(settings, out=path, after=FinaliseSettings(), execution=here))
    weights = trained_supernet(path, prepared.supernet.identity())
    if weights is None:
        raise ConfigurationError(f"expected a supernet that is trained to the end in {supernet_path(path)}")
    return plan_tam(prepared, weights)


def _check_windows(supernet: SupernetPlan, settings: TamSettings) -> None:
    """ConfigurationError where a window of parameters holds no network that could be drawn."""
    check_windows(supernet.space, supernet.config, supernet.seed)
    if settings.window is None:
        return
    every = OneShotConfig(block_epochs=0, joint_epochs=1, first_ratios=10, joint_window=settings.window)
    try:
        draw_architecture(supernet.space, every, supernet.seed, 0)
    except ConfigurationError as error:
        low, high = supernet.space.scaled(settings.window)
        smallest, largest = supernet.space.params_range
        raise ConfigurationError(
            f"expected networks within --window {settings.window[0]:g} {settings.window[1]:g}, which is {low:,.0f} to "
            f"{high:,.0f} parameters here, got none; they have {smallest:,} to {largest:,}"
        ) from error


def _begun(folder: Path) -> dict[str, Any]:
    """What a supernet settles before its search has a journal."""
    supernet = begun_supernet(folder)
    if not supernet.keys() >= {"device", "threads", "training"}:
        return {}
    return {"device": supernet["device"], "threads": supernet["threads"], "supernet": supernet}


def _precision(settings: TamSettings, hardware: Hardware, identity: Mapping[str, Any]) -> tuple[Precision, str]:
    """As the run was created; else by the device."""
    asked = settings.supernet.supernet_precision
    if asked == "auto" and identity:
        precision: Precision = identity["supernet"]["training"]["supernet_precision"]
        return precision, f"precision: {precision}, as this run was started with"
    return hardware.precision(asked, settings.execution.gpus_per_task, depthwise=True)


def _as_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """Tuples become lists, as they come back from a file."""
    return {name: _plain(each) for name, each in value.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _as_json(value)
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
