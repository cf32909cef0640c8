"""Adversarial sets of a run: found, checked against its data, or built."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from evonas.adversarial_sets import (
    SET_PRESETS,
    AdversarialSet,
    BuildPlan,
    build_adversarial_set,
    image_digests,
    load_adversarial_set,
    set_work,
)
from evonas.adversarial_sets.settings import EARLIER_PRESETS
from evonas.data import Dataset, Part
from evonas.errors import ConfigurationError
from evonas.executors import Executor, LocalExecutor
from evonas.files import exists, expanded, storage_errors, waited_lock
from evonas.report import duration
from evonas.runs.jobs_screen import JobsScreen
from evonas.runs.screen import Screen
from evonas.types import TrainOn

__all__ = ["cache_folder", "check_set", "clean_sources", "find_or_build", "plan_as_begun", "set_path", "trained_twins"]

SETS = Path("adversarial_sets")
"""Folder of sets that were built without a name: below the cache, and by version 0.1.0 below the current folder."""


def set_path(plan: BuildPlan, wanted: str | None = None, called: str = "") -> Path:
    """File of a set that was built without a name: in the cache, or where version 0.1.0 has left it.

    Args:
        wanted: fingerprint of the set that the run in the folder was begun with, which version 0.1.0 may have computed
            by several threads; None: a new run, which takes a set by one thread.
        called: name of that set; empty: unknown.
    Raises:
        ConfigurationError: it was computed by several threads, and is gone.
    """
    usual = cache_folder() / SETS / f"{plan.name}.safetensors"
    names = (plan.name, *plan.earlier_names) if wanted else (plan.name,)
    with storage_errors("look for adversarial sets"):
        there = [path for path in (usual, *(SETS / f"{name}.safetensors" for name in names)) if exists(path)]
    found = next((path for path in there if wanted and load_adversarial_set(path).fingerprint == wanted), None)
    if found is None and called in plan.earlier_names:
        raise ConfigurationError(
            f"expected the adversarial set {called}, with which this run was begun, in {SETS.absolute()}: several "
            "threads of version 0.1.0 computed it, so it cannot be built again; put it back there, or begin another "
            "run with --out"
        )
    return found or next((path for path in there if path.stem == plan.name), usual)


def plan_as_begun(plan: BuildPlan, wanted: str | None, called: str = "") -> tuple[BuildPlan, Path]:
    """A plan and its file; where the set that is wanted is of the preset's earlier settings, the plan of those.

    Args:
        wanted, called: fingerprint and name of the set that a run was begun with; see `set_path`.
    """
    earlier = EARLIER_PRESETS.get(plan.preset)
    if wanted and earlier and plan.settings == SET_PRESETS[plan.preset]:
        before = replace(plan, settings=earlier)
        path = set_path(before, wanted, called)
        there = exists(path) and load_adversarial_set(path).fingerprint == wanted
        if there or called == before.name:  # one that is gone is built again
            return before, path
    return plan, set_path(plan, wanted, called)


def cache_folder() -> Path:
    """Folder named by EVONAS_CACHE, else ~/.cache/evonas."""
    return expanded(os.environ.get("EVONAS_CACHE") or "~/.cache/evonas")


def find_or_build(
    plan: BuildPlan,
    path: Path,
    screen: Screen,
    build: bool = True,
    executor: Callable[[], Executor] = LocalExecutor,
) -> tuple[AdversarialSet, str]:
    """The set at `path`, or a new one there, and a few words on where it comes from; one process builds, others wait.

    Args:
        build: build it where it is missing; else that is a DataError.
        executor: makes what then runs the jobs.
    Raises:
        ConfigurationError: another set is there.
        EvonasError: see `build_adversarial_set`.
    """
    path = path.with_name(f"{path.name.removesuffix('.safetensors')}.safetensors")
    with storage_errors(f"read {path}"):
        there = exists(path)
    if there or not build:
        return _found(plan, path)

    def waits() -> None:
        screen.say(f"adversarial set: another process is building {path}; waiting for it")

    with waited_lock(path.with_suffix(".lock"), waits):
        if path.exists():
            return _found(plan, path)
        targets = ", ".join(plan.settings.targets)
        screen.say(f"adversarial set: none at {path} yet, building it: {targets}")
        jobs, began = JobsScreen(screen, set_work(plan)), time.monotonic()

        def told(key: str, line: str) -> None:
            jobs.finish(key, f"  {line}" if line else "")

        with screen:
            built = build_adversarial_set(plan, path, executor(), jobs.see, told)
        return built, f"built in {duration(time.monotonic() - began)}, at {path}"


def _found(plan: BuildPlan, path: Path) -> tuple[AdversarialSet, str]:
    found = load_adversarial_set(path)
    if found.card.name not in (plan.name, *plan.earlier_names):
        raise ConfigurationError(
            f"expected the set {plan.name} in {path}, got {found.card.name}, which other settings gave; "
            "name another file with --out, or move that one"
        )
    return found, f"found at {path}{', made by version 0.1.0' if path.parent == SETS else ''}"


def check_set(found: AdversarialSet, data: Dataset) -> None:
    """ConfigurationError unless a set fits the data, and none of its clean images is trained or ranked on."""
    card = found.card.data
    if card.name != data.name:
        raise ConfigurationError(
            f"expected a set made from {data.name}, whose classes its labels mean, "
            f"got {found.card.name}, made from {card.name}"
        )
    if (card.n_classes, card.image_size) != (data.n_classes, data.image_size):
        raise ConfigurationError(
            f"expected a set of {data.n_classes} classes and {data.image_size}x{data.image_size} images for "
            f"{data.name}, {found.card.name} has {card.n_classes} and {card.image_size}x{card.image_size}"
        )
    if clean_sources(found, data) is not None:
        return
    twins = found.count_clean_twins(data.train.images) + found.count_clean_twins(data.validation.images)
    if twins:
        raise ConfigurationError(
            f"expected a set made from images that no candidate sees, {twins} train or validation images are the clean "
            f"ones behind {found.card.name}; it was made with split seed {card.split_seed}: "
            f"give --split-seed {card.split_seed}"
        )


def trained_twins(found: AdversarialSet, data: Dataset, train_on: TrainOn) -> int:
    """Number of images behind the set that a training to the end sees; of the train part, `check_set` refuses any."""
    return found.count_clean_twins(data.trained_on(train_on).images) if train_on == "all" else 0


def clean_sources(found: AdversarialSet, data: Dataset) -> Part | None:
    """The clean images behind a set, in the order of its `sources`; None where it was made from another part."""
    adversarial = data.adversarial
    if found.card.data.adversarial_fingerprint != adversarial.fingerprint:
        return None
    clean = adversarial.take(found.source_index)
    return clean if np.array_equal(found.sources, image_digests(clean.images)) else None
