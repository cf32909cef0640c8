"""What a search by gradient leaves to `auto`, resolved: as the run in its folder was begun, where there is one."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from evonas.data import Dataset
from evonas.data.out_of_distribution import load_ood_data, resolve_ood_data
from evonas.errors import ConfigurationError
from evonas.gradient import Method
from evonas.objectives import OodAupr
from evonas.runs.checkpoint import stored_identity
from evonas.runs.execution import Hardware
from evonas.runs.gradient_cells import WHAT
from evonas.runs.gradient_settings import GradientSettings
from evonas.training import TrainingConfig

__all__ = ["begun", "others_for_search", "search_precision", "training_of"]


def others_for_search(
    settings: GradientSettings, data: Dataset, identity: Mapping[str, Any], methods: Mapping[str, Method]
) -> tuple[Dataset | None, str]:
    """Images of none of the classes where anything needs them, and a line where they were chosen for the user."""
    needed = any(method.needs_ood for method in methods.values()) or OodAupr.name in settings.objectives
    if not needed:
        if settings.ood_data != "auto" and not settings.after.retrain:
            raise ConfigurationError(f"expected no --ood-data, which nothing here uses, got {settings.ood_data}")
        return None, ""
    known = (identity.get("others") or {}).get("name")
    if settings.ood_data == "auto" and known:
        name, note = known, f"out-of-distribution images: {known}, as this run was started with"
    else:
        name, note = resolve_ood_data(settings.ood_data, data.name, settings.data_root)
    return load_ood_data(name, data, settings.data_root, settings.seed), note


def begun(folder: Path) -> dict[str, Any]:
    """What a search of cells settles before its cells have a journal."""
    paths = sorted(folder.glob("search*.pt"))
    if not paths:
        return {}
    cells = stored_identity(paths[0], WHAT)
    return {"device": cells["device"], "threads": cells["threads"], "cells": {"": cells}}


def search_precision(
    settings: GradientSettings, hardware: Hardware, identity: Mapping[str, Any], methods: Mapping[str, Method]
) -> tuple[str, str]:
    """What a search's supernet is computed in, resolved, and a line where that was chosen for the user."""
    asked = settings.levels.search_precision
    if asked == "auto" and identity:
        precision = next(iter(identity["cells"].values()))["precision"]
        return precision, f"precision of the search: {precision}, as this run was started with"
    second = any(method.config.order == 2 for method in methods.values())
    if second and asked == "bf16" and any(method.config.hessian == "finite" for method in methods.values()):
        raise ConfigurationError(
            "expected --search-precision fp32 with second order, whose differences bf16 cannot resolve, got bf16"
        )
    if second and asked == "auto":
        return "fp32", "precision of the search: fp32, which second order needs"
    precision, note = hardware.precision(asked, settings.execution.gpus_per_task, depthwise=True)
    return precision, note and f"search: {note}"


def training_of(
    settings: GradientSettings, hardware: Hardware, identity: Mapping[str, Any]
) -> tuple[TrainingConfig, str]:
    """How networks that are scored are trained, with a resolved precision, and a line where it was chosen."""
    training = settings.training
    if training.precision == "auto" and identity:
        precision = identity["training"]["precision"]
        return replace(training, precision=precision), f"precision: {precision}, as this run was started with"
    precision, note = hardware.precision(training.precision, settings.execution.gpus_per_task, depthwise=True)
    return replace(training, precision=precision), note
