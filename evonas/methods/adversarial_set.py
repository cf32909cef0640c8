"""A precomputed adversarial set: target networks trained and attacked, what fooled them kept (RoCo-NAS, Table I)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import tyro

from evonas.adversarial_sets import SET_PRESETS, SetSettings
from evonas.files import expanded
from evonas.ranges import ANY, IMAGES, THREADS, Range, check_ranges
from evonas.runs.execution import ExecutionOptions, Hardware, make_executor, resolve_hardware
from evonas.runs.interrupt import interruptible
from evonas.runs.needs import Needs

if TYPE_CHECKING:
    from rich.console import Console

    from evonas.adversarial_sets import AdversarialSet, BuildPlan
    from evonas.runs.execution import Hardware
    from evonas.runs.screen import Screen

__all__ = ["OPTIONS", "PRESETS", "BuildOptions", "make_plan", "run", "set_file", "show_set"]


@dataclass(frozen=True, kw_only=True)
class BuildExecution(ExecutionOptions):
    """Place of the jobs of a building: the training of a target, an attack on a block of images."""

    threads: Annotated[int | None, THREADS, tyro.conf.Suppress] = 1
    """One: another number gives other images."""
    executor: Literal["auto", "local", "process", "ray"] = "auto"
    """local: one job after another in this process. process: several at once on this machine. ray: every GPU of this
    machine or of a cluster. auto: ray with --ray-address or on several GPUs, process on several processors, with
    --workers or with --timeout, else local."""
    gpus_per_task: Annotated[float, Range(above=0, most=1), Needs("executor", ("process", "ray", "auto"))] = 1.0
    """GPUs of one job, a fraction to share one: 0.25 runs four at once, each with a quarter of its memory."""
    timeout: Annotated[float | None, Range(above=0, most=10**9), Needs("executor", ("process", "ray", "auto"))] = None
    """Seconds that one job may take, the training of a target or an attack on a block of images; then its process is
    killed and the building ends. Everything finished is kept."""


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """Builds a precomputed adversarial set: trains target networks, attacks them, keeps what fooled them."""

    preset: Literal["quick", "paper"] = "quick"
    """quick: narrow targets and small budgets, minutes on two cores. paper: RoCo-NAS's Table I, work for a GPU."""
    data: str = "auto"
    """auto (CIFAR-10 where it is, else digits), digits, cifar10, cifar100, svhn, mnist, fashion_mnist or npz:PATH."""
    data_root: Path | None = None
    """Folder of the data sets, where missing ones are downloaded to; else the variable EVONAS_DATA, else ./data."""
    train_limit: Annotated[int | None, IMAGES] = None
    """Size of a class-balanced subset to train the targets on."""
    seed: Annotated[int, ANY] = 0
    """Seed of everything random, and of the data's parts: a search uses the set with the same seed or --split-seed."""
    set_seed: Annotated[int | None, ANY] = None
    """Seed of the targets, of the images chosen and of the attacks alone; `seed` by default."""
    settings: SetSettings = field(default_factory=SetSettings)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of training and of the attacks' search; a success is always confirmed in fp32."""
    execution: BuildExecution = field(default_factory=BuildExecution)
    out: Path | None = None
    """The set's file; by default adversarial_sets/DATA-PRESET-DIGITS.safetensors below the variable EVONAS_CACHE, else
    below ~/.cache/evonas, DIGITS standing for everything that decides the set."""

    example: ClassVar[str] = "evonas build-set --data digits --out sets/digits.safetensors"
    short: ClassVar[tuple[str, ...]] = (
        *("preset", "data", "data_root", "train_limit", "seed", "out", "targets", "widths", "target_epochs"),
        *("set_attacks", "thresholds", "attacked_images", "attack_population", "attack_generations"),
        *("precision", "device", "executor", "workers", "timeout"),
    )

    def __post_init__(self) -> None:
        check_ranges(self)


OPTIONS = BuildOptions
PRESETS = {
    "quick": BuildOptions(settings=SET_PRESETS["quick"]),
    "paper": BuildOptions(preset="paper", data="cifar10"),
}


def run(options: BuildOptions, console: Console | None = None) -> AdversarialSet:
    """Build a set, continue with that, or find it; its card is printed.

    Raises:
        EvonasError: another set is in the file; see `build_adversarial_set`.
        Interrupted: a signal came; the same command continues.
    """
    from evonas.runs.screen import Screen
    from evonas.runs.sets import find_or_build

    with interruptible() as interruption:
        screen = Screen(console, interruption.check)
        hardware = resolve_hardware(options.execution, {})
        plan = make_plan(options, hardware, screen)
        executor = partial(make_executor, options.execution, hardware)
        found, where = find_or_build(plan, set_file(options, plan), screen, executor=executor)
        show_set(found, where, screen)
    return found


def make_plan(options: BuildOptions, hardware: Hardware, screen: Screen) -> BuildPlan:
    """Load the data and resolve every `auto`; lines on the screen say what was chosen, and why.

    Raises:
        ConfigurationError: no such data or precision.
        DataError: the data cannot be had.
    """
    from evonas.adversarial_sets import BuildPlan
    from evonas.data import load_data

    precision, note = hardware.precision(options.precision, options.execution.gpus_per_task)
    data = load_data(options.data, options.data_root, options.seed, options.train_limit, say=screen.say)
    for line in (data.chosen_because, data.converted, hardware.note, note):
        screen.say(line)
    return BuildPlan(
        data=data,
        split_seed=options.seed,
        settings=options.settings,
        preset=options.preset,
        seed=options.seed if options.set_seed is None else options.set_seed,
        device=hardware.device,
        precision="bf16" if precision == "bf16" else "fp32",
    )


def set_file(options: BuildOptions, plan: BuildPlan) -> Path:
    """File of the set: the one that was asked for, else the one that the plan names."""
    from evonas.runs.sets import set_path

    return expanded(options.out or set_path(plan))


def show_set(found: AdversarialSet, where: str, screen: Screen) -> None:
    """Print the set's card, and a line that says where the set is.

    Args:
        where: words of `find_or_build`.
    """
    from evonas.adversarial_sets import card_markdown

    screen.say(card_markdown(found.card, found.fingerprint))
    screen.say(f"adversarial set: {found.card.name}, {len(found)} images, {where}")
