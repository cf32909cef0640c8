"""Adversarial sets of a run: found, checked against its data, or built."""

from pathlib import Path

import numpy as np

from evonas.adversarial_sets import (
    AdversarialSet,
    BuildPlan,
    BuildProgress,
    build_adversarial_set,
    image_digests,
    load_adversarial_set,
)
from evonas.data import Dataset
from evonas.errors import ConfigurationError
from evonas.files import exists, storage_errors
from evonas.report import duration
from evonas.runs.screen import Pace, Screen

__all__ = ["SETS", "check_set", "find_or_build", "set_path"]

SETS = Path("adversarial_sets")
"""Folder of sets that were built without a name."""


def set_path(plan: BuildPlan) -> Path:
    """File of a set that was built without a name."""
    return SETS / f"{plan.name}.safetensors"


def find_or_build(plan: BuildPlan, path: Path, screen: Screen, build: bool = True) -> tuple[AdversarialSet, str]:
    """The set at `path`, or a new one there, and a few words on where it comes from.

    Args:
        build: build it where it is missing; else that is a DataError.
    Raises:
        ConfigurationError: another set is there.
        EvonasError: see `build_adversarial_set`.
    """
    path = path.with_name(f"{path.name.removesuffix('.safetensors')}.safetensors")
    with storage_errors(f"read {path}"):
        there = exists(path)
    if there or not build:
        found = load_adversarial_set(path)
        if found.card.name != plan.name:
            raise ConfigurationError(
                f"expected the set {plan.name} in {path}, got {found.card.name}, which other settings gave; "
                "name another file with --out, or move that one"
            )
        return found, f"found at {path}"
    targets = ", ".join(plan.settings.targets)
    screen.say(f"adversarial set: none at {path} yet, building it: {targets}")
    pace = Pace(1.0)
    with screen:
        built = build_adversarial_set(plan, path, lambda progress: _show(progress, screen, pace))
    return built, f"built in {duration(pace.elapsed)}, at {path}"


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
    adversarial = data.adversarial
    if card.adversarial_fingerprint == adversarial.fingerprint and np.array_equal(
        found.sources, image_digests(adversarial.images[found.source_index])
    ):
        return
    twins = found.count_clean_twins(data.train.images) + found.count_clean_twins(data.validation.images)
    if twins:
        raise ConfigurationError(
            f"expected a set made from images that no candidate sees, {twins} train or validation images are the clean "
            f"ones behind {found.card.name}; it was made with split seed {card.split_seed}: "
            f"give --split-seed {card.split_seed}"
        )


def _show(progress: BuildProgress, screen: Screen, pace: Pace) -> None:
    """A line for every target and threshold."""
    line = f"{_described(progress)}; {duration(pace.elapsed)} elapsed"
    if progress.seconds_left:
        line += f", about {duration(progress.seconds_left)} left"
    screen.check()
    if progress.finished:
        screen.say(f"  {line}")
    else:
        screen.show(line)


def _described(progress: BuildProgress) -> str:
    if progress.stage == "training":
        return f"{progress.target}: {'trained, ' if progress.finished else ''}{progress.note}"
    return (
        f"{progress.target}, {progress.stage} th {progress.threshold}: "
        f"{progress.fooled} fooled, {progress.done} of {progress.total} images"
    )
