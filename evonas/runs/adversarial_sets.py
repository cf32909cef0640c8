"""Adversarial sets of a run: found, checked against its data, or built."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
import torch
from rich.console import Console
from rich.status import Status

from evonas.adversarial_sets import (
    SET_PRESETS,
    AdversarialSet,
    BuildPlan,
    BuildProgress,
    SetSettings,
    build_adversarial_set,
    card_markdown,
    image_digests,
    load_adversarial_set,
)
from evonas.data import Dataset, load_data
from evonas.errors import ConfigurationError
from evonas.report import duration
from evonas.runs.execution import resolve_device, resolve_threads
from evonas.runs.interrupt import Interruption, interruptible
from evonas.runs.progress import PLAIN_PROGRESS_SECONDS
from evonas.training import resolve_precision

__all__ = ["BUILD_PRESETS", "SETS", "BuildSettings", "check_set", "find_or_build", "run_build", "set_path"]

SETS = Path("adversarial_sets")
"""Where sets are kept that were built without a name."""


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """Builds a precomputed adversarial set: trains target networks, attacks them, keeps what fooled them."""

    preset: Literal["quick", "paper"] = "quick"
    """quick: narrow targets and small budgets, minutes on two cores. paper: RoCo-NAS's Table I, work for a GPU."""
    data: str = "auto"
    """auto (CIFAR-10 where it is, else digits), digits, cifar10, cifar100, svhn, mnist, fashion_mnist or npz:PATH."""
    data_root: Path | None = None
    """Where data sets lie or are downloaded to; else the variable EVONAS_DATA, else ./data."""
    train_limit: int | None = None
    """Train the targets on a class-balanced subset of so many images."""
    seed: int = 0
    """Of everything random, and of the data's parts: a search uses the set with the same seed or --split-seed."""
    settings: SetSettings = field(default_factory=SetSettings)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of training and of the attacks' search; a success is always confirmed in fp32."""
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda or cuda:N."""
    threads: int | None = None
    """CPU threads; as many as this process may use, unless given."""
    out: Path | None = None
    """The set's file; adversarial_sets/DATA-PRESET-DIGITS.safetensors unless given, DIGITS standing for everything
    that decides the set."""

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ConfigurationError(f"expected threads >= 1, got {self.threads}")


BUILD_PRESETS = {
    "quick": BuildSettings(settings=SET_PRESETS["quick"]),
    "paper": BuildSettings(preset="paper"),
}
"""The first is the default."""


def run_build(settings: BuildSettings, console: Console | None = None) -> None:
    """Build the set that `settings` describe, go on with it, or find it; print its card."""
    console = console or Console()
    device = resolve_device(settings.device)
    precision, note = resolve_precision(settings.precision, torch.device(device))
    data = load_data(settings.data, settings.data_root, settings.seed, settings.train_limit)
    for line in (data.chosen_because, note):
        if line:
            console.out(line, highlight=False)
    plan = BuildPlan(
        data=data,
        split_seed=settings.seed,
        settings=settings.settings,
        preset=settings.preset,
        seed=settings.seed,
        device=device,
        precision=precision,
        threads=resolve_threads(settings.threads),
    )
    found, where = find_or_build(plan, settings.out or set_path(plan), console)
    console.out(card_markdown(found.card, found.fingerprint), highlight=False)
    console.out(f"adversarial set: {found.card.name}, {len(found)} images, {where}", highlight=False)


def set_path(plan: BuildPlan) -> Path:
    """Where a set is kept that has no name of its own."""
    return SETS / f"{plan.name}.safetensors"


def find_or_build(plan: BuildPlan, path: Path, console: Console) -> tuple[AdversarialSet, str]:
    """The set at `path`, or a new one there, and a few words on where it comes from. Building shows on the console.

    Raises:
        ConfigurationError: another set is there.
        EvonasError: see `build_adversarial_set`.
    """
    path = path.with_name(f"{path.name.removesuffix('.safetensors')}.safetensors")
    if path.exists():
        found = load_adversarial_set(path)
        if found.card.name != plan.name:
            raise ConfigurationError(
                f"expected the set {plan.name} in {path}, got {found.card.name}, which other settings gave; "
                "name another file with --out, or move that one"
            )
        return found, f"found at {path}"
    targets = ", ".join(plan.settings.targets)
    console.out(f"adversarial set: none at {path} yet, building it: {targets}", highlight=False)
    with interruptible() as interruption, _BuildScreen(console, interruption) as screen:
        built = build_adversarial_set(plan, path, screen.report)
    return built, f"built in {duration(screen.elapsed)}, at {path}"


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


class _BuildScreen:
    """A line for every target and threshold; between them one that stays in place in a terminal."""

    def __init__(self, console: Console, interruption: Interruption) -> None:
        self.console, self.interruption = console, interruption
        self.started = self._told = time.monotonic()
        self._live: Status | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = self.console.status("beginning")
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def report(self, progress: BuildProgress) -> None:
        """Interrupted where a signal has come."""
        self.interruption.check()
        line = f"  {_described(progress)}; {duration(self.elapsed)} elapsed"
        if progress.seconds_left:
            line += f", about {duration(progress.seconds_left)} left"
        if progress.finished:
            self.console.out(line, highlight=False)
            self._told = time.monotonic()
        elif self._live is not None:
            self._live.update(line.strip())
        elif time.monotonic() - self._told > PLAIN_PROGRESS_SECONDS:
            self._told = time.monotonic()
            self.console.out(line, highlight=False)


def _described(progress: BuildProgress) -> str:
    if progress.stage == "training":
        return f"{progress.target}: {'trained, ' if progress.finished else ''}{progress.note}"
    return (
        f"{progress.target}, {progress.stage} th {progress.threshold}: "
        f"{progress.fooled} fooled, {progress.done} of {progress.total} images"
    )
